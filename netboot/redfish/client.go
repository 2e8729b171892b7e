// Package redfish boots a machine from an image that its BMC serves as a virtual
// CD: it finds the machine and its virtual media, inserts an image by URL, sets
// the next boot, switches the power, and ejects, by the DMTF's Redfish
// (DSP0266, schemas ComputerSystem and VirtualMedia). It is tolerant of what
// vendors do differently, as OpenStack's sushy is (resources/manager/
// virtual_media.py), from whose users most of the differences are known.
package redfish

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"
)

// Config says how a BMC is reached.
type Config struct {
	URL      string // https://HOST, or http://HOST with Insecure
	User     string
	Password string // never part of an error
	// System is the machine's Id at the BMC, its UUID or its serial number; empty:
	// the BMC has one machine.
	System string

	// At most one of these is set; with none the certificate must be of an
	// authority that this computer trusts.
	Fingerprint string // SHA-256 of the BMC's certificate: 64 hexadecimal digits, with or without colons
	CA          []byte // certificates of authorities, PEM
	Insecure    bool   // any certificate, or none: whoever is in between reads the password

	// Wait returns after a while, or with the context's error when that ends first.
	Wait func(ctx context.Context, d time.Duration) error
}

// Client is a session at a BMC. It is not for several goroutines at once.
type Client struct {
	config Config
	api    *gofish.APIClient
	system *schemas.ComputerSystem
	secret []string // what no error may hold
}

// How long the BMC is given, in questions and the time between them.
const (
	pollEvery = time.Second
	mediaWait = 60  // until an image is mounted or gone
	taskWait  = 300 // until a task is done
	powerWait = 60  // until the power is off, after it was cut
	// An operating system has this long to end its work and unmount its disks.
	shutdownWait = 120
	// The end of a session may take this long, also after an interruption.
	logoutWait = 20 * time.Second
)

// Connect opens a session and finds the machine. BMCs without sessions are asked
// with the password each time.
func Connect(ctx context.Context, config Config) (*Client, error) {
	base, err := url.Parse(config.URL)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http":
		return nil, errors.New("the BMC's URL must be one like https://10.0.1.11")
	case base.User != nil:
		return nil, errors.New("the BMC's URL holds credentials; give them by user and password_file")
	case base.Scheme == "http" && !config.Insecure:
		return nil, errors.New("the BMC's URL begins with http://, which sends the password in the clear")
	}
	httpClient, err := newHTTPClient(config, base)
	if err != nil {
		return nil, err
	}
	c := &Client{config: config}
	c.keepSecret(config.Password)
	options := gofish.ClientConfig{
		Endpoint: base.Scheme + "://" + base.Host, HTTPClient: httpClient, NoModifyTransport: true, ReuseConnections: true,
		Username: config.User, Password: config.Password,
	}
	c.api, err = gofish.ConnectContext(ctx, options)
	if err != nil && noSessions(err) {
		options.BasicAuth = true
		c.api, err = gofish.ConnectContext(ctx, options)
	}
	if err != nil {
		return nil, c.explain("log in", err)
	}
	if err := c.findSystem(); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return c, nil
}

// noSessions reports whether a BMC has no way to make a session, which is not
// the same as refusing one.
func noSessions(err error) bool {
	var refused *schemas.Error
	if errors.As(err, &refused) && refused.HTTPReturnedStatusCode != 0 {
		return slices.Contains([]int{404, 405, 501}, refused.HTTPReturnedStatusCode)
	}
	return strings.Contains(err.Error(), "no target provided") // gofish found no link to the sessions
}

// Close ends the session. BMCs have few, and keep what nobody ends.
func (c *Client) Close(ctx context.Context) error {
	session, err := c.api.GetSession()
	if err != nil {
		return nil // basic authentication
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutWait)
	defer cancel()
	api := c.api.WithContext(ctx)
	defer api.HTTPClient.CloseIdleConnections()
	if err := api.Service.DeleteSession(session.ID); err != nil {
		return c.explain("log out", err)
	}
	return nil
}

// With returns the same session for another context.
func (c *Client) With(ctx context.Context) *Client {
	other := *c
	other.api = c.api.WithContext(ctx)
	system := *c.system
	system.SetClient(other.api)
	other.system = &system
	return &other
}

// System says which machine this is, in the words of its BMC.
func (c *Client) System() string {
	s := c.system
	words := strings.Join(strings.Fields(s.Manufacturer+" "+s.Model), " ")
	if words == "" {
		words = "machine"
	}
	text := words + " " + s.ID
	if s.SerialNumber != "" {
		text += ", serial number " + s.SerialNumber
	}
	return printable(text)
}

func (c *Client) findSystem() error {
	systems, err := c.api.Service.Systems()
	if len(systems) == 0 {
		if err != nil {
			return c.explain("list the machines", err)
		}
		return errors.New("the BMC knows of no machine")
	}
	slices.SortFunc(systems, func(a, b *schemas.ComputerSystem) int { return strings.Compare(a.ID, b.ID) })
	var names []string
	for _, s := range systems {
		names = append(names, printable(s.ID))
		if c.config.System != "" && (strings.EqualFold(s.ID, c.config.System) || strings.EqualFold(s.UUID, c.config.System) ||
			strings.EqualFold(s.SerialNumber, c.config.System)) {
			c.system = s
			return nil
		}
	}
	switch {
	case c.config.System != "":
		return fmt.Errorf("the BMC knows of no machine %q; it has %s", c.config.System, strings.Join(names, ", "))
	case len(systems) > 1:
		return fmt.Errorf("the BMC has several machines, %s: name one by system", strings.Join(names, ", "))
	}
	c.system = systems[0]
	return nil
}

// refresh reads the machine's state again.
func (c *Client) refresh() error {
	s, err := schemas.GetComputerSystem(c.api, c.system.ODataID)
	if err != nil {
		return c.explain("read the machine's state", err)
	}
	c.system = s
	return nil
}

// poll asks until the answer is yes, at most so many times.
func (c *Client) poll(ctx context.Context, times int, ask func() (bool, error)) (bool, error) {
	for i := 0; ; i++ {
		done, err := ask()
		if done || err != nil || i >= times {
			return done, err
		}
		if err := c.config.Wait(ctx, pollEvery); err != nil {
			return false, err
		}
	}
}

// await waits for a task that the BMC began (DSP0266, "Asynchronous operations").
func (c *Client) await(ctx context.Context, doing string, task *schemas.TaskMonitorInfo) error {
	if task == nil {
		return nil
	}
	monitor := task.TaskMonitor
	if monitor == "" && task.Task != nil {
		monitor = task.Task.ODataID
	}
	if monitor == "" {
		return nil // nothing to ask; the state of the media and the power tells
	}
	if u, err := url.Parse(monitor); err == nil {
		monitor = u.RequestURI() // some give the whole URL
	}
	done, err := c.poll(ctx, taskWait, func() (bool, error) { return c.taskDone(doing, monitor) })
	if err == nil && !done {
		return fmt.Errorf("cannot %s: the BMC still works at it after %s", doing, taskWait*pollEvery)
	}
	return err
}

func (c *Client) taskDone(doing, monitor string) (bool, error) {
	resp, err := c.api.Get(monitor)
	if err != nil {
		var refused *schemas.Error
		if errors.As(err, &refused) && (refused.HTTPReturnedStatusCode == 404 || refused.HTTPReturnedStatusCode == 410) {
			return true, nil // a monitor goes away when the task is over
		}
		return false, c.explain(doing, err)
	}
	defer schemas.DeferredCleanupHTTPResponse(resp)
	var task schemas.Task
	if resp.StatusCode == 204 || decode(resp.Body, &task) != nil || task.TaskState == "" {
		return resp.StatusCode != 202, nil
	}
	switch task.TaskState {
	case schemas.CompletedTaskState:
		return true, nil
	case schemas.ExceptionTaskState, schemas.KilledTaskState, schemas.CancelledTaskState, schemas.InterruptedTaskState:
		words := []string{"the BMC's task ended as " + string(task.TaskState)}
		for _, m := range task.Messages {
			words = append(words, m.Message)
		}
		return false, fmt.Errorf("cannot %s: %s", doing, c.redact(strings.Join(words, ": ")))
	}
	return false, nil
}

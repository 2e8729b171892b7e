package redfish_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/netboot/redfish"
	"github.com/gpustrap/gpustrap/netboot/redfish/redfishtest"
)

const image = "http://10.0.0.2:8080/iso/0123456789abcdef0123456789abcdef/b8-ce-f6-00-00-01.iso"

// instantly is a wait that takes no time.
func instantly(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func config(b *redfishtest.BMC) redfish.Config {
	return redfish.Config{URL: b.URL, User: redfishtest.User, Password: redfishtest.Password, Insecure: true, Wait: instantly}
}

func connect(t *testing.T, c redfish.Config) *redfish.Client {
	t.Helper()
	client, err := redfish.Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// bootsOnce goes the whole way and checks what the machine did.
func bootsOnce(t *testing.T, b *redfishtest.BMC, client *redfish.Client) {
	t.Helper()
	ctx := t.Context()
	if err := client.Insert(ctx, image); err != nil {
		t.Fatal(err)
	}
	if err := client.BootOnce(redfish.UEFI); err != nil {
		t.Fatal(err)
	}
	if err := client.PowerCycle(ctx); err != nil {
		t.Fatal(err)
	}
	if got := b.State(); got.Image != image || got.Power != "On" || !slices.Equal(got.Booted, []string{image}) {
		t.Fatalf("after the power cycle: %+v", got)
	}
	if err := client.PowerCycle(ctx); err != nil { // the installer reboots
		t.Fatal(err)
	}
	if err := client.Eject(ctx, image); err != nil {
		t.Fatal(err)
	}
	if err := client.Eject(ctx, image); err != nil {
		t.Errorf("a second eject: %v", err)
	}
	if err := client.Close(ctx); err != nil {
		t.Fatal(err)
	}
	want := redfishtest.State{Power: "On", Next: "None", Booted: []string{image, "disk"}}
	if diff := cmp.Diff(want, b.State()); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
}

func TestVendors(t *testing.T) {
	tests := map[string]redfishtest.Options{
		"schema":                        {},
		"media of the system":           {MediaUnderSystem: true},
		"lower case":                    {LowerCase: true, MediaUnderSystem: true},
		"no sessions":                   {NoSessions: true},
		"refuses optional parameters":   {RefuseOptional: true, KeepImage: true, USBCD: true},
		"needs the protocol":            {NeedProtocol: true},
		"needs the method":              {NeedProtocol: true, NeedMethod: true},
		"needs credentials":             {NeedProtocol: true, NeedMethod: true, NeedCredentials: true},
		"patch":                         {PatchOnly: true},
		"patch with an ETag":            {PatchOnly: true, NeedETag: true},
		"slow":                          {Slow: 3},
		"refuses what is occupied":      {RefuseOccupied: true, KeepImage: true},
		"hides the URL":                 {HideImage: true},
		"deaf system":                   {IgnoreShutdown: true},
		"no graceful shutdown":          {NoShutdown: true},
		"everything that goes together": {NeedProtocol: true, NeedETag: true, KeepImage: true, Slow: 2, USBCD: true, MediaUnderSystem: true, LowerCase: true},
	}
	for name, options := range tests {
		for _, before := range []string{"empty", "stale image", "off"} {
			t.Run(name+"/"+before, func(t *testing.T) {
				b := redfishtest.New(t, options)
				switch before {
				case "stale image":
					b.Put("http://10.0.0.9/old.iso")
				case "off":
					b.Off()
				}
				bootsOnce(t, b, connect(t, config(b)))
			})
		}
	}
}

// A system that obeys is shut down, not cut off.
func TestShutsDownFirst(t *testing.T) {
	b := redfishtest.New(t, redfishtest.Options{})
	waits := 0
	c := config(b)
	c.Wait = func(ctx context.Context, _ time.Duration) error { waits++; return ctx.Err() }
	client := connect(t, c)
	if err := client.PowerCycle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if waits != 0 || b.State().Power != "On" || len(b.State().Booted) != 1 {
		t.Errorf("%d waits, %+v", waits, b.State())
	}
}

func TestCertificates(t *testing.T) {
	b := redfishtest.New(t, redfishtest.Options{TLS: true})
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate})
	pin := redfish.Fingerprint(b.Certificate)
	wrong := strings.Repeat("AB", 32)
	tests := map[string]struct {
		change func(*redfish.Config)
		err    string
	}{
		"fingerprint":       {func(c *redfish.Config) { c.Fingerprint = pin }, ""},
		"plain digits":      {func(c *redfish.Config) { c.Fingerprint = strings.ToLower(strings.ReplaceAll(pin, ":", "")) }, ""},
		"authority":         {func(c *redfish.Config) { c.CA = authority }, ""},
		"insecure":          {func(c *redfish.Config) { c.Insecure = true }, ""},
		"nothing":           {func(*redfish.Config) {}, "the BMC's certificate is not trusted: x509: certificate signed by unknown authority"},
		"wrong fingerprint": {func(c *redfish.Config) { c.Fingerprint = wrong }, "the BMC's certificate is not trusted: it is not the one whose fingerprint was given"},
		"no fingerprint":    {func(c *redfish.Config) { c.Fingerprint = "AB" }, "the BMC's fingerprint must be 64 hexadecimal digits, the SHA-256 of its certificate"},
		"no authority":      {func(c *redfish.Config) { c.CA = []byte("x") }, "the BMC's authority has no certificate in PEM"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := config(b)
			c.Insecure = false
			test.change(&c)
			client, err := redfish.Connect(t.Context(), c)
			if err == nil {
				defer func() { _ = client.Close(t.Context()) }()
			}
			if got := fmt.Sprint(err); test.err != "" && got != test.err || test.err == "" && err != nil {
				t.Fatalf("error %q, want %q", got, test.err)
			}
			var refused *redfish.CertificateError
			if errors.As(err, &refused) && !strings.Contains(refused.Hint(), pin) {
				t.Errorf("the hint does not tell the fingerprint: %s", refused.Hint())
			}
			if test.err != "" && len(b.State().Booted)+b.State().Sessions > 0 {
				t.Error("the password was sent")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	insert := func(c *redfish.Client) error { return c.Insert(context.Background(), image) }
	tests := map[string]struct {
		options redfishtest.Options
		change  func(*redfish.Config)
		do      func(*redfish.Client) error
		want    string
	}{
		"wrong password": {redfishtest.Options{}, func(c *redfish.Config) { c.Password = "battery" }, nil,
			"cannot log in: the BMC answers 400: the user or the password is wrong"},
		"wrong password, basic": {redfishtest.Options{NoSessions: true}, func(c *redfish.Config) { c.Password = "battery" }, nil,
			"cannot list the machines: the BMC does not take this user and password"},
		"no such system": {redfishtest.Options{Systems: 2}, func(c *redfish.Config) { c.System = "7" }, nil, `the BMC knows of no machine "7"; it has 1, 2`},
		"which system":   {redfishtest.Options{Systems: 2}, nil, nil, "the BMC has several machines, 1, 2: name one by system"},
		"plain HTTP": {redfishtest.Options{}, func(c *redfish.Config) { c.Insecure = false }, nil,
			"the BMC's URL begins with http://, which sends the password in the clear"},
		"credentials in the URL": {redfishtest.Options{}, func(c *redfish.Config) { c.URL = "https://admin:secret-secret@10.0.0.1" }, nil,
			"the BMC's URL holds credentials; give them by user and password_file"},
		"never mounts": {redfishtest.Options{NeverMount: true}, nil, insert,
			"cannot insert the image: the BMC took its URL and did not mount it within 1m0s: can the BMC reach the server?"},
		"failed task": {redfishtest.Options{Slow: 2, FailTask: true}, nil, insert,
			"cannot insert the image: the BMC's task ended as Exception: the image was looked for"},
		"no image": {redfishtest.Options{}, nil, func(c *redfish.Client) error { return c.Insert(context.Background(), "/tmp/x.iso") },
			"the image has no URL that a BMC could read"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := redfishtest.New(t, test.options)
			c := config(b)
			if test.change != nil {
				test.change(&c)
			}
			client, err := redfish.Connect(t.Context(), c)
			if err == nil && test.do != nil {
				err = test.do(client)
			}
			if fmt.Sprint(err) != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			if client != nil {
				if err := client.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if n := b.State().Sessions; n != 0 {
				t.Errorf("%d sessions were left open", n)
			}
		})
	}
}

// The second of several machines is found by its Id, UUID or serial number.
func TestSystem(t *testing.T) {
	b := redfishtest.New(t, redfishtest.Options{Systems: 2})
	for _, name := range []string{"2", "00000000-0000-0000-0000-000000000002", "s0000002"} {
		c := config(b)
		c.System = name
		client := connect(t, c)
		if got := client.System(); got != "Example GPU 8000 2, serial number S0000002" {
			t.Errorf("%s: %q", name, got)
		}
		if err := client.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// No error repeats the password or the token in an image's URL, whatever a BMC
// answers.
func TestErrorsHoldNoSecret(t *testing.T) {
	b := redfishtest.New(t, redfishtest.Options{EchoesCredentials: true})
	c := config(b)
	c.Password = "wrong-horse-battery"
	if _, err := redfish.Connect(t.Context(), c); err == nil || strings.Contains(err.Error(), "wrong-horse") {
		t.Errorf("login: %v", err)
	}
	client := connect(t, config(b))
	defer func() { _ = client.Close(t.Context()) }()
	err := client.Insert(t.Context(), image)
	if err == nil || strings.Contains(err.Error(), "0123456789abcdef") {
		t.Errorf("insert: %v", err)
	}
}

// A BMC that sends its client to another host, or on without TLS, gets neither session
// nor password there.
func TestStaysAtOneHost(t *testing.T) {
	var asked []string
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.Path) }))
	defer thief.Close()
	b := httptest.NewServer(http.RedirectHandler(thief.URL+"/redfish/v1/", http.StatusTemporaryRedirect))
	defer b.Close()
	secure := httptest.NewTLSServer(b.Config.Handler)
	defer secure.Close()
	for url, want := range map[string]string{b.URL: "another host", secure.URL: "without TLS"} {
		_, err := redfish.Connect(t.Context(), redfish.Config{URL: url, User: "u", Password: "p", Insecure: true, Wait: instantly})
		if err == nil || !strings.Contains(err.Error(), want) || len(asked) > 0 {
			t.Errorf("error %v, want %q; asked %v", err, want, asked)
		}
	}
}

// An interruption ends the wait at once, and the session still ends.
func TestInterruption(t *testing.T) {
	b := redfishtest.New(t, redfishtest.Options{NeverMount: true})
	ctx, cancel := context.WithCancel(t.Context())
	c := config(b)
	c.Wait = func(ctx context.Context, _ time.Duration) error { cancel(); <-ctx.Done(); return ctx.Err() }
	client, err := redfish.Connect(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Insert(ctx, image); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := client.Close(ctx); err != nil {
		t.Error(err)
	}
	if n := b.State().Sessions; n != 0 {
		t.Errorf("%d sessions were left open", n)
	}
}

// OpenStack's client finds the mock to be a BMC.
func TestSushy(t *testing.T) {
	python := oracle.Need(t, "/usr/bin/python3") // Debian's, whose packages it sees
	if err := exec.Command(python, "-c", "import sushy").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3-sushy is not installed; e2e/install-tools.sh installs what the tests need")
		}
		t.Skip("python3-sushy is not installed")
	}
	tests := map[string]redfishtest.Options{
		"schema": {}, "TLS": {TLS: true}, "patch with an ETag": {PatchOnly: true, NeedETag: true}, "needs the protocol": {NeedProtocol: true}, "Supermicro": {USBCD: true, RefuseOptional: true},
	}
	for name, options := range tests {
		t.Run(name, func(t *testing.T) {
			b := redfishtest.New(t, options)
			cmd := exec.CommandContext(t.Context(), python, "testdata/boot_once.py", b.URL, redfishtest.User, redfishtest.Password, image)
			cmd.Env = []string{"LC_ALL=C.UTF-8"} // without a proxy and authorities of this machine
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want := redfishtest.State{Power: "On", Next: "None", Booted: []string{image}}
			if diff := cmp.Diff(want, b.State()); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, strings.Join(b.Requests(), "\n"))
			}
		})
	}
}

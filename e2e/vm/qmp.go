package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmpClient speaks the QEMU Machine Protocol, as far as this package needs it
// (https://www.qemu.org/docs/master/interop/qmp-spec.html).
type qmpClient struct {
	mu   sync.Mutex
	conn net.Conn
	dec  *json.Decoder
}

// dialQMP connects to QEMU's monitor socket, which takes a moment to appear.
func dialQMP(ctx context.Context, socket string, ended <-chan struct{}) (*qmpClient, error) {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err == nil {
			c := &qmpClient{conn: conn, dec: json.NewDecoder(conn)}
			return c, c.execute(ctx, "qmp_capabilities", nil)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ended:
			return nil, errors.New("the virtual machine did not start")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *qmpClient) close() { _ = c.conn.Close() }

// execute runs one command and waits for its answer; events are passed over.
func (c *qmpClient) execute(ctx context.Context, command string, arguments map[string]any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(c.conn).Encode(request); err != nil {
		return err
	}
	for {
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := c.dec.Decode(&answer); err != nil {
			return fmt.Errorf("the machine's monitor: %w", err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("%s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
}

func (c *qmpClient) sendKey(ctx context.Context, chord []string) error {
	var keys []map[string]any
	for _, name := range chord {
		keys = append(keys, map[string]any{"type": "qcode", "data": name})
	}
	if err := c.execute(ctx, "send-key", map[string]any{"keys": keys, "hold-time": 50}); err != nil {
		return err
	}
	// A key that follows too soon is lost while QEMU still holds this one.
	select {
	case <-time.After(100 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

//go:build !linux

package netboot

import (
	"context"
	"errors"
	"net"
)

// listenUDP opens a port on one network interface alone.
func listenUDP(context.Context, string, int) (net.PacketConn, error) {
	return nil, errors.New("network boot is served on Linux alone")
}

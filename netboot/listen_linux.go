package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenUDP opens a port on one network interface alone, so that nothing is answered on
// another network. Servers of other interfaces may have the same port.
func listenUDP(ctx context.Context, name string, port int) (net.PacketConn, error) {
	var failed error
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		err := c.Control(func(fd uintptr) {
			failed = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.BindToDevice(int(fd), name))
		})
		return errors.Join(err, failed)
	}}
	return lc.ListenPacket(ctx, "udp4", fmt.Sprintf(":%d", port))
}

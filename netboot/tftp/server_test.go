package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// content is a file in memory.
type content struct{ *bytes.Reader }

func newContent(b []byte) content { return content{bytes.NewReader(b)} }

// transfers collects what a server tells, by client.
type transfers struct {
	mu   sync.Mutex
	list map[netip.AddrPort]chan Transfer
}

func (c *transfers) of(client netip.AddrPort) chan Transfer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list[client] == nil {
		c.list[client] = make(chan Transfer, 10)
	}
	return c.list[client]
}

func (c *transfers) next(t failer, of *client) Transfer {
	select {
	case end := <-c.of(of.conn.LocalAddr().(*net.UDPAddr).AddrPort()):
		return end
	case <-time.After(20 * time.Second):
		t.Fatal("the transfer does not end")
	}
	return Transfer{}
}

// serve starts a server of files and returns its address.
func serve(t testing.TB, files map[string][]byte, timeout time.Duration) (netip.AddrPort, *transfers) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ended := &transfers{list: map[netip.AddrPort]chan Transfer{}}
	s := &Server{Timeout: timeout, Done: func(t Transfer) { ended.of(t.Client) <- t }, Open: func(_ context.Context, _ netip.Addr, name string) (File, error) {
		if name == "broken" {
			return nil, errors.New("broken")
		}
		name, _, _ = strings.Cut(name, "?") // a test tells its requests apart
		b, ok := files[strings.TrimPrefix(name, "/")]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		return newContent(b), nil
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort(), ended
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestForeignClients reads with clients that others wrote.
func TestForeignClients(t *testing.T) {
	curl, busybox := oracle.Need(t, "curl"), oracle.Need(t, "busybox")
	// curl 7.88 fails on an empty file, whichever the server, and on errors.
	files := map[string][]byte{"byte": {1}, "block": randomBytes(512), "odd": randomBytes(100_001), "long": randomBytes(40 << 20)}
	addr, _ := serve(t, files, 0)
	for name, want := range files {
		to := filepath.Join(t.TempDir(), "file")
		url := fmt.Sprintf("tftp://%s/%s", addr, name)
		for client, cmd := range map[string]*exec.Cmd{
			"curl": exec.Command(curl, "-sS", "--fail", "-o", to, url),
			// More than 65535 blocks: the numbers begin again.
			"curl with blocks of 512": exec.Command(curl, "-sS", "--fail", "--tftp-no-options", "-o", to, url),
			"busybox":                 exec.Command(busybox, "tftp", "-g", "-b", "1432", "-r", name, "-l", to, "127.0.0.1", fmt.Sprint(addr.Port())),
		} {
			t.Run(name+" "+client, func(t *testing.T) {
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				got, err := os.ReadFile(to)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%d bytes came, want %d, or others", len(got), len(want))
				}
			})
		}
	}
	out, err := exec.Command(busybox, "tftp", "-g", "-r", "none", "-l", "/dev/null", "127.0.0.1", fmt.Sprint(addr.Port())).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "there is no such file") {
		t.Errorf("a file that is not there: %v %s", err, out)
	}
}

// failer is a test, of one kind or another.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// client is a TFTP client that loses packets in both directions.
type client struct {
	conn *net.UDPConn
	loss float64
	rand *rand.Rand
}

func newClient(t failer, loss float64, seed uint64) *client {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return &client{conn, loss, rand.New(rand.NewPCG(seed, 2))}
}

func readRequest(name string, options ...string) []byte {
	b := []byte{0, opRead}
	for _, word := range append([]string{name, "octet"}, options...) {
		b = append(append(b, word...), 0)
	}
	return b
}

func (c *client) write(b []byte, to netip.AddrPort) {
	if c.rand.Float64() >= c.loss {
		_, _ = c.conn.WriteToUDPAddrPort(b, to)
	}
}

// get reads a file as RFC 7440 wants: it acknowledges a whole window, or the last
// block in order when one is missing or nothing comes.
func (c *client) get(server netip.AddrPort, blockSize, window int, request []byte) ([]byte, error) {
	var got []byte
	var peer netip.AddrPort
	next, inWindow := 1, 0
	acknowledge := func() {
		inWindow = 0
		if !peer.IsValid() {
			c.write(request, server)
			return
		}
		c.write(binary.BigEndian.AppendUint16([]byte{0, opAcknowledge}, uint16(next-1)), peer)
	}
	acknowledge()
	buf := make([]byte, 66000)
	for silent := 0; silent < 60; {
		_ = c.conn.SetReadDeadline(time.Now().Add(25 * time.Millisecond))
		n, from, err := c.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			silent++
			acknowledge()
			continue
		}
		if c.rand.Float64() < c.loss {
			continue
		}
		silent = 0
		switch {
		case buf[1] == opError:
			return nil, fmt.Errorf("error %d: %s", buf[3], buf[4:n-1])
		case buf[1] == opOptions && next == 1:
			peer = from
			acknowledge()
		case buf[1] == opData:
			peer = from
			if binary.BigEndian.Uint16(buf[2:]) != uint16(next) {
				if inWindow > 0 {
					acknowledge()
				}
				continue
			}
			got = append(got, buf[4:n]...)
			next++
			inWindow++
			if n-4 < blockSize {
				acknowledge()
				return got, nil
			}
			if inWindow == window {
				acknowledge()
			}
		}
	}
	return got, errors.New("the server fell silent")
}

// TestAnyTransfer reads files of any size, in blocks and windows of any size, over a
// network that loses packets.
func TestAnyTransfer(t *testing.T) {
	files := map[string][]byte{}
	for size := range 64 {
		files[fmt.Sprint(size*97)] = randomBytes(size * 97)
	}
	addr, ended := serve(t, files, 20*time.Millisecond)
	requests := 0
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(files))).Draw(t, "file")
		blockSize := rapid.SampledFrom([]int{8, 16, 97, 512, 1432}).Draw(t, "blksize")
		window := rapid.IntRange(1, 16).Draw(t, "windowsize")
		c := newClient(t, rapid.SampledFrom([]float64{0, 0, 0.02, 0.1}).Draw(t, "loss"), rapid.Uint64().Draw(t, "seed"))
		defer func() { _ = c.conn.Close() }()
		requests++
		request := fmt.Sprintf("%s?%d", name, requests)
		got, err := c.get(addr, blockSize, window, readRequest(request, "blksize", fmt.Sprint(blockSize), "windowsize", fmt.Sprint(window), "tsize", "0"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, files[name]) {
			t.Fatalf("%d bytes came, want %d, or others", len(got), len(files[name]))
		}
		if c.loss > 0 {
			return // the last acknowledgement may be lost: then the server cannot know
		}
		end := ended.next(t, c)
		for end.Name != request { // a client before this one had its port, and did not look
			end = ended.next(t, c)
		}
		if end.Err != nil || end.Sent != int64(len(got)) {
			t.Fatalf("the server says %+v", end)
		}
	})
}

func TestOptions(t *testing.T) {
	addr, _ := serve(t, map[string][]byte{"f": randomBytes(5000)}, 0)
	for _, tt := range []struct {
		name    string
		options []string
		want    string // the answer; D for data
	}{
		{"none", nil, "D512"},
		{"a size", []string{"tsize", "0"}, "tsize 5000"},
		{"as OVMF asks", []string{"tsize", "0", "blksize", "1468", "windowsize", "4"}, "blksize 1468 tsize 5000 windowsize 4"},
		{"in capitals", []string{"BLKSIZE", "1024"}, "blksize 1024"},
		{"longer than a frame", []string{"blksize", "65464"}, "blksize 1468"},
		{"too large a window", []string{"windowsize", "65535"}, "windowsize 64"},
		{"a timeout", []string{"timeout", "3"}, "timeout 3"},
		{"out of range", []string{"blksize", "7", "windowsize", "0", "timeout", "256"}, "D512"},
		{"not numbers", []string{"blksize", "many", "tsize", ""}, "D512"},
		{"unknown", []string{"multicast", "", "utimeout", "9"}, "D512"},
		{"without a value", []string{"blksize"}, "D512"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, 0, 1)
			defer func() { _ = c.conn.Close() }()
			c.write(readRequest("f", tt.options...), addr)
			buf := make([]byte, 2000)
			n, from, err := c.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("D%d", n-4)
			if buf[1] == opOptions {
				got = strings.TrimRight(strings.ReplaceAll(string(buf[2:n]), "\x00", " "), " ")
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			c.write(encodeError(&protocolError{codeOptions, "enough"}), from)
		})
	}
}

// TestRefused: what is not served is answered with an error, or not at all.
func TestRefused(t *testing.T) {
	addr, _ := serve(t, map[string][]byte{"f": randomBytes(10)}, 0)
	write := readRequest("f")
	write[1] = opWrite
	ascii := bytes.Replace(readRequest("f"), []byte("octet"), []byte("netascii"), 1)
	for _, tt := range []struct {
		name   string
		packet []byte
		want   string // the error; empty: silence
	}{
		{"a write", write, "2 this server is read-only"},
		{"netascii", ascii, "4 only the mode octet is served"},
		{"no such file", readRequest("none"), "1 there is no such file"},
		{"a broken file", readRequest("broken"), "0 the file cannot be read"},
		{"no name", readRequest(""), "4 the request has no file name and mode"},
		{"no mode", []byte("\x00\x01f\x00"), "4 the request has no file name and mode"},
		{"no end", []byte("\x00\x01f\x00octet"), "4 the request has no file name and mode"},
		{"another operation", []byte("\x00\x09f\x00octet\x00"), "4 unknown operation"},
		{"one byte", []byte{0}, "4 the packet is too short"},
		{"an acknowledgement", []byte{0, opAcknowledge, 0, 1}, ""},
		{"an error", encodeError(&protocolError{codeOther, "x"}), ""},
		{"too long", readRequest(strings.Repeat("x", 600)), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, 0, 1)
			defer func() { _ = c.conn.Close() }()
			c.write(tt.packet, addr)
			_ = c.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if tt.want != "" {
				_ = c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			}
			buf := make([]byte, 2000)
			n, _, err := c.conn.ReadFromUDPAddrPort(buf)
			got := ""
			if err == nil {
				got = fmt.Sprintf("%d %s", buf[3], buf[4:n-1])
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestSizeAlone: a client that only asks for the size, as firmware does before it
// reads, is no failure; one that falls silent is.
func TestSizeAlone(t *testing.T) {
	addr, ended := serve(t, map[string][]byte{"f": randomBytes(5000)}, 5*time.Millisecond)
	c := newClient(t, 0, 1)
	defer func() { _ = c.conn.Close() }()
	c.write(readRequest("f", "tsize", "0"), addr)
	buf := make([]byte, 2000)
	_, from, err := c.conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	c.write(encodeError(&protocolError{codeOptions, "User aborted the transfer"}), from)
	if end := ended.next(t, c); end.Err != nil || end.Sent != 0 || end.Size != 5000 {
		t.Errorf("%+v", end)
	}
	c.write(readRequest("f"), addr)
	if end := ended.next(t, c); end.Err == nil || !strings.Contains(end.Err.Error(), "did not answer") {
		t.Errorf("%+v", end)
	}
}

// TestLimit: requests beyond the limit, and those that come twice, start nothing.
func TestLimit(t *testing.T) {
	s := &Server{Limit: 2}
	one, two, three := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.1:2"), netip.MustParseAddrPort("10.0.0.2:1")
	for i, c := range []struct {
		client netip.AddrPort
		want   bool
	}{{one, true}, {one, false}, {two, true}, {three, false}} {
		if got := s.begin(c.client); got != c.want {
			t.Errorf("request %d: %v", i, got)
		}
	}
	s.end(one)
	if !s.begin(three) {
		t.Error("no room after a transfer has ended")
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(readRequest("grubx64.efi", "tsize", "0", "blksize", "1468", "windowsize", "4"))
	f.Add([]byte("\x00\x01\x00\x00"))
	f.Add([]byte{0, opError, 0, 8, 0})
	f.Fuzz(func(t *testing.T, packet []byte) {
		req, err := decodeRequest(packet)
		_, _ = decodeReply(packet) // it must not panic
		if err != nil {
			return
		}
		if req.name == "" || req.window > maxWindow || req.blockSize > etherBlockSize || req.timeout > 255 {
			t.Errorf("%+v", req)
		}
	})
}

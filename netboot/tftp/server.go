package tftp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"sync"
	"time"
)

// File is what a transfer sends. Size is in bytes. A File that is an io.Closer is
// closed when the transfer has ended.
type File interface {
	io.ReaderAt
	Size() int64
}

// Transfer is a read that has ended.
type Transfer struct {
	Client    netip.AddrPort
	Name      string // as it was asked for
	Size      int64  // bytes of the file
	Sent      int64  // bytes that the client acknowledged
	BlockSize int    // bytes
	Window    int    // blocks
	Duration  time.Duration
	// Err is why the file did not arrive. It is nil when the client asked for the size
	// alone, which firmware does before it reads.
	Err error
}

// Server serves files. Its fields are set before Serve.
type Server struct {
	// Open returns the file of a name. An error that is fs.ErrNotExist is told as such;
	// of any other the client learns that there was one.
	Open func(ctx context.Context, client netip.Addr, name string) (File, error)
	// Done is called when a transfer has ended, unless it is nil.
	Done func(Transfer)
	// Timeout is how long the first wait for an acknowledgement takes; 0: one second.
	// A client may choose its own.
	Timeout time.Duration
	// Limit is the number of transfers at a time; 0: 512. Requests beyond it are not
	// answered: clients ask again.
	Limit int

	mu      sync.Mutex
	running map[netip.AddrPort]bool
}

// tries is how often a window is sent before the client is given up.
const tries = 6

// maxRequest is the size, in bytes, of the longest request (RFC 2347).
const maxRequest = 512

// Serve takes requests from conn, a UDP socket on port 69, until the context is done
// or the socket fails. Transfers go out from ports of their own on the socket's
// address. It returns when all have ended; conn stays open.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	ctx, cancel := context.WithCancel(ctx)
	var transfers sync.WaitGroup
	defer transfers.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	local := conn.LocalAddr().(*net.UDPAddr)
	buf := make([]byte, maxRequest+1)
	for {
		n, client, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("cannot take TFTP requests: %w", err)
		case n > maxRequest:
			continue
		}
		req, err := decodeRequest(buf[:n])
		var refused *protocolError
		if errors.As(err, &refused) {
			_, _ = conn.WriteToUDPAddrPort(encodeError(refused), client) // it may be gone
		}
		if err != nil || !s.begin(client) {
			continue
		}
		transfers.Go(func() {
			defer s.end(client)
			t := s.transfer(ctx, local.IP, client, req)
			if s.Done != nil {
				s.Done(t)
			}
		})
	}
}

// begin reports whether a transfer may start. A client that asks again from the same
// port did not see the first answer yet; it is on its way.
func (s *Server) begin(client netip.AddrPort) bool {
	limit := s.Limit
	if limit == 0 {
		limit = 512
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[client] || len(s.running) >= limit {
		return false
	}
	if s.running == nil {
		s.running = map[netip.AddrPort]bool{}
	}
	s.running[client] = true
	return true
}

func (s *Server) end(client netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, client)
}

func (s *Server) transfer(ctx context.Context, local net.IP, client netip.AddrPort, req request) (t Transfer) {
	start := time.Now()
	t = Transfer{Client: client, Name: req.name, BlockSize: defaultBlockSize, Window: 1}
	if req.blockSize > 0 {
		t.BlockSize = req.blockSize
	}
	if req.window > 0 {
		t.Window = req.window
	}
	defer func() { t.Duration = time.Since(start) }()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: local}, net.UDPAddrFromAddrPort(client))
	if err != nil {
		t.Err = fmt.Errorf("cannot answer the client: %w", err)
		return t
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	p := &peer{ctx: ctx, conn: conn, timeout: s.timeout(req)}
	file, err := s.Open(ctx, client.Addr(), req.name)
	if err != nil {
		t.Err = err
		answer := &protocolError{codeOther, "the file cannot be read"}
		if errors.Is(err, fs.ErrNotExist) {
			answer = &protocolError{codeNotFound, "there is no such file"}
		}
		p.tell(answer)
		return t
	}
	if c, ok := file.(io.Closer); ok {
		defer func() { _ = c.Close() }() // read only
	}
	t.Size = file.Size()
	t.Sent, t.Err = p.send(file, t, req)
	var refused *protocolError
	if errors.As(t.Err, &refused) && refused.code == codeOptions && req.wantsSize && t.Sent == 0 {
		t.Err = nil
	}
	return t
}

func (s *Server) timeout(req request) time.Duration {
	switch {
	case req.timeout > 0:
		return time.Duration(req.timeout) * time.Second
	case s.Timeout > 0:
		return s.Timeout
	}
	return time.Second
}

// peer is the client of one transfer.
type peer struct {
	ctx     context.Context
	conn    *net.UDPConn
	timeout time.Duration
	buf     [maxRequest]byte
}

func (p *peer) tell(e *protocolError) { _, _ = p.conn.Write(encodeError(e)) } // it may be gone

// send sends the file and returns how many of its bytes were acknowledged. The last
// block is shorter than the others, and empty when the size is a multiple of theirs.
func (p *peer) send(file File, t Transfer, req request) (int64, error) {
	if options := req.options(t.Size); options != nil {
		if _, err := p.exchange(0, 0, func() error { return p.write(options) }); err != nil {
			return 0, err
		}
	}
	blockSize := int64(t.BlockSize)
	last := t.Size/blockSize + 1 // number of the last block, from 1
	buf := make([]byte, headerSize+t.BlockSize)
	for done := int64(0); done < last; {
		window := min(int64(t.Window), last-done)
		acknowledged, err := p.exchange(done, window, func() error {
			for block := done + 1; block <= done+window; block++ {
				binary.BigEndian.PutUint16(buf, opData)
				binary.BigEndian.PutUint16(buf[2:], uint16(block)) // it begins again at 0 after 65535
				length := min(blockSize, t.Size-(block-1)*blockSize)
				if n, err := file.ReadAt(buf[headerSize:headerSize+length], (block-1)*blockSize); int64(n) < length {
					p.tell(&protocolError{codeOther, "the file cannot be read"})
					return fmt.Errorf("cannot read the file at byte %d: %w", (block-1)*blockSize+int64(n), err)
				}
				if err := p.write(buf[:headerSize+length]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return done * blockSize, err
		}
		done += acknowledged
	}
	return t.Size, nil
}

// exchange sends a window of blocks that follow the block done, until the client
// acknowledges at least one of them, and returns how many it did. A window of 0 stands
// for the options, which the client acknowledges as block 0.
//
// An acknowledgement of the block done means that the first block of the window was
// lost. It is believed once, and not in windows of one block: there it may as well
// answer a block that was sent twice, and every answer would double from then on
// (RFC 1123, section 4.2.3.1).
func (p *peer) exchange(done, window int64, send func() error) (int64, error) {
	wait := p.timeout
	for range tries {
		if err := send(); err != nil {
			return 0, err
		}
		deadline := time.Now().Add(wait)
		wait = min(2*wait, max(p.timeout, 8*time.Second))
		for believed := window <= 1; ; {
			block, err := p.read(deadline)
			switch {
			case errors.Is(err, errTimeout):
			case err != nil:
				return 0, err
			default:
				ahead := int64(block - uint16(done)) // modulo 65536
				switch {
				case ahead == 0 && window == 0:
					return 0, nil
				case ahead >= 1 && ahead <= window:
					return ahead, nil
				case ahead == 0 && !believed:
					believed = true
					if err := send(); err != nil {
						return 0, err
					}
				}
				continue
			}
			break
		}
	}
	return 0, fmt.Errorf("the client did not answer %d times", tries)
}

var errTimeout = errors.New("no answer in time")

func (p *peer) write(packet []byte) error {
	if _, err := p.conn.Write(packet); err != nil {
		return p.failed(err)
	}
	return nil
}

// read returns the number of the block that the client acknowledges.
func (p *peer) read(deadline time.Time) (uint16, error) {
	if err := p.conn.SetReadDeadline(deadline); err != nil {
		return 0, p.failed(err)
	}
	for {
		n, err := p.conn.Read(p.buf[:])
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return 0, errTimeout
		}
		if err != nil {
			return 0, p.failed(err)
		}
		block, err := decodeReply(p.buf[:n])
		if errors.Is(err, errNoRequest) {
			continue // a stray packet
		}
		return block, err
	}
}

func (p *peer) failed(err error) error {
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	return fmt.Errorf("the client cannot be reached: %w", err)
}

package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/netboot/state"
)

// tokenDigits is the length of a token in an address.
const tokenDigits = 32

// errTooMany: an address tried too many tokens that open nothing.
var errTooMany = errors.New("too many wrong tokens from this address")

// lookup returns the record that a token opens. address is who asks: what it tries
// without success is counted, and a token that was heard of is never refused for it.
func (s *Server) lookup(ctx context.Context, token state.Token, purpose state.Purpose, address string) (*state.Record, error) {
	if machine, ok := s.board.byToken(token); ok {
		// What the memory has may be late: the store decides.
		r, err := s.latest(ctx, machine)
		if err != nil {
			return nil, err
		}
		if r.Hash(purpose).Is(token) {
			return r, nil
		}
		return nil, fmt.Errorf("the token is another generation's: %w", state.ErrUnknown)
	}
	if !s.wrong.allows(address) {
		return nil, errTooMany
	}
	err := state.ErrUnknown
	var r *state.Record
	if len(token) == tokenDigits {
		r, err = s.o.Store.ByToken(ctx, token, purpose)
	}
	if errors.Is(err, state.ErrUnknown) {
		s.meters.wrong.Inc()
		s.wrong.count(address)
		return nil, err
	}
	if err == nil {
		s.board.put(r)
	}
	return r, err
}

// latest returns a machine's record as the store has it.
func (s *Server) latest(ctx context.Context, machine string) (*state.Record, error) {
	if known := s.board.record(machine); known != nil {
		return s.o.Store.Latest(ctx, known)
	}
	return s.o.Store.Get(ctx, machine)
}

// refuse answers a request whose token opens nothing.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errTooMany):
		w.Header().Set("Retry-After", "60")
		http.Error(w, err.Error(), http.StatusTooManyRequests)
	case errors.Is(err, state.ErrUnknown):
		http.Error(w, "there is nothing here, or not any more", http.StatusNotFound)
	case errors.Is(err, state.ErrFull): // the log says so once
		http.Error(w, state.ErrFull.Error(), http.StatusServiceUnavailable)
	default:
		s.o.Log.Error("cannot answer", "why", err)
		http.Error(w, "the server's state cannot be read", http.StatusServiceUnavailable)
	}
}

// addressOf returns who sent a request, without the port.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// maxAddresses bounds the addresses that a limiter remembers.
const maxAddresses = 10000

// limiter counts what addresses do in a minute.
type limiter struct {
	limit int
	now   func() time.Time

	mu     sync.Mutex
	minute time.Time
	counts map[string]int
}

func newLimiter(limit int, now func() time.Time) *limiter {
	return &limiter{limit: limit, now: now, counts: map[string]int{}}
}

func (l *limiter) turn() {
	if now := l.now(); now.Sub(l.minute).Abs() >= time.Minute || len(l.counts) > maxAddresses {
		l.minute = now
		clear(l.counts)
	}
}

// allows reports whether an address may try once more.
func (l *limiter) allows(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn()
	return l.counts[address] < l.limit
}

// count counts a try.
func (l *limiter) count(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn()
	l.counts[address]++
}

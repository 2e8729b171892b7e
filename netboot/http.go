package netboot

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gpustrap/gpustrap/netboot/events"
	"github.com/gpustrap/gpustrap/netboot/state"
)

// Handler answers machines: plain HTTP on the provisioning network.
func (s *Server) Handler() http.Handler { return s.handler(http.NotFoundHandler()) }

// handler is Handler with something for all other paths.
func (s *Server) handler(others http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", others)
	mux.HandleFunc("GET /s/{rest...}", s.serveSeed)
	mux.HandleFunc("POST /report/{token}/event", s.serveEvent)
	mux.HandleFunc("POST /report/{token}/receipt", s.serveReceipt)
	mux.HandleFunc("GET /healthz", s.serveHealth)
	mux.Handle("GET /metrics", s.meters.handler())
	return s.limited(oneSlash(mux))
}

// oneSlash makes one slash of several in a row. Firmware asks for //grubx64.efi, and
// an empty value that cloud-init puts into an address leaves two; http.ServeMux would
// send them elsewhere, where they do not go.
func oneSlash(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "//") {
			r = r.Clone(r.Context())
			for strings.Contains(r.URL.Path, "//") {
				r.URL.Path = strings.ReplaceAll(r.URL.Path, "//", "/")
			}
			r.URL.RawPath = ""
		}
		next.ServeHTTP(w, r)
	})
}

// limited bounds what a request may carry.
func (s *Server) limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, events.MaxEvent+1)
		next.ServeHTTP(w, r)
	})
}

// NewHTTP returns an HTTP server with the bounds that keep slow and broken clients
// from tying it up. A medium takes as long as it takes: writing has none.
func NewHTTP(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// serveHealth answers 200 while the store answers and can be written.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	switch err := s.o.Store.Healthy(r.Context()); {
	case errors.Is(err, state.ErrFull):
		http.Error(w, state.ErrFull.Error()+": no machine takes a step until there is room", http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, "the server's state cannot be read", http.StatusServiceUnavailable)
	default:
		_, _ = w.Write([]byte("ok\n"))
	}
}

// checkHealth says in the log when the store begins to fail, and when that is over. It
// returns what it found, for the next time.
func (s *Server) checkHealth(ctx context.Context, before error) error {
	err := s.o.Store.Healthy(ctx)
	switch {
	case ctx.Err() != nil:
		return before
	case err != nil && before == nil:
		s.o.Log.Error("not healthy: no machine takes a step", "why", err)
	case err == nil && before != nil:
		s.o.Log.Info("healthy again")
	}
	return err
}

package netboot

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gpustrap/gpustrap/netboot/state"
)

// Armed is the API's answer to an order to arm a machine.
type Armed struct {
	Machine    string    `json:"machine"`
	Generation uint64    `json:"generation"`
	Expires    time.Time `json:"expires"`
	// Medium is the address of the medium that installs it, when it is armed for one.
	Medium string `json:"medium,omitempty"`
}

// Disarmed is the API's answer to an order to disarm a machine.
type Disarmed struct {
	Machine    string `json:"machine"`
	Generation uint64 `json:"generation"` // that ended
}

// Problem is the API's answer to what it cannot do.
type Problem struct {
	Error string `json:"error"`
}

// Admin answers administrators: the API, behind the token, and the pages, whose
// buttons are. It belongs on a TLS listener.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	s.apiRoutes(mux)
	mux.HandleFunc("GET /healthz", s.serveHealth)
	mux.Handle("/", s.pages())
	return s.limited(mux)
}

func (s *Server) apiRoutes(mux *http.ServeMux) {
	mux.Handle("GET /api/v1/machines", s.authorized(s.apiMachines))
	mux.Handle("GET /api/v1/machines/{name}", s.authorized(s.apiMachine))
	mux.Handle("GET /api/v1/machines/{name}/events", s.authorized(s.apiEvents))
	mux.Handle("POST /api/v1/machines/{name}/arm", s.authorized(s.apiArm))
	mux.Handle("POST /api/v1/machines/{name}/disarm", s.authorized(s.apiDisarm))
	mux.Handle("GET /api/v1/watch", s.authorized(s.apiWatch))
}

// IsAdmin reports whether a token is the administrators', in constant time.
func (s *Server) IsAdmin(token string) bool {
	given, ours := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.o.AdminToken))
	return s.o.AdminToken != "" && subtle.ConstantTimeCompare(given[:], ours[:]) == 1
}

// TryAdmin is IsAdmin for somebody who asks from an address. Too many wrong tokens
// from there are an error; the right one is taken nevertheless, so that nobody can
// lock administrators out.
func (s *Server) TryAdmin(token, address string) (ok bool, err error) {
	if s.IsAdmin(token) {
		return true, nil
	}
	if !s.wrong.allows(address) {
		return false, errTooMany
	}
	s.meters.wrong.Inc()
	s.wrong.count(address)
	return false, nil
}

// authorized lets only administrators through.
func (s *Server) authorized(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch ok, err := s.TryAdmin(token, addressOf(r)); {
		case err != nil:
			w.Header().Set("Retry-After", "60")
			answer(w, http.StatusTooManyRequests, Problem{err.Error()})
		case !ok:
			w.Header().Set("WWW-Authenticate", "Bearer")
			answer(w, http.StatusUnauthorized, Problem{"this needs the administrators' token"})
		default:
			next(w, r)
		}
	})
}

// answer writes JSON.
func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client has gone
}

func (s *Server) apiMachines(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.Views())
}

func (s *Server) apiMachine(w http.ResponseWriter, r *http.Request) {
	v, ok := s.View(r.PathValue("name"))
	if !ok {
		answer(w, http.StatusNotFound, Problem{fmt.Sprintf("there is no machine %q", r.PathValue("name"))})
		return
	}
	answer(w, http.StatusOK, v)
}

func (s *Server) apiEvents(w http.ResponseWriter, r *http.Request) {
	log, err := s.Log(r.PathValue("name"))
	if err != nil {
		answer(w, http.StatusNotFound, Problem{err.Error()})
		return
	}
	defer func() { _ = log.Close() }() // read only
	w.Header().Set("Content-Type", "application/x-ndjson")
	_, _ = io.Copy(w, log) // the client has gone
}

// apiWatch sends a view for each change of a machine, a line of JSON each, until the
// client goes.
func (s *Server) apiWatch(w http.ResponseWriter, r *http.Request) {
	changes, stop := s.Changes()
	defer stop()
	only := r.URL.Query().Get("machine")
	if _, ok := s.View(only); only != "" && !ok {
		answer(w, http.StatusNotFound, Problem{fmt.Sprintf("there is no machine %q", only)})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	out, lines := http.NewResponseController(w), json.NewEncoder(w)
	send := func(name string) bool {
		v, ok := s.View(name)
		if !ok || only != "" && name != only {
			return true
		}
		return lines.Encode(v) == nil && out.Flush() == nil
	}
	if only != "" && !send(only) || out.Flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case name, ok := <-changes:
			if !ok || !send(name) {
				return
			}
		}
	}
}

// apiOrder is what is posted to arm a machine.
type apiOrder struct {
	Via       state.Via `json:"via"`
	Reinstall bool      `json:"reinstall"`
	Expires   string    `json:"expires"` // a duration such as 6h; empty: the server's own
}

func (s *Server) apiArm(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	var posted apiOrder
	if !readOrder(w, r, &posted) {
		return
	}
	order := ArmOrder{Via: posted.Via, Reinstall: posted.Reinstall}
	if order.Via == "" {
		order.Via = state.Network
	}
	if order.Via != state.Network && order.Via != state.Medium {
		answer(w, http.StatusBadRequest, Problem{fmt.Sprintf("via is %q, and must be network or medium", posted.Via)})
		return
	}
	if posted.Expires != "" {
		var err error
		if order.Expires, err = time.ParseDuration(posted.Expires); err != nil || order.Expires <= 0 {
			answer(w, http.StatusBadRequest, Problem{fmt.Sprintf("expires is %q, and must be a time such as 6h", posted.Expires)})
			return
		}
	}
	record, err := s.Arm(r.Context(), name, order)
	s.audit(addressOf(r), "arm", name, err, "via", order.Via, "reinstall", order.Reinstall)
	if err != nil {
		answer(w, statusOf(err), Problem{err.Error()})
		return
	}
	out := Armed{Machine: name, Generation: record.Generation, Expires: record.Expires}
	if record.Via == state.Medium {
		out.Medium = s.MediumURL(record)
	}
	answer(w, http.StatusOK, out)
}

// apiDisarm takes an order such as {"force": true}; an empty one does not force.
func (s *Server) apiDisarm(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	var posted struct {
		Force bool `json:"force"`
	}
	if !readOrder(w, r, &posted) {
		return
	}
	record, err := s.Disarm(r.Context(), name, posted.Force)
	s.audit(addressOf(r), "disarm", name, err, "force", posted.Force)
	if err != nil {
		answer(w, statusOf(err), Problem{err.Error()})
		return
	}
	answer(w, http.StatusOK, Disarmed{name, record.Generation})
}

// readOrder reads what was posted. Where it cannot, it has answered.
func readOrder(w http.ResponseWriter, r *http.Request, order any) bool {
	decoder := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(order)
	if err == nil && decoder.More() {
		err = errors.New("something follows it")
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		err = fmt.Errorf("it has %s in the wrong place (%s), byte %d", "a JSON "+wrong.Value, cmp.Or(wrong.Field, "the order itself"), wrong.Offset)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		answer(w, http.StatusBadRequest, Problem{"cannot read the order: " + err.Error()})
		return false
	}
	return true
}

// statusOf is the table of what an error means to a client of the API.
func statusOf(err error) int {
	switch {
	case errors.Is(err, state.ErrUnknown):
		return http.StatusNotFound
	case errors.Is(err, state.ErrActive), errors.Is(err, state.ErrInstalled), errors.Is(err, state.ErrIdle), errors.Is(err, state.ErrConflict):
		return http.StatusConflict
	case errors.Is(err, state.ErrFull):
		return http.StatusInsufficientStorage
	case errors.Is(err, errUnmatched), errors.Is(err, errNoMedium), errors.Is(err, errUnrendered):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// audit takes down what an administrator did, or tried, from an address.
func (s *Server) audit(from, action, machine string, err error, further ...any) {
	result := "done"
	if err != nil {
		result = err.Error()
	}
	s.o.Audit.Info(action, append([]any{"machine", machine, "from", from, "result", result}, further...)...)
}

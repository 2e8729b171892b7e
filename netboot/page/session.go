package page

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// The bounds of signing in.
const (
	sessionLife  = 12 * time.Hour
	maxSessions  = 1000
	maxForm      = 4 << 10 // bytes
	cookieName   = "__Host-gpustrap"
	secretLength = 32 // bytes
)

// session is a browser that was signed in.
type session struct {
	CSRF    string // stands in every form of its pages
	expires time.Time
}

// sessions are the browsers that are signed in, by the hash of their cookie.
type sessions struct {
	options Options
	mutex   sync.Mutex
	open    map[[sha256.Size]byte]*session
}

func newSessions(o Options) *sessions {
	return &sessions{options: o, open: map[[sha256.Size]byte]*session{}}
}

// of returns the session of a request, or nil.
func (s *sessions) of(r *http.Request) *session {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.open[sha256.Sum256([]byte(cookie.Value))]
	if found == nil || s.options.Now().After(found.expires) {
		return nil
	}
	return found
}

// begin signs a browser in, and returns its cookie.
func (s *sessions) begin() (*http.Cookie, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	now := s.options.Now()
	for key, old := range s.open {
		if now.After(old.expires) || len(s.open) >= maxSessions {
			delete(s.open, key)
		}
	}
	var secrets [2]string
	for i := range secrets {
		b := make([]byte, secretLength)
		if _, err := io.ReadFull(s.options.Random, b); err != nil {
			return nil, err
		}
		secrets[i] = hex.EncodeToString(b)
	}
	s.open[sha256.Sum256([]byte(secrets[0]))] = &session{CSRF: secrets[1], expires: now.Add(sessionLife)}
	return &http.Cookie{Name: cookieName, Value: secrets[0], Path: "/", MaxAge: int(sessionLife.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}, nil
}

func (s *sessions) end(r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		s.mutex.Lock()
		delete(s.open, sha256.Sum256([]byte(cookie.Value)))
		s.mutex.Unlock()
	}
}

// addressOf returns the IP address that a request comes from.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// loginPage is the form to sign in by.
type loginPage struct {
	Back  string
	Error string
}

// backTo keeps a path of these pages, and no address elsewhere.
func backTo(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.IsAbs() || u.Host != "" || len(u.Path) == 0 || u.Path[0] != '/' || len(u.Path) > 1 && (u.Path[1] == '/' || u.Path[1] == '\\') {
		return "/"
	}
	return u.RequestURI()
}

func (p *Pages) loginForm(w http.ResponseWriter, r *http.Request) {
	p.render(w, r, http.StatusOK, "login.html", frame{Title: "Sign in", Page: loginPage{Back: backTo(r.URL.Query().Get("back"))}})
}

func (p *Pages) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	back := backTo(r.PostFormValue("back"))
	right, err := p.options.SignIn(r.PostFormValue("token"), addressOf(r))
	if err != nil || !right {
		status, text := http.StatusForbidden, "This is not the admin token."
		if err != nil {
			status, text = http.StatusTooManyRequests, err.Error()
		}
		p.render(w, r, status, "login.html", frame{Title: "Sign in", Page: loginPage{back, text}})
		return
	}
	cookie, err := p.sessions.begin()
	if err != nil {
		p.message(w, r, http.StatusInternalServerError, "There is no chance to be had for a session.")
		return
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, back, http.StatusSeeOther)
}

// allowed reports whether a form was sent by a browser that is signed in, from a
// page of its session. Where not, it has answered.
func (p *Pages) allowed(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	s := p.sessions.of(r)
	if s == nil || subtle.ConstantTimeCompare([]byte(s.CSRF), []byte(r.PostFormValue("csrf"))) != 1 {
		p.message(w, r, http.StatusForbidden, "Sign in first, then press the button again.")
		return false
	}
	return true
}

func (p *Pages) logout(w http.ResponseWriter, r *http.Request) {
	if !p.allowed(w, r) {
		return
	}
	p.sessions.end(r)
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// readers lets those read who may, and has the others sign in.
func (p *Pages) readers(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case p.options.Public || p.sessions.of(r) != nil:
			next(w, r)
		case r.URL.Path == "/stream": // a script waits for it, which knows no form
			http.Error(w, "sign in first", http.StatusForbidden)
		default:
			http.Redirect(w, r, "/login?back="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		}
	}
}

// ordered returns the machine that a form is about. Where it is not to be obeyed, it
// has answered. The machine's name must be typed where sure says so.
func (p *Pages) ordered(w http.ResponseWriter, r *http.Request, sure func(Detail) bool, doing string) (Detail, bool) {
	if !p.allowed(w, r) {
		return Detail{}, false
	}
	name := r.PathValue("name")
	d, ok := p.options.Source.Detail(name)
	if !ok {
		p.message(w, r, http.StatusNotFound, "There is no such machine in gpustrap.yaml.")
		return d, false
	}
	if sure(d) && r.PostFormValue("confirm") != name {
		p.message(w, r, http.StatusBadRequest, "To "+doing+" "+name+", type its name into the form.")
		return d, false
	}
	return d, true
}

func (p *Pages) arm(w http.ResponseWriter, r *http.Request) {
	d, ok := p.ordered(w, r, func(d Detail) bool { return d.Installed || d.Active }, "install again")
	if !ok {
		return
	}
	order := Order{Medium: r.PostFormValue("via") == "medium", Reinstall: r.PostFormValue("reinstall") == "yes"}
	medium, err := p.options.Source.Arm(context.WithoutCancel(r.Context()), d.Name, order, addressOf(r))
	if err == nil && medium != "" {
		p.render(w, r, http.StatusOK, "armed.html", frame{Title: d.Name, Page: struct{ Name, Medium string }{d.Name, medium}})
		return
	}
	p.obeyed(w, r, d.Name, err)
}

func (p *Pages) disarm(w http.ResponseWriter, r *http.Request) {
	d, ok := p.ordered(w, r, func(d Detail) bool { return d.Begun }, "disarm")
	if !ok {
		return
	}
	// Who has typed the name has read that it has begun.
	p.obeyed(w, r, d.Name, p.options.Source.Disarm(context.WithoutCancel(r.Context()), d.Name, d.Begun, addressOf(r)))
}

// obeyed answers when something was done to a machine, or was not.
func (p *Pages) obeyed(w http.ResponseWriter, r *http.Request, name string, err error) {
	switch {
	case errors.Is(err, ErrRefused):
		p.message(w, r, http.StatusConflict, err.Error())
	case err != nil:
		p.message(w, r, http.StatusInternalServerError, "That cannot be done now; the server's log says why.")
	default:
		http.Redirect(w, r, "/machine/"+url.PathEscape(name), http.StatusSeeOther)
	}
}

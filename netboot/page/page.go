// Package page is the web page of a fleet that is being installed: the machines
// as a grid, each machine's timeline, why it is stuck, and buttons to arm it. It is
// rendered here, and can be read without JavaScript; a small script of our own
// keeps it up to date. What it shows comes from strangers, too: everything is
// escaped, and the Content Security Policy lets nothing but its own files run.
package page

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io"
	"net/http"
	"time"
)

//go:embed templates static
var files embed.FS

// Options is what the pages are made of.
type Options struct {
	Source Source
	// Public lets everybody read who reaches the pages; else they are for those who
	// are signed in.
	Public bool
	// SignIn reports whether a token opens the buttons, for somebody at an address. It
	// fails where too many wrong ones were tried.
	SignIn func(token, address string) (bool, error)
	Now    func() time.Time
	Random io.Reader // nil: crypto/rand
}

// Pages serves the pages. It is to be served over TLS: its cookie is sent nowhere
// else.
type Pages struct {
	options   Options
	templates *template.Template
	version   string // of the files, in their addresses
	sessions  *sessions
	streams   chan struct{} // a place for each open stream
	mux       http.Handler
}

// maxStreams is how many browsers are kept up to date at a time.
const maxStreams = 200

// New returns the pages.
func New(o Options) *Pages {
	if o.Random == nil {
		o.Random = rand.Reader
	}
	p := &Pages{options: o, sessions: newSessions(o), streams: make(chan struct{}, maxStreams)}
	sum := sha256.New()
	for _, name := range []string{"static/page.css", "static/page.js"} {
		data, _ := files.ReadFile(name) // it is in the program
		_, _ = sum.Write(data)
	}
	p.version = hex.EncodeToString(sum.Sum(nil)[:6])
	p.templates = template.Must(template.New("").Funcs(template.FuncMap{
		"ago":   func(t time.Time) string { return durationText(p.options.Now().Sub(t)) },
		"clock": func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"stamp": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	}).ParseFS(files, "templates/*.html"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.readers(p.fleet))
	mux.HandleFunc("GET /machine/{name}", p.readers(p.machine))
	mux.HandleFunc("POST /machine/{name}/arm", p.arm)
	mux.HandleFunc("POST /machine/{name}/disarm", p.disarm)
	mux.HandleFunc("GET /login", p.loginForm)
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("POST /logout", p.logout)
	mux.HandleFunc("GET /stream", p.readers(p.stream))
	mux.HandleFunc("GET /static/{name}", p.static)
	// A browser says where a request comes from; another site's is refused before
	// anybody looks at its cookie.
	p.mux = http.NewCrossOriginProtection().Handler(mux)
	return p
}

// ServeHTTP serves a page.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	p.mux.ServeHTTP(w, r)
}

// frame is what every page has.
type frame struct {
	Title   string
	Version string
	Session *session // nil: nobody is signed in
	Stream  string   // address of the page's stream; empty: none
	Page    any
}

func (p *Pages) render(w http.ResponseWriter, r *http.Request, status int, name string, f frame) {
	f.Version = p.version
	f.Session = p.sessions.of(r)
	var b bytes.Buffer
	if err := p.templates.ExecuteTemplate(&b, name, f); err != nil {
		http.Error(w, "cannot render this page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser went away
}

// message is a page that says one thing.
func (p *Pages) message(w http.ResponseWriter, r *http.Request, status int, text string) {
	p.render(w, r, status, "message.html", frame{Title: http.StatusText(status), Page: text})
}

func (p *Pages) static(w http.ResponseWriter, r *http.Request) {
	kinds := map[string]string{"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}
	name := r.PathValue("name")
	data, err := files.ReadFile("static/" + name)
	if kinds[name] == "" || err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", kinds[name])
	w.Header().Set("Cache-Control", "public, max-age=86400") // its address changes with it
	_, _ = w.Write(data)                                     // the browser went away
}

package config

import (
	"fmt"
	"net/netip"

	"github.com/gpustrap/gpustrap/apps"
)

// apps returns the machine's container apps, and refuses those that could not
// run on it.
func (r *resolver) apps(s *settings, m *Machine, path string) []App {
	var out []App
	for i, k := range s.apps.items {
		at := under(path, fmt.Sprintf("apps[%d]", i))
		app, ok := r.app(k.name)
		if !ok {
			continue // refused when it was decoded
		}
		r.checkApp(s, m, k, app, at)
		for j, other := range s.apps.items[:i] {
			if other.name.v == app.Name {
				r.error(k.name.at, at+".name", fmt.Sprintf("%s stands here a second time", app.Name), "remove one", r.related(other.name.at, "the first is here"))
			} else if k.port.ok() && other.port.ok() && other.port.v == k.port.v {
				r.error(k.port.at, at+".port", fmt.Sprintf("%s and %s have one port, %d", out[j].Name, app.Name, k.port.v), "give each app its own",
					r.related(other.port.at, fmt.Sprintf("the port of %s is here", other.name.v)))
			}
		}
		address, err := netip.ParseAddr(otherwise(k.address, "127.0.0.1"))
		if err != nil {
			address = netip.MustParseAddr("127.0.0.1") // refused when it was decoded
		}
		out = append(out, App{
			Name: app.Name, Start: otherwise(k.start, app.Service()), Address: address, Port: otherwise(k.port, 0), ShmSize: k.shmSize.v, ImageFile: k.imageFile.v,
		})
	}
	return out
}

// app returns the app of a name. Each is read once: ten thousand machines may
// name it.
func (r *resolver) app(name text) (apps.App, bool) {
	if app, ok := r.read[name.v]; ok {
		return app, true
	}
	app, err := apps.Read(name.v)
	if !name.ok() || err != nil {
		return apps.App{}, false
	}
	r.read[name.v] = app
	return app, true
}

// checkApp refuses an app that lacks what it runs on, and settings that it has no
// use for.
func (r *resolver) checkApp(s *settings, m *Machine, k *appKeys, app apps.App, at string) {
	switch {
	case m.Docker == nil:
		r.error(k.name.at, at, fmt.Sprintf("%s runs in Docker, which is off", app.Name), "write docker: {}, or remove the app", r.related(s.docker.at, "docker is off here"))
	case app.GPUs && m.Toolkit == nil && !s.gaps && (s.gpu == nil || !s.gpu.bad):
		r.error(k.name.at, at, fmt.Sprintf("%s is given GPUs, and this machine has none for containers", app.Name), "it takes gpu: {model: …} and the toolkit, or remove the app")
	}
	if app.Service() {
		if start := k.start; start.ok() && !start.v && (k.port.ok() || k.address.ok()) {
			r.warn(start.at, at+".start", "address and port are those of an instance that the machine does not start", "remove them, or write start: true")
		}
		return
	}
	for _, key := range []struct {
		name string
		at   mark
	}{{"start", k.start.at}, {"address", k.address.at}, {"port", k.port.at}, {"shm_size", k.shmSize.at}} {
		if key.at != (mark{}) {
			r.error(key.at, at+"."+key.name, fmt.Sprintf("%s is no service, and has no use for %s", app.Name, key.name),
				"remove it; `app run "+app.Name+"` starts it for a command")
		}
	}
}

package autoinstall

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/config"
)

// A user's own engine publishes ports where the machine's does, and gets out as it
// does.
func TestRootlessEngineFollowsTheMachines(t *testing.T) {
	followed := func(text string) map[string]any {
		t.Helper()
		var all map[string]any
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			t.Fatal(err)
		}
		out := map[string]any{}
		for _, key := range []string{"ip", "default-network-opts", "proxies", "registry-mirrors", "default-shm-size", "log-opts"} {
			if value, ok := all[key]; ok {
				out[key] = value
			}
		}
		return out
	}
	for _, publish := range []string{config.PublishLocalhost, config.PublishAny} {
		in := shared("24.04")
		in.Machine.Docker.Publish = publish
		in.Machine.Proxy = &config.Proxy{URL: "http://proxy.example:3128"}
		b := &builder{in: &in}
		rootless := followed(b.rootlessJSON())
		if diff := cmp.Diff(followed(b.daemonJSON()), rootless); diff != "" {
			t.Errorf("publish: %s: the machine's engine (-) and a user's (+) differ:\n%s", publish, diff)
		}
		if _, bound := rootless["ip"]; bound != (publish == config.PublishLocalhost) {
			t.Errorf("publish: %s: bound to one address: %t", publish, bound)
		}
	}
}

package netboot

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/netboot/state"
)

func TestAPI(t *testing.T) {
	var audit strings.Builder
	b := newBench(t, fleet(2)+"  - {name: offline, match: {serial: x}, offline: only}\n", func(o *Options) {
		o.Audit = slog.New(slog.NewJSONHandler(&audit, nil))
	})
	admin := httptest.NewServer(b.Admin())
	defer admin.Close()
	call := func(token, method, path, body string) (int, string) {
		r, err := http.NewRequest(method, admin.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	const node = "/api/v1/machines/node00000"
	for _, tt := range []struct {
		name, token, method, path, body string
		status                          int
		want                            string
	}{
		{"no token", "", "GET", "/api/v1/machines", "", 401, "administrators' token"},
		{"a wrong token", "admin-tokem", "GET", "/api/v1/machines", "", 401, "administrators' token"},
		{"arm without a token", "", "POST", node + "/arm", "", 401, ""},
		{"the list", "admin-token", "GET", "/api/v1/machines", "", 200, `"machine":"node00001"`},
		{"one", "admin-token", "GET", node, "", 200, `"erases":"the only disk"`},
		{"an unknown one", "admin-token", "GET", "/api/v1/machines/x", "", 404, `there is no machine \"x\"`},
		{"arm", "admin-token", "POST", node + "/arm", "", 200, `"generation":1`},
		{"arm for a medium", "admin-token", "POST", node + "/arm", `{"via":"medium","expires":"1h"}`, 200, `/node00000.iso"`},
		{"arm an unknown one", "admin-token", "POST", "/api/v1/machines/x/arm", "", 404, "no machine"},
		{"arm in an unknown way", "admin-token", "POST", node + "/arm", `{"via":"post"}`, 400, "network or medium"},
		{"arm with an unknown key", "admin-token", "POST", node + "/arm", `{"force":true}`, 400, "unknown field"},
		{"arm for no time", "admin-token", "POST", node + "/arm", `{"expires":"-1h"}`, 400, "must be a time"},
		{"arm what does not render", "admin-token", "POST", "/api/v1/machines/offline/arm", "", 422, "takes its packages from its medium alone"},
		{"disarm", "admin-token", "POST", node + "/disarm", "", 200, `"generation":2`},
		{"disarm what is not armed", "admin-token", "POST", node + "/disarm", "", 409, "not armed"},
		{"disarm an unknown one", "admin-token", "POST", "/api/v1/machines/x/disarm", "", 409, "not armed"},
		{"disarm without a token", "", "POST", node + "/disarm", "", 401, ""},
		{"no events yet", "admin-token", "GET", node + "/events", "", 404, "has reported no events yet"},
		{"healthy", "", "GET", "/healthz", "", 200, "ok"},
	} {
		if status, text := call(tt.token, tt.method, tt.path, tt.body); status != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d, want %d %q\n%.300s", tt.name, status, tt.status, tt.want, text)
		}
	}
	b.boot(1)
	r, err := b.o.Store.Get(t.Context(), "node00000")
	if err != nil {
		t.Fatal(err)
	}
	_, text := call("admin-token", "GET", node, "")
	for _, secret := range []string{r.Salt, r.SeedHash.String(), r.MediumHash.String(), r.ReportHash.String(), state.Hash{}.String()} {
		if strings.Contains(text, secret) {
			t.Errorf("the API shows %q of\n%s", secret, text)
		}
	}
	if status, _ := call("admin-token", "POST", "/api/v1/machines/node00001/arm", ""); status != 200 {
		t.Error(status)
	}
	b.boot(1)
	if status, text := call("admin-token", "POST", "/api/v1/machines/node00001/arm", ""); status != 409 || !strings.Contains(text, "under way") {
		t.Errorf("arm while it boots: %d %s", status, text)
	}
	for range 2 * b.o.Limits.WrongTokens {
		call("wrong", "GET", node, "")
	}
	if status, _ := call("wrong", "GET", node, ""); status != 429 {
		t.Errorf("after many wrong tokens: %d", status)
	}
	if status, _ := call("admin-token", "GET", node, ""); status != 200 {
		t.Errorf("the right token after many wrong ones: %d", status)
	}
	lines := strings.Split(strings.TrimSpace(audit.String()), "\n")
	if len(lines) != 9 || strings.Contains(audit.String(), "admin-token") || !strings.Contains(lines[0], `"machine":"node00000","from":"127.0.0.1","result":"done"`) {
		t.Errorf("%d lines\n%s", len(lines), audit.String())
	}
}

// TestWrongOrders: what cannot be read arms nothing, and is said.
func TestWrongOrders(t *testing.T) {
	b := newBench(t, fleet(1))
	admin := httptest.NewServer(b.Admin())
	defer admin.Close()
	node := admin.URL + "/api/v1/machines/node00000"
	for order, want := range map[string]string{
		`{"via":"network"}{"reinstall":true}`: `cannot read the order: something follows it`,
		`{"reinstall":"yes"}`:                 `cannot read the order: it has a JSON string in the wrong place (reinstall), byte 18`,
		`[]`:                                  `cannot read the order: it has a JSON array in the wrong place (the order itself), byte 1`,
		`{"via":"network",`:                   `cannot read the order: unexpected EOF`,
		`{"disk":"sda"}`:                      `cannot read the order: json: unknown field \"disk\"`,
	} {
		r, err := http.NewRequest(http.MethodPost, node+"/arm", strings.NewReader(order))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer admin-token")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // it is read
		if err != nil || answer.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %s, want %s", order, answer.Status, body, want)
		}
	}
	if v, _ := b.View("node00000"); v.Record != nil {
		t.Errorf("it is %s", v.Phase())
	}
	b.arm(0, ArmOrder{})
	if r, body := ask(t, http.MethodGet, node+"/events", "Authorization", "Bearer admin-token"); r.StatusCode != http.StatusNotFound || !strings.Contains(body, `"node00000 has reported no events yet"`) {
		t.Error(r.Status, body)
	}
}

func TestWatchOfTheAPI(t *testing.T) {
	b := newBench(t, fleet(2))
	admin := httptest.NewServer(b.Admin())
	defer admin.Close()
	if r, body := ask(t, http.MethodGet, admin.URL+"/api/v1/watch?machine=node00009", "Authorization", "Bearer admin-token"); r.StatusCode != http.StatusNotFound || !strings.Contains(body, `there is no machine \"node00009\"`) {
		t.Error(r.Status, body)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, admin.URL+"/api/v1/watch?machine=node00001", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer admin-token")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := json.NewDecoder(bufio.NewReader(answer.Body))
	next := func() View {
		t.Helper()
		var v View
		if err := lines.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := next(); v.Machine != "node00001" || v.Phase() != "" {
		t.Errorf("%+v", v)
	}
	b.arm(0, ArmOrder{})
	b.arm(1, ArmOrder{})
	if v := next(); v.Machine != "node00001" || v.Phase() != state.Armed {
		t.Errorf("%+v", v)
	}
	b.EndWatches()
	for {
		if err := lines.Decode(&View{}); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificate(t *testing.T) {
	folder := t.TempDir()
	name := func(n string) string { return filepath.Join(folder, n) }
	now := time.Now()
	first, err := Certificate(name("crt"), name("key"), []string{"127.0.0.1", "boot.example"}, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "boot.example"} {
		if err := first.Leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	again, err := Certificate(name("crt"), name("key"), nil, now)
	if err != nil || !again.Leaf.Equal(first.Leaf) {
		t.Error("a certificate that is there is not kept", err)
	}
	if _, err := Certificate(name("crt"), name("other"), nil, now); err == nil {
		t.Error("a certificate without its key is taken")
	}
}

func TestUnknownMachines(t *testing.T) {
	b := newBench(t, fleet(1))
	for i := range maxUnknown + 10 {
		id := identity(i + 1)
		b.clock.pass(time.Second)
		if _, ok := b.Claim(t.Context(), id); ok {
			t.Fatal("a machine that the configuration does not have is answered")
		}
	}
	found := b.Unknown()
	if len(found) != maxUnknown || found[0].Identity.MAC.String() != mac(maxUnknown+10) {
		t.Errorf("%d, the latest is %v", len(found), fmt.Sprint(found[0]))
	}
}

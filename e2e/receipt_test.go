package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gpustrap/gpustrap/scripts"
)

// posted is a request that the machine made.
type posted struct {
	body   []byte
	header http.Header
}

// receiveReceipts starts a server that a machine posts to, and returns its address
// as the machine sees it.
func receiveReceipts(t *testing.T) (receipts <-chan posted, address string) {
	t.Helper()
	got := make(chan posted, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		got <- posted{body, r.Header}
	}))
	t.Cleanup(server.Close)
	return got, strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1) + "/receipt"
}

// noGPU begins the line of gpu-ready.
const noGPU = "NOT GPU-ready: no NVIDIA GPU is on the PCI bus; see 'lspci -d 10de:'"

// checkTold checks what the booted machine says of itself.
func checkTold(t *testing.T, lines []string) {
	t.Helper()
	told := map[string]string{}
	for _, line := range lines {
		name, text, _ := strings.Cut(line, " ")
		told[name] = text
	}
	for _, want := range []string{"ActiveState=failed", "Result=exit-code", "ExecMainStatus=1", "images gpustrap/gpu-ready"} {
		if !slices.Contains(lines, want) {
			t.Errorf("the machine does not say %q", want)
		}
	}
	if !strings.HasPrefix(told["motd"], noGPU) {
		t.Errorf("the message of the day is %q", told["motd"])
	}
	if !slices.Contains(strings.Fields(told["groups"]), "docker") {
		t.Errorf("ops is in %q", told["groups"])
	}
	var daemon struct {
		LiveRestore bool                      `json:"live-restore"`
		Features    map[string]bool           `json:"features"`
		Runtimes    map[string]map[string]any `json:"runtimes"`
		LogOpts     map[string]string         `json:"log-opts"`
	}
	if err := json.Unmarshal([]byte(told["daemon"]), &daemon); err != nil {
		t.Error(err)
	}
	if !daemon.LiveRestore || !daemon.Features["cdi"] || daemon.Runtimes["nvidia"] == nil || daemon.LogOpts["max-size"] == "" {
		t.Errorf("daemon.json is %q", told["daemon"])
	}
	// What the engine itself has taken from it.
	if !strings.HasSuffix(told["engine"], ` ["/etc/cdi","/var/run/cdi"] true`) {
		t.Errorf("the engine is %q", told["engine"])
	}
}

// checkReceipt checks what the machine posted.
func checkReceipt(t *testing.T, got posted) {
	t.Helper()
	t.Logf("the receipt:\n%s", got.body)
	mac := hmac.New(sha256.New, []byte(reportToken))
	mac.Write(got.body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); got.header.Get("X-Gpustrap-Signature") != want {
		t.Errorf("the signature is %q, want %q", got.header.Get("X-Gpustrap-Signature"), want)
	}
	validateReceipt(t, got.body)
	var receipt struct {
		Machine, Depth, Line, Action string
		Ready                        bool
		System                       struct{ OS, Product string }
		Software                     struct{ Docker string }
		Checks                       []struct{ Name, Result, Text string }
	}
	if err := json.Unmarshal(got.body, &receipt); err != nil {
		t.Fatal(err)
	}
	if receipt.Ready || receipt.Machine != "vault" || receipt.Depth != "full" ||
		!strings.HasPrefix(receipt.Line+"; "+receipt.Action, noGPU) || !strings.HasPrefix(receipt.Software.Docker, "26.") || receipt.System.Product != "gpustrap-vm" {
		t.Errorf("the receipt is %+v", receipt)
	}
	var results []string
	for _, c := range receipt.Checks {
		results = append(results, c.Name+":"+strings.Replace(c.Result, "not applicable", "n", 1))
	}
	const want = "pci:fail driver:n versions:n fabric:n memory:n reboot:pass docker:pass runtime:pass cdi:n container:pass container_gpus:n dcgm:n"
	if all := strings.Join(results, " "); all != want {
		t.Errorf("checks %s\nwant   %s", all, want)
	}
}

func validateReceipt(t *testing.T, body []byte) {
	t.Helper()
	decode := func(data []byte) any {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		return v
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("receipt.json", decode(scripts.ReceiptSchema())); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("receipt.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(decode(body)); err != nil {
		t.Error(err)
	}
}

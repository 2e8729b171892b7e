package page

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// patience for one step in a browser, on a machine that has other work.
const browserWait = 90 * time.Second

// browser starts a headless Chromium.
func browser(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a browser")
	}
	path := oracle.Need(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.UserDataDir(t.TempDir()))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) }) // waits until it has ended, so that its folder can go
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("the browser does not start: %v", err)
	}
	return ctx
}

// do takes steps in the browser.
func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, browserWait)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// read returns what an action reads in the browser.
func read[V any](t *testing.T, ctx context.Context, action chromedp.Action[V]) V {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, browserWait)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// command is a step that sends the browser one command.
func command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, c, params)
		return err
	})
}

// until waits until an expression of JavaScript is true.
func until(expression string) chromedp.Action[chromedp.Void] {
	return chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(browserWait))
}

func dark(on bool) chromedp.Action[chromedp.Void] {
	value := "light"
	if on {
		value = "dark"
	}
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}}})
}

// sampleFleet is a fleet in which something of everything is going on.
func sampleFleet(now time.Time) *fakeSource {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	stuck := Machine{Name: "gpu-a07", Phase: "failed", Since: ago(4 * time.Minute), Waits: "late-command 3 failed: the driver's packages cannot be installed (apt answered 100)"}
	f := newFake()
	phases := []Machine{
		{Phase: "ready", Since: ago(3 * time.Hour), Waits: "8 of 8 GPUs are seen by a container"},
		{Phase: "installing", Since: ago(6 * time.Minute), Waits: "unpack the system"},
		{Phase: "ready", Since: ago(26 * time.Hour), Waits: "8 of 8 GPUs are seen by a container"},
		{Phase: "booting", Since: ago(40 * time.Second), Waits: "it reads the ISO: 1.2 of 3.1 GiB"},
		{Phase: "armed", Since: ago(20 * time.Minute), Waits: "it was not seen yet: switch it on, with the network first"},
		{},
	}
	for row := range 4 {
		for number := range 12 {
			m := phases[(row*5+number)%len(phases)]
			m.Name = fmt.Sprintf("gpu-%c%02d", 'a'+row, number+1)
			switch m.Name {
			case "gpu-a07":
				m = stuck
			case "gpu-b03":
				m.Phase, m.Since, m.Waits = "stalled", ago(11*time.Minute), "the ISO was fetched and the seed never asked for: its network came up too late (slow DHCP, spanning tree)"
			}
			m.Find = fmt.Sprintf("b8:ce:f6:00:%02x:%02x", row, number)
			f.machines = append(f.machines, m)
		}
	}
	start := ago(19 * time.Minute)
	step := func(name, detail string, from, took time.Duration, tone Tone) Step {
		return Step{name, detail, start.Add(from), start.Add(from + took), tone}
	}
	f.details["gpu-a07"] = Detail{
		Machine: stuck, Generation: 3, Via: "network",
		Facts: []Fact{{"MAC address", "b8:ce:f6:00:00:06"}, {"GPUs", "8 × h200"}, {"driver", "580-server-open"}},
		Steps: []Step{
			step("DHCP", "UEFI, x86-64", 0, 0, Good), step("boot loader", "snponly.efi", time.Second, 0, Good), step("boot script", "", 3*time.Second, 0, Good),
			step("kernel", "vmlinuz", 3*time.Second, time.Second, Good), step("medium", "3.1 GiB", 14*time.Second, 61*time.Second, Good),
			step("seed", "user-data", 118*time.Second, 0, Good), step("partition the disk", "", 150*time.Second, 12*time.Second, Good),
			step("unpack the system", "", 162*time.Second, 190*time.Second, Good), step("packages", "installing openssh-server", 352*time.Second, 95*time.Second, Good),
			step("late-commands", "command 3 of 7", 447*time.Second, 453*time.Second, Bad),
		},
		Failed: "late-command 3: gpustrap-driver",
		Log:    "Reading package lists...\nBuilding dependency tree...\nE: Unable to locate package nvidia-driver-580-server-open\nthe archive http://mirror.example.org/ubuntu answers, and has no restricted component\n",
	}
	f.unknown = []Unknown{{MAC: "3c:ec:ef:12:34:56", Serial: "S512345X4", Last: ago(2 * time.Minute), Count: 14}}
	return f
}

// Without JavaScript everything can be read, searched and opened.
func TestBrowserWithoutJavaScript(t *testing.T) {
	ctx := browser(t)
	s := serve(t, sampleFleet(time.Now()))
	do(t, ctx, command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}), chromedp.Navigate(s.URL+"/"))
	rows := read(t, ctx, chromedp.Text(chromedp.CSS(".worries")))
	do(t, ctx, chromedp.SetValue(chromedp.CSS("input[name=q]"), "late-command"), chromedp.Submit(chromedp.CSS("form.search")),
		chromedp.WaitVisible(`//h2[contains(., "1 of 48 machines")]`), chromedp.Click(chromedp.CSS(".grid a")))
	why := read(t, ctx, chromedp.Text(chromedp.CSS(".failure")))
	if !strings.Contains(rows, "gpu-b03") || !strings.Contains(rows, "slow DHCP") || !strings.Contains(why, "Unable to locate package") {
		t.Errorf("worries %q, why %q", rows, why)
	}
}

// A change is shown without a reload, and what a person typed stays.
func TestBrowserLive(t *testing.T) {
	ctx := browser(t)
	f := sampleFleet(time.Now())
	s := serve(t, f)
	do(t, ctx, chromedp.Navigate(s.URL+"/"), until(`document.getElementById("link").textContent === "live"`),
		chromedp.SetValue(chromedp.CSS("input[name=q]"), "half a wo"), chromedp.Evaluate[chromedp.Void]("window.same = true"))
	f.change(Machine{Name: "gpu-c01", Phase: "failed", Since: time.Now(), Waits: "<b>the disk is too small</b>"})
	do(t, ctx, until(`document.querySelector(".worries").textContent.includes("<b>the disk is too small</b>")`),
		until(`window.same && document.querySelector("input[name=q]").value === "half a wo"`))
}

// Somebody signs in, arms a machine, and reinstalls one after typing its name.
func TestBrowserArm(t *testing.T) {
	ctx := browser(t)
	f := sampleFleet(time.Now())
	f.details["gpu-a01"] = Detail{Machine: f.machines[0], Installed: true}
	s := serve(t, f)
	do(t, ctx, chromedp.Navigate(s.URL+"/machine/gpu-a06"), chromedp.Click(chromedp.CSS(".actions a")),
		chromedp.SendKeys(chromedp.CSS("input[name=token]"), adminToken), chromedp.Click(chromedp.CSS(".login button")),
		chromedp.Click(chromedp.CSS(".actions button")), chromedp.WaitVisible(chromedp.CSS("h1 .badge.busy")),
		chromedp.Navigate(s.URL+"/machine/gpu-a01"), chromedp.SendKeys(chromedp.CSS("input[name=confirm]"), "gpu-a01"),
		chromedp.Click(chromedp.CSS(".actions button.danger")), chromedp.WaitVisible(chromedp.CSS("h1 .badge.busy")))
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if got := strings.Join(f.armed, ", "); got != "gpu-a06 reinstall=false, gpu-a01 reinstall=true" {
		t.Errorf("armed %q", got)
	}
}

// Nothing is wider than a phone, also with long names and words.
func TestBrowserPhone(t *testing.T) {
	ctx := browser(t)
	f := sampleFleet(time.Now())
	long := strings.Repeat("x", 63)
	f.machines = append(f.machines, Machine{Name: long, Phase: "failed", Waits: strings.Repeat("y", 400)})
	f.details[long] = Detail{Machine: f.machines[len(f.machines)-1], Log: strings.Repeat("z", 400), Steps: []Step{{Name: long, Detail: strings.Repeat("d", 300), Start: time.Now(), End: time.Now()}}}
	f.unknown = append(f.unknown, Unknown{Serial: strings.Repeat("S", 128), UUID: strings.Repeat("4", 36), Last: time.Now(), Count: 2})
	f.refused = strings.Repeat("r", 300)
	s := serve(t, f)
	for _, path := range []string{"/", "/machine/gpu-a07", "/machine/" + long, "/login"} {
		do(t, ctx, chromedp.EmulateViewport(360, 740), chromedp.Navigate(s.URL+path), chromedp.WaitReady(chromedp.CSS("main")))
		if wide := read(t, ctx, chromedp.Evaluate[float64]("document.documentElement.scrollWidth - document.documentElement.clientWidth")); wide > 0 {
			t.Errorf("%s: %v pixels are beyond the edge", path, wide)
		}
	}
}

// The pictures of the documentation, taken anew with UPDATE_PICTURES=1.
func TestBrowserPictures(t *testing.T) {
	if os.Getenv("UPDATE_PICTURES") == "" {
		t.Skip("UPDATE_PICTURES is not set")
	}
	ctx := browser(t)
	s := serve(t, sampleFleet(time.Now()))
	pictures := []struct {
		name, path    string
		width, height int64
		dark          bool
	}{
		{"fleet-light", "/", 1100, 720, false}, {"fleet-dark", "/", 1100, 720, true}, {"machine-light", "/machine/gpu-a07", 1100, 860, false},
		{"machine-dark", "/machine/gpu-a07", 1100, 860, true}, {"phone-light", "/", 390, 780, false}, {"phone-dark", "/machine/gpu-a07", 390, 780, true},
	}
	for _, p := range pictures {
		do(t, ctx, chromedp.EmulateViewport(p.width, p.height), dark(p.dark), chromedp.Navigate(s.URL+p.path), until(`document.getElementById("link").textContent === "live"`))
		png := read(t, ctx, chromedp.CaptureScreenshot())
		if err := os.WriteFile(filepath.Join("../../docs/pictures", p.name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

package apps_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gpustrap/gpustrap/apps"
	"github.com/gpustrap/gpustrap/e2e/oracle"
)

func TestEveryAppIsSound(t *testing.T) {
	names := apps.Names()
	for _, want := range []string{"cuda-dev", "cuda-runtime", "fastbook"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no %s among %v", want, names)
		}
	}
	for _, name := range names {
		app, err := apps.Read(name)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, image := range []string{app.Base, app.Image} {
			if _, tag, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":"); image != "" && (tag == "latest" || tag == "") {
				t.Errorf("%s: %s can be another image tomorrow", name, image)
			}
		}
		if strings.HasPrefix(app.Base, "localhost/") || strings.HasPrefix(app.Image, "localhost/") != (app.Base != "") {
			t.Errorf("%s: what is made on the machine is named localhost/…, so that no registry is asked for it: %s from %s", name, app.Image, app.Base)
		}
		for _, f := range app.Files {
			if !strings.HasSuffix(f.Content, "\n") || strings.ContainsAny(f.Content, "\t\r") || len(f.Content) > 20<<10 {
				t.Errorf("%s/%s is not fit for a literal block of a seed", name, f.Name)
			}
			if (f.Name == "run" || f.Name == "start" || f.Name == "build-args") != strings.HasPrefix(f.Content, "#!/bin/sh\n") {
				t.Errorf("%s/%s: a script begins with #!/bin/sh, and nothing else does", name, f.Name)
			}
			if f.Name == "Dockerfile" && !strings.Contains(f.Content, "\nUSER app\n") {
				t.Errorf("%s runs as root", name)
			}
			if f.Name == "run" && !strings.Contains(f.Content, app.Image) {
				t.Errorf("%s/run does not start %s", name, app.Image)
			}
		}
	}
}

func TestScriptsOfApps(t *testing.T) {
	shellcheck := oracle.Need(t, "shellcheck")
	found, err := filepath.Glob("*/*")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, name := range found {
		if base := filepath.Base(name); base != "run" && base != "start" && base != "build-args" {
			continue
		}
		checked++
		if out, err := exec.Command(shellcheck, "-s", "sh", name).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if checked < 4 {
		t.Errorf("%d scripts", checked)
	}
}

const service = "SUMMARY=\"A test\"\nIMAGE=docker.io/library/nginx:1.29\nPORT=8080\nLOGIN=/\n"

func TestDecode(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	folder := func(manifest string, files ...string) fstest.MapFS {
		out := fstest.MapFS{"manifest": {Data: []byte(manifest)}}
		for _, name := range files {
			out[name] = &fstest.MapFile{Data: []byte("x\n")}
		}
		return out
	}
	app, err := apps.Decode("web", folder("# hello\n\n"+strings.Replace(service, ":1.29", ":1.29@"+digest, 1)+"PACKAGES=\"curl jq\"\nGPUS=no\n", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if app.Name != "web" || app.Summary != "A test" || app.Port != 8080 || app.GPUs || !app.Service() || !slices.Equal(app.Packages, []string{"curl", "jq"}) {
		t.Errorf("the app is %+v", app)
	}
	if !strings.HasSuffix(app.Image, "@"+digest) || app.Base != "" {
		t.Errorf("the image is %s, made from %q", app.Image, app.Base)
	}

	bad := map[string]struct {
		name   string
		folder fstest.MapFS
		want   string
	}{
		"name":             {"Web", folder(service, "compose.yaml"), `"Web" is no name of an app`},
		"no manifest":      {"web", fstest.MapFS{"compose.yaml": {}}, "web: the folder has no manifest"},
		"a folder inside":  {"web", fstest.MapFS{"manifest": {Data: []byte(service)}, "data/x": {}}, "web/data: an app's folder has plain files"},
		"no assignment":    {"web", folder("SUMMARY=\"A\"\nexport IMAGE=x\n", "run"), "web/manifest:2: this is not KEY=value"},
		"expansion":        {"web", folder("SUMMARY=\"$(reboot)\"\n", "run"), "web/manifest:1: this is not KEY=value"},
		"command":          {"web", folder("SUMMARY=a;reboot\n", "run"), "web/manifest:1: this is not KEY=value"},
		"twice":            {"web", folder("GPUS=no\nGPUS=no\n", "run"), "web/manifest:2: GPUS stands here a second time"},
		"unknown key":      {"web", folder("COLOUR=red\n", "run"), "web/manifest:1: there is no key COLOUR"},
		"port":             {"web", folder("PORT=80\n", "run"), `web/manifest:1: PORT="80" is not a port`},
		"gpus":             {"web", folder("GPUS=2\n", "run"), `web/manifest:1: GPUS="2" is not yes or no`},
		"packages":         {"web", folder("PACKAGES=\"Curl\"\n", "run"), "is not a list of Debian packages"},
		"login":            {"web", folder("LOGIN=lab\n", "run"), "is not a path that begins with /"},
		"no tag":           {"web", folder("IMAGE=docker.io/library/nginx\n", "run"), "is not an image with its registry and a tag or digest"},
		"no registry":      {"web", folder("IMAGE=nginx:1\n", "run"), "is not an image with its registry and a tag or digest"},
		"no summary":       {"web", folder("IMAGE=docker.io/library/nginx:1\n", "run"), "SUMMARY is missing"},
		"no image":         {"web", folder("SUMMARY=x\n", "run"), "IMAGE is missing"},
		"neither":          {"web", folder("SUMMARY=x\nIMAGE=docker.io/library/nginx:1\n"), "either compose.yaml or run"},
		"both":             {"web", folder(service, "compose.yaml", "run"), "either compose.yaml or run"},
		"no port":          {"web", folder("SUMMARY=x\nIMAGE=docker.io/library/nginx:1\n", "compose.yaml"), "PORT, LOGIN and a compose.yaml belong together"},
		"base alone":       {"web", folder(service+"BASE=docker.io/library/debian:13\n", "compose.yaml"), "BASE and a Dockerfile belong together"},
		"Dockerfile alone": {"web", folder(service, "compose.yaml", "Dockerfile"), "BASE and a Dockerfile belong together"},
	}
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			if _, err := apps.Decode(c.name, c.folder); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	if _, err := apps.Read("nothing"); err == nil || !strings.Contains(err.Error(), `no app "nothing"`) {
		t.Errorf("error %v", err)
	}
}

// FuzzDecode holds that a shell reads a manifest that is accepted as Go does, and
// runs nothing.
func FuzzDecode(f *testing.F) {
	for _, name := range apps.Names() {
		app, err := apps.Read(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range app.Files {
			if file.Name == "manifest" {
				f.Add(file.Content)
			}
		}
	}
	f.Add(service)
	f.Add("SUMMARY=\"`id`\"\n")
	f.Add(strings.Replace(service, "\"A test\"", "~root", 1))
	f.Fuzz(func(t *testing.T, manifest string) {
		app, err := apps.Decode("web", fstest.MapFS{"manifest": {Data: []byte(manifest)}, "compose.yaml": {}})
		if err != nil {
			return
		}
		cmd := exec.Command("bash", "-euc", `. /dev/stdin; printf '%s\n' "$SUMMARY" "$IMAGE" "$PORT" "$LOGIN" "${PACKAGES:-}"`)
		cmd.Stdin = strings.NewReader(manifest)
		cmd.Env = []string{"PATH=/nowhere"}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("bash: %v", err)
		}
		got := strings.Split(string(out), "\n")
		if got[0] != app.Summary || got[1] != app.Image || got[3] != app.Login || strings.Join(strings.Fields(got[4]), " ") != strings.Join(app.Packages, " ") {
			t.Errorf("bash reads %q, Go %+v", got, app)
		}
	})
}

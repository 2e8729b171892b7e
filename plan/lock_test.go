package plan_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/plan"
)

// archived is a configuration whose repositories are those of an archive.
func archived(t *testing.T, a *apttest.Archive, settings string) *plan.Project {
	t.Helper()
	text := "version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [\"" + key + "\"]}\nsources:\n"
	for _, name := range []string{"ubuntu", "docker", "toolkit"} {
		text += "  " + name + ": {url: " + a.URL + "/" + name + ", key: {file: archive.asc}, fingerprint: " + a.Fingerprint + "}\n"
	}
	project, rep := plan.Load("g.yaml", []byte(text+settings), func(string) ([]byte, error) { return a.Key, nil })
	if project == nil {
		t.Fatal(rep.Err())
	}
	return project
}

func lockOf(t *testing.T, project *plan.Project, media ...plan.Medium) *apt.Lock {
	t.Helper()
	classes, err := project.Classes(media, "")
	if err == nil {
		err = plan.FetchArchives(t.Context(), classes, apt.Options{Cache: t.TempDir(), Backoff: []time.Duration{}})
	}
	if err != nil {
		t.Fatal(err)
	}
	lock, err := apt.NewLock(classes)
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

const fleet = `machines:
  - {name: a1, gpu: {model: l40s}, match: {serial: A1}}
  - {name: a2, gpu: {model: l40s}, match: {serial: A2}}
  - {name: login, docker: false, match: {serial: L}}
  - {name: cpu, match: {serial: C}}
`

func TestClasses(t *testing.T) {
	project := archived(t, apttest.New(t, "24.04"), fleet)
	classes, err := project.Classes(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range classes {
		names = append(names, c.Name)
	}
	if !slices.Equal(names, []string{"a1", "login", "cpu"}) {
		t.Errorf("the classes are %v", names)
	}
	lock := lockOf(t, project)
	if rep := project.UseLock(lock, "g.lock"); rep.HasErrors() {
		t.Fatal(rep.Err())
	}
	for i, want := range []string{"a1", "a1", "login", "cpu"} {
		if got := project.Machines[i].Class; got != want {
			t.Errorf("%s is in the class %q", project.Machines[i].Name, got)
		}
	}
	seed, rep := project.Render(&project.Machines[1])
	if err := rep.Err(); err != nil || !strings.Contains(string(seed.UserData), "docker-ce=5:29.7.2-1~ubuntu.24.04~noble\n") {
		t.Errorf("the second machine is not locked: %v", err)
	}

	other := archived(t, apttest.New(t, "24.04"), "gpu: {model: l40s}\n")
	rep = other.UseLock(lock, "g.lock")
	if err := rep.Err(); err == nil || !strings.Contains(err.Error(), "does not fit the configuration") || other.Lock() != nil {
		t.Errorf("another configuration takes the lock: %v", err)
	}
}

// TestAutomaticLock: the lock has what every stack takes that the machine may
// choose.
func TestAutomaticLock(t *testing.T) {
	project := load(t, "version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [\""+key+"\"]}\ngpu: {auto: true}\n")
	classes, err := project.Classes(nil, "20261123T000000Z")
	if err != nil || len(classes) != 1 {
		t.Fatal(classes, err)
	}
	c := classes[0]
	var all []string
	for _, r := range append(c.Also, c.Request) {
		if !slices.Contains(r.Packages, "docker-ce") || !slices.Contains(r.Packages, "linux-generic") {
			t.Errorf("one choice has only %v", r.Packages)
		}
		all = append(all, r.Packages...)
	}
	for _, want := range []string{"nvidia-utils-580-server", "nvidia-fabricmanager-580"} {
		if !slices.Contains(all, want) {
			t.Errorf("no choice has %s", want)
		}
	}
	if c.Sources[0].Snapshot != "20261123T000000Z" || c.Sources[1].Snapshot != "" {
		t.Errorf("the snapshot is of %+v", c.Sources)
	}
}

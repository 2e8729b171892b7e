// Package apps holds the container apps that a machine can offer, one embedded
// folder each: a manifest, a Dockerfile, and a compose project or a run script.
// Adding an app is adding a folder.
//
// A manifest is named manifest and written as os-release(5) is: KEY=value a
// line, in double quotes where the value has spaces, so that the shell on the
// machine reads it as well. Its keys:
//
//	SUMMARY   what the app is, in a line
//	IMAGE     the image that runs
//	BASE      the image that the folder's Dockerfile starts from, which makes IMAGE on
//	          the machine; without it IMAGE itself is pulled
//	PORT      the port on the machine that is tried first; an app with a compose
//	          project has one
//	LOGIN     what follows host and port in the URL, the token behind it
//	GPUS      yes: the app is given the GPUs of the machine
//	PACKAGES  Debian packages that it needs on the machine
//
// An app with compose.yaml is a service: the compose project has one service,
// named as the app is. An app with run is a command, which run starts once.
package apps

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed */*
var embedded embed.FS

// App is a container app.
type App struct {
	Name     string // of its folder: lower-case letters, digits, hyphens
	Summary  string
	Image    string   // reference of the image that runs
	Base     string   // reference of the image that Image is made from; empty: Image is pulled
	Port     int      // port on the machine that is tried first; 0: no service
	Login    string   // of the URL, what follows host and port; the token comes behind it
	GPUs     bool     // it is given the machine's GPUs
	Packages []string // Debian packages that it needs on the machine
	Files    []File   // all of its folder, by name
}

// File is a file of an app's folder. One that begins with #! is executable.
type File struct {
	Name    string
	Content string
}

// Names returns the names of the apps in alphabetical order.
func Names() []string {
	entries, err := embedded.ReadDir(".")
	if err != nil {
		return nil // an embedded tree has its root
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// Read returns an app. An error means that there is none of this name, or that
// its folder is damaged.
func Read(name string) (App, error) {
	if !slices.Contains(Names(), name) {
		return App{}, fmt.Errorf("there is no app %q", name)
	}
	folder, err := fs.Sub(embedded, name)
	if err != nil {
		return App{}, fmt.Errorf("cannot read the app %s: %w", name, err)
	}
	return Decode(name, folder)
}

// Service reports whether the app runs until it is stopped, and not just for a
// command.
func (a App) Service() bool { return a.has(composeName) }

func (a App) has(name string) bool {
	return slices.ContainsFunc(a.Files, func(f File) bool { return f.Name == name })
}

const (
	manifestName = "manifest"
	composeName  = "compose.yaml"
	runName      = "run"
	dockerfile   = "Dockerfile"
)

var (
	appName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	fileName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	reference = regexp.MustCompile(`^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+|(:[A-Za-z0-9._-]+)?@sha256:[0-9a-f]{64})$`)
	packages  = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+( [a-z0-9][a-z0-9+.-]+)*$`)
	summary   = regexp.MustCompile(`^.{1,100}$`)
	urlPath   = regexp.MustCompile(`^/[!-~]*$`)
	line      = regexp.MustCompile(`^([A-Z]+)=("[^"$` + "`" + `\\]*"|[^\s"'$` + "`" + `\\;&|<>()#~]+)$`)
)

// Decode reads an app from its folder. An error names the file and, in the
// manifest, the line.
func Decode(name string, folder fs.FS) (App, error) {
	a := App{Name: name}
	if !appName.MatchString(name) {
		return App{}, fmt.Errorf("%q is no name of an app: lower-case letters, digits and hyphens", name)
	}
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		return App{}, fmt.Errorf("cannot read the app %s: %w", name, err)
	}
	for _, e := range entries {
		if e.IsDir() || !fileName.MatchString(e.Name()) {
			return App{}, fmt.Errorf("%s/%s: an app's folder has plain files, named by letters, digits, dots, hyphens and underscores", name, e.Name())
		}
		data, err := fs.ReadFile(folder, e.Name())
		if err != nil {
			return App{}, fmt.Errorf("cannot read the app %s: %w", name, err)
		}
		a.Files = append(a.Files, File{e.Name(), string(data)})
	}
	i := slices.IndexFunc(a.Files, func(f File) bool { return f.Name == manifestName })
	if i < 0 {
		return App{}, fmt.Errorf("%s: the folder has no %s", name, manifestName)
	}
	if err := a.readManifest(a.Files[i].Content); err != nil {
		return App{}, fmt.Errorf("%s/%s%w", name, manifestName, err)
	}
	if err := a.check(); err != nil {
		return App{}, fmt.Errorf("%s/%s: %w", name, manifestName, err)
	}
	return a, nil
}

// readManifest fills in what the manifest says. Its errors begin with the line.
func (a *App) readManifest(text string) error {
	seen := map[string]bool{}
	n := 0
	for l := range strings.Lines(text) {
		n++
		l = strings.TrimSuffix(l, "\n")
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			return fmt.Errorf(":%d: this is not KEY=value, or KEY=\"value\" where it has spaces; $, ` and \\ have no place in it", n)
		}
		if seen[m[1]] {
			return fmt.Errorf(":%d: %s stands here a second time", n, m[1])
		}
		seen[m[1]] = true
		if err := a.set(m[1], strings.Trim(m[2], `"`)); err != nil {
			return fmt.Errorf(":%d: %w", n, err)
		}
	}
	return nil
}

func (a *App) set(key, value string) error {
	text := map[string]struct {
		at    *string
		valid *regexp.Regexp
		what  string
	}{
		"SUMMARY": {&a.Summary, summary, "a line of at most 100 characters"},
		"IMAGE":   {&a.Image, reference, "an image with its registry and a tag or digest"},
		"BASE":    {&a.Base, reference, "an image with its registry and a tag or digest"},
		"LOGIN":   {&a.Login, urlPath, "a path that begins with /"},
	}
	if t, ok := text[key]; ok {
		if !t.valid.MatchString(value) {
			return fmt.Errorf("%s=%q is not %s", key, value, t.what)
		}
		*t.at = value
		return nil
	}
	switch key {
	case "PORT":
		port, err := strconv.Atoi(value)
		if err != nil || port < 1024 || port > 65000 {
			return fmt.Errorf("PORT=%q is not a port from 1024 to 65000", value)
		}
		a.Port = port
	case "GPUS":
		if value != "yes" && value != "no" {
			return fmt.Errorf("GPUS=%q is not yes or no", value)
		}
		a.GPUs = value == "yes"
	case "PACKAGES":
		if !packages.MatchString(value) {
			return fmt.Errorf("PACKAGES=%q is not a list of Debian packages", value)
		}
		a.Packages = strings.Fields(value)
	default:
		return fmt.Errorf("there is no key %s", key)
	}
	return nil
}

// check holds that manifest and files fit together.
func (a *App) check() error {
	switch {
	case a.Summary == "":
		return fmt.Errorf("SUMMARY is missing")
	case a.Image == "":
		return fmt.Errorf("IMAGE is missing")
	case (a.Base != "") != a.has(dockerfile):
		return fmt.Errorf("BASE and a %s belong together: one is there without the other", dockerfile)
	case a.has(composeName) == a.has(runName):
		return fmt.Errorf("an app has either %s or %s", composeName, runName)
	case a.Service() != (a.Port != 0), a.Service() != (a.Login != ""):
		return fmt.Errorf("PORT, LOGIN and a %s belong together", composeName)
	}
	return nil
}

package autoinstall

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/apps"
)

// readApps reads the machine's container apps.
func (b *builder) readApps() {
	for i, a := range b.in.Machine.Apps {
		app, err := apps.Read(a.Name)
		if err != nil {
			b.complain(fmt.Sprintf("apps[%d]", i), err.Error(), "the apps are "+strings.Join(apps.Names(), ", "))
			continue
		}
		b.apps = append(b.apps, app)
	}
}

func (b *builder) appNames() []string {
	var out []string
	for _, a := range b.apps {
		out = append(out, a.Name)
	}
	return out
}

// packages are the further packages of the configuration, and those of the apps.
func (b *builder) packages() []string {
	out := slices.Clone(b.in.Machine.Packages)
	for _, a := range b.apps {
		for _, name := range a.Packages {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// appTable returns the apps as the command app reads them, one a line:
//
//	NAME START ADDRESS PORT SHM_SIZE
//
// START is yes or no, an address of IPv6 stands in brackets, and "-" is the app's
// own.
func (b *builder) appTable() string {
	var out strings.Builder
	for _, a := range b.in.Machine.Apps {
		start, address, port, shm := "no", a.Address.String(), "-", "-"
		if a.Start {
			start = "yes"
		}
		if a.Address.Is6() {
			address = "[" + address + "]"
		}
		if a.Port != 0 {
			port = fmt.Sprint(a.Port)
		}
		if a.ShmSize != "" {
			shm = a.ShmSize
		}
		out.WriteString(strings.Join([]string{a.Name, start, address, port, shm}, " ") + "\n")
	}
	return out.String()
}

// Package gpustrap_test holds the tests that guard the repository itself.
package gpustrap_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gpustrap/gpustrap"

// floors says on which floor each package lives. Imports point only to a lower
// floor, and packages on one floor do not know each other. A package that lies
// inside another one's folder is a room of it: the owner imports its rooms.
var floors = map[string]int{
	"report":          0,
	"apps":            0,
	"download":        0,
	"keys":            0,
	"graph":           0,
	"templates":       0,
	"scripts":         0,
	"iso/cidata":      0,
	"iso/eltorito":    0,
	"iso/gpt":         0,
	"iso/grubcfg":     0,
	"iso/iso9660":     0,
	"netboot/dhcp":    0,
	"netboot/events":  0,
	"netboot/image":   0,
	"netboot/page":    0,
	"netboot/redfish": 0,
	"netboot/state":   0,
	"netboot/tftp":    0,
	"apt":             1,
	"config":          1,
	"gpu":             1,
	"iso":             1,
	"usb":             1,
	"autoinstall":     2,
	"netboot/boot":    2,
	"plan":            3,
	"netboot":         4,
	"cmd/gpustrap":    5,
}

// testSupport lists packages that only tests import.
var testSupport = []string{"e2e", "iso/isotest", "apt/apttest", "netboot/redfish/redfishtest"}

type goPackage struct {
	ImportPath string
	Doc        string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		all = append(all, p)
	}
}

func isTestSupport(pkg string) bool {
	return slices.ContainsFunc(testSupport, func(s string) bool {
		return pkg == s || strings.HasPrefix(pkg, s+"/")
	})
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range listPackages(t) {
		if p.ImportPath == "" || isTestSupport(p.ImportPath) {
			continue
		}
		floor, ok := floors[p.ImportPath]
		if !ok {
			t.Errorf("package %s has no floor; give it one in architecture_test.go and design it in", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			imp, ours := strings.CutPrefix(imp, module+"/")
			switch {
			case !ours:
			case isTestSupport(imp):
				t.Errorf("%s imports %s, which is for tests only", p.ImportPath, imp)
			case floors[imp] >= floor:
				t.Errorf("%s (floor %d) imports %s (floor %d)", p.ImportPath, floor, imp, floors[imp])
			}
		}
	}
}

// TestForbiddenImports names the edges that the floors alone would allow.
func TestForbiddenImports(t *testing.T) {
	forbidden := map[string][]string{
		"autoinstall": {"iso", "apt", "usb"},
		"iso":         {"config", "autoinstall", "gpu", "apt"},
		"usb":         {"iso", "config"},
		"gpu":         {"apt", "config"},
		"config":      {"gpu"},
	}
	for _, p := range listPackages(t) {
		for _, bad := range forbidden[p.ImportPath] {
			if slices.Contains(p.Imports, path.Join(module, bad)) {
				t.Errorf("%s imports %s", p.ImportPath, bad)
			}
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	for _, p := range listPackages(t) {
		if p.ImportPath != "" && p.Doc == "" && !strings.HasPrefix(p.ImportPath, "e2e") {
			t.Errorf("package %s has no package comment", p.ImportPath)
		}
	}
}

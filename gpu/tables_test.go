package gpu

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func load(t testing.TB) *Tables {
	t.Helper()
	tables, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// shared opens a file of the project's shared data, or skips the test.
func shared(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "shared", "data", filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no shared data: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestTablesAreDated(t *testing.T) {
	tables := load(t)
	if !dateForm.MatchString(tables.date) {
		t.Errorf("the tables are of %q", tables.date)
	}
	entries, err := fs.Glob(embedded, "tables/*.tsv")
	if err != nil || len(entries) != 12 {
		t.Fatalf("tables: %v, %v", entries, err)
	}
	for _, name := range entries {
		text, err := embedded.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSheet(name, text)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(s.rows) == 0 {
			t.Errorf("%s has no rows", name)
		}
	}
}

// TestEveryTableLineIsUsed keeps references, boards and architectures from
// outliving what they were for.
func TestEveryTableLineIsUsed(t *testing.T) {
	tables := load(t)
	used := map[string]bool{}
	for _, name := range []string{"releases", "kernels", "architectures", "sets", "boards", "branches", "offers", "packages", "mig"} {
		text, err := embedded.ReadFile("tables/" + name + ".tsv")
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSheet(name, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range s.rows {
			for _, id := range r.list("source") {
				used[strings.TrimSuffix(id, "?")] = true
			}
		}
	}
	inCode := []string{"open-modules", "pci-ids"}
	for id := range tables.references {
		if !used[id] && !slices.Contains(inCode, id) {
			t.Errorf("sources.tsv: %s is cited by nothing", id)
		}
	}
	boards, architectures := map[*board]bool{}, map[*architecture]bool{}
	for _, d := range tables.devices {
		boards[d.board], architectures[d.architecture] = true, true
	}
	if len(boards) != len(tables.boards) || len(architectures) != len(tables.architectures) {
		t.Errorf("%d of %d boards and %d of %d architectures have a device", len(boards), len(tables.boards), len(architectures), len(tables.architectures))
	}
}

func TestModels(t *testing.T) {
	tables := load(t)
	byName := map[string]Device{}
	for _, d := range tables.Models() {
		if _, double := byName[d.Model]; double {
			t.Errorf("model %s is there twice", d.Model)
		}
		byName[d.Model] = d
	}
	want := map[string]string{ // model: its usual PCI id
		"h100-sxm": "10de:2330", "h100-pcie": "10de:2331", "h100-nvl": "10de:2321", "h200": "10de:2335", "h200-nvl": "10de:233b",
		"gh200": "10de:2342", "b200": "10de:2901", "b300": "10de:3182", "gb200": "10de:2941", "gb300": "10de:31c2", "gb10": "10de:2e12",
		"l40s": "10de:26b9", "l40": "10de:26b5", "l4": "10de:27b8", "a100-sxm": "10de:20b0", "a100-pcie": "10de:20b5", "a40": "10de:2235",
		"a10": "10de:2236", "a16": "10de:25b6", "a2": "10de:25b6", "a30": "10de:20b7", "v100": "10de:1db4", "v100-sxm3": "10de:1db8",
		"p100-pcie": "10de:15f8", "p40": "10de:1b38", "p4": "10de:1bb3", "m60": "10de:13f2", "m40": "10de:17fd", "k80": "10de:102d",
		"t4": "10de:1eb8", "titan-v": "10de:1d81", "titan-rtx": "10de:1e02", "quadro-rtx-6000": "10de:1e30", "quadro-rtx-8000": "10de:1e78",
		"quadro-p4000": "10de:1bb1", "rtx-a6000": "10de:2230", "rtx-6000-ada": "10de:26b1", "rtx-pro-6000": "10de:2bb1",
		"rtx-pro-6000-server": "10de:2bb5", "rtx-pro-6000-max-q": "10de:2bb4", "rtx-4090": "10de:2684", "rtx-5090": "10de:2b85",
		"rtx-3090": "10de:2204", "rtx-2080-ti": "10de:1e04", "gtx-1080-ti": "10de:1b06", "gtx-980": "10de:13c0", "rtx-4090-laptop": "10de:2717",
	}
	for model, id := range want {
		if d, ok := byName[model]; !ok || d.PCI[0] != id {
			t.Errorf("%s: %v, want %s", model, d.PCI, id)
		}
	}
	if d := byName["a2"]; d.Model != "a2" || d.Architecture != "ampere" || d.Class != "datacenter" {
		t.Errorf("a2 is %+v", d)
	}
}

// TestDevicesAgainstPCIIDs holds names and architectures against pci.ids.
func TestDevicesAgainstPCIIDs(t *testing.T) {
	form := regexp.MustCompile(`^\s+([0-9a-f]{4})  ([A-Z]{2})[0-9]`)
	codename := map[string]string{}
	for sc := bufio.NewScanner(shared(t, "nvidia-pciids.txt")); sc.Scan(); {
		if m := form.FindStringSubmatch(sc.Text()); m != nil {
			codename["10de:"+m[1]] = m[2]
		}
	}
	if len(codename) < 1000 {
		t.Fatalf("only %d ids read", len(codename))
	}
	for _, d := range load(t).devices {
		if got := codename[d.pci]; got != d.architecture.codename {
			t.Errorf("%s %s: pci.ids has codename %q, architecture %s has %q", d.pci, d.product, got, d.architecture.id, d.architecture.codename)
		}
	}
}

// TestDevicesAgainstOpenModules holds first listings against the list that they
// were taken from, tag by tag.
func TestDevicesAgainstOpenModules(t *testing.T) {
	listed := map[string][]version{}
	initial := map[int]version{}
	sc := bufio.NewScanner(shared(t, "open-gpu-first-listed.tsv"))
	for sc.Scan() {
		f := strings.Split(sc.Text(), "\t")
		if len(f) != 3 || f[0] == "pci_device" {
			continue
		}
		for tag := range strings.FieldsSeq(f[2]) {
			v, ok := parseVersion(tag)
			if !ok {
				t.Fatalf("tag %q", tag)
			}
			listed["10de:"+f[0]] = append(listed["10de:"+f[0]], v)
			if first, ok := initial[v[0]]; !ok || v.less(first) {
				initial[v[0]] = v
			}
		}
	}
	tables := load(t)
	for id, tags := range listed {
		d := tables.byPCI(id)
		if d == nil {
			t.Errorf("%s is in the open modules' list, not in devices.tsv", id)
			continue
		}
		if !slices.Contains(d.architecture.modules, Open) {
			t.Errorf("%s is in the open modules' list, but %s", id, d.architecture.name)
		}
		for branch, first := range initial {
			if branch < 535 { // older branches are at their end, and their listings were not kept in full
				continue
			}
			i := slices.IndexFunc(tags, func(v version) bool { return v[0] == branch })
			got, ok := d.listed.in(branch)
			switch {
			case ok != (i >= 0):
				t.Errorf("%s in branch %d: listed %v, want %v (%s)", id, branch, ok, i >= 0, d.listed.text)
			case ok && got != tags[i] && (got != version{} || tags[i] != first):
				t.Errorf("%s in branch %d: first %v, want %v", id, branch, got, tags[i])
			}
		}
	}
	for _, d := range tables.devices {
		if d.listed.text != "" && listed[d.pci] == nil {
			t.Errorf("%s has a first listing, but is in no list", d.pci)
		}
	}
}

// TestBrokenTables breaks one cell at a time and wants to hear where.
func TestBrokenTables(t *testing.T) {
	tests := []struct{ file, old, with, want string }{
		{"devices.tsv", "# date: 2026-11-23\n", "", "no date"},
		{"devices.tsv", "# date: 2026-11-23", "# date: 23 November", "no date"},
		{"boards.tsv", "# source: ", "# from: ", "names no source"},
		{"devices.tsv", "pci\tmodel", "id\tmodel", "columns are"},
		{"devices.tsv", "10de:2335\t", "10de:2330\t", "is there twice"},
		{"devices.tsv", "10de:2335\t", "10DE:2335\t", "not of the form"},
		{"devices.tsv", "10de:2335\t", "10de:22a3\t", "is there twice"},
		{"devices.tsv", "\th200\t", "\tH200\t", "not lower case"},
		{"devices.tsv", "\th200\t", "\tt4\t", "another architecture"},
		{"devices.tsv", "550.40.65,", "565.40.65,", "not after"},
		{"devices.tsv", "550.40.65,", "55.40.65,", "not a driver version"},
		{"devices.tsv", "570.86.15+", "+", "without a version"},
		{"devices.tsv", "\tpascal\t-", "\tpascal\t580.65.06+", "do not drive"},
		{"devices.tsv", "\thgx-hopper\t", "\thgx\t", "not in boards.tsv"},
		{"devices.tsv", "\tvolta\t", "\tvolt\t", "not in architectures.tsv"},
		{"devices.tsv", "\tmining\t", "\tcoins\t", "none of"},
		{"devices.tsv", "NVIDIA H200\t", "NVIDIA H200 \t", "padded"},
		{"devices.tsv", "NVIDIA H200\t", "", "6 cells, want 7"},
		{"branches.tsv", "580\tLTSB", "580\tLTS", "none of"},
		{"branches.tsv", "2028-06", "June 2028", "neither year-month"},
		{"branches.tsv", "nvidia-branches?", "hearsay", "not in sources.tsv"},
		{"branches.tsv", "open,proprietary\tnvidia-branches?", "closed\tnvidia-branches?", "neither open nor"},
		{"branches.tsv", "615\t-", "610\t-", "wrong or there twice"},
		{"mig.tsv", "h200,h200-nvl", "h200,h201", "not in devices.tsv"},
		{"mig.tsv", "3g.71gb:4", "3g.71gb", "not of the form"},
		{"mig.tsv", "4g.24gb:4", "4g.24gb:5", "larger than the GPU"},
		{"mig.tsv", "\t7\t8\t", "\tseven\t8\t", "is not a number"},
		{"offers.tsv", "580.173.02", "590.173.02", "none of branch 580"},
		{"offers.tsv", "595-server\tmultiverse", "599-server\tmultiverse", "not in branches.tsv"},
		{"offers.tsv", "580-server\trestricted", "580-server\t-", "component"},
		{"offers.tsv", "\t595-server\tubuntu-packages", "\t596-server\tubuntu-packages", "not in branches.tsv"},
		{"packages.tsv", "nvidia-utils-{branch}", "nvidia-utils-{series}", "no template"},
		{"packages.tsv", "590-\t", "recent\t", "no range"},
		{"packages.tsv", "\tnvlink5\t", "\tnvlink6\t", "not in sets.tsv"},
		{"boards.tsv", "nvlink5\t8\t8", "nvlink5\t8\t4", "do not fit"},
		{"boards.tsv", "nvlink5\t8\t8", "nvlink5\t-\t8", "do not fit"},
		{"boards.tsv", "\t32\t", "\tmany\t", "not a number"},
		{"architectures.tsv", "GV\tproprietary", "GV\t-", "no modules"},
		{"kernels.tsv", "22.04\tga\tamd64,arm64", "22.04\tga\tamd64,riscv64", "none of the release"},
		{"kernels.tsv", "22.04\thwe", "22.04\tga", "there twice"},
		{"kernels.tsv", "26.04\thwe", "26.10\thwe", "not in releases.tsv"},
		{"releases.tsv", "22.04\tjammy", "24.04\tjammy", "there twice"},
		{"sources.tsv", "\tjudgement\t", "\tguess\t", "none of"},
		{"sources.tsv", "2026-08-17", "2027-08-17", "not a day until"},
		{"sets.tsv", "nvlink5\t", "nvlink\t", "no set nvlink5"},
		{"switches.tsv", "10de:22a3", "22a3", "is wrong"},
	}
	sub, err := fs.Sub(embedded, "tables")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.file+" "+tt.want, func(t *testing.T) {
			text, err := fs.ReadFile(sub, tt.file)
			if err != nil {
				t.Fatal(err)
			}
			broken := strings.Replace(string(text), tt.old, tt.with, 1)
			if broken == string(text) {
				t.Fatalf("%q is not in %s", tt.old, tt.file)
			}
			fsys := fstest.MapFS{}
			for _, e := range must(fs.ReadDir(sub, ".")) {
				fsys[e.Name()] = &fstest.MapFile{Data: must(fs.ReadFile(sub, e.Name()))}
			}
			fsys[tt.file].Data = []byte(broken)
			_, err = decode(fsys)
			var bad *FormatError
			if !errors.As(err, &bad) || bad.File != tt.file || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one of %s with %q", err, tt.file, tt.want)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestListing(t *testing.T) {
	r := row{file: "x", line: 1, columns: []string{"first"}}
	tests := []struct {
		text   string
		branch int
		first  string
		ok     bool
	}{
		{"550.40.65,555.42.06,560.28.03+", 535, "", false},
		{"550.40.65,555.42.06,560.28.03+", 550, "550.40.65", true},
		{"550.40.65,555.42.06,560.28.03+", 560, "560.28.03", true},
		{"550.40.65,555.42.06,560.28.03+", 580, "", true},
		{"580.142", 580, "580.142", true},
		{"580.142", 595, "", false},
		{"-", 580, "", false},
	}
	for _, tt := range tests {
		r.cells = []string{tt.text}
		l, err := r.listing("first")
		if err != nil {
			t.Fatal(err)
		}
		want, _ := parseVersion(tt.first)
		if v, ok := l.in(tt.branch); v != want || ok != tt.ok {
			t.Errorf("%s in %d: %v %v, want %v %v", tt.text, tt.branch, v, ok, want, tt.ok)
		}
	}
}

func FuzzParseSheet(f *testing.F) {
	sub, err := fs.Sub(embedded, "tables")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"switches.tsv", "releases.tsv", "boards.tsv"} {
		f.Add(must(fs.ReadFile(sub, name)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSheet("x.tsv", text)
		if err != nil {
			var bad *FormatError
			if !errors.As(err, &bad) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		for _, r := range s.rows {
			if len(r.cells) != len(s.columns) {
				t.Fatalf("line %d has %d cells", r.line, len(r.cells))
			}
			for _, c := range s.columns {
				if v := r.get(c); v != strings.TrimSpace(v) {
					t.Fatalf("cell %q", v)
				}
			}
		}
	})
}

// FuzzDecode feeds one table at a time to the decoder, next to good ones.
func FuzzDecode(f *testing.F) {
	sub, err := fs.Sub(embedded, "tables")
	if err != nil {
		f.Fatal(err)
	}
	small := []string{"releases.tsv", "kernels.tsv", "architectures.tsv", "boards.tsv", "switches.tsv", "branches.tsv", "offers.tsv", "packages.tsv", "sets.tsv"}
	for i, name := range small {
		f.Add(i, must(fs.ReadFile(sub, name)))
	}
	devices := "# source: x\n# date: 2026-01-01\npci\tmodel\tproduct\tclass\tboard\tarchitecture\tfirst\n" +
		"10de:2335\th200\tNVIDIA H200\tdatacenter\thgx-hopper\thopper\t550.40.65+\n"
	f.Fuzz(func(t *testing.T, which int, text []byte) {
		if which < 0 || which >= len(small) {
			return
		}
		fsys := fstest.MapFS{}
		for _, e := range must(fs.ReadDir(sub, ".")) {
			fsys[e.Name()] = &fstest.MapFile{Data: must(fs.ReadFile(sub, e.Name()))}
		}
		fsys["devices.tsv"].Data = []byte(devices)
		fsys[small[which]].Data = text
		tables, err := decode(fsys)
		var bad *FormatError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("error of another kind: %v", err)
		}
		if err != nil {
			return
		}
		for _, rel := range tables.releases {
			for _, arch := range rel.archs {
				tables.Resolve(Request{Models: []string{"h200"}, Count: 8, Release: rel.name, Arch: arch})
			}
		}
	})
}

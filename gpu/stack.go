// Package gpu works out the driver stack for a machine's GPUs: driver branch,
// kernel module flavour, exact package names, Fabric Manager and its relatives,
// and for each choice the reason and the document that says so.
//
// What it knows is in tables/*.tsv, tables that carry their source and date. A
// new GPU is a line in devices.tsv, a new driver branch a line in branches.tsv
// and one in offers.tsv. Load reads them; Tables.Resolve answers a Request with
// a Stack, or refuses it with Findings that say what to write instead.
//
// A machine that chooses for itself (gpu.auto) carries Tables.AutoTable, the
// same knowledge as lines for a shell script to read.
//
// The tables are as old as their date says. A branch whose support ended by then
// is refused; what happened since, a reader of the tables cannot know.
package gpu

// Request is what is asked of the resolver. Empty strings and zero leave the
// choice to it. Field names in findings are the keys of the gpu section:
// "model", "pci[1]", "driver", "modules", and so on.
type Request struct {
	Models        []string // product names such as h200, rtx-5090
	PCI           []string // PCI ids such as 10de:2335, of GPUs and NVSwitches
	Auto          bool     // chosen on the machine
	Count         int      // GPUs in the machine; 0: not said
	Driver        string   // auto, or a branch such as 580-server
	Modules       string   // auto, open, proprietary
	Source        string   // ubuntu, cuda
	SecureBoot    string   // auto, required, off
	Kernel        string   // ga, hwe, 64k
	FabricManager string   // auto, on, off
	DCGM          bool
	MIG           []string // profiles of the instances that each GPU is divided into
	Display       string   // none, desktop
	Override      string   // the reason why a set refused on doubt is wanted

	Release string // Ubuntu release: 22.04, 24.04, 26.04
	Arch    string // amd64, arm64
}

// Stack is the driver stack for one machine: what is installed and why.
//
// With Request.Auto it has no GPUs, Branch, Flavour or Packages, which the
// machine chooses from Tables.AutoTable; Components, Repositories, Pins and Hold
// then cover every choice that the table holds.
type Stack struct {
	GPUs    []Device `json:"gpus"` // the products the request named, none with Auto
	Branch  Branch   `json:"branch"`
	Flavour Flavour  `json:"flavour"` // of the kernel modules
	Source  string   `json:"source"`  // ubuntu or cuda
	Kernel  Kernel   `json:"kernel"`
	Signed  bool     `json:"signed"` // modules signed by Canonical, fit for Secure Boot

	// Packages are exact Debian package names, in the order of installation. The
	// kernel's metapackage is not among them: see Kernel.
	Packages   []string `json:"packages"`
	Components []string `json:"components"` // archive components to enable: restricted, multiverse

	// Repositories are those needed besides Ubuntu's archive: "cuda", NVIDIA's.
	Repositories []string `json:"repositories"`

	// Pins are apt preferences. They keep one repository from replacing what
	// came from another, so they are written before Packages are installed.
	Pins []Pin `json:"pins"`

	Services []string `json:"services"` // systemd units to enable
	Modules  []string `json:"modules"`  // kernel modules to load at boot besides the driver's own

	// Hold are package names that unattended-upgrades must leave alone, since
	// driver, libraries, modules and kernel move together or not at all. Some are
	// no part of Packages: dependencies of theirs, and the kernel's metapackages.
	Hold []string `json:"hold"`

	FabricManager bool     `json:"fabric_manager"`
	Reasons       []Reason `json:"reasons"`
}

// Flavour is the kind of NVIDIA kernel modules.
type Flavour string

// The module flavours.
const (
	Open        Flavour = "open"
	Proprietary Flavour = "proprietary"
)

// Kernel is the Ubuntu kernel that the machine runs.
type Kernel struct {
	Flavour string `json:"flavour"` // ga, hwe, 64k
	Meta    string `json:"meta"`    // metapackage, such as linux-generic-hwe-24.04
	Headers string `json:"headers"` // metapackage of its headers
}

// Pin is one record of apt_preferences(5). Of several records that name a
// package the first counts, so their order matters.
type Pin struct {
	Packages   []string `json:"packages"`             // names or globs
	Repository string   `json:"repository,omitempty"` // ubuntu or cuda: versions from there; "" any
	Version    string   `json:"version,omitempty"`    // glob such as 580.*; "" any
	Priority   int      `json:"priority"`
}

// Reason explains one choice in the stack.
type Reason struct {
	Choice string `json:"choice"` // what was chosen, such as "driver branch 580-server"
	Why    string `json:"why"`
	Source string `json:"source"` // document or table that says so; "[UNVERIFIED]" where it does not quite
}

// Finding is a complaint or a remark about a request.
type Finding struct {
	Rule    string `json:"rule"`    // name of the rule, such as "open-impossible"
	Field   string `json:"field"`   // key of the gpu section, such as "driver"; "" for the section
	Warning bool   `json:"warning"` // false: the set is refused
	Summary string `json:"summary"` // what is wrong, one line without a full stop
	Detail  string `json:"detail"`  // what to write instead
}

// Device is a GPU product.
type Device struct {
	Model        string   `json:"model"`        // product name in gpustrap's form, such as h200
	Product      string   `json:"product"`      // NVIDIA's name, such as NVIDIA H200
	PCI          []string `json:"pci"`          // PCI ids, such as 10de:2335
	Architecture string   `json:"architecture"` // such as hopper
	Class        string   `json:"class"`        // datacenter, workstation, geforce, mobile, embedded or mining
	Board        string   `json:"board"`        // how it is mounted, such as hgx-hopper or pcie
	FirstDriver  string   `json:"first_driver"` // oldest driver whose open modules list it; "" if none does
}

// Branch is a driver branch.
type Branch struct {
	Name   string `json:"name"`   // as in package names, such as 580-server
	Status string `json:"status"` // LTSB, PB or NFB; "" if NVIDIA's list does not designate it
	EOL    string `json:"eol"`    // end of life, year-month; "" if not published
}

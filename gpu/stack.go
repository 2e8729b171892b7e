// Package gpu works out the driver stack for a machine's GPUs.
package gpu

// Request is what is asked of the resolver. Empty strings and zero leave the
// choice to it. Field names in findings are the keys of the gpu section:
// "model", "pci", "driver", "modules", and so on.
type Request struct {
	Models        []string // product names such as h200, rtx-5090
	PCI           []string // PCI ids such as 10de:2335
	Auto          bool     // chosen on the machine
	Count         int      // GPUs in the machine; 0: not said
	Driver        string   // auto, or a branch such as 580-server
	Modules       string   // auto, open, proprietary
	Source        string   // ubuntu, cuda
	SecureBoot    string   // auto, required, off
	Kernel        string   // ga, hwe, 64k
	FabricManager string   // auto, on, off
	DCGM          bool
	Display       string // none, desktop
	Override      string // the reason why a set refused on doubt is wanted

	Release string // Ubuntu release: 22.04, 24.04, 26.04
	Arch    string // amd64, arm64
}

// Stack is the driver stack for one machine: what is installed and why.
type Stack struct {
	GPUs    []Device // the products the request named, none with Auto
	Branch  Branch
	Flavour Flavour // of the kernel modules
	Source  string  // ubuntu or cuda
	Kernel  Kernel
	Signed  bool // modules signed by Canonical, fit for Secure Boot

	Packages   []string // exact Debian package names, in the order of installation
	Components []string // archive components to enable: restricted, multiverse
	Services   []string // systemd units to enable
	Modules    []string // kernel modules to load at boot besides the driver's own
	Hold       []string // package names that unattended-upgrades must leave alone

	FabricManager bool
	Reasons       []Reason
}

// Flavour is the kind of NVIDIA kernel modules.
type Flavour string

// The module flavours.
const (
	Open        Flavour = "open"
	Proprietary Flavour = "proprietary"
)

// Kernel is the Ubuntu kernel that the target runs.
type Kernel struct {
	Flavour string // ga, hwe, 64k
	Meta    string // metapackage, such as linux-generic-hwe-24.04
}

// Reason explains one choice in the stack.
type Reason struct {
	Choice string `json:"choice"` // what was chosen, such as "driver branch 580-server"
	Why    string `json:"why"`
	Source string `json:"source"` // document or table that says so
}

// Finding is a complaint or a remark about a request.
type Finding struct {
	Field   string // key of the gpu section, such as "driver"; "" for the section
	Warning bool   // false: the set is refused
	Summary string // what is wrong, one line without a full stop
	Detail  string // what to write instead
}

// Device is a GPU product.
type Device struct {
	Model        string   // product name in gpustrap's form, such as h200
	Product      string   // NVIDIA's name, such as NVIDIA H200
	PCI          []string // PCI ids, such as 10de:2335
	Architecture string   // such as hopper
}

// Branch is a driver branch.
type Branch struct {
	Name   string // as in package names, such as 580-server
	Status string // such as LTSB
	EOL    string // end of life, year-month
}

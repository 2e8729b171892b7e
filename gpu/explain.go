package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// This file says why. Every reason names the document behind it.

func (r *resolver) explainBranch(gpus []gpu, c choice) {
	var why []string
	switch c.branch.designation {
	case "LTSB":
		why = append(why, "a long-term support branch")
	case "PB":
		why = append(why, "a production branch")
	case "NFB":
		why = append(why, "a new feature branch")
	default:
		why = append(why, "a branch that NVIDIA's list does not designate")
	}
	switch {
	case c.branch.ended:
		why[0] += ", at its end of life"
	case c.branch.eol != "":
		why[0] += ", supported until " + c.branch.eol
	default:
		why[0] += ", end of life not published"
	}
	if r.req.Driver != "auto" {
		why = append(why, "asked for")
	} else {
		why = append(why, "the longest supported one that drives every GPU here")
	}
	source := [][]string{c.branch.source, c.source}
	for _, g := range gpus {
		switch {
		case g.unknown:
		case g.listed.text != "":
			why = append(why, fmt.Sprintf("%s is listed from %s on", g, strings.ReplaceAll(strings.TrimSuffix(g.listed.text, "+"), ",", ", ")))
			source = append(source, []string{"open-modules"})
		case g.architecture.last != 0:
			why = append(why, fmt.Sprintf("%s is supported up to %d", g.architecture.name, g.architecture.last))
			source = append(source, g.architecture.source)
		default:
			why = append(why, fmt.Sprintf("%s is in no list of the open modules, so its first driver is not known", g))
			source = append(source, []string{"pci-ids?"})
		}
	}
	if c.seen != "" {
		why = append(why, "seen there as "+c.seen)
	}
	r.because("driver branch "+c.name, strings.Join(slices.Compact(why), "; "), r.t.cite(source...))
}

func (r *resolver) explainFlavour(gpus []gpu, c choice) {
	var why []string
	var source [][]string
	for _, g := range gpus {
		text := ""
		switch {
		case g.unknown:
			text = "asked for"
		case g.board.modules == Open || len(g.architecture.modules) == 1 && c.flavour == Open:
			text = fmt.Sprintf("%s works with the open modules only", platform(g))
		case len(g.architecture.modules) == 1:
			text = fmt.Sprintf("%s has no GPU System Processor, which the open modules need", g.architecture.name)
		case c.flavour == Open:
			text = fmt.Sprintf("NVIDIA's default for %s since branch 560", g.architecture.name)
		default:
			text = fmt.Sprintf("asked for; %s would run on the open ones", g.architecture.name)
		}
		if !slices.Contains(why, text) {
			why = append(why, text)
			source = append(source, g.architecture.source)
		}
	}
	r.because(string(c.flavour)+" kernel modules", strings.Join(why, "; "), r.t.cite(source...))
}

func (r *resolver) explainPackages(c choice) {
	if r.req.Source == "ubuntu" {
		r.because("packages of the Ubuntu archive", "modules prebuilt for each kernel, so nothing is compiled on the machine", r.t.cite([]string{"ubuntu-docs"}, c.source))
	} else {
		r.because("packages of NVIDIA's CUDA repository", "asked for; DKMS builds the modules on the machine, for every kernel anew", r.t.cite([]string{"nvidia-install"}, c.source))
	}
	r.because("kernel "+"linux-"+r.kernel.suffix, r.kernelWhy(), r.t.cite(r.kernel.source))
	switch {
	case r.signed():
		r.because("Secure Boot may be on", "Canonical signs these modules", r.t.cite([]string{"ubuntu-docs", "gpu-driver-container"}))
	case r.req.Source == "cuda":
		r.because("Secure Boot must be off", "modules built on the machine are signed with no key that its firmware knows", r.t.cite([]string{"ubuntu-docs"}))
	default:
		r.because("Secure Boot must be off", fmt.Sprintf("Canonical signs no NVIDIA modules for %s in Ubuntu %s", r.req.Arch, r.release.name), r.t.cite([]string{"gpu-driver-container"}))
	}
}

func (r *resolver) kernelWhy() string {
	switch {
	case r.req.Kernel != "":
		return "asked for"
	case r.kernel.name == "64k":
		return "pages of 64 KiB, which NVIDIA recommends for Grace; Canonical's linux-nvidia-64k kernels are an alternative that gpustrap does not choose"
	}
	return "the release's own kernel, as the installer has it"
}

// explainRest explains what follows from the packages.
func (r *resolver) explainRest(s Stack) {
	display := r.t.sets["headless"]
	if r.req.Display == "desktop" {
		display = r.t.sets["desktop"]
	}
	driver := r.t.sets["driver"]
	r.because("display "+cmp.Or(r.req.Display, "none"), display.why, r.t.cite(display.source))
	r.because("nvidia-utils and "+strings.Join(driver.services, ", "), driver.why, r.t.cite(driver.source))
	if r.req.DCGM {
		r.because("DCGM", r.t.sets["dcgm"].why, r.t.cite(r.t.sets["dcgm"].source))
	}
	if len(s.Components) > 0 {
		r.because("archive components "+strings.Join(s.Components, ", "), "that is where these packages are", r.t.cite([]string{"ubuntu-packages"}))
	}
	switch {
	case s.Source == "cuda":
		r.because("apt pins", "the driver comes from one repository only, and stays on its branch though package names do not say it", r.t.cite([]string{"nvidia-install", "gpustrap"}))
	case len(s.Pins) > 0:
		r.because("NVIDIA's CUDA repository, pinned", "for "+strings.Join(s.Pins[0].Packages, ", ")+" alone: anything else from there could replace the archive's driver", r.t.cite([]string{"ubuntu-docs", "gpustrap"}))
	}
	r.because("held back from unattended upgrades", "driver, libraries, modules and kernel move together or not at all", r.t.cite([]string{"gpustrap"}))
}

package gpu

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// This file chooses the driver branch and the flavour of its modules.

// findBranches fills in the branches to choose from: the one asked for, if it
// can be had, else every supported one, preferred first.
func (r *resolver) findBranches() {
	offers := r.t.offersFor(r.req.Source, r.release.name)
	if r.req.Driver != "auto" {
		if o, ok := r.asked(offers); ok {
			r.branches = []offer{o}
		}
		return
	}
	if r.req.Auto && r.req.Source == "cuda" {
		r.add(refuse("auto-cuda", "driver", "NVIDIA's CUDA repository has packages whose names do not say their branch, so it must be known before the machine chooses",
			"write driver: 580, say, or source: ubuntu"))
		return
	}
	for _, o := range offers {
		if (o.server() || r.req.Source == "cuda" || r.req.Display == "desktop") &&
			!o.branch.ended && o.into == "" && slices.Contains(preferred, o.branch.designation) {
			r.branches = append(r.branches, o)
		}
	}
	slices.SortStableFunc(r.branches, func(a, b offer) int {
		return cmp.Or(
			cmp.Compare(slices.Index(preferred, a.branch.designation), slices.Index(preferred, b.branch.designation)),
			cmp.Compare(b.branch.number, a.branch.number),
			// Without -server come the desktop's packages.
			cmp.Compare(len(a.name), len(b.name)),
		)
	})
}

// preferred are the designations that are chosen without being asked for.
var preferred = []string{"LTSB", "PB"}

var (
	exactForm  = regexp.MustCompile(`^([0-9]{3})\.[0-9.]+(-server)?$`)
	suffixForm = regexp.MustCompile(`^([0-9]{3}(?:-server)?)-open$`)
)

// asked finds the branch that the request names, and complains if it is none
// that can be had.
func (r *resolver) asked(offers []offer) (offer, bool) {
	name := r.req.Driver
	bad := func(rule, summary, detail string) (offer, bool) {
		r.add(refuse(rule, "driver", summary, detail))
		return offer{}, false
	}
	switch m := exactForm.FindStringSubmatch(name); {
	case strings.ContainsAny(name, "*?[]"):
		return bad("driver-glob", fmt.Sprintf("driver %s is a pattern, and what it installs changes under it", quote(name)),
			"write a branch such as 580-server; exact versions are what `gpustrap lock` is for")
	case m != nil:
		return bad("driver-version", fmt.Sprintf("driver %s is a version, not a branch", quote(name)),
			"write "+m[1]+m[2]+"; exact versions are what `gpustrap lock` is for")
	case suffixForm.MatchString(name):
		return bad("driver-flavour", fmt.Sprintf("driver %s names a module flavour besides the branch", quote(name)),
			"write driver: "+suffixForm.FindStringSubmatch(name)[1]+" and modules: open")
	}
	b := r.t.branchOf(name)
	if b == nil {
		return bad("driver-unknown", fmt.Sprintf("driver branch %s is unknown to the tables of %s", quote(name), r.t.date), "write "+r.choices(offers))
	}
	server := strings.HasSuffix(name, "-server")
	if server && r.req.Source == "cuda" {
		return bad("driver-server-in-cuda", "NVIDIA's CUDA repository has no -server branches: that is the Ubuntu archive's name",
			fmt.Sprintf("write driver: %d, or source: ubuntu", b.number))
	}
	i := slices.IndexFunc(offers, func(o offer) bool { return o.name == name })
	if i >= 0 && offers[i].into != "" {
		return bad("driver-transitional", fmt.Sprintf("driver branch %s is a transitional package in Ubuntu %s, which installs %s", name, r.release.name, offers[i].into),
			"write driver: "+offers[i].into)
	}
	if b.ended {
		when := "is past its end of life"
		if b.eol != "past" {
			when = "reached its end of life in " + b.eol
		}
		r.doubt(refuse("driver-ended", "driver", fmt.Sprintf("driver branch %s %s", name, when), "write "+r.choices(offers)))
	}
	if i < 0 {
		where := "the Ubuntu " + r.release.name + " archive"
		if r.req.Source == "cuda" {
			where = "NVIDIA's CUDA repository"
		}
		return bad("driver-absent", fmt.Sprintf("driver branch %s is not known to be in %s", name, where), "write "+r.choices(offers))
	}
	if b.designation == "" && !b.ended {
		r.add(warn("driver-undesignated", "driver", fmt.Sprintf("NVIDIA's list of branches does not have %d yet: how long it is supported is not known", b.number),
			"write "+r.choices(offers)+" for a known end of life"))
	}
	return offers[i], true
}

// choices lists the branches that one would rather ask for.
func (r *resolver) choices(offers []offer) string {
	names := []string{"auto"}
	for _, o := range offers {
		if !o.branch.ended && o.into == "" && o.branch.designation != "" {
			names = append(names, o.name)
		}
	}
	return strings.Join(names, ", ")
}

// choice is a branch with a module flavour.
type choice struct {
	offer
	flavour Flavour
}

// choices of the request, preferred first: branches, and open before proprietary.
func (r *resolver) candidates() []choice {
	flavours := []Flavour{Open, Proprietary}
	if r.req.Modules != "auto" {
		flavours = []Flavour{Flavour(r.req.Modules)}
	}
	var out []choice
	for _, o := range r.branches {
		for _, f := range flavours {
			out = append(out, choice{o, f})
		}
	}
	return out
}

// objection is a reason why a GPU and a choice do not go together.
type objection struct {
	Finding
	doubtful bool // an override waives it
}

// objections returns what speaks against a choice for one GPU. The table for the
// machine's own choice is made with it too.
func (r *resolver) objections(g gpu, c choice) []objection {
	var out []objection
	number := c.branch.number
	arch := g.architecture
	if arch.last != 0 && number > arch.last {
		out = append(out, objection{Finding: refuse("driver-too-new", "driver",
			fmt.Sprintf("%s (%s) is supported up to driver branch %d, not by %s", g, arch.name, arch.last, c.name),
			"write driver: auto, or a branch up to "+fmt.Sprint(arch.last))})
	}
	if first, ok := g.listed.in(number); g.listed.text != "" && (!ok || c.version != version{} && c.version.less(first)) {
		out = append(out, objection{doubtful: true, Finding: refuse("driver-unlisted", "driver",
			fmt.Sprintf("driver branch %s does not list %s, which is first listed by %s", c.name, g, strings.TrimSuffix(g.listed.text, "+")),
			"write driver: auto, or a branch that lists it")})
	}
	if g.board.fabric != "" && r.req.FabricManager != "off" && r.req.Source == "ubuntu" && !c.server() {
		out = append(out, objection{Finding: refuse("fabric-needs-server", "driver",
			fmt.Sprintf("%s needs a -server branch: the archive's Fabric Manager and IMEX have the version of those only, not of %s", g, c.name),
			fmt.Sprintf("write driver: %d-server", number))})
	}
	if !slices.Contains(c.branch.modules, c.flavour) {
		out = append(out, objection{Finding: refuse(string(c.flavour)+"-gone", "modules",
			fmt.Sprintf("driver branch %d has no %s modules", number, c.flavour), "write modules: auto")})
	}
	only := g.board.modules
	if len(arch.modules) == 1 {
		only = arch.modules[0]
	}
	switch {
	case only == Open && c.flavour == Proprietary:
		out = append(out, objection{Finding: refuse("proprietary-impossible", "modules",
			fmt.Sprintf("the proprietary modules do not drive %s (%s)", g, platform(g)), "write modules: open, or auto")})
	case only == Proprietary && c.flavour == Open:
		out = append(out, objection{Finding: refuse("open-impossible", "modules",
			fmt.Sprintf("the open modules do not drive %s (%s), which has no GPU System Processor", g, arch.name), "write modules: proprietary, or auto")})
	case only == "" && c.flavour == Proprietary && r.req.Modules == "auto":
		// Possible, but only next to an older GPU, and only if somebody says so.
		out = append(out, objection{doubtful: true, Finding: refuse("mixed-generations", "modules",
			fmt.Sprintf("%s would have to leave the open modules", g), "write modules: proprietary")})
	}
	return out
}

func platform(g gpu) string {
	if g.board.modules != "" {
		return g.board.name
	}
	return g.architecture.name
}

// accepts reports whether a choice does for one GPU, given what the override
// waives: the branch if it is asked for by name, the flavour in any case.
func (r *resolver) accepts(g gpu, c choice) bool {
	return !slices.ContainsFunc(r.objections(g, c), r.stands)
}

func (r *resolver) stands(o objection) bool {
	return !o.doubtful || r.req.Override == "" || o.Field == "driver" && r.req.Driver == "auto"
}

// choose returns the first choice that does for every GPU. If there is none it
// says why not.
func (r *resolver) choose(gpus []gpu) (choice, bool) {
	candidates := r.candidates()
	for _, c := range candidates {
		if slices.ContainsFunc(gpus, func(g gpu) bool { return !r.accepts(g, c) }) {
			continue
		}
		for _, g := range gpus {
			for _, o := range r.objections(g, c) {
				r.doubt(o.Finding)
			}
		}
		return c, true
	}
	if r.mixed(gpus) {
		return choice{}, false
	}
	r.explainRefusal(gpus, candidates)
	return choice{}, false
}

// explainRefusal reports the objections to the choice that met the fewest.
func (r *resolver) explainRefusal(gpus []gpu, candidates []choice) {
	var fewest []objection
	for _, c := range candidates {
		var all []objection
		for _, g := range gpus {
			for _, o := range r.objections(g, c) {
				if r.stands(o) {
					all = append(all, o)
				}
			}
		}
		if fewest == nil || len(all) < len(fewest) {
			fewest = all
		}
	}
	if fewest == nil {
		r.add(refuse("driver-absent", "driver", fmt.Sprintf("no supported driver branch is known for Ubuntu %s", r.release.name), "write source: cuda, or another release"))
	}
	for _, o := range fewest {
		if o.doubtful {
			r.doubt(o.Finding)
		} else {
			r.add(o.Finding)
		}
	}
}

// mixed reports GPUs of which some need the proprietary modules and others run
// on the open ones, and says so instead of what follows from it.
func (r *resolver) mixed(gpus []gpu) bool {
	var old, recent, openOnly []gpu
	for _, g := range gpus {
		switch {
		case !slices.Contains(g.architecture.modules, Open):
			old = append(old, g)
		case g.board.modules == Open || len(g.architecture.modules) == 1:
			openOnly = append(openOnly, g)
		default:
			recent = append(recent, g)
		}
	}
	switch {
	case len(old) == 0 || len(recent)+len(openOnly) == 0:
		return false
	case len(openOnly) > 0:
		r.add(refuse("mixed-generations", openOnly[0].field,
			fmt.Sprintf("no kernel modules drive both %s (proprietary only) and %s (open only)", list(old), list(openOnly)),
			"put them into different machines"))
		return true
	case r.req.Modules == "auto":
		r.add(refuse("mixed-generations", recent[0].field,
			fmt.Sprintf("%s and %s are of different generations: the open modules do not drive the former", list(old), list(recent)),
			"write modules: proprietary, which drive both up to branch 580, or put them into different machines"))
		return true
	}
	return false
}

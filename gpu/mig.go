package gpu

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// This file holds a layout of GPU instances (MIG) against what a GPU can be
// divided into.

// division is how GPUs with one size of memory can be divided.
type division struct {
	models          []string
	compute, memory int // slices of the whole GPU
	profiles        []profile
	source          []string
}

// profile is a kind of GPU instance, with the slices that one takes.
type profile struct {
	name            string
	compute, memory int
}

var profileForm = regexp.MustCompile(`^(([1-9])g\.[1-9][0-9]*gb(?:[+-][a-z.]+)?):([1-9])$`)

func (t *Tables) readMIG(s *sheet) error {
	if err := s.want("models", "compute", "memory", "profiles", "source"); err != nil {
		return err
	}
	for _, r := range s.rows {
		source, err := t.cited(r)
		if err != nil {
			return err
		}
		d := division{models: r.list("models"), source: source}
		for _, model := range d.models {
			if len(t.byModel(model)) == 0 {
				return r.fail("model %q is not in devices.tsv", model)
			}
		}
		if d.compute, err = r.number("compute"); err != nil {
			return err
		}
		if d.memory, err = r.number("memory"); err != nil {
			return err
		}
		for _, text := range r.list("profiles") {
			m := profileForm.FindStringSubmatch(text)
			if m == nil {
				return r.fail("profile %q is not of the form 3g.71gb:4", text)
			}
			compute, _ := strconv.Atoi(m[2])
			memory, _ := strconv.Atoi(m[3])
			if compute > d.compute || memory > d.memory {
				return r.fail("profile %q is larger than the GPU", text)
			}
			d.profiles = append(d.profiles, profile{m[1], compute, memory})
		}
		t.mig = append(t.mig, d)
	}
	return nil
}

// divisions returns how a GPU can be divided, by each size of its memory.
func (t *Tables) divisions(g gpu) []division {
	names := g.models
	if g.model != "" {
		names = []string{g.model}
	}
	var out []division
	for _, d := range t.mig {
		if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(d.models, name) }) {
			out = append(out, d)
		}
	}
	return out
}

func (d division) profile(name string) (profile, bool) {
	i := slices.IndexFunc(d.profiles, func(p profile) bool { return p.name == name })
	if i < 0 {
		return profile{}, false
	}
	return d.profiles[i], true
}

// unknown returns the index of the first profile that the division lacks, or -1.
func (d division) unknown(layout []string) int {
	return slices.IndexFunc(layout, func(name string) bool { _, ok := d.profile(name); return !ok })
}

// checkMIG refuses a layout that a GPU of the machine cannot have. That one fits
// by its slices does not yet say that they can be placed so: that the driver
// knows alone.
func (r *resolver) checkMIG(gpus []gpu) {
	layout := r.req.MIG
	if len(layout) == 0 {
		return
	}
	var source [][]string
	for _, g := range gpus {
		divisions := r.t.divisions(g)
		if len(divisions) == 0 {
			r.doubt(refuse("mig-impossible", "mig", fmt.Sprintf("%s is not known to be divisible into instances (MIG)", g), "leave mig out"))
			continue
		}
		i := slices.IndexFunc(divisions, func(d division) bool { return d.unknown(layout) < 0 })
		if i < 0 {
			r.unknownProfile(g, divisions)
			continue
		}
		source = append(source, divisions[i].source)
		r.checkSlices(g, divisions[i])
	}
	r.because("GPU instances "+strings.Join(layout, ", "), "asked for; every GPU is divided so at boot, and containers are given instances", r.t.cite(source...))
}

// unknownProfile complains of the profile that no division has beside the others.
func (r *resolver) unknownProfile(g gpu, divisions []division) {
	at := 0
	var choices []string
	for _, d := range divisions {
		at = max(at, d.unknown(r.req.MIG))
		for _, p := range d.profiles {
			if !slices.Contains(choices, p.name) {
				choices = append(choices, p.name)
			}
		}
	}
	summary := fmt.Sprintf("%s has no MIG profile %s", g, r.req.MIG[at])
	if slices.Contains(choices, r.req.MIG[at]) {
		summary = fmt.Sprintf("%s has the MIG profile %s with another size of memory than those before it", g, r.req.MIG[at])
	}
	r.doubt(refuse("mig-profile", fmt.Sprintf("mig[%d]", at), summary, "write of "+strings.Join(choices, ", ")))
}

func (r *resolver) checkSlices(g gpu, d division) {
	compute, memory := 0, 0
	for _, name := range r.req.MIG {
		p, _ := d.profile(name)
		compute += p.compute
		memory += p.memory
	}
	for _, sum := range []struct {
		what     string
		has, all int
	}{{"compute", compute, d.compute}, {"memory", memory, d.memory}} {
		if sum.has > sum.all {
			r.add(refuse("mig-overfull", "mig", fmt.Sprintf("the instances take %d slices of %s, and %s has %d", sum.has, sum.what, g, sum.all),
				"take fewer or smaller ones"))
			return
		}
	}
}

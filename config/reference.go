package config

import (
	"fmt"
	"strings"
)

const referenceHead = `# gpustrap.yaml

` + "`gpustrap.yaml`" + ` is the one file that a person edits. ` + "`gpustrap check`" + ` says everything
that is wrong with it in one run; ` + "`gpustrap schema`" + ` prints a JSON Schema, by which
an editor completes and checks it. This page is written from the same table.

## How settings are inherited

Settings may stand at the top of the file, in a profile, and in a machine. A
machine inherits from the top of the file, then from what its profile extends,
then from its profile; what it says itself comes last.

* A scalar replaces the inherited one.
* A list replaces the inherited list: write all of its entries again.
* A mapping is merged key by key.
* Keys of which only one may stand replace each other: a machine's
  ` + "`disk: {serial: …}`" + ` replaces its profile's ` + "`disk: {size: largest}`" + `.
* ` + "`off`" + ` switches ` + "`gpu`, `docker`, `docker.prune` or `toolkit`" + ` off; a mapping further down switches it on
  again, with what it inherited.

A file without ` + "`machines`" + ` describes one machine, by the settings at its top.

Anchors, aliases, merge keys (` + "`<<`" + `) and tags of YAML are refused: profiles do what
they are used for, and a file means what it says in the place where it says it.

## How a machine is known

Every key of ` + "`match`" + ` that is given must fit; of several MAC addresses, one must.
Two machines that name one MAC address, serial number or UUID are refused, unless
different serial numbers or UUIDs tell them apart. Of several machines, each
needs a ` + "`match`" + `.

## Secrets

A password is only ever a crypt hash, sha512-crypt (` + "`$6$`" + `) or yescrypt (` + "`$y$`" + `), in the
file or in a file of its own; ` + "`gpustrap hash`" + ` makes one. A BMC's stands in plain text
in a file that only ` + "`gpustrap install`" + ` reads. What a report shows of the
file has its secrets hidden.

Membership of the docker group is the right to become root: a container can
mount the machine's root folder. It is the default for every user, since a
machine for containers is of little use without; ` + "`docker: false`" + ` takes it from one,
and ` + "`docker: rootless`" + ` gives an engine instead that runs as the user alone.
`

// Reference returns a Markdown page of every key. gpuModels, where given, are
// the names that gpu.model takes.
func Reference(gpuModels []string) []byte {
	var b strings.Builder
	b.WriteString(referenceHead)
	form := fileForm(gpuModels)
	var top, shared []entry
	settings := map[string]bool{}
	for _, f := range settingsFields(nil) {
		settings[f.name] = true
	}
	for _, e := range form.entries() {
		if settings[e.name] {
			shared = append(shared, e)
		} else {
			top = append(top, e)
		}
	}
	b.WriteString("\n## The top of the file\n\nBesides the settings below:\n\n" + keyTable(top))
	var profile, machine []entry
	for _, e := range form.entries() {
		switch f := e.shape.(type) {
		case namedForm:
			profile = f.profile.entries()[:1]
		case listForm[*machineKeys]:
			machine = f.entries()[:len(machineFields())]
		}
	}
	written := map[string]string{}
	b.WriteString("\n## profiles.NAME\n\nBesides the settings below:\n\n" + keyTable(profile))
	b.WriteString("\n## machines[]\n\nBesides the settings below:\n\n" + keyTable(machine))
	writeNested(&b, written, machine, "machines[].")
	b.WriteString("\n## Settings\n\nAt the top of the file, in a profile, or in a machine:\n\n" + keyTable(shared))
	writeNested(&b, written, shared, "")
	return []byte(b.String())
}

// writeNested writes a table for each key that is a mapping of known keys.
func writeNested(b *strings.Builder, written map[string]string, es []entry, prefix string) {
	for _, e := range es {
		nested := e.shape.entries()
		if len(nested) == 0 {
			continue
		}
		path := prefix + e.name
		if strings.HasPrefix(e.shape.words(), "list") {
			path += "[]"
		}
		table := keyTable(nested)
		fmt.Fprintf(b, "\n### %s\n\n", path)
		if first, ok := written[optional(table)]; ok {
			must := ""
			if table != optional(table) {
				must = ", of which `name` is required"
			}
			fmt.Fprintf(b, "The keys of `%s`%s.\n", first, must)
			continue
		}
		written[optional(table)] = path
		b.WriteString(table)
		writeNested(b, written, nested, path+".")
	}
}

// optional strips a table of what is required, by which the keys of user and of
// an entry of users differ.
func optional(table string) string { return strings.ReplaceAll(table, required, "") }

const required = "**required**"

func keyTable(es []entry) string {
	var b strings.Builder
	b.WriteString("| Key | Value | Default | Meaning |\n|---|---|---|---|\n")
	for _, e := range es {
		fallback := e.fallback
		if e.required {
			fallback = required
		}
		cell := strings.NewReplacer("|", `\|`)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.name, cell.Replace(e.shape.words()), cell.Replace(fallback), cell.Replace(e.doc))
	}
	return b.String()
}

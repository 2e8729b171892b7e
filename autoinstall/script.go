package autoinstall

import (
	"strings"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/report"
)

// RenderScript returns one bash script that does to a machine which already runs
// Ubuntu Server what the seed does to a new one: packages, users, settings. It
// leaves disks, network and host name alone. It can be run again, and --dry-run
// says what it would do.
func (r *Renderer) RenderScript(in Input) ([]byte, report.Report) {
	in.Machine.Storage = config.Storage{}
	b := newBuilder(&in, r.scripts)
	if b.rep.HasErrors() {
		return nil, b.rep
	}
	b.warnFragment("script")
	steps := append([]string{stepAccounts}, b.steps()...)
	files := append(b.scriptFiles(steps), b.dataFiles(steps)...)
	files = append(files, b.accounts()...)

	var out strings.Builder
	out.WriteString("#!/bin/bash\n# Sets up " + in.Machine.Name + scriptHead)
	for _, f := range files {
		if err := fitsHeredoc(f.content); err != nil {
			b.rep.Add(internal(&in, err))
		}
		out.WriteString("\n" + writeCommand("$work", f))
	}
	out.WriteString(scriptTail)
	if b.rep.HasErrors() {
		return nil, b.rep
	}
	return []byte(out.String()), b.rep
}

const scriptHead = `, a machine that already runs Ubuntu Server, as gpustrap's
# configuration says: users, driver, Docker, container toolkit. Disks, network
# and host name stay as they are.
#   sudo bash setup.sh            does it; what is done already is left alone
#   sudo bash setup.sh --dry-run  says what it would do and changes nothing
set -eu

case ${1:-} in
'' | --dry-run) ;;
*)
    echo "usage: setup.sh [--dry-run]" >&2
    exit 2
    ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
`

const scriptTail = `
export GPUSTRAP_ETC=$work/etc/gpustrap
if [ "${1:-}" = --dry-run ]; then
    bash "$work/usr/local/lib/gpustrap/install.sh" --dry-run
    exit
fi
bash "$work/usr/local/lib/gpustrap/install.sh" --check
rm -rf /etc/gpustrap /usr/local/lib/gpustrap
mkdir -p /usr/local/lib
cp -R "$work/etc/gpustrap" /etc/gpustrap
cp -R "$work/usr/local/lib/gpustrap" /usr/local/lib/gpustrap
unset GPUSTRAP_ETC
bash /usr/local/lib/gpustrap/install.sh
`

// Package scripts holds the shell that runs on the machine: in the installer's
// early- and late-commands, at the first boot of a cloud image, by hand on a
// machine that already runs, and at every boot afterwards.
//
// The scripts are static and readable; what differs between machines travels
// beside them in data files. Each can be run alone.
package scripts

import (
	"embed"
	"fmt"
	"slices"
)

//go:embed *.sh *.service *.timer *.mount
var files embed.FS

//go:embed receipt.schema.json
var receiptSchema []byte

// ReceiptSchema returns the JSON Schema (draft 2020-12) of what gpu-ready writes.
func ReceiptSchema() []byte { return slices.Clone(receiptSchema) }

// Read returns the text of a script or a unit, by file name.
func Read(name string) (string, error) {
	data, err := files.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("cannot read the embedded script: %w", err)
	}
	return string(data), nil
}

package boot

import (
	"io/fs"
	"strings"
	"unicode"
)

// Clean returns the path of a file as a machine asks for it by TFTP or HTTP: without
// the slashes that firmware doubles (shim asks for //grubx64.efi), puts in front or
// writes as backslashes. It is false for what is no path of a file below the root.
func Clean(name string) (string, bool) {
	parts := strings.FieldsFunc(name, func(c rune) bool { return c == '/' || c == '\\' })
	name = strings.Join(parts, "/")
	control := strings.IndexFunc(name, unicode.IsControl) >= 0
	return name, !control && name != "" && name != "." && fs.ValidPath(name)
}

package grubcfg

import "strings"

// maxCommandLine is the longest kernel command line, in bytes, that amd64 and
// arm64 take (COMMAND_LINE_SIZE, 2048, less the final NUL). GRUB drops arguments
// beyond it without a word.
const maxCommandLine = 2047

// loaderCommandLine joins the arguments of a linux command as GRUB's loader does
// (grub_create_loader_cmdline in grub-core/lib/cmdline.c): a backslash before
// each backslash and quote, and quotes around an argument with a space.
func loaderCommandLine(args []string) string {
	escape := strings.NewReplacer(`\`, `\\`, `'`, `\'`, `"`, `\"`)
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = escape.Replace(a)
		if strings.Contains(a, " ") {
			out[i] = `"` + out[i] + `"`
		}
	}
	return strings.Join(out, " ")
}

// kernelArgs splits a command line as the kernel does (next_arg in its
// lib/cmdline.c): at white space outside double quotes, without the quotes
// around an argument or around the value after its first "=".
func kernelArgs(line string) []string {
	var args []string
	for {
		for line != "" && isKernelSpace(line[0]) {
			line = line[1:]
		}
		if line == "" {
			return args
		}
		quoted := line[0] == '"'
		if quoted {
			line = line[1:]
		}
		inQuote := quoted
		n := 0
		for ; n < len(line) && (inQuote || !isKernelSpace(line[n])); n++ {
			if line[n] == '"' {
				inQuote = !inQuote
			}
		}
		arg := line[:n]
		line = line[n:]
		if i := strings.IndexByte(arg[min(1, n):], '=') + 2; i > 1 && strings.HasPrefix(arg[i:], `"`) {
			arg = arg[:i] + strings.TrimSuffix(arg[i+1:], `"`)
		} else if quoted {
			arg = strings.TrimSuffix(arg, `"`)
		}
		args = append(args, arg)
	}
}

// isKernelSpace reports what isspace of the kernel's lib/ctype.c does: 0xA0, the
// no-break space of Latin-1, is white space there.
func isKernelSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r' || c == 0xA0
}

package main

import (
	"github.com/spf13/cobra"
)

func newFetch(w *world) *cobra.Command {
	o := fetchOptions{rehash: true} // who asks wants to know
	cmd := &cobra.Command{
		Use:        "fetch RELEASE",
		Short:      "Download and verify the newest live-server ISO of a release",
		SuggestFor: []string{"download"},
		Long: `Finds the newest point release in SHA256SUMS, whose signature is checked against
Ubuntu's CD image key, downloads the live-server ISO with resume, and checks its
SHA-256. Prints the file's path. A medium that is already there is checked and
not fetched again.`,
		Example:           "  gpustrap fetch 24.04\n  gpustrap fetch 24.04 --arch arm64\n  gpustrap fetch 24.04 --mirror https://mirror.example/releases/24.04/",
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: releaseNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.release = args[0]
			if !releaseForm.MatchString(o.release) {
				return usageError{withHint(usagef("%q is no Ubuntu release", o.release), "write it like 24.04")}
			}
			if o.arch != "amd64" && o.arch != "arm64" {
				return usagef("there is no live-server ISO for %q that gpustrap knows; --arch takes amd64 or arm64", o.arch)
			}
			name, err := fetchRelease(cmd.Context(), w, o)
			if err != nil {
				return err
			}
			return w.print("%s\n", name)
		},
	}
	cmd.Flags().StringVar(&o.arch, "arch", "amd64", "architecture: amd64 or arm64")
	cmd.Flags().StringVar(&o.mirror, "mirror", "", "`URL` of the folder that holds SHA256SUMS (default: Ubuntu's own)")
	cmd.Flags().StringVar(&o.cache, "cache", "", "`folder` to keep media in (default: ~/.cache/gpustrap)")
	return cmd
}

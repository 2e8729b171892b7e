package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/plan"
	"github.com/gpustrap/gpustrap/usb"
)

func newWrite(w *world) *cobra.Command {
	var o writeOptions
	cmd := &cobra.Command{
		Use:        "write (IMAGE | --iso ISO [MACHINE]) DEVICE",
		Short:      "Write an image to a USB device and verify it",
		SuggestFor: []string{"burn", "flash"},
		Long: `Writes an image to a whole device and verifies it by reading it back. With --iso
the machine's image goes straight from the stock ISO to the device, with no file
in between. Everything on the device is lost; what that is, is shown first, and
the device's name must be typed.

A device is refused when anything on it is mounted, swap, or held by LVM, RAID,
encryption, ZFS or a loop device, when this system runs from it, when it is a
fixed disk (--allow-fixed), or when any of that cannot be found out.

Devices are written on Linux. Elsewhere write what "gpustrap remaster" makes:
with dd on macOS, with Rufus in DD mode on Windows.

With --cidata the device gets kernel arguments only, and the machine's seed in a
small partition of its own: "gpustrap seed OTHER --device DEVICE" then makes it
another machine's in a second. (Beside a stock ISO, whose boot menu does not say
"autoinstall", the installer would ask at the screen and wait.)`,
		Example: `  gpustrap devices
  gpustrap write gpu.iso /dev/sdb
  gpustrap write --iso ubuntu-24.04.3-live-server-amd64.iso node01 /dev/sdb
  gpustrap write --iso 24.04 --cidata node01 /dev/sdb`,
		Args:              usageArgs(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: writtenNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.iso == "" && len(args) != 2:
				return usageError{withHint(errors.New("an image and a device are needed"), "usage: %s", cmd.UseLine())}
			case o.iso == "" && o.cidata:
				return usagef("--cidata needs --iso: it remasters the stock ISO on the way")
			}
			return writeDevice(cmd, w, args[:len(args)-1], args[len(args)-1], o)
		},
	}
	cmd.Flags().StringVar(&o.iso, "iso", "", "stock ISO: a `file`, or a release to fetch")
	cmd.Flags().BoolVar(&o.cidata, "cidata", false, "put the seed in a partition that can be replaced")
	o.flags(cmd)
	return cmd
}

// writeOptions are the flags of write.
type writeOptions struct {
	iso    string
	cidata bool
	deviceConsent
}

// deviceConsent are the flags of every command that writes to a device.
type deviceConsent struct{ yes, allowFixed bool }

func (c *deviceConsent) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do not ask for the device's name")
	cmd.Flags().BoolVar(&c.allowFixed, "allow-fixed", false, "allow a disk that is neither removable nor on USB")
}

// deviceSource is what is to be written to a device.
type deviceSource struct {
	io.ReaderAt
	size     int64
	describe func(int64) string
	file     *os.File // what it is read from
	options  usb.Options
	what     string   // in words
	notes    []string // said when it is done
}

func writeDevice(cmd *cobra.Command, w *world, args []string, path string, o writeOptions) error {
	ctx := cmd.Context()
	if err := checkPlatform(runtime.GOOS); err != nil {
		return err
	}
	// Before anything is fetched or planned: may this device be written at all?
	request := usb.Request{AllowFixed: o.allowFixed, Access: w.access}
	device, err := findDevice(w, path, request)
	if err != nil {
		return withCommandLine(w, cmd, err)
	}
	source, err := openDeviceSource(cmd, w, args, path, o)
	if err != nil {
		return err
	}
	defer func() { _ = source.file.Close() }() // read only
	request.Size = usb.RequiredSize(source.size, source.options)
	if request.Sources, err = usb.SourceNumbers(source.file); err != nil {
		return err
	}
	if request.SourceFile, err = sourceFile(source.file, &device); err != nil {
		return err
	}
	if refusal := usb.Refuse(&device, request); refusal != nil {
		return refusal
	}
	plan, err := usb.NewPlan(source, source.size, device.Size, source.options)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", source.what, err)
	}
	w.say("%s", describeDevice(&device))
	for _, line := range device.Contents() {
		w.say("  will be lost: %s", line)
	}
	if err := confirmDevice(ctx, w, &device, source.what, o.yes); err != nil {
		return err
	}
	if err := carryOut(ctx, w, device, request, plan, source.describe); err != nil {
		return withCommandLine(w, cmd, err)
	}
	w.say("%s: %s, verified", path, source.what)
	for _, note := range source.notes {
		w.say("%s", note)
	}
	return nil
}

// sourceFile returns the path of the file that is written: where it is the file
// behind the device, by that path, as a file has as many names as there are links.
func sourceFile(f *os.File, d *usb.Device) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot find out where %s lies: %w", f.Name(), err)
	}
	if behind, err := os.Stat(d.Backing); err == nil && os.SameFile(info, behind) {
		return d.Backing, nil
	}
	return filepath.Abs(f.Name())
}

// findDevice returns the device that a path leads to, unless it must not be written.
func findDevice(w *world, path string, request usb.Request) (usb.Device, error) {
	number, err := usb.Number(path)
	if err != nil {
		return usb.Device{}, withHint(err, "gpustrap devices lists the devices; name one as /dev/sdb")
	}
	device, partition, err := w.machine.Find(number)
	switch {
	case errors.Is(err, usb.ErrNoDevice):
		return device, withHint(fmt.Errorf("%s is no device that can be written, or it is empty", path), "gpustrap devices lists the devices")
	case err != nil:
		return device, err
	case partition != "":
		return device, usb.RefusePartition(&device, partition)
	}
	if refusal := usb.Refuse(&device, request); refusal != nil {
		return device, refusal
	}
	return device, nil
}

// openDeviceSource opens the image, or plans it.
func openDeviceSource(cmd *cobra.Command, w *world, args []string, path string, o writeOptions) (*deviceSource, error) {
	if o.iso == "" {
		return openImageSource(w, args[0])
	}
	project, err := loadProject(w, cmd)
	if err != nil {
		return nil, err
	}
	m, err := project.One(args)
	if err != nil {
		return nil, usageError{err}
	}
	base, err := openISO(cmd.Context(), w, o.iso, m.Arch)
	if err != nil {
		return nil, err
	}
	source, err := planDeviceSource(cmd, w, project, m, base, o.cidata)
	if err != nil {
		return nil, errors.Join(err, base.Close())
	}
	if o.cidata {
		source.notes = append(source.notes, fmt.Sprintf("for another machine: gpustrap seed OTHER --device %s", path))
	}
	return source, nil
}

// openImageSource opens a finished image.
func openImageSource(w *world, name string) (*deviceSource, error) {
	f, size, err := openImageFile(name)
	if err != nil {
		return nil, err
	}
	source := &deviceSource{ReaderAt: f, size: size, file: f, what: filepath.Base(name)}
	image, err := iso.Open(f, size)
	if err != nil {
		w.say("warning: %s is no installation medium that gpustrap knows, and is written as it is: %v", name, err)
		return source, nil
	}
	source.describe = image.Describe
	return source, nil
}

// planDeviceSource plans the machine's image over the base.
func planDeviceSource(cmd *cobra.Command, w *world, project *plan.Project, m *plan.Machine, base *medium, asCIData bool) (*deviceSource, error) {
	source := &deviceSource{file: base.file, notes: []string{plan.Secrets(m)}}
	var layout *iso.Layout
	var err error
	if asCIData {
		if err = plan.CheckMedium(m, base.Description()); err != nil {
			return nil, withHint(err, "name another ISO, or set ubuntu: and arch: in %s", configName(cmd))
		}
		if source.options.Seed, err = seedImage(w, cmd, project, m); err != nil {
			return nil, err
		}
		overlay := plan.CIDataOverlay(m)
		if err = addRepository(w, cmd, project, []*plan.Machine{m}, base, &overlay); err != nil {
			return nil, err
		}
		if overlay.ModTime, err = sourceDate(w); err != nil {
			return nil, err
		}
		if layout, err = iso.Remaster(base.Image, overlay); err != nil {
			return nil, fmt.Errorf("%s: %w", base.name, err)
		}
		source.what = fmt.Sprintf("installs %s from %s, with its seed in a partition", m.Name, base.Description().Info)
	} else {
		if layout, err = layoutFor(w, cmd, project, m, base); err != nil {
			return nil, err
		}
		source.what = fmt.Sprintf("installs %s from %s", m.Name, base.Description().Info)
	}
	source.ReaderAt, source.size, source.describe = layout, layout.Size(), layout.Describe
	return source, nil
}

// confirmDevice asks for the device's name, typed.
func confirmDevice(ctx context.Context, w *world, d *usb.Device, what string, yes bool) error {
	if yes {
		return nil
	}
	_, _ = fmt.Fprintf(w.stderr, "to write (%s), type %s: ", what, d.Name)
	line, _ := await(ctx, func() (string, error) { return bufio.NewReader(w.stdin).ReadString('\n') })
	if typed := strings.TrimSpace(line); typed == d.Name || typed == d.Path {
		return nil // whether or not the line was ended
	}
	return withHint(errors.New("not confirmed; nothing was written"), "type %s when asked, or say --yes", d.Name)
}

// carryOut writes a plan to a device and verifies it.
func carryOut(ctx context.Context, w *world, device usb.Device, request usb.Request, p *usb.Plan, describe func(int64) string) error {
	handle, err := usb.Open(ctx, w.machine, device, request)
	if err != nil {
		return err
	}
	var step usb.Step
	update, finish := func(int64, int64) {}, func() {}
	var mu sync.Mutex // several goroutines report
	err = handle.Write(ctx, p, usb.WriteOptions{Describe: describe, Progress: func(now usb.Step, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if now != step {
			finish()
			step = now
			update, finish = w.progress(string(now))
		}
		update(done, total)
	}})
	finish()
	if closeErr := handle.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("cannot close %s: %w", device.Path, closeErr)
	}
	return err
}

// writeSeed replaces the NoCloud seed on a device.
func writeSeed(cmd *cobra.Command, w *world, m *plan.Machine, seed []byte, path string, consent deviceConsent) error {
	if err := checkPlatform(runtime.GOOS); err != nil {
		return err
	}
	request := usb.Request{AllowFixed: consent.allowFixed, Access: w.access}
	device, err := findDevice(w, path, request)
	if err != nil {
		return withCommandLine(w, cmd, err)
	}
	on, err := openMedium(path)
	if err != nil {
		return err
	}
	defer func() { _ = on.Close() }() // read only
	if err := plan.CheckMedium(m, on.Description()); err != nil {
		return err
	}
	p, err := usb.NewSeedPlan(on.file, device.Size, seed)
	if errors.Is(err, usb.ErrNoSeedPartition) {
		return withHint(fmt.Errorf("%s: %w", path, err), "gpustrap write --iso ISO --cidata %s %s makes one", m.Name, path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := plan.CheckConfirmation(m, on.FS()); err != nil {
		return withHint(err, "gpustrap write --iso ISO --cidata %s %s writes the menu anew", m.Name, path)
	}
	w.say("%s", describeDevice(&device))
	w.say("  will be replaced: the NoCloud seed in its partition")
	what := "the NoCloud seed of " + m.Name
	if err := confirmDevice(cmd.Context(), w, &device, what, consent.yes); err != nil {
		return err
	}
	if err := on.Close(); err != nil {
		return err
	}
	if err := carryOut(cmd.Context(), w, device, request, p, nil); err != nil {
		return err
	}
	w.say("%s: %s, verified", path, what)
	w.say("%s", plan.Secrets(m))
	return nil
}

// withCommandLine adds, where only rights are missing, the command that would do.
func withCommandLine(w *world, cmd *cobra.Command, err error) error {
	var refusal *usb.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != usb.ReasonRights {
		return err
	}
	words := []string{"sudo", cmd.CommandPath()}
	if !slices.Contains(sudoFolders, filepath.Dir(w.executable)) {
		_, rest, _ := strings.Cut(cmd.CommandPath(), " ")
		words = []string{"sudo", shellWord(w.executable), rest}
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		word := "--" + f.Name
		if value := f.Value.String(); f.Value.Type() != "bool" || value != "true" {
			word += "=" + shellWord(value)
		}
		words = append(words, word)
	})
	for _, arg := range cmd.Flags().Args() {
		words = append(words, shellWord(arg))
	}
	return withHint(err, "%s", strings.Join(words, " "))
}

// sudoFolders are where sudo looks for a program as it is set up on Debian and Ubuntu
// (sudoers(5), secure_path), whatever the caller's PATH; and "." stands for a program
// whose file is not known.
var sudoFolders = []string{".", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin"}

// shellWord quotes a word for a shell when it needs it.
func shellWord(s string) string {
	if s != "" && !unsafeWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var unsafeWord = regexp.MustCompile(`[^A-Za-z0-9/_.,:+@%=-]`)

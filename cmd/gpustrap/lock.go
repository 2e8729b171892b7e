package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2/maybe"
	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/plan"
)

// lockOptions are the flags of lock.
type lockOptions struct {
	check, update, diff bool
	media               []string
	snapshot            string
}

func newLock(w *world) *cobra.Command {
	var o lockOptions
	cmd := &cobra.Command{
		Use:   "lock [--check | --update [PACKAGE...] | --diff OLD NEW]",
		Short: "Pin every package of the stack in a lock file",
		Long: `Works out what apt would install on each class of machines: driver, Docker,
container toolkit and all they pull in, and writes exact versions, sizes,
SHA-256 and origin into a lock file beside the configuration: gpustrap.lock for
gpustrap.yaml. From then on every render and bundle uses those versions and no
other; a lock that no longer fits the configuration is an error.

Run again, it makes the lock fit the configuration and keeps the versions that
are locked. --update takes newer versions of the named packages, and of what is
built from the same sources, or of all.

--iso names the installation medium: what it brings is not locked again. A file
for each release and architecture. --snapshot locks to a state of Ubuntu's
archive that is kept: an id such as 20261123T000000Z, or now. Without it the
archive drops versions in time; a bundle keeps them too.`,
		Example: `  gpustrap lock --iso ubuntu-24.04.3-live-server-amd64.iso
  gpustrap lock --check
  gpustrap lock --update docker-ce
  gpustrap lock --diff old.lock gpustrap.lock`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.diff && (len(args) != 2 || o.check || o.update):
				return usageError{withHint(errors.New("--diff compares two lock files"), "usage: gpustrap lock --diff OLD NEW")}
			case o.check && o.update:
				return usagef("--check says whether the lock fits, and --update changes it: give one of them")
			case o.check && len(args) > 0, !o.diff && !o.update && len(args) > 0:
				return usageError{withHint(errors.New("packages are named with --update"), "usage: gpustrap lock --update PACKAGE")}
			case o.diff:
				return diffLocks(w, args[0], args[1])
			case o.check:
				return checkLock(w, cmd)
			}
			return writeLock(cmd.Context(), w, cmd, o, args)
		},
	}
	cmd.Flags().BoolVar(&o.check, "check", false, "only say whether the lock fits the configuration")
	cmd.Flags().BoolVar(&o.update, "update", false, "take newer versions of the named packages, or of all")
	cmd.Flags().BoolVar(&o.diff, "diff", false, "compare two lock files")
	cmd.Flags().StringArrayVar(&o.media, "iso", nil, "installation medium: a `file`, or a release to fetch")
	cmd.Flags().StringVar(&o.snapshot, "snapshot", "", "`id` of a state of Ubuntu's archive, or now")
	return cmd
}

// lockName is the lock file of the configuration, beside it.
func lockName(cmd *cobra.Command) string {
	name := configName(cmd)
	return strings.TrimSuffix(name, filepath.Ext(name)) + ".lock"
}

// readLock reads a lock file; nil when there is none.
func readLock(name string) (*apt.Lock, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the lock: %w", err)
	}
	lock, err := apt.DecodeLock(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", name, err)}
	}
	return lock, nil
}

// needLock is readLock for a command that cannot do without.
func needLock(name string) (*apt.Lock, error) {
	lock, err := readLock(name)
	if err == nil && lock == nil {
		err = withHint(fmt.Errorf("there is no %s", name), "gpustrap lock writes it")
	}
	return lock, err
}

func diffLocks(w *world, before, after string) error {
	var locks []*apt.Lock
	for _, name := range []string{before, after} {
		lock, err := readLock(name)
		if err == nil && lock == nil {
			err = fmt.Errorf("there is no %s", name)
		}
		if err != nil {
			return err
		}
		locks = append(locks, lock)
	}
	return w.print("%s", apt.Diff(locks[0], locks[1]))
}

func checkLock(w *world, cmd *cobra.Command) error {
	project, err := printedProject(w, cmd, readUnlocked)
	if err != nil {
		return err
	}
	name := lockName(cmd)
	lock, err := needLock(name)
	if err != nil {
		return err
	}
	classes, err := project.Classes(nil, lock.Snapshot())
	if err != nil {
		return err
	}
	found := lock.Check(classes)
	for _, line := range found {
		w.say("%s", line)
	}
	if len(found) > 0 {
		return withHint(fmt.Errorf("%s does not fit the configuration", name), "gpustrap lock makes it fit")
	}
	return w.print("%s: fits, %s, %s\n", name, classCount(lock), count(len(lock.Packages), "package"))
}

func classCount(lock *apt.Lock) string {
	if n := len(lock.Classes); n != 1 {
		return fmt.Sprintf("%d classes of machines", n)
	}
	return "1 class of machines"
}

func writeLock(ctx context.Context, w *world, cmd *cobra.Command, o lockOptions, names []string) error {
	project, err := printedProject(w, cmd, readUnlocked)
	if err != nil {
		return err
	}
	name := lockName(cmd)
	old, err := readLock(name)
	if err != nil {
		return err
	}
	switch {
	case o.snapshot == "" && old != nil && !o.update:
		o.snapshot = old.Snapshot()
	case o.snapshot == "" && old != nil && old.Snapshot() != "", o.snapshot == "now":
		o.snapshot = w.now().UTC().Truncate(time.Hour).Format(snapshotForm)
	}
	given := cmd.Flags().Changed("snapshot")
	if o.snapshot != "" {
		if _, err := time.Parse(snapshotForm, o.snapshot); err != nil {
			return usagef("%q is no id of a snapshot; write it like 20261123T000000Z, or now", o.snapshot)
		}
	}
	media, err := lockMedia(ctx, w, project, o.media)
	if err != nil {
		return err
	}
	classes, err := project.Classes(media, o.snapshot)
	if err != nil {
		return err
	}
	if len(classes) == 0 {
		return errors.New("there is nothing to lock: no machine installs packages")
	}
	if given && !slices.ContainsFunc(classes, hasSnapshot) {
		return withHint(errors.New("no machine can be locked to a snapshot: Ubuntu keeps those of its own archive, and sources.ubuntu names another"),
			"lock without --snapshot, and keep the packages on the medium (offline:) or in a bundle")
	}
	if old != nil && !o.update && len(o.media) == 0 && len(old.Check(classes)) == 0 {
		w.say("%s: fits, nothing to do; --update takes newer versions", name)
		return nil
	}
	fetch, err := aptOptions(w)
	if err != nil {
		return err
	}
	update, finish := w.progress("read package indexes")
	fetch.Progress = update
	err = plan.FetchArchives(ctx, classes, fetch)
	finish()
	if err != nil {
		return err
	}
	lock, err := newLockFrom(old, classes, o.update, names)
	if err != nil {
		return err
	}
	text, err := lock.Encode()
	if err != nil {
		return err
	}
	if err := maybe.WriteFile(name, text, 0o644); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, pathReason(err))
	}
	tellLock(w, name, old, lock)
	return nil
}

// hasSnapshot: whether the class takes packages from a state of an archive.
func hasSnapshot(c apt.Class) bool {
	return slices.ContainsFunc(c.Sources, func(s apt.Source) bool { return s.Snapshot != "" })
}

// snapshotForm is how Ubuntu's snapshot service writes a time.
const snapshotForm = "20060102T150405Z"

func newLockFrom(old *apt.Lock, classes []apt.Class, update bool, names []string) (*apt.Lock, error) {
	switch {
	case old == nil && len(names) > 0:
		return nil, withHint(errors.New("there is no lock to update"), "gpustrap lock writes one")
	case old == nil:
		return apt.NewLock(classes)
	case update:
		return old.Update(classes, names)
	}
	return old.Refit(classes)
}

// lockMedia reads what the media bring.
func lockMedia(ctx context.Context, w *world, project *plan.Project, names []string) ([]plan.Medium, error) {
	var out []plan.Medium
	for _, name := range names {
		arch := ""
		for i := range project.Machines {
			if m := &project.Machines[i]; arch == "" || m.Ubuntu == name {
				arch = m.Arch
			}
		}
		base, err := openISO(ctx, w, name, arch)
		if err != nil {
			return nil, err
		}
		medium, err := plan.ReadMedium(base.Image)
		if err = errors.Join(err, base.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, medium)
	}
	for i := range project.Machines {
		m := &project.Machines[i]
		if len(out) == 0 {
			break
		}
		known := false
		for _, medium := range out {
			known = known || medium.Ubuntu == m.Ubuntu && medium.Arch == m.Arch
		}
		if !known {
			return nil, withHint(fmt.Errorf("no medium for %s: it is an %s machine with Ubuntu %s", m.Name, m.Arch, m.Ubuntu),
				"name a medium for each release and architecture, --iso FILE --iso FILE")
		}
	}
	return out, nil
}

// tellLock says what the new lock has, and how it differs from the one before.
func tellLock(w *world, name string, old, lock *apt.Lock) {
	var size int64
	for i := range lock.Packages {
		size += lock.Packages[i].Size
	}
	if old != nil {
		if changes := apt.Diff(old, lock); changes != "" {
			w.say("%s", strings.TrimSuffix(changes, "\n"))
		} else {
			w.say("no version changed")
		}
	}
	w.say("%s: %s, %s, %s to download", name, classCount(lock), count(len(lock.Packages), "package"), byteCount(size))
	for _, c := range lock.Classes {
		if c.Base == "" {
			w.say("%s is locked with all that an empty system lacks; --iso names the medium, whose packages need no lock", c.Name)
		}
	}
}

// aptOptions are those of every access to package archives.
func aptOptions(w *world) (apt.Options, error) {
	cache, err := cacheFolder(w)
	if err != nil {
		return apt.Options{}, err
	}
	return apt.Options{
		Cache: filepath.Join(cache, "apt"), Now: w.now(), SnapshotURL: apt.UbuntuSnapshot, Backoff: w.waits,
		Notify: func(message string) { w.say("%s", message) },
	}, nil
}

// warnUnkept warns where one of the machines has locked versions that nobody keeps:
// neither a snapshot nor the medium.
func warnUnkept(w *world, lock *apt.Lock, machines []*plan.Machine) {
	kept := map[string]bool{} // by class: a fleet has many machines and few classes
	unkept := func(m *plan.Machine) bool {
		if m.Class == "" || m.Offline != config.OfflineOff {
			return false
		}
		if _, known := kept[m.Class]; !known {
			kept[m.Class] = lock.Kept(m.Class)
		}
		return !kept[m.Class]
	}
	if lock == nil || !slices.ContainsFunc(machines, unkept) {
		return
	}
	w.say("warning: the locked versions are in the archive only until it drops them; \"gpustrap lock --update --snapshot now\" or an offline repository keeps them")
}

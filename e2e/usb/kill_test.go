package usb

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/lab"
)

// TestKilled kills the program with SIGKILL at random moments of a write. Whatever
// the moment, the device is as it was, or its first MiB is zero, or it holds the
// whole image; and a second run succeeds. GPUSTRAP_KILLS is how many times.
func TestKilled(t *testing.T) {
	needRoot(t)
	kills := 10
	if text := os.Getenv("GPUSTRAP_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	const deviceSize, head, boot = 256 << 20, 1 << 20, 4096
	image, gpustrap := lab.SampleMedium(t, "24.04", "light"), lab.Program(t)
	device, file := newLoop(t, deviceSize)
	args := []string{"write", "--yes", "--allow-fixed", image, device}
	lab.Run(t, gpustrap, args...) // brings the image into memory
	var whole time.Duration
	for range 3 {
		start := time.Now()
		lab.Run(t, gpustrap, args...)
		whole = max(whole, time.Since(start))
	}
	done := readHead(t, file, head)

	// What is there before is a medium that boots, and another one.
	before := bytes.Clone(done)
	copy(before[:440], bytes.Repeat([]byte("old"), 146))
	counts := map[string]int{}
	for i := range kills {
		writeHead(t, device, before)
		cmd := exec.Command(gpustrap, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(whole))))
		_ = cmd.Process.Kill() // it may have ended
		err := cmd.Wait()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.ExitCode() == -1
		if err != nil && !killed {
			t.Fatal(err)
		}
		got := readHead(t, file, head)
		switch {
		case bytes.Equal(got, before) && killed:
			counts["untouched"]++
		case allZero(got):
			counts["first MiB zero"]++
		case bytes.Equal(got, done):
			counts["complete"]++
			if !killed {
				break
			}
			fallthrough
		case allZero(got[:boot]) && bytes.Equal(got[boot:], done[boot:]):
			// The very end: all the rest is written and verified.
			counts["all but the boot sector verified"]++
			checkBody(t, image, file, head)
		default:
			t.Fatalf("kill %d left a first MiB that is neither the old one, nor zero, nor the new one: %s", i, pages(got, before, done))
		}
		lab.Run(t, gpustrap, args...)
		if !bytes.Equal(readHead(t, file, head), done) {
			t.Fatalf("the run after kill %d did not write the image", i)
		}
	}
	t.Logf("%d kills within %v: %v", kills, whole, counts)
	if counts["first MiB zero"] == 0 {
		t.Error("no kill hit the write itself: the test shows nothing")
	}
	lab.Run(t, gpustrap, "verify", device)
}

func readHead(t *testing.T, file string, n int) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // read only
	b := make([]byte, n)
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func writeHead(t *testing.T, device string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// checkBody compares all of the image behind the head but its backup partition
// table, which moves.
func checkBody(t *testing.T, image, file string, head int64) {
	t.Helper()
	want, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = want.Close() }() // read only
	have, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = have.Close() }() // read only
	info, err := want.Stat()
	if err != nil {
		t.Fatal(err)
	}
	const table = 63 * 512
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := head; at < info.Size()-table; at += int64(len(a)) {
		n := min(int64(len(a)), info.Size()-table-at)
		_, errA := want.ReadAt(a[:n], at)
		_, errB := have.ReadAt(b[:n], at)
		if errA != nil || errB != nil || !bytes.Equal(a[:n], b[:n]) {
			t.Fatalf("the device does not hold the image at %d: %v %v", at, errA, errB)
		}
	}
}

// pages says what each page of a first MiB is: zero, old, new or something else.
func pages(got, before, done []byte) string {
	const page = 4096
	var kinds []byte
	for at := 0; at < len(got); at += page {
		switch p := got[at : at+page]; {
		case allZero(p):
			kinds = append(kinds, '0')
		case bytes.Equal(p, before[at:at+page]):
			kinds = append(kinds, 'o')
		case bytes.Equal(p, done[at:at+page]):
			kinds = append(kinds, 'n')
		default:
			kinds = append(kinds, '?')
		}
	}
	return string(kinds)
}

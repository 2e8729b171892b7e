package download_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/download"
)

// TestCachedFile changes the file after it was verified.
func TestCachedFile(t *testing.T) {
	tests := []struct {
		name     string
		change   func(t *testing.T, r *download.Request)
		requests int // after the first
		notes    int
	}{
		{"unchanged", func(*testing.T, *download.Request) {}, 0, 0},
		{"asked to hash", func(_ *testing.T, r *download.Request) { r.Rehash = true }, 0, 1},
		{"another date", func(t *testing.T, r *download.Request) { touch(t, r.Path, time.Unix(1e9, 0)) }, 0, 1},
		{"without a record", func(t *testing.T, r *download.Request) { remove(t, r.Path+".verified") }, 0, 1},
		{"with a damaged record", func(t *testing.T, r *download.Request) { overwrite(t, r.Path+".verified", 0, "x") }, 0, 1},
		{"changed", func(t *testing.T, r *download.Request) { overwrite(t, r.Path, 5, "X") }, 1, 1},
		{"cut", func(t *testing.T, r *download.Request) {
			if err := os.Truncate(r.Path, 5); err != nil {
				t.Fatal(err)
			}
		}, 1, 1},
		{"changed, with its old date, asked to hash", func(t *testing.T, r *download.Request) {
			info, err := os.Stat(r.Path)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, r.Path, 5, "X")
			touch(t, r.Path, info.ModTime())
			r.Rehash = true
		}, 1, 1},
		{"removed", func(t *testing.T, r *download.Request) { remove(t, r.Path) }, 1, 0},
		{"of another size than wanted", func(t *testing.T, r *download.Request) {
			if err := os.Truncate(r.Path, 5); err != nil {
				t.Fatal(err)
			}
			r.Size = int64(len(content))
		}, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, whole)
			r := request(t, s.URL)
			if err := download.Get(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			tt.change(t, &r)
			notes := 0
			r.Notify = func(string) { notes++ }
			if err := download.Get(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			checkWhole(t, r)
			if n := len(s.requests()) - 1; n != tt.requests || notes != tt.notes {
				t.Errorf("%d requests and %d notes, want %d and %d", n, notes, tt.requests, tt.notes)
			}
		})
	}
}

func touch(t *testing.T, name string, date time.Time) {
	t.Helper()
	if err := os.Chtimes(name, date, date); err != nil {
		t.Fatal(err)
	}
}

func TestWrongCachedFileGoes(t *testing.T) {
	s := serve(t, whole, status(404, "gone"))
	r := request(t, s.URL)
	if err := download.Get(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	overwrite(t, r.Path, 5, "X")
	if err := download.Get(t.Context(), r); !errors.Is(err, download.ErrStatus) {
		t.Fatalf("Get returned %v", err)
	}
	checkNothing(t, r)
}

// TestTwoAtOnce: two processes want the same file; one downloads it, the other
// waits and finds it. Two opens of one lock exclude each other within a process
// as well.
func TestTwoAtOnce(t *testing.T) {
	started, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-goOn
		whole(w, r)
	}, whole)
	first := request(t, s.URL)
	second := first
	waiting := make(chan struct{})
	second.Notify = func(string) { close(waiting) }
	results := make(chan error, 2)
	go func() { results <- download.Get(t.Context(), first) }()
	<-started
	go func() { results <- download.Get(t.Context(), second) }()
	<-waiting

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := download.Get(ctx, first); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third Get with a deadline returned %v", err)
	}
	close(goOn)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests for one file", n)
	}
	checkWhole(t, first)
}

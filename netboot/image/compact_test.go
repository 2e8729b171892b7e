package image

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// joint is a pieced image with all its bytes.
type joint struct {
	*pieced
	all *bytes.Reader
}

func (j *joint) ReadAt(b []byte, off int64) (int, error) { return j.all.ReadAt(b, off) }

// compact is NewCompact of a pieced image, which is put together once.
func compact(p *pieced, base []byte, name string) (*Compact, error) {
	return NewCompact(&joint{p, bytes.NewReader(p.bytes())}, bytes.NewReader(base), name)
}

// TestCompactAny compares images of any pieces with what they were made from: every
// byte, every place in the base, and reads anywhere.
func TestCompactAny(t *testing.T) {
	base := randomBytes(1 << 16)
	rapid.Check(t, func(t *rapid.T) {
		p := &pieced{base: base}
		for range rapid.IntRange(0, 8).Draw(t, "pieces") {
			r := run{length: int64(rapid.IntRange(1, 3000).Draw(t, "length"))}
			if rapid.Bool().Draw(t, "own") {
				r.own = randomBytes(int(r.length))
			} else {
				r.at = int64(rapid.IntRange(0, len(base)-int(r.length)).Draw(t, "at"))
			}
			p.runs = append(p.runs, r)
		}
		c, err := compact(p, base, "base")
		if err != nil {
			t.Fatal(err)
		}
		want := p.bytes()
		got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if err != nil || c.Size() != int64(len(want)) || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v, want %d", len(got), err, len(want))
		}
		for offset := int64(0); offset < c.Size(); {
			at, length, ok := c.Base(offset)
			wantAt, _, wantOK := p.Base(offset)
			if ok != wantOK || ok && at != wantAt || length <= 0 {
				t.Fatalf("byte %d lies at %d, %v, want %d, %v", offset, at, ok, wantAt, wantOK)
			}
			if ok && !bytes.Equal(base[at:at+length], want[offset:offset+length]) {
				t.Fatalf("%d bytes at %d are not the base's", length, offset)
			}
			offset += length
		}
		from := rapid.IntRange(0, len(want)).Draw(t, "from")
		b := make([]byte, rapid.IntRange(0, 5000).Draw(t, "to read"))
		n, err := c.ReadAt(b, int64(from))
		if there := want[from:min(len(want), from+len(b))]; !bytes.Equal(b[:n], there) || (err == io.EOF) != (len(there) < len(b)) {
			t.Fatalf("%d bytes at %d, %v", n, from, err)
		}
	})
}

// TestCompactTag: two images have one tag only if they have the same bytes.
func TestCompactTag(t *testing.T) {
	p, _ := newPieced(t, sizes...)
	tags := map[string]string{}
	add := func(what, name string, p *pieced) {
		c, err := compact(p, p.base, name)
		if err != nil {
			t.Fatal(what, err)
		}
		if before, ok := tags[c.Tag()]; ok || !strings.HasPrefix(c.Tag(), `"`) || len(c.Tag()) != 34 {
			t.Errorf("%s has the tag %s, as %s", what, c.Tag(), before)
		}
		tags[c.Tag()] = what
	}
	add("the image", "base", p)
	add("that over another base", "other", p)
	for i := range p.runs {
		other := &pieced{base: p.base, runs: append([]run(nil), p.runs...)}
		if r := &other.runs[i]; r.own != nil {
			r.own = bytes.Clone(r.own)
			r.own[len(r.own)-1]++
		} else {
			r.at++
		}
		add("that with another piece", "base", other)
	}
	again, err := compact(p, p.base, "base")
	if err != nil || tags[again.Tag()] != "the image" {
		t.Errorf("the same image has another tag, %v", err)
	}
}

func TestCompactFails(t *testing.T) {
	p, _ := newPieced(t, sizes...)
	c, err := compact(p, p.base[:40000], "base")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, io.NewSectionReader(c, 0, c.Size())); err == nil || !strings.Contains(err.Error(), "cannot read the base at byte 40000") {
		t.Errorf("a base that ends: %v", err)
	}
	if _, err := c.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a byte before the first")
	}
	p.bad = true
	if _, err := NewCompact(p, bytes.NewReader(p.base), "base"); err == nil || !strings.Contains(err.Error(), "the seed is gone") {
		t.Errorf("own bytes that cannot be read: %v", err)
	}
}

// TestCompactShares: many images that differ in a line take little more than one.
func TestCompactShares(t *testing.T) {
	base, own := randomBytes(1<<20), randomBytes(300_000)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var kept []*Compact
	for i := range 200 {
		changed := bytes.Clone(own)
		copy(changed[i*100:], "one line that only this machine has")
		p := &pieced{base: base, runs: []run{{length: 1 << 20}, {length: int64(len(own)), own: changed}}}
		c, err := compact(p, base, "base")
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, c)
	}
	if each := (heap() - before) / int64(len(kept)); each > 24<<10 {
		t.Errorf("an image takes %d bytes", each)
	}
	runtime.KeepAlive(kept)
}

package isotest

import (
	"bytes"
	"encoding/binary"
	"io"
)

// A sparse image is a short form of a disk image, for fuzzing: a run of blocks,
// each with its number (16 bits, little-endian), its length without the zeros at
// its end (16 bits), and its bytes. All else is zeros.

// sparseBlock is the block length in bytes, and maxSparse the image's in blocks.
const (
	sparseBlock = 512
	maxSparse   = 1 << 14
)

// Sparse decodes a sparse image as far as it is well formed.
func Sparse(b []byte) (r io.ReaderAt, size int64) {
	s := &sparse{blocks: map[int64][]byte{}}
	for len(b) >= 4 {
		at, n := int64(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
		b = b[4:]
		n = min(n, sparseBlock, len(b))
		if at < maxSparse {
			s.blocks[at] = b[:n:n]
			s.size = max(s.size, (at+1)*sparseBlock)
		}
		b = b[n:]
	}
	return s, s.size
}

// PackSparse encodes the first size bytes of an image, blocks beyond the 8 MiB that
// a sparse image can have left out.
func PackSparse(r io.ReaderAt, size int64) ([]byte, error) {
	var out []byte
	block := make([]byte, sparseBlock)
	last := min((size+sparseBlock-1)/sparseBlock, maxSparse) - 1
	for at := int64(0); at <= last; at++ {
		n, err := r.ReadAt(block, at*sparseBlock)
		if err != nil && err != io.EOF {
			return nil, err
		}
		used := bytes.TrimRight(block[:n], "\x00")
		if len(used) > 0 || at == last {
			out = binary.LittleEndian.AppendUint16(out, uint16(at))
			out = binary.LittleEndian.AppendUint16(out, uint16(len(used)))
			out = append(out, used...)
		}
	}
	return out, nil
}

type sparse struct {
	blocks map[int64][]byte
	size   int64
}

func (s *sparse) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < s.size {
		at, skip := off/sparseBlock, off%sparseBlock
		part := p[n:min(int64(len(p)), int64(n)+sparseBlock-skip)]
		part = part[:min(int64(len(part)), s.size-off)]
		clear(part)
		if b := s.blocks[at]; skip < int64(len(b)) {
			copy(part, b[skip:])
		}
		n, off = n+len(part), off+int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

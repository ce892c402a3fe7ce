package bulk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cespare/xxhash/v2"

	"kiln/internal/vfs"
)

// The files that a server hands out have no checksums inside: they are the client's,
// byte for byte. What they were when they were written is kept with what names them
// (the record of an export's section, the progress of an import), as sums of pieces:
// xxh64 of each sumPieceBytes of a file, the last one shorter, 8 bytes each, little endian.

const (
	// sumPieceBytes is read before the first byte of it is sent, also where a range asks
	// for a few bytes. Smaller pieces make the records larger: 11 bytes a piece.
	sumPieceBytes = 1 << 20
	pieceSumBytes = 8
	// pieceReadBytes of a file are in memory at a time while it is checked.
	pieceReadBytes = 64 << 10
)

// pieceSummer makes the sums of a file that is written from its beginning on.
type pieceSummer struct {
	digest xxhash.Digest
	held   int // bytes of the piece that is not whole
	sums   []byte
}

func newPieceSummer() *pieceSummer {
	s := new(pieceSummer)
	s.digest.Reset()
	return s
}

func (s *pieceSummer) write(p []byte) {
	for len(p) > 0 {
		n := min(len(p), sumPieceBytes-s.held)
		_, _ = s.digest.Write(p[:n]) // it never fails
		if s.held += n; s.held == sumPieceBytes {
			s.endPiece()
		}
		p = p[n:]
	}
}

func (s *pieceSummer) endPiece() {
	s.sums = binary.LittleEndian.AppendUint64(s.sums, s.digest.Sum64())
	s.digest.Reset()
	s.held = 0
}

// end gives the sums of all that was written; nil: nothing was.
func (s *pieceSummer) end() []byte {
	if s.held > 0 {
		s.endPiece()
	}
	return s.sums
}

// resumePieces goes on behind the first bytes of a file, whose sums are given. The
// piece that is not whole is read again, and must be what was written.
func resumePieces(file *checkedFile) (*pieceSummer, error) {
	s := newPieceSummer()
	whole := file.bytes / sumPieceBytes
	if tail := file.bytes % sumPieceBytes; tail > 0 {
		if err := file.check(whole*sumPieceBytes, file.bytes, s.write); err != nil {
			return nil, err
		}
	}
	s.sums = slices.Clone(file.sums[:whole*pieceSumBytes])
	return s, nil
}

// checkedFile is the first bytes of a file, and their sums. Safe for concurrent use.
type checkedFile struct {
	name  string
	from  io.ReaderAt
	bytes int64
	sums  []byte // nil: an older build wrote the file, which kept none
}

func (f *checkedFile) damaged(at int64, what string) error {
	return &vfs.CorruptError{File: f.name, Offset: at, What: what}
}

// checkSums looks whether there are as many sums as the length needs.
func (f *checkedFile) checkSums() error {
	if f.sums != nil && int64(len(f.sums)) != (f.bytes+sumPieceBytes-1)/sumPieceBytes*pieceSumBytes {
		return f.damaged(0, fmt.Sprintf("the record of it has %d bytes of sums for %d bytes", len(f.sums), f.bytes))
	}
	return nil
}

// check reads the piece that has from, up to upTo at most where there are no sums,
// and shows what it reads to each.
func (f *checkedFile) check(from, upTo int64, each func(p []byte)) error {
	number := from / sumPieceBytes
	start := number * sumPieceBytes
	var digest xxhash.Digest
	digest.Reset()
	buf := make([]byte, min(pieceReadBytes, upTo-start))
	for at := start; at < upTo; {
		p := buf[:min(int64(len(buf)), upTo-at)]
		if err := f.read(p, at); err != nil {
			return err
		}
		_, _ = digest.Write(p) // it never fails
		each(p)
		at += int64(len(p))
	}
	if digest.Sum64() != binary.LittleEndian.Uint64(f.sums[number*pieceSumBytes:]) {
		return f.damaged(start, fmt.Sprintf("%d bytes are not those that were written", upTo-start))
	}
	return nil
}

// read fills p with what is at an offset.
func (f *checkedFile) read(p []byte, at int64) error {
	n, err := f.from.ReadAt(p, at)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return f.damaged(at+int64(n), fmt.Sprintf("it ends here, and %d bytes were written", f.bytes))
	}
	return fmt.Errorf("cannot read %q: %w", f.name, err)
}

// verify reads all of it, as far as there are sums.
func (f *checkedFile) verify(ctx context.Context) error {
	if err := f.checkSums(); err != nil || f.sums == nil {
		return err
	}
	for at := int64(0); at < f.bytes; at += sumPieceBytes {
		if err := f.check(at, min(at+sumPieceBytes, f.bytes), func([]byte) {}); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// checkedPart reads a stretch of a file. Each piece is checked before the first byte
// of it is given, and what is then read again and given has the sum of what was
// checked: the last bytes of a piece are held back otherwise. So nothing as large as
// a piece is in memory, however many files are being sent.
type checkedPart struct {
	file     *checkedFile
	at, end  int64
	checked  int64 // up to here the file was checked
	want     uint64
	given    xxhash.Digest // of what was given since the last check
	sumsLess bool
}

// part begins to read a stretch, and checks the first piece of it.
func (f *checkedFile) part(from, bytes int64) (*checkedPart, error) {
	if err := f.checkSums(); err != nil {
		return nil, err
	}
	if from < 0 || bytes < 0 || bytes > f.bytes-from {
		panic("BUG: a part of a file that is not in it")
	}
	p := &checkedPart{file: f, at: from, end: from + bytes, checked: from, sumsLess: f.sums == nil}
	if p.at < p.end {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// next checks the piece that the next byte is in.
func (p *checkedPart) next() error {
	if p.sumsLess {
		p.checked = p.end
		return nil
	}
	start := p.at / sumPieceBytes * sumPieceBytes
	stop := min(start+sumPieceBytes, p.file.bytes)
	from, to, at := p.at, min(p.end, stop), start
	var given xxhash.Digest
	given.Reset()
	err := p.file.check(start, stop, func(b []byte) {
		lo, hi := max(from-at, 0), min(to-at, int64(len(b)))
		if lo < hi {
			_, _ = given.Write(b[lo:hi]) // it never fails
		}
		at += int64(len(b))
	})
	p.checked, p.want = to, given.Sum64()
	p.given.Reset()
	return err
}

func (p *checkedPart) Read(b []byte) (int, error) {
	if p.at == p.end {
		return 0, io.EOF
	}
	if p.at == p.checked {
		if err := p.next(); err != nil {
			return 0, err
		}
	}
	b = b[:min(int64(len(b)), p.checked-p.at)]
	if err := p.file.read(b, p.at); err != nil {
		return 0, err
	}
	_, _ = p.given.Write(b) // it never fails
	p.at += int64(len(b))
	if !p.sumsLess && p.at == p.checked && p.given.Sum64() != p.want {
		return 0, p.file.damaged(p.at-int64(len(b)), "the disk gave other bytes than a moment before")
	}
	return len(b), nil
}

package index

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"
)

// Scan streams the given ordinals in file order, each block read and decoded
// once, bypassing the cache. The Row comes with each. A dropped ordinal is
// ErrNoRow, before anything is delivered. An error of fn ends it.
func (r *Run) Scan(ctx context.Context, want *roaring.Bitmap, fn func(Ordinal, Row, Stored) error) error {
	return r.ScanWith(ctx, new(ScanSpace), want, fn)
}

// ScanWith is Scan with the memory of an earlier one, of any run.
func (r *Run) ScanWith(ctx context.Context, space *ScanSpace, want *roaring.Bitmap, fn func(Ordinal, Row, Stored) error) error {
	if missing := roaring.AndNot(want, r.live); !missing.IsEmpty() {
		return r.noRow(Ordinal(missing.Minimum()))
	}
	s := scan{ScanSpace: space, r: r, ordinals: want.Iterator(), fn: fn, columnBlock: -1}
	blocks := r.wantedBlocks(want)
	for len(blocks) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := r.neighbours(blocks, scanReadBytes)
		if err := s.read(blocks[:n]); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	return nil
}

// wantedBlocks lists the body blocks that hold some of want.
func (r *Run) wantedBlocks(want *roaring.Bitmap) (blocks []int) {
	it := want.Iterator()
	for it.HasNext() {
		i := r.bodies.blockOf(Ordinal(it.PeekNext()))
		blocks = append(blocks, i)
		it.AdvanceIfNeeded(r.bodies.first[i+1])
	}
	return blocks
}

// neighbours is how many of blocks lie behind each other and are read at once.
func (r *Run) neighbours(blocks []int, bytesMax int64) int {
	first := r.bodies.offsets[blocks[0]]
	n := 1
	for n < len(blocks) && blocks[n] == blocks[n-1]+1 {
		end := r.bodies.offsets[blocks[n]] + int64(r.bodies.lengths[blocks[n]])
		if end-first > bytesMax {
			break
		}
		n++
	}
	return n
}

// ScanSpace is the memory of a scan, for the next one: who makes garbage of a
// megabyte for every stretch of a run has as much again in memory. It holds what
// is read at once, the largest block decoded, and a block of columns. The zero
// value is ready; it serves one scan at a time.
type ScanSpace struct {
	disk       []byte
	raw        []byte
	entries    []bodyEntry
	columnDisk []byte
}

// scanRawKept bounds what a ScanSpace keeps of a decoded block. Blocks are a
// little over 120 KiB, unless one body is larger: that memory is given back.
const scanRawKept = 1 << 20

// trim gives back what was needed for an unusually large block.
func (p *ScanSpace) trim() {
	if cap(p.raw) > scanRawKept {
		p.raw = nil
	}
	if cap(p.disk) > 2*scanReadBytes {
		p.disk = nil
	}
}

// scan is the state of one Scan.
type scan struct {
	*ScanSpace
	r        *Run
	ordinals roaring.IntPeekable
	fn       func(Ordinal, Row, Stored) error

	columns     columnBlock
	columnBlock int
}

// read reads neighbouring blocks in one call and delivers what is wanted of them.
func (s *scan) read(blocks []int) error {
	index := s.r.bodies
	base, last := index.offsets[blocks[0]], blocks[len(blocks)-1]
	length := int(index.offsets[last] + int64(index.lengths[last]) - base)
	if cap(s.disk) < length {
		s.disk = make([]byte, length+length/8)
	}
	s.disk = s.disk[:length]
	if err := s.r.readAt(s.disk, base); err != nil {
		return err
	}
	defer s.trim()
	for _, i := range blocks {
		at := index.offsets[i] - base
		if err := s.deliver(i, s.disk[at:at+int64(index.lengths[i])]); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) deliver(i int, disk []byte) error {
	r := s.r
	checked, what := checkBlock(disk, r.footer.meta.ID, r.bodies.offsets[i], blockBodies)
	if what != "" {
		return corrupt(r.name, r.bodies.offsets[i], what)
	}
	raw, err := decodeBlock(r.decoder, &s.raw, checked)
	if err != nil {
		return corrupt(r.name, r.bodies.offsets[i], err.Error())
	}
	b := cachedBlock{entries: s.entries}
	if err := r.parseBodies(&b, raw, i); err != nil {
		return err
	}
	s.entries = b.entries
	first, end := r.bodies.first[i], r.bodies.first[i+1]
	for s.ordinals.HasNext() && s.ordinals.PeekNext() < end {
		o := s.ordinals.Next()
		row, err := s.row(Ordinal(o))
		if err != nil {
			return err
		}
		if err := s.fn(Ordinal(o), row, b.entries[o-first].stored(raw)); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) row(o Ordinal) (Row, error) {
	if i := int(o) / columnBlockRows; i != s.columnBlock {
		length := int(s.r.columns.lengths[i])
		if cap(s.columnDisk) < length {
			s.columnDisk = make([]byte, length+length/8) // the next block is a little larger
		}
		checked, err := s.r.readBlock(s.columnDisk, blockColumns, s.r.columns.offsets[i], length)
		if err != nil {
			return Row{}, err
		}
		var ok bool
		if s.columns, ok = parseColumnBlock(checked.payload); !ok || int(o)%columnBlockRows >= s.columns.rows {
			return Row{}, s.r.impossible(blockColumns, s.r.columns, i)
		}
		s.columnBlock = i
	}
	return s.r.row(&s.columns, o)
}

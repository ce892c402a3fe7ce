package index

import (
	"encoding/binary"
	"errors"

	"kiln/internal/vfs"
)

// blockKinds is one more than the highest kind.
const blockKinds = blockPostingIndex + 1

// findBlocks walks the file from block to block, and behind damage from byte to
// byte until a block checks out.
func (s *salvage) findBlocks() error {
	for at := int64(headerBytes); at+blockHeaderBytes <= s.bytes; {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		kind, length, err := s.blockAt(at)
		if err != nil {
			return err
		}
		if length > 0 {
			s.blocks[kind] = append(s.blocks[kind], placedBlock{kind, section{at, length}})
			at += length
			continue
		}
		next, err := s.nextBlock(at + 1)
		if err != nil {
			return err
		}
		s.gaps = append(s.gaps, section{at, next - at})
		at = next
	}
	if len(s.blocks[blockPostingIndex]) == 0 { // the last one: the file may be cut short
		s.gaps = append(s.gaps, section{s.bytes, 0})
	}
	return nil
}

// blockAt tells the kind and length of the block at an offset; 0: there is none.
func (s *salvage) blockAt(at int64) (blockKind, int64, error) {
	var head [blockHeaderBytes]byte
	if err := s.r.readAt(head[:], at); err != nil {
		return 0, 0, err
	}
	kind, length := s.framed(head[:], at)
	if length == 0 {
		return 0, 0, nil
	}
	checked, err := s.r.readBlock(nil, kind, at, int(length))
	var damage *vfs.CorruptError
	if errors.As(err, &damage) {
		return 0, 0, nil
	}
	if err == nil && kind == blockBodies {
		if _, err := decodeBlock(s.r.decoder, new([]byte), checked); err != nil {
			return 0, 0, nil
		}
	}
	return kind, length, err
}

// framed tells what a block's header says; 0 for what cannot be one.
func (s *salvage) framed(head []byte, at int64) (blockKind, int64) {
	payload, raw := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[8:])
	kind, codec := blockKind(head[12]), head[13]
	if kind == 0 || kind >= blockKinds || codec > codecZstd || head[14]|head[15] != 0 || raw > blockBytesMax ||
		codec == codecNone && raw != payload || codec == codecZstd && kind != blockBodies ||
		int64(payload) > s.bytes-at-blockHeaderBytes {
		return 0, 0
	}
	return kind, blockHeaderBytes + int64(payload)
}

// nextBlock is the offset of the next block that checks out, or the file's end.
func (s *salvage) nextBlock(from int64) (int64, error) {
	window := make([]byte, salvageWindowBytes)
	for from+blockHeaderBytes <= s.bytes {
		if err := s.ctx.Err(); err != nil {
			return 0, err
		}
		b := window[:min(salvageWindowBytes, s.bytes-from)]
		if err := s.r.readAt(b, from); err != nil {
			return 0, err
		}
		for i := 0; i+blockHeaderBytes <= len(b); i++ {
			if _, length := s.framed(b[i:i+blockHeaderBytes], from+int64(i)); length == 0 {
				continue
			}
			_, length, err := s.blockAt(from + int64(i))
			if err != nil || length > 0 {
				return from + int64(i), err
			}
		}
		from += int64(len(b)) - blockHeaderBytes + 1
	}
	return s.bytes, nil
}

// salvageWindowBytes are read at once where a block is looked for.
const salvageWindowBytes = 64 << 10

// region tells which blocks of a kind stand before the first gap among them and
// which behind the last, by their number; whole says that there is no gap.
func (s *salvage) region(kind blockKind) (before, behind int, whole bool) {
	found := s.blocks[kind]
	before, behind, whole = len(found), len(found), true
	for _, gap := range s.gaps {
		if !s.borders(kind, gap) {
			continue
		}
		n := 0
		for n < len(found) && found[n].offset < gap.offset {
			n++
		}
		if whole {
			before = n
		}
		behind, whole = n, false
	}
	return before, behind, whole
}

// borders tells whether a gap may have held blocks of a kind.
func (s *salvage) borders(kind blockKind, gap section) bool {
	prev, next := blockKind(0), blockKinds
	prevAt, nextAt := int64(-1), s.bytes
	for k := range s.blocks {
		for _, b := range s.blocks[k] {
			if b.offset < gap.offset && b.offset > prevAt {
				prev, prevAt = b.kind, b.offset
			}
			if b.offset > gap.offset && b.offset < nextAt {
				next, nextAt = b.kind, b.offset
			}
		}
	}
	return prev <= kind && kind <= next || (kind >= blockTerms && prev >= blockTerms-1)
}

// placeBodies finds out which rows each block of bodies has, and which are lost.
func (s *salvage) placeBodies() error {
	x, err := s.index(blockBodyIndex, indexBodies)
	if err != nil {
		return err
	}
	if x == nil || x.first[x.count()] != s.r.footer.meta.Rows {
		return s.countBodies()
	}
	found := map[int64]bool{}
	for _, b := range s.blocks[blockBodies] {
		found[b.offset] = true
	}
	for i, offset := range x.offsets {
		span := bodySpan{first: x.first[i], rows: x.first[i+1] - x.first[i]}
		if found[offset] {
			span.block = section{offset, int64(x.lengths[i])}
		}
		s.bodies = append(s.bodies, span)
	}
	return nil
}

// countBodies does without the index: blocks before the first gap have the first
// rows, those behind the last gap the last.
func (s *salvage) countBodies() error {
	before, behind, whole := s.region(blockBodies)
	rows := s.r.footer.meta.Rows
	var front, back []bodySpan
	next, backRows := uint32(0), uint32(0)
	for i, block := range s.blocks[blockBodies] {
		b, err := s.body(block.section)
		if err != nil {
			return err
		}
		n := uint32(len(b.entries))
		switch {
		case i < before || whole:
			front = append(front, bodySpan{first: next, rows: n, block: block.section})
			next += n
		case i >= behind:
			back = append(back, bodySpan{rows: n, block: block.section})
			backRows += n
		}
	}
	if uint64(next)+uint64(backRows) > uint64(rows) {
		return corrupt(s.r.name, 0, "the blocks have more rows than the run")
	}
	s.bodies = front
	if lost := rows - next - backRows; lost > 0 {
		s.bodies = append(s.bodies, bodySpan{first: next, rows: lost})
		next += lost
	}
	for _, span := range back {
		span.first = next
		next += span.rows
		s.bodies = append(s.bodies, span)
	}
	return nil
}

// placeColumns finds out which rows each block of columns has.
func (s *salvage) placeColumns() error {
	want := (int(s.r.footer.meta.Rows) + columnBlockRows - 1) / columnBlockRows
	s.columns = make([]section, want)
	found := s.blocks[blockColumns]
	x, err := s.index(blockColumnIndex, indexPlain)
	if err != nil {
		return err
	}
	if x != nil && x.count() == want {
		for _, b := range found {
			for i, offset := range x.offsets {
				if offset == b.offset {
					s.columns[i] = b.section
				}
			}
		}
		return nil
	}
	before, behind, _ := s.region(blockColumns)
	for i, b := range found {
		if len(found) == want || i < before {
			s.columns[min(i, want-1)] = b.section
		} else if at := want - len(found) + i; i >= behind && at >= 0 {
			s.columns[at] = b.section
		}
	}
	return nil
}

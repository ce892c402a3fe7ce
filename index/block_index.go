package index

import (
	"bytes"
	"encoding/binary"
	"sort"
)

// The payload of an index block, which says where the blocks of one kind are:
//
//	+-----------+--------------------------------------------+
//	| n uvarint | n × ( gap · bytes · rows | separator )     |
//	+-----------+--------------------------------------------+
//	gap        bytes between the end of the block before (or 0) and this one
//	bytes      length of the whole block
//	rows       bodies only: how many bodies the block has
//	separator  tables only: uvarint length and text; it is greater than every
//	           key before this block and not greater than its first key; or, when
//	           one key goes on from block to block, equal to it
//
// Numbers are uvarints.
type blockIndex struct {
	offsets    []int64
	lengths    []uint32
	first      []uint32 // bodies: first ordinal of each block, and the number of all at the end
	separators []byte
	sepEnds    []uint32 // tables: end of each separator
}

type indexShape uint8

const (
	indexPlain indexShape = iota
	indexBodies
	indexTable
)

func (x *blockIndex) count() int { return len(x.offsets) }

// add enters a block.
func (x *blockIndex) add(offset int64, length int) {
	x.offsets = append(x.offsets, offset)
	x.lengths = append(x.lengths, uint32(length))
}

// addRows is add for a block of n bodies.
func (x *blockIndex) addRows(offset int64, length, n int) {
	if len(x.first) == 0 {
		x.first = append(x.first, 0)
	}
	x.add(offset, length)
	x.first = append(x.first, x.first[len(x.first)-1]+uint32(n))
}

// addSeparated is add for a block of a table.
func (x *blockIndex) addSeparated(offset int64, length int, separator []byte) {
	x.add(offset, length)
	x.separators = append(x.separators, separator...)
	x.sepEnds = append(x.sepEnds, uint32(len(x.separators)))
}

func (x *blockIndex) separator(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = x.sepEnds[i-1]
	}
	return x.separators[start:x.sepEnds[i]]
}

// seek gives the first block that can hold key: the one before the first whose
// separator is >= key.
func (x *blockIndex) seek(key []byte) int {
	n := sort.Search(x.count(), func(i int) bool { return bytes.Compare(x.separator(i), key) >= 0 })
	return max(n-1, 0)
}

// blockOf gives the block of a body; o is below the number of rows.
func (x *blockIndex) blockOf(o Ordinal) int {
	return sort.Search(x.count(), func(i int) bool { return x.first[i+1] > uint32(o) })
}

func (x *blockIndex) memoryBytes() int64 {
	return int64(8*cap(x.offsets) + 4*cap(x.lengths) + 4*cap(x.first) + cap(x.separators) + 4*cap(x.sepEnds))
}

func (x *blockIndex) append(dst []byte, shape indexShape) []byte {
	dst = binary.AppendUvarint(dst, uint64(x.count()))
	end := int64(0)
	for i, offset := range x.offsets {
		dst = binary.AppendUvarint(dst, uint64(offset-end))
		dst = binary.AppendUvarint(dst, uint64(x.lengths[i]))
		end = offset + int64(x.lengths[i])
		switch shape {
		case indexBodies:
			dst = binary.AppendUvarint(dst, uint64(x.first[i+1]-x.first[i]))
		case indexTable:
			sep := x.separator(i)
			dst = binary.AppendUvarint(dst, uint64(len(sep)))
			dst = append(dst, sep...)
		}
	}
	return dst
}

// parseBlockIndex reads an index from r, whose blocks lie between the file's
// header and limit. ok is false for anything else.
func parseBlockIndex(r *byteReader, shape indexShape, limit int64) (x *blockIndex, ok bool) {
	n := r.uvarint()
	if r.bad || n > uint64(len(r.b))/2+1 { // at least two bytes each
		return nil, false
	}
	x = &blockIndex{offsets: make([]int64, 0, n), lengths: make([]uint32, 0, n)}
	end, rows := uint64(0), uint64(0)
	if shape == indexBodies {
		x.first = append(make([]uint32, 0, n+1), 0)
	}
	for range n {
		offset := end + r.uvarint()
		length := r.uvarint()
		if r.bad || offset < headerBytes || offset > uint64(limit) || length > uint64(limit)-offset ||
			length < blockHeaderBytes || length > blockHeaderBytes+blockBytesMax {
			return nil, false
		}
		end = offset + length
		x.add(int64(offset), int(length))
		switch shape {
		case indexBodies:
			rows += r.uvarint()
			if rows > RowsMax {
				return nil, false
			}
			x.first = append(x.first, uint32(rows))
		case indexTable:
			x.separators = append(x.separators, r.take(r.uvarint())...)
			x.sepEnds = append(x.sepEnds, uint32(len(x.separators)))
		}
	}
	return x, !r.bad && len(r.b) == 0
}

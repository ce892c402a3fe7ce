package index

import "encoding/binary"

// The payload of a term's entry, uvarints all:
//
//	+---+------------------+
//	| 1 | ordinal          |                                one row has the term
//	+---+---------+--------+-----
//	| n | ordinal | delta  | ...                            2 to 16 rows; n-1 deltas, each the distance minus 1
//	+---+---------+--------+-------+--------+
//	| 0 | count   | block | offset | length |               more: a portable roaring bitmap in the posting blocks
//	+---+---------+-------+--------+--------+
//
// block is the number of the posting block, offset and length the bitmap's
// place in its payload.

// appendInline appends the payload of 1 to postingInlineMax ascending ordinals.
func appendInline(dst []byte, ordinals []uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ordinals)))
	dst = binary.AppendUvarint(dst, uint64(ordinals[0]))
	for i := 1; i < len(ordinals); i++ {
		dst = binary.AppendUvarint(dst, uint64(ordinals[i]-ordinals[i-1]-1))
	}
	return dst
}

// postingPlace says where a bitmap is.
type postingPlace struct {
	count, block, offset, length uint64
}

func appendPlace(dst []byte, p postingPlace) []byte {
	dst = binary.AppendUvarint(dst, 0)
	dst = binary.AppendUvarint(dst, p.count)
	dst = binary.AppendUvarint(dst, p.block)
	dst = binary.AppendUvarint(dst, p.offset)
	return binary.AppendUvarint(dst, p.length)
}

// posting is a decoded payload: ordinals, or a place when there are none.
type posting struct {
	ordinals []uint32
	place    postingPlace
}

// parsePosting reads a payload; ordinals are appended to dst. ok is false
// unless they ascend below rows.
func parsePosting(dst []uint32, payload []byte, rows uint32) (p posting, ok bool) {
	r := byteReader{b: payload}
	n := r.uvarint()
	if n == 0 {
		p.place = postingPlace{count: r.uvarint(), block: r.uvarint(), offset: r.uvarint(), length: r.uvarint()}
		return p, !r.bad && len(r.b) == 0 && p.place.count > postingInlineMax && p.place.count <= uint64(rows)
	}
	if n > postingInlineMax {
		return p, false
	}
	next := uint64(0)
	for range n {
		next += r.uvarint()
		if next >= uint64(rows) || r.bad {
			return p, false
		}
		dst = append(dst, uint32(next))
		next++
	}
	p.ordinals = dst
	return p, len(r.b) == 0
}

// skipPosting is the length of the payload at the front of b, or -1.
func skipPosting(b []byte) int {
	if len(b) == 0 || b[0] > postingInlineMax {
		return -1
	}
	n := int(b[0])
	if n == 0 {
		n = 4
	}
	return skipUvarints(b, 1, n)
}

// skipKeyPayload is the length of a version and an ordinal at the front of b, or -1.
func skipKeyPayload(b []byte) int { return skipUvarints(b, 0, 2) }

// skipUvarints gives the offset behind n uvarints that begin at offset at, or -1.
func skipUvarints(b []byte, at, n int) int {
	for ; n > 0; n-- {
		for {
			if at == len(b) {
				return -1
			}
			at++
			if b[at-1] < 0x80 {
				break
			}
		}
	}
	return at
}

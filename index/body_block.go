package index

import (
	"encoding/binary"

	"kiln/fhir"
)

// The raw bytes of a body block:
//
//	+--------------------+-----------------------------------------------+---------+
//	| bodies, one behind | n · lengths · idAts · idLens · kinds · splices | tail u32 |
//	| the other          | (each a uvarint; n of each but the first)     |         |
//	+--------------------+-----------------------------------------------+---------+
//	tail    bytes of the middle part
//	splices the place of the splice minus (idAt + idLen + 1), zigzag: what
//	        follows the id's closing quote is mostly at the same distance
//
// By column, since most of these are the same number all through a block and
// compress to nothing. The bodies come first so that they can be written
// before their number is known.
const bodyTailBytes = 4

// bodyEntry is where one body lies in its block's raw bytes.
type bodyEntry struct {
	off, length, idAt, idLen uint32
	splice                   fhir.Splice
}

// stored gives the entry's slices of raw.
func (e *bodyEntry) stored(raw []byte) Stored {
	end := e.off + e.length
	body := raw[e.off:end:end]
	idEnd := e.idAt + e.idLen
	return Stored{ID: body[e.idAt:idEnd:idEnd], Body: body, Splice: e.splice}
}

func (e *bodyEntry) spliceBase() int64 { return int64(e.idAt) + int64(e.idLen) + 1 }

// appendBodyEntries appends the middle part and the tail.
func appendBodyEntries(dst []byte, entries []bodyEntry) []byte {
	start := len(dst)
	dst = binary.AppendUvarint(dst, uint64(len(entries)))
	for i := range entries {
		dst = binary.AppendUvarint(dst, uint64(entries[i].length))
	}
	for i := range entries {
		dst = binary.AppendUvarint(dst, uint64(entries[i].idAt))
	}
	for i := range entries {
		dst = binary.AppendUvarint(dst, uint64(entries[i].idLen))
	}
	for i := range entries {
		dst = append(dst, byte(entries[i].splice.Kind))
	}
	for i := range entries {
		dst = binary.AppendVarint(dst, int64(entries[i].splice.At)-entries[i].spliceBase())
	}
	return binary.LittleEndian.AppendUint32(dst, uint32(len(dst)-start))
}

// parseBodyEntries reads the entries of a block's raw bytes into dst. ok is
// false unless every number is in bounds and the bodies fill their part exactly.
func parseBodyEntries(dst []bodyEntry, raw []byte) (entries []bodyEntry, ok bool) {
	if len(raw) < bodyTailBytes {
		return dst[:0], false
	}
	headEnd := len(raw) - bodyTailBytes
	headBytes := int64(binary.LittleEndian.Uint32(raw[headEnd:]))
	if headBytes > int64(headEnd) {
		return dst[:0], false
	}
	bodies := uint64(headEnd) - uint64(headBytes)
	r := byteReader{b: raw[bodies:headEnd]}
	n := r.uvarint()
	if n > uint64(headBytes) || n > RowsMax {
		return dst[:0], false
	}
	entries = growEntries(dst, int(n))
	off := uint64(0)
	for i := range entries {
		length := r.uvarint()
		if length > bodies-off {
			return entries[:0], false
		}
		entries[i] = bodyEntry{off: uint32(off), length: uint32(length)}
		off += length
	}
	if off != bodies || !parseBodyPlaces(&r, entries) {
		return entries[:0], false
	}
	return entries, !r.bad && len(r.b) == 0
}

func growEntries(dst []bodyEntry, n int) []bodyEntry {
	if cap(dst) < n {
		return make([]bodyEntry, n)
	}
	return dst[:n]
}

// parseBodyPlaces reads where the ids and splices are.
func parseBodyPlaces(r *byteReader, entries []bodyEntry) bool {
	for i := range entries {
		e := &entries[i]
		at := r.uvarint()
		if at > uint64(e.length) {
			return false
		}
		e.idAt = uint32(at)
	}
	for i := range entries {
		e := &entries[i]
		n := r.uvarint()
		if n > uint64(e.length-e.idAt) {
			return false
		}
		e.idLen = uint32(n)
	}
	for i := range entries {
		kind := r.byte()
		if kind > byte(fhir.SpliceIntoMeta) {
			return false
		}
		entries[i].splice.Kind = fhir.SpliceKind(kind)
	}
	for i := range entries {
		e := &entries[i]
		delta := r.varint()
		if delta < -int64(e.length)-1 || delta > int64(e.length) {
			return false
		}
		at := e.spliceBase() + delta
		if at < 0 || at > int64(e.length) {
			return false
		}
		e.splice.At = uint32(at)
	}
	return !r.bad
}

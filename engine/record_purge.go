package engine

import (
	"encoding/binary"
	"errors"
	"math"

	"kiln/index"
)

// A PURGE payload takes versions out of the store for good (little endian):
//
//	0        4        8                          ...
//	+--------+--------+-------------------------+------------------------------+
//	| runs   | heads  | runs: id 8, length 4,   | heads: LSN 8, number in its  |
//	| count  | count  | zero 4, bitmap          | record 4, zero 4 each        |
//	+--------+--------+-------------------------+------------------------------+
//
// A run's portable roaring bitmap holds the ordinals that are purged. A head is
// the place of a head version. Neither type nor id of the resource is told: the
// record must not keep what it takes away.
const (
	purgeHeaderBytes = 8
)

type purgeRecord struct {
	runs  []ingestMarks
	heads []headPlace
}

var errEmptyPurge = errors.New("a purge of nothing")

func (r *purgeRecord) marshal() ([]byte, error) {
	le := binary.LittleEndian
	dst := le.AppendUint32(nil, uint32(len(r.runs)))
	dst = le.AppendUint32(dst, uint32(len(r.heads)))
	var err error
	for _, m := range r.runs {
		at := len(dst) + 8
		dst = le.AppendUint64(dst, uint64(m.run))
		dst = le.AppendUint64(dst, 0)
		if dst, err = appendBitmap(dst, at, m.ordinals); err != nil {
			return nil, err
		}
	}
	for _, h := range r.heads {
		dst = le.AppendUint64(dst, h.lsn)
		dst = le.AppendUint64(dst, uint64(h.index))
	}
	return dst, nil
}

func (r *purgeRecord) unmarshal(src []byte) error {
	p := &payloadReader{src: src}
	runs, heads := p.u32(), p.u32()
	*r = purgeRecord{}
	for i := uint32(0); i < runs && p.err == nil; i++ {
		id, n := index.RunID(p.u64()), p.u32()
		p.u32()
		rows := p.bitmap(n, math.MaxUint32)
		if p.err == nil && rows.IsEmpty() {
			p.err = errEmptyPurge
		}
		r.runs = append(r.runs, ingestMarks{run: id, ordinals: rows})
	}
	for i := uint32(0); i < heads && p.err == nil; i++ {
		r.heads = append(r.heads, headPlace{lsn: p.u64(), index: uint32(p.u64())})
	}
	if p.err == nil && p.at != len(src) {
		p.err = errLongPayload
	}
	if p.err == nil && len(r.runs)+len(r.heads) == 0 {
		p.err = errEmptyPurge
	}
	return p.err
}

package engine

import (
	"encoding/binary"
	"errors"
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
	return appendPlaces(dst, r.runs, r.heads)
}

func (r *purgeRecord) unmarshal(src []byte) error {
	p := &payloadReader{src: src}
	runs, heads := p.u32(), p.u32()
	*r = purgeRecord{}
	r.runs, r.heads = p.places(runs, heads)
	for _, m := range r.runs {
		if p.err == nil && m.ordinals.IsEmpty() {
			p.err = errEmptyPurge
		}
	}
	if p.err == nil && p.at != len(src) {
		p.err = errLongPayload
	}
	if p.err == nil && len(r.runs)+len(r.heads) == 0 {
		p.err = errEmptyPurge
	}
	return p.err
}

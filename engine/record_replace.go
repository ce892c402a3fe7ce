package engine

import (
	"encoding/binary"
	"errors"

	"kiln/index"
)

// A REPLACE payload says that a merge put one run in the place of others
// (little endian):
//
//	0        4      8                72
//	+--------+------+----------------+-------------------------+
//	| inputs | zero | the new run's  | the inputs' ids, 8 each |
//	| count  |      | RunMeta        |                         |
//	+--------+------+----------------+-------------------------+
//
// The inputs follow each other in the order of compareRuns, oldest first. A row's new
// ordinal is its old one plus the rows of all inputs before its own. So
// everything else about the new run follows from the inputs: kind, publishing
// LSN and rank are those of the last one, and what is superseded in them is superseded in it.
const replaceHeaderBytes = 8 + runMetaBytes

// replaceInputsMax bounds what a record may name; far above any fan-in.
const replaceInputsMax = 1 << 16

type replaceRecord struct {
	meta   index.RunMeta
	inputs []index.RunID
}

var errReplaceInputs = errors.New("a merge of no runs, or of too many")

func (r *replaceRecord) marshal() []byte {
	dst := binary.LittleEndian.AppendUint32(nil, uint32(len(r.inputs)))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = appendRunMeta(dst, r.meta)
	for _, id := range r.inputs {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(id))
	}
	return dst
}

func (r *replaceRecord) unmarshal(src []byte) error {
	if len(src) < replaceHeaderBytes {
		return errShortPayload
	}
	count := binary.LittleEndian.Uint32(src)
	if count == 0 || count > replaceInputsMax {
		return errReplaceInputs
	}
	*r = replaceRecord{meta: parseRunMeta(src[8:])}
	ids := src[replaceHeaderBytes:]
	switch {
	case uint64(len(ids)) < 8*uint64(count):
		return errShortPayload
	case uint64(len(ids)) > 8*uint64(count):
		return errLongPayload
	}
	for ; len(ids) > 0; ids = ids[8:] {
		r.inputs = append(r.inputs, index.RunID(binary.LittleEndian.Uint64(ids)))
	}
	return nil
}

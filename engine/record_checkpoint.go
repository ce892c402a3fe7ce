package engine

import "encoding/binary"

// A CHECKPOINT payload tells readers of the log that a checkpoint file exists:
//
//	0                8             16           24
//	+----------------+-------------+------------+
//	| checkpoint LSN | flushed LSN | file xxh64 |
//	+----------------+-------------+------------+
//
// Replay needs nothing of it: the file itself says all.
const checkpointRecordBytes = 24

type checkpointRecord struct {
	lsn     uint64
	flushed uint64
	hash    uint64
}

func (r checkpointRecord) marshal() []byte {
	dst := binary.LittleEndian.AppendUint64(nil, r.lsn)
	dst = binary.LittleEndian.AppendUint64(dst, r.flushed)
	return binary.LittleEndian.AppendUint64(dst, r.hash)
}

func (r *checkpointRecord) unmarshal(src []byte) error {
	if len(src) < checkpointRecordBytes {
		return errShortPayload
	}
	if len(src) > checkpointRecordBytes {
		return errLongPayload
	}
	le := binary.LittleEndian
	*r = checkpointRecord{lsn: le.Uint64(src), flushed: le.Uint64(src[8:]), hash: le.Uint64(src[16:])}
	return nil
}

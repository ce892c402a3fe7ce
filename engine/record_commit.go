package engine

import "encoding/binary"

// A COMMIT payload is one atomic set of versions:
//
//	0       4       8
//	+-------+-------+-----------+-----------+----
//	| count | zero  | version 0 | version 1 | ...
//	+-------+-------+-----------+-----------+----
const commitHeaderBytes = 8

func appendCommitHeader(dst []byte, count int) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(count))
	return binary.LittleEndian.AppendUint32(dst, 0)
}

// decodeCommit calls fn for each version with the offset of its body in the payload.
func decodeCommit(payload []byte, fn func(index uint32, v *versionRecord, bodyAt int) error) error {
	if len(payload) < commitHeaderBytes {
		return errShortPayload
	}
	return decodeVersions(payload, commitHeaderBytes, binary.LittleEndian.Uint32(payload), fn)
}

// decodeVersions reads count versions from payload[at:], which must be all of it.
func decodeVersions(payload []byte, at int, count uint32, fn func(uint32, *versionRecord, int) error) error {
	var v versionRecord
	for i := uint32(0); i < count; i++ {
		n, err := v.unmarshal(payload[at:])
		if err != nil {
			return err
		}
		if err := fn(i, &v, at+versionHeaderBytes); err != nil {
			return err
		}
		at += n
	}
	if at != len(payload) {
		return errLongPayload
	}
	return nil
}

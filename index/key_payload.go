package index

import "encoding/binary"

// The payload of a key's entry: versionId (zigzag: imports may allow negative
// ones) and ordinal, both uvarints.
func appendKeyPayload(dst []byte, f Found) []byte {
	dst = binary.AppendVarint(dst, f.VersionID)
	return binary.AppendUvarint(dst, uint64(f.Ordinal))
}

func parseKeyPayload(payload []byte, rows uint32) (f Found, ok bool) {
	r := byteReader{b: payload}
	f.VersionID = r.varint()
	o := r.uvarint()
	f.Ordinal = Ordinal(o)
	return f, !r.bad && len(r.b) == 0 && o < uint64(rows)
}

package index

import (
	"encoding/binary"
	"math/bits"

	"github.com/FastFilter/xorfilter"
)

// The payload of the filter block:
//
//	+---------+-----------+---------------+---------------+--------------
//	| kind u8 | seed u64  | segment u32   | segments u32  | fingerprints
//	+---------+-----------+---------------+---------------+--------------
//	| kind u8 | blocks of 32 bytes
//	+---------+--------------------
//	kind      0: no filter, nothing follows; 1: binary fuse, 8 bits; 2: Bloom, in blocks
//	segment   length of a segment, a power of two
//	segments  number of segments but two; (segments+2) × segment fingerprints
//	blocks    bloom_filter.go
//
// Little endian. A binary fuse filter takes 9 bits a key and answers wrongly
// yes for one key in 256.
const (
	filterNone  = 0
	filterFuse8 = 1
	filterBloom = 2

	filterHeadBytes  = 17
	filterSegmentMax = 1 << 18
)

// filter tells which keys are surely absent; nil knows nothing.
type filter struct {
	fuse  xorfilter.BinaryFuse8
	bloom bloomFilter // not empty: it is what counts
}

// appendFilter appends the payload for the distinct hashes, which it reorders,
// in the builder's memory.
// Where no filter can be built (no key at all, or hashes that resist), the
// payload says so and every key may be there.
func appendFilter(dst []byte, b *xorfilter.BinaryFuseBuilder, hashes []uint64) []byte {
	if len(hashes) == 0 {
		return append(dst, filterNone)
	}
	fuse, err := xorfilter.BuildBinaryFuse[uint8](b, hashes)
	if err != nil {
		return append(dst, filterNone)
	}
	dst = append(dst, filterFuse8)
	dst = binary.LittleEndian.AppendUint64(dst, fuse.Seed)
	dst = binary.LittleEndian.AppendUint32(dst, fuse.SegmentLength)
	dst = binary.LittleEndian.AppendUint32(dst, fuse.SegmentCount)
	return append(dst, fuse.Fingerprints...)
}

// parseFilter reads a payload and keeps a part of it.
func parseFilter(payload []byte) (f *filter, ok bool) {
	r := byteReader{b: payload}
	switch r.byte() {
	case filterNone:
		return nil, !r.bad && len(r.b) == 0
	case filterFuse8:
	case filterBloom:
		f = &filter{bloom: bloomFilter(r.b)}
		return f, !r.bad && f.bloom.valid()
	default:
		return nil, false
	}
	f = &filter{}
	f.fuse.Seed = r.uint64()
	f.fuse.SegmentLength = r.uint32()
	f.fuse.SegmentCount = r.uint32()
	f.fuse.Fingerprints = r.b
	segment, segments := uint64(f.fuse.SegmentLength), uint64(f.fuse.SegmentCount)
	if r.bad || bits.OnesCount64(segment) != 1 || segment > filterSegmentMax || segments == 0 ||
		(segments+2)*segment != uint64(len(r.b)) {
		return nil, false
	}
	f.fuse.SegmentLengthMask = f.fuse.SegmentLength - 1
	f.fuse.SegmentCountLength = f.fuse.SegmentCount * f.fuse.SegmentLength
	return f, true
}

func (f *filter) mayContain(hash uint64) bool {
	switch {
	case f == nil:
		return true
	case len(f.bloom) > 0:
		return f.bloom.contains(hash)
	}
	return f.fuse.Contains(hash)
}

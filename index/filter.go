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

// among appends the numbers of those hashes that may be there: mayContain of many.
// No step waits for the one before it, so that misses of the cache overlap, and
// nothing is called for a hash of a fuse filter.
func (f *filter) among(dst []uint32, hashes []uint64) []uint32 {
	switch {
	case f == nil:
		for i := range hashes {
			dst = append(dst, uint32(i))
		}
		return dst
	case len(f.bloom) > 0:
		for i, hash := range hashes {
			if f.bloom.contains(hash) {
				dst = append(dst, uint32(i))
			}
		}
		return dst
	}
	return f.amongFused(dst, hashes)
}

// amongFused is xorfilter's Contains, written out: the generic form is a call with
// a dictionary for each key.
func (f *filter) amongFused(dst []uint32, hashes []uint64) []uint32 {
	prints, seed := f.fuse.Fingerprints, f.fuse.Seed
	length, mask, count := f.fuse.SegmentLength, f.fuse.SegmentLengthMask, uint64(f.fuse.SegmentCountLength)
	for i, key := range hashes {
		h := key + seed // murmur64
		h = (h ^ h>>33) * 0xff51afd7ed558ccd
		h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
		h ^= h >> 33
		high, _ := bits.Mul64(h, count)
		at := uint32(high)
		next := (at + length) ^ uint32(h>>18)&mask
		last := (at + 2*length) ^ uint32(h)&mask
		if byte(h^h>>32) == prints[at]^prints[next]^prints[last] {
			dst = append(dst, uint32(i))
		}
	}
	return dst
}

package index

import "encoding/binary"

// bloomFilter is a Bloom filter in blocks of 256 bits, as Apache Parquet has
// them (https://parquet.apache.org/docs/file-format/bloomfilter/): a key's
// block is chosen by the upper half of its hash, and the lower half sets one
// bit in each of the block's eight 32-bit words (little endian). It is built key by key
// without further memory, and a question costs one cache line. With
// bloomBitsPerKey about one absent key in 150 is answered wrongly.
type bloomFilter []byte

const (
	bloomBlockBytes = 32
	bloomBitsPerKey = 12
	bloomBlocksMax  = blockBytesMax / bloomBlockBytes / 2
)

// bloomSalt is a constant table: odd numbers that spread the bits.
var bloomSalt = [8]uint32{
	0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31,
}

// bloomBytes is the length of a filter for a number of keys; so many zeros are
// the empty one.
func bloomBytes(keys uint64) int {
	return int(min(keys*bloomBitsPerKey/(8*bloomBlockBytes)+1, bloomBlocksMax)) * bloomBlockBytes
}

func (f bloomFilter) valid() bool { return len(f) > 0 && len(f)%bloomBlockBytes == 0 }

// block gives the hash's block.
func (f bloomFilter) block(hash uint64) []byte {
	blocks := uint64(len(f) / bloomBlockBytes)
	at := (hash >> 32) * blocks >> 32 * bloomBlockBytes
	return f[at : at+bloomBlockBytes : at+bloomBlockBytes]
}

func (f bloomFilter) add(hash uint64) {
	block := f.block(hash)
	for i, salt := range bloomSalt {
		word := binary.LittleEndian.Uint32(block[4*i:]) | 1<<(uint32(hash)*salt>>27)
		binary.LittleEndian.PutUint32(block[4*i:], word)
	}
}

// contains looks at two words at a time; nearly every absent key ends at the
// first or second two.
func (f bloomFilter) contains(hash uint64) bool {
	block, low := f.block(hash), uint32(hash)
	for i := 0; i < len(bloomSalt); i += 2 {
		words := binary.LittleEndian.Uint64(block[4*i:])
		first := uint32(words) >> (low * bloomSalt[i] >> 27)
		second := uint32(words>>32) >> (low * bloomSalt[i+1] >> 27)
		if first&second&1 == 0 {
			return false
		}
	}
	return true
}

// addAll adds many, whose blocks are fetched together. What it returns only keeps
// the fetching from being left out.
func (f bloomFilter) addAll(hashes []uint64) (touched byte) {
	for _, hash := range hashes {
		touched ^= f.block(hash)[0]
	}
	for _, hash := range hashes {
		f.add(hash)
	}
	return touched
}

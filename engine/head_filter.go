package engine

import "sync/atomic"

// keyFilter answers "surely not in this head" for a few nanoseconds, where the
// directory's answer costs two microseconds: an import probes every one of its
// keys against the head. Two bits a key; at 100,000 keys about one probe in a
// hundred goes on to the directory.
type keyFilter struct {
	words [filterWords]atomic.Uint64
}

// filterWords makes 256 KiB a head.
const filterWords = 1 << 15

func filterBits(hash uint64) (a, b uint32) {
	const mask = filterWords*64 - 1
	return uint32(hash) & mask, uint32(hash>>32) & mask
}

func (f *keyFilter) add(hash uint64) {
	a, b := filterBits(hash)
	f.words[a/64].Or(1 << (a % 64))
	f.words[b/64].Or(1 << (b % 64))
}

func (f *keyFilter) mayContain(hash uint64) bool {
	a, b := filterBits(hash)
	return f.words[a/64].Load()&(1<<(a%64)) != 0 && f.words[b/64].Load()&(1<<(b%64)) != 0
}

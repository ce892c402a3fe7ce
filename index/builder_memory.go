package index

import (
	"sync"

	"github.com/FastFilter/xorfilter"
	"github.com/klauspost/compress/zstd"
)

// BuilderPool lends builders their memory, so that a long import does not make
// new slices of tens of megabytes for every run: growing and clearing them was
// a seventh of a builder's time. The collector empties it when nobody builds.
// Safe for concurrent use; the zero value and nil work.
type BuilderPool struct {
	free sync.Pool // of *builderMemory
}

func (p *BuilderPool) get() *builderMemory {
	if p != nil {
		if m, ok := p.free.Get().(*builderMemory); ok {
			return m
		}
	}
	return &builderMemory{enc: newEncoder(), dec: newDecoder(1), terms: newTermSet()}
}

func (p *BuilderPool) put(m *builderMemory) {
	if p != nil {
		m.reset()
		p.free.Put(m)
	}
}

// builderMemory is everything large in a Builder whose content nobody keeps
// past Seal.
type builderMemory struct {
	enc         *zstd.Encoder
	dec         *zstd.Decoder
	writeBuffer []byte      // the fileWriter's, between two builders
	open        []byte      // raw bytes of the open body block
	openEntries []bodyEntry // and where its bodies lie
	readBack    readBack

	keyEnds []uint32 // end of each ordinal's key
	terms   *termSet

	order   []sortItem // from SortKeys on: ordinals in key order
	rows    rowColumns // from SortKeys on
	sorter  keySorter
	items   []sortItem
	hashes  []uint64
	filters xorfilter.BinaryFuseBuilder
}

// filterBuildBytes is what a filter's construction takes for a key.
const filterBuildBytes = 32

// readBack is the block that Body decoded last.
type readBack struct {
	block   int    // number + 1; 0: none
	disk    []byte // as read
	room    []byte // memory of raw
	raw     []byte
	entries []bodyEntry
}

func (m *builderMemory) reset() {
	m.writeBuffer, m.open, m.openEntries = m.writeBuffer[:0], trimmed(m.open), m.openEntries[:0]
	m.readBack = readBack{disk: trimmed(m.readBack.disk), room: trimmed(m.readBack.room), entries: m.readBack.entries}
	m.keyEnds, m.order = m.keyEnds[:0], m.order[:0]
	m.terms.reset()
	m.sorter.key = nil
}

// memoryBytes is what grows with the rows before they are sorted.
func (m *builderMemory) memoryBytes() int64 {
	return int64(4*cap(m.keyEnds)) + m.terms.memoryBytes() + int64(cap(m.open)) + int64(cap(m.readBack.room)) + int64(cap(m.readBack.disk))
}

// sortRoom gives n items of room that holds until the next call.
func (m *builderMemory) sortRoom(n int) []sortItem {
	if cap(m.items) < n {
		m.items = make([]sortItem, n)
	}
	return m.items[:n]
}

// withRoom gives s with room for n more, doubled where it must grow: append's
// own growth by a quarter copies a large slice five times over.
func withRoom[T any](s []T, n int) []T {
	if cap(s)-len(s) >= n {
		return s
	}
	grown := make([]T, len(s), max(2*cap(s), len(s)+n, 1024))
	copy(grown, s)
	return grown
}

// trimmed empties a buffer of block size and lets it go when a huge body made
// it grow.
func trimmed(buf []byte) []byte {
	if cap(buf) > 4*bodyBlockBytes {
		return nil
	}
	return buf[:0]
}

package index

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// termSet collects terms and their postings while a run is built. It holds
// five slices without pointers: a hash table of slots, a record a term, the
// terms' keys one behind the other, and chunks of posting deltas.
//
// A posting list is its first and last ordinal in the record and, between, a
// chain of chunks of uvarint deltas:
//
//	+----------+-----------------------------+
//	| next u32 | data: 8, 16, 32 ... 4096 B  |
//	+----------+-----------------------------+
//
// next is the offset of the following chunk.
//
// A version's terms are looked for together, when it is committed: the table is
// larger than the processor's caches, and so the misses of many terms are
// waited for at the same time.
type termSet struct {
	seed    maphash.Seed // by chance, so that no input can make all terms collide
	slots   []uint64     // upper half of the hash, and record number + 1; 0 is free
	recs    []termRec
	keys    []byte
	chunks  []byte
	pending []pendingTerm // of the version whose commit comes next
	given   []byte        // their keys, one behind the other
}

// pendingTerm is a term whose key ends at end in given.
type pendingTerm struct {
	tag  uint64 // upper half of the hash
	slot uint64 // what stood where the search begins; 0: nothing
	end  uint32
	look byte // a byte of the key of that slot's record
}

type termRec struct {
	key    uint32 // offset in keys; it ends where the next record's begins
	first  uint32
	last   uint32
	count  uint32 // at least 1
	head   uint32 // offset of the first chunk
	at     uint32 // offset of the next free byte in the last chunk
	end    uint32 // where the last chunk ends
	chunks uint32 // how many chunks
}

const (
	termSlotsMin    = 1 << 12
	chunkDataMin    = 8
	chunkGrowthMax  = 9 // 8 << 9 = 4096
	chunkLinkBytes  = 4
	termRecBytes    = 32
	termPendingCost = 24
	termTagMask     = 1<<64 - 1<<32
)

func newTermSet() *termSet {
	return &termSet{seed: maphash.MakeSeed(), slots: make([]uint64, termSlotsMin)}
}

// reset forgets all terms and keeps the memory.
func (s *termSet) reset() {
	clear(s.slots)
	s.recs, s.keys, s.chunks, s.pending, s.given = s.recs[:0], s.keys[:0], s.chunks[:0], s.pending[:0], s.given[:0]
}

// add notes the term for the version whose commit comes next.
func (s *termSet) add(p Param, value []byte) {
	start := len(s.given)
	s.given = appendTermKey(s.given, p, value)
	s.pending = append(s.pending, pendingTerm{
		tag: maphash.Bytes(s.seed, s.given[start:]) & termTagMask, end: uint32(len(s.given)),
	})
}

// slotOf is where the search for a tag begins. It asks no more of the hash than
// the slot keeps, so that a table grows without looking at keys.
func (s *termSet) slotOf(tag uint64) uint64 { return tag >> 32 & uint64(len(s.slots)-1) }

// find gives the record of a key.
func (s *termSet) find(key []byte) (rec uint32, ok bool) {
	rec, _, ok = s.search(maphash.Bytes(s.seed, key)&termTagMask, key)
	return rec, ok
}

// search gives the record of a key, or the free slot that it would have.
func (s *termSet) search(tag uint64, key []byte) (rec uint32, free uint64, ok bool) {
	slots := s.slots
	mask := uint64(len(slots) - 1)
	for i := s.slotOf(tag); ; i = (i + 1) & mask {
		slot := slots[i]
		if slot == 0 {
			return 0, i, false
		}
		if slot&termTagMask == tag {
			rec = uint32(slot) - 1
			if string(s.termKey(rec)) == string(key) {
				return rec, 0, true
			}
		}
	}
}

// termKey gives a record's key.
func (s *termSet) termKey(rec uint32) []byte {
	from, end := s.recs[rec].key, uint32(len(s.keys))
	if int(rec)+1 < len(s.recs) {
		end = s.recs[rec+1].key
	}
	return s.keys[from:end:end]
}

func (s *termSet) grow() {
	old := s.slots
	s.slots = make([]uint64, 2*len(old))
	mask := uint64(len(s.slots) - 1)
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		i := s.slotOf(slot)
		for s.slots[i] != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = slot
	}
}

// commit gives the pending terms to version o; ordinals ascend.
func (s *termSet) commit(o uint32) {
	s.touch()
	start := uint32(0)
	for i := range s.pending {
		t := &s.pending[i]
		key := s.given[start:t.end]
		start = t.end
		id, free, ok := s.search(t.tag, key)
		if !ok {
			s.insert(t.tag, free, key, o)
			continue
		}
		rec := &s.recs[id]
		if rec.last == o { // twice in one version
			continue
		}
		delta := o - rec.last - 1
		rec.last = o
		rec.count++
		if delta < 0x80 && rec.at < rec.end {
			s.chunks[rec.at] = byte(delta)
			rec.at++
			continue
		}
		s.put(rec, delta)
	}
	s.discard()
}

// touch reads what the search for each pending term will read first. Nothing
// in a loop waits for the step before it, so that the reads overlap.
func (s *termSet) touch() {
	for i := range s.pending {
		t := &s.pending[i]
		t.slot = s.slots[s.slotOf(t.tag)]
	}
	for i := range s.pending {
		t := &s.pending[i]
		if t.slot&termTagMask == t.tag && t.slot != 0 {
			t.look = s.keys[s.recs[uint32(t.slot)-1].key]
		}
	}
}

// touchRecords reads the records and keys of items that are in an order of their
// own, so that the misses overlap. It uses up their prefixes.
func (s *termSet) touchRecords(items []sortItem) {
	for i := range items {
		items[i].prefix = uint64(s.recs[items[i].id].key)
	}
	for i := range items {
		items[i].prefix = uint64(s.keys[items[i].prefix])
	}
}

// insert makes the record of a new term, which version o has.
func (s *termSet) insert(tag, free uint64, key []byte, o uint32) {
	s.recs = append(withRoom(s.recs, 1), termRec{key: uint32(len(s.keys)), first: o, last: o, count: 1})
	s.keys = append(withRoom(s.keys, len(key)), key...)
	s.slots[free] = tag | uint64(len(s.recs))
	if len(s.recs)*4 > len(s.slots)*3 {
		s.grow()
	}
}

// put appends a delta whose bytes may go on in another chunk.
func (s *termSet) put(rec *termRec, delta uint32) {
	var b [binary.MaxVarintLen32]byte
	for _, c := range b[:binary.PutUvarint(b[:], uint64(delta))] {
		if rec.at == rec.end {
			s.addChunk(rec)
		}
		s.chunks[rec.at] = c
		rec.at++
	}
}

func (s *termSet) addChunk(rec *termRec) {
	at := uint32(len(s.chunks))
	if rec.chunks == 0 {
		rec.head = at
	} else {
		link := rec.end - chunkData(rec.chunks-1) - chunkLinkBytes
		binary.LittleEndian.PutUint32(s.chunks[link:], at)
	}
	size := chunkData(rec.chunks)
	s.chunks = withRoom(s.chunks, int(chunkLinkBytes+size))[:at+chunkLinkBytes+size]
	rec.at = at + chunkLinkBytes
	rec.end = rec.at + size
	rec.chunks++
}

// chunkData is the data length of a list's i-th chunk.
func chunkData(i uint32) uint32 { return chunkDataMin << min(i, chunkGrowthMax) }

// discard forgets the pending terms.
func (s *termSet) discard() {
	s.pending, s.given = s.pending[:0], s.given[:0]
	if cap(s.given) > arenaBytesKept {
		s.pending, s.given = nil, nil
	}
}

// ordinals appends the posting list of a record.
func (s *termSet) ordinals(dst []uint32, rec *termRec) []uint32 {
	o := rec.first
	dst = append(dst, o)
	at, left := rec.head, rec.count-1
	delta, shift := uint32(0), uint(0)
	for i := uint32(0); left > 0; i++ {
		data := s.chunks[at+chunkLinkBytes : at+chunkLinkBytes+chunkData(i)]
		for _, c := range data {
			delta |= uint32(c&0x7f) << shift
			if c >= 0x80 {
				shift += 7
				continue
			}
			o += delta + 1
			dst = append(dst, o)
			delta, shift = 0, 0
			if left--; left == 0 {
				break
			}
		}
		at = binary.LittleEndian.Uint32(s.chunks[at:])
	}
	return dst
}

func (s *termSet) memoryBytes() int64 {
	return int64(8*cap(s.slots)) + int64(termRecBytes*cap(s.recs)) + int64(cap(s.keys)) + int64(cap(s.chunks)) +
		int64(termPendingCost*cap(s.pending)) + int64(cap(s.given))
}

// usedBytes is what the terms themselves take of it.
func (s *termSet) usedBytes() int64 {
	return int64(termRecBytes*len(s.recs)) + int64(len(s.keys)) + int64(len(s.chunks))
}

// full says that an arena's offsets are running out.
func (s *termSet) full() bool {
	return len(s.keys) > arenaBytesMax || len(s.chunks) > arenaBytesMax || bits.Len(uint(len(s.recs))) > 30
}

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
type termSet struct {
	seed    maphash.Seed // by chance, so that no input can make all terms collide
	slots   []uint64     // upper half of the hash, and record number + 1; 0 is free
	recs    []termRec
	keys    []byte
	chunks  []byte
	pending []uint32 // records of the version whose Append comes next
}

type termRec struct {
	key    uint32 // offset in keys; it ends where the next record's begins
	first  uint32
	last   uint32
	count  uint32 // 0: only refused versions had the term
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
	termPendingCost = 4
)

func newTermSet() *termSet {
	return &termSet{seed: maphash.MakeSeed(), slots: make([]uint64, termSlotsMin)}
}

// reset forgets all terms and keeps the memory.
func (s *termSet) reset() {
	clear(s.slots)
	s.recs, s.keys, s.chunks, s.pending = s.recs[:0], s.keys[:0], s.chunks[:0], s.pending[:0]
}

// add notes the term for the version whose commit comes next.
func (s *termSet) add(p Param, value []byte) {
	start := len(s.keys)
	s.keys = appendTermKey(withRoom(s.keys, 2+min(len(value), TermBytesMax)), p, value)
	key := s.keys[start:]
	hash := maphash.Bytes(s.seed, key)
	mask := uint64(len(s.slots) - 1)
	tag := hash &^ (1<<32 - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		slot := s.slots[i]
		if slot == 0 {
			s.recs = append(withRoom(s.recs, 1), termRec{key: uint32(start)})
			s.pending = append(s.pending, uint32(len(s.recs)-1))
			s.slots[i] = tag | uint64(len(s.recs))
			if len(s.recs)*4 > len(s.slots)*3 {
				s.grow()
			}
			return
		}
		if slot&^(1<<32-1) != tag {
			continue
		}
		rec := uint32(slot) - 1
		if string(s.key(rec, start)) == string(key) {
			s.keys = s.keys[:start]
			s.pending = append(s.pending, rec)
			return
		}
	}
}

// find gives the record of a key.
func (s *termSet) find(key []byte) (rec uint32, ok bool) {
	hash := maphash.Bytes(s.seed, key)
	mask := uint64(len(s.slots) - 1)
	tag := hash &^ (1<<32 - 1)
	for i := hash & mask; s.slots[i] != 0; i = (i + 1) & mask {
		if s.slots[i]&^(1<<32-1) == tag {
			rec = uint32(s.slots[i]) - 1
			if string(s.termKey(rec)) == string(key) {
				return rec, true
			}
		}
	}
	return 0, false
}

// key gives a record's key; end bounds that of the last record.
func (s *termSet) key(rec uint32, end int) []byte {
	from := s.recs[rec].key
	if int(rec)+1 < len(s.recs) {
		end = int(s.recs[rec+1].key)
	}
	return s.keys[from:end:end]
}

// termKey is key outside of add.
func (s *termSet) termKey(rec uint32) []byte { return s.key(rec, len(s.keys)) }

func (s *termSet) grow() {
	slots := make([]uint64, 2*len(s.slots))
	mask := uint64(len(slots) - 1)
	for rec := range s.recs {
		hash := maphash.Bytes(s.seed, s.termKey(uint32(rec)))
		i := hash & mask
		for slots[i] != 0 {
			i = (i + 1) & mask
		}
		slots[i] = hash&^(1<<32-1) | uint64(rec+1)
	}
	s.slots = slots
}

// commit gives the pending terms to version o; ordinals ascend.
func (s *termSet) commit(o uint32) {
	for _, id := range s.pending {
		rec := &s.recs[id]
		if rec.count == 0 {
			rec.first, rec.last, rec.count = o, o, 1
			continue
		}
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
	s.pending = s.pending[:0]
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
func (s *termSet) discard() { s.pending = s.pending[:0] }

// ordinals appends the posting list of a record with count > 0.
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
		int64(termPendingCost*cap(s.pending))
}

// full says that an arena's offsets are running out.
func (s *termSet) full() bool {
	return len(s.keys) > arenaBytesMax || len(s.chunks) > arenaBytesMax || bits.Len(uint(len(s.recs))) > 30
}

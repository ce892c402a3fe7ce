package engine

import "sync/atomic"

// headDir is the key directory of one generation of the head: the hash of a key
// to the entry of its newest version. It is a hash table with linear probing and
// one writer (committer or recovery) that anybody reads without a lock. A slot:
//
//	 63                       32 31                        0
//	+---------------------------+---------------------------+
//	| tag                       | number of the entry, + 1  |    0: empty
//	+---------------------------+---------------------------+
//
// tag is the high half of index.KeyHash. Its highest bits are the slot's place, so
// that a table doubles without a look at the keys; the others tell a stranger from
// the key. Nothing is ever taken out: a generation goes as a whole.
//
// A reader finds the newest entry, which may be newer than its snapshot, and
// goes on to the entries before it. It finds every entry that it may see: those
// were put before their LSN became visible, and a table that has been replaced
// lacks only entries that were put afterwards.
type headDir struct {
	table atomic.Pointer[headTable]
	used  int // slots of the table; the writer's
}

type headTable struct {
	slots []atomic.Uint64 // 2^bits
	bits  int
}

// headDirBits is of the first table: 2 KiB, since a store that only imports
// never has many entries. Tables are at most half full.
const headDirBits = 8

func newHeadTable(bits int) *headTable {
	return &headTable{slots: make([]atomic.Uint64, 1<<bits), bits: bits}
}

// place is where the search for a slot's value begins.
func (t *headTable) place(slot uint64) int { return int(slot >> (64 - t.bits)) }

// after is the place after one, round the end.
func (t *headTable) after(place int) int { return (place + 1) & (len(t.slots) - 1) }

func headSlot(hash uint64, ordinal int32) uint64 { return hash>>32<<32 | uint64(uint32(ordinal+1)) }

// find returns the entry with that hash which isKey accepts, or none.
func (d *headDir) find(hash uint64, isKey func(ordinal int32) bool) int32 {
	t := d.table.Load()
	for i := t.place(hash); ; i = t.after(i) {
		slot := t.slots[i].Load()
		if slot == 0 {
			return none
		}
		if slot>>32 == hash>>32 {
			if ordinal := int32(uint32(slot)) - 1; isKey(ordinal) {
				return ordinal
			}
		}
	}
}

// mayContain is false when no key with that hash is there. It is wrong about one
// strange key in some thousand.
func (d *headDir) mayContain(hash uint64) bool {
	return d.find(hash, func(int32) bool { return true }) != none
}

// put makes an entry the newest of its key, in the place of the one that find
// gave, which may be none.
func (d *headDir) put(hash uint64, before, ordinal int32) {
	was := uint64(0)
	if before != none {
		was = headSlot(hash, before)
	} else {
		d.used++
		d.growFor(d.used)
	}
	d.table.Load().replace(was, headSlot(hash, ordinal))
}

// replace puts a slot's value where was stands, or the first empty slot when was is 0.
func (t *headTable) replace(was, slot uint64) {
	i := t.place(slot)
	for t.slots[i].Load() != was {
		i = t.after(i)
	}
	t.slots[i].Store(slot)
}

// growFor doubles a table that so many keys would fill by more than half.
func (d *headDir) growFor(keys int) {
	t := d.table.Load()
	if 2*keys <= len(t.slots) {
		return
	}
	grown := newHeadTable(t.bits + 1)
	for i := range t.slots {
		if slot := t.slots[i].Load(); slot != 0 {
			grown.replace(0, slot)
		}
	}
	d.table.Store(grown)
}

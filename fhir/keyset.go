package fhir

import (
	"bytes"
	"hash/maphash"
)

const (
	// keySetListed keys are compared one by one; more are hashed. Nearly every
	// resource has fewer members than this.
	keySetListed = 24
	// keySetKept bounds the tables that are kept (and cleared) from one resource
	// to the next, so that one odd object does not slow down all others.
	keySetKept = 1024
)

// keySet finds repeated keys of one object.
type keySet struct {
	keys [][]byte
	// marks has one bit set for each listed key; a key whose bit is not set is new.
	marks uint64
	// slots is used once keys are many: 1 + index into keys, 0 when free, open
	// addressing. The hash is seeded, so nobody can choose keys that collide.
	slots []uint32
	seed  maphash.Seed
}

func newKeySet() keySet { return keySet{seed: maphash.MakeSeed()} }

// reset empties the set.
func (k *keySet) reset() {
	if len(k.keys) > keySetKept {
		k.keys = nil
	}
	clear(k.keys)
	k.keys, k.marks, k.slots = k.keys[:0], 0, k.slots[:0]
	if cap(k.slots) > keySetKept {
		k.slots = nil
	}
}

// add reports false when key is in the set already. key is kept, not copied.
func (k *keySet) add(key []byte) bool {
	if len(k.keys) >= keySetListed {
		return k.addHashed(key)
	}
	mark := uint64(1)
	if len(key) > 0 {
		mark <<= wordsOf(key).hash() % 64
	}
	if k.marks&mark != 0 {
		for _, old := range k.keys {
			if bytes.Equal(old, key) {
				return false
			}
		}
	}
	k.marks |= mark
	k.keys = append(k.keys, key)
	return true
}

func (k *keySet) addHashed(key []byte) bool {
	if 2*len(k.keys) >= len(k.slots) {
		k.grow()
	}
	at := k.find(key)
	if k.slots[at] != 0 {
		return false
	}
	k.keys = append(k.keys, key)
	k.slots[at] = uint32(len(k.keys))
	return true
}

// find returns the slot of key, or the free slot where it belongs.
func (k *keySet) find(key []byte) uint64 {
	mask := uint64(len(k.slots) - 1)
	at := maphash.Bytes(k.seed, key) & mask
	for k.slots[at] != 0 && !bytes.Equal(k.keys[k.slots[at]-1], key) {
		at = (at + 1) & mask
	}
	return at
}

// grow makes a table of a power of two that is at most a quarter full.
func (k *keySet) grow() {
	size := 1
	for size < 4*len(k.keys) {
		size *= 2
	}
	if cap(k.slots) < size {
		k.slots = make([]uint32, size)
	}
	k.slots = k.slots[:size]
	clear(k.slots)
	for i, key := range k.keys {
		k.slots[k.find(key)] = uint32(i + 1)
	}
}

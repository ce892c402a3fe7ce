package fhir

import (
	"bytes"
	"hash/maphash"
)

const (
	// keySetSlots holds the members of nearly every resource; it must be a power of two.
	keySetSlots = 64
	// keySetSlotsKept bounds the table that is kept (and cleared) from one
	// resource to the next, so that one odd object does not slow down all others.
	keySetSlotsKept = 1024
)

// keySet finds repeated keys of one object. The hash is seeded, so nobody can
// choose keys that collide.
type keySet struct {
	seed  maphash.Seed
	keys  []hashedKey
	slots []uint32 // 1 + index into keys, 0 when free; open addressing
}

type hashedKey struct {
	hash uint64
	key  []byte
}

func newKeySet() keySet {
	return keySet{seed: maphash.MakeSeed(), slots: make([]uint32, keySetSlots)}
}

// reset empties the set.
func (k *keySet) reset() {
	if len(k.slots) > keySetSlotsKept {
		k.slots = make([]uint32, keySetSlots)
		k.keys = nil
		return
	}
	if len(k.keys) > 0 {
		clear(k.slots)
		clear(k.keys)
		k.keys = k.keys[:0]
	}
}

// add reports false when key is in the set already. key is kept, not copied.
func (k *keySet) add(key []byte) bool {
	if 2*len(k.keys) >= len(k.slots) {
		k.grow()
	}
	hash := maphash.Bytes(k.seed, key)
	mask := uint64(len(k.slots) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		slot := k.slots[at]
		if slot == 0 {
			k.keys = append(k.keys, hashedKey{hash, key})
			k.slots[at] = uint32(len(k.keys))
			return true
		}
		if old := k.keys[slot-1]; old.hash == hash && bytes.Equal(old.key, key) {
			return false
		}
	}
}

func (k *keySet) grow() {
	k.slots = make([]uint32, 2*len(k.slots))
	mask := uint64(len(k.slots) - 1)
	for i, key := range k.keys {
		at := key.hash & mask
		for k.slots[at] != 0 {
			at = (at + 1) & mask
		}
		k.slots[at] = uint32(i + 1)
	}
}

package structure

import "kiln/fhir"

// kind is what an element holds: a primitive type, a resource, or (kindNode and
// up) the children of a node.
type kind uint16

const (
	kindNone kind = iota
	kindBoolean
	kindInteger
	kindUnsignedInt
	kindPositiveInt
	kindDecimal
	kindString
	kindMarkdown
	kindCode
	kindID
	kindURI
	kindURL
	kindCanonical
	kindOID
	kindUUID
	kindDate
	kindDateTime
	kindInstant
	kindTime
	kindBase64Binary
	kindXHTML
	kindPrimitives // how many there are, and what follows has children
	kindResource
	kindResourceType
	kindNode
)

func (k kind) isPrimitive() bool { return k < kindPrimitives }

// Flags of members.
const (
	many      uint8 = 1 << iota // an array: max is *
	choice                      // one of the types of a [x]
	plain                       // a primitive that has no id or extensions
	contained                   // DomainResource.contained
	lenient                     // required, but its absence is only a warning
	summary                     // part of summaries
	modifier                    // may change what other elements mean
)

// member is one JSON key of a node. The table is generated.
type member struct {
	key     string
	kind    kind
	element uint8 // number of the element in its node; the types of a choice share it
	name    uint8 // bytes of key that are the element's name
	flags   uint8
}

func (m *member) is(flag uint8) bool { return m.flags&flag != 0 }

// node is an element or type that has children: a state of the walk.
type node struct {
	path       string // such as Patient.contact
	first, end uint16 // in members
	required   uint64 // a bit for each element whose min is 1
}

// slotTable finds members by key: for each node a table of a power of two that is
// at most half full, with open addressing.
type slotTable struct {
	first []uint32 // by node
	mask  []uint32 // by node
	slots []uint16 // members; 0 is free
}

// table is built once and only read.
var table = makeSlotTable()

func makeSlotTable() slotTable {
	t := slotTable{first: make([]uint32, len(nodes)), mask: make([]uint32, len(nodes))}
	for n := range nodes {
		size := 2
		for size < 2*int(nodes[n].end-nodes[n].first) {
			size *= 2
		}
		t.first[n], t.mask[n] = uint32(len(t.slots)), uint32(size-1)
		t.slots = append(t.slots, make([]uint16, size)...)
		own := t.slots[t.first[n]:]
		for m := nodes[n].first; m < nodes[n].end; m++ {
			at := keyHash(members[m].key)
			for own[at&t.mask[n]] != 0 {
				at++
			}
			own[at&t.mask[n]] = m
		}
	}
	return t
}

// find returns the number of a node's member, 0 when it has none of that name.
func (t *slotTable) find(n uint16, key []byte) uint16 {
	if len(key) == 0 {
		return 0
	}
	first, mask := t.first[n], t.mask[n]
	for at := keyHash(string(key)); ; at++ {
		m := t.slots[first+at&mask]
		if m == 0 || members[m].key == string(key) {
			return m
		}
	}
}

// keyHash of a key that is not empty.
func keyHash(key string) uint32 {
	first, middle, last := uint32(key[0]), uint32(key[len(key)/2]), uint32(key[len(key)-1])
	return (uint32(len(key))<<24 ^ first<<16 ^ middle<<8 ^ last) * 0x9E3779B1 >> 16
}

// resourceNode is the node of a resource type, by its name.
func resourceNode(name []byte) (n uint16, ok bool) {
	t := fhir.TypeByName(name)
	return resourceNodes[t], t != 0
}

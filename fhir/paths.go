package fhir

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// PathID is the caller's number for a path.
type PathID uint32

// PathRule names the elements whose values a Visitor gets as ID. Path is one of
//
//	Observation.subject.reference   an element of one resource type
//	*.meta.tag                      an element of every resource type
//	**.reference                    every member of that name at any depth
//
// Elements are JSON keys, so a choice is written as in valueQuantity. Several
// rules may have the same path; rules with the same path and ID count once.
type PathRule struct {
	Path string
	ID   PathID
}

// Paths is a set of rules compiled to an automaton whose states are elements of
// resources. It is immutable and safe for concurrent use.
//
// A state is an index into nodes; 0 is "no path leads here". Keys are looked up
// in a small hash table per state, so the cost of a key does not depend on the
// number of rules, and a subtree without a path is skipped without any lookup
// but the one bit test of anywhereLength.
type Paths struct {
	nodes   []pathNode
	roots   [TypeMax + 1]uint32 // state of a resource, by type; [0] is any unknown type's
	anyType uint32              // state of a resource whose type no rule names
	typed   bool                // some rule names a type
	// lengths has bit n%64 set when a key of length n matters at any depth.
	lengths uint64
}

type pathNode struct {
	ids       []PathID
	reference bool // the element is named "reference"
	mask      uint32
	slots     []pathSlot // open addressing, len mask+1; nil without children
}

type pathSlot struct {
	words keyWords // of key
	key   string
	next  uint32 // 0: free
}

// keyWords are a key's length and bytes, as far as 16 of them go: comparing and
// hashing words is cheaper than calling for bytes, and most keys are that short.
type keyWords struct {
	head, tail uint64 // first and last 8 bytes; of a shorter key all of it is in head
	length     uint32
}

const keyWordsMax = 2 * bytesPerWord

func wordsOf(key []byte) keyWords {
	n := len(key)
	w := keyWords{length: uint32(n)}
	switch {
	case n >= 8:
		w.head, w.tail = binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[n-8:])
	case n >= 4:
		w.head = uint64(binary.LittleEndian.Uint32(key)) | uint64(binary.LittleEndian.Uint32(key[n-4:]))<<32
	case n > 0:
		w.head = uint64(key[0]) | uint64(key[n/2])<<8 | uint64(key[n-1])<<16
	}
	return w
}

// hash mixes all that the words hold.
func (w keyWords) hash() uint32 {
	return uint32((w.head^bits.RotateLeft64(w.tail, 29)^uint64(w.length))*0x9E3779B97F4A7C15>>32) >> 8
}

// noPaths has no rules.
var noPaths = mustPaths()

func mustPaths() *Paths {
	p, err := NewPaths(nil)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return p
}

// NewPaths compiles rules; a rule that is not of the form that PathRule gives is
// an error.
func NewPaths(rules []PathRule) (*Paths, error) {
	c := pathCompiler{anywhere: map[string][]PathID{referenceKey: nil}, types: map[TypeCode]*pathTree{}, any: &pathTree{}}
	for _, rule := range rules {
		if err := c.check(rule); err != nil {
			return nil, err
		}
	}
	for _, rule := range rules {
		c.add(rule)
	}
	return c.compile(), nil
}

// anywhereLength tells whether a key of length n can matter at any depth.
func (p *Paths) anywhereLength(n int) bool { return p.lengths>>(uint(n)%64)&1 != 0 }

// step returns the state of the member named key of an element in state.
func (p *Paths) step(state uint32, key []byte) uint32 {
	if state != 0 {
		if next := p.nodes[state].child(key); next != 0 {
			return next
		}
	}
	if !p.anywhereLength(len(key)) {
		return 0
	}
	return p.nodes[0].child(key)
}

func (n *pathNode) child(key []byte) uint32 {
	if n.slots == nil {
		return 0
	}
	words := wordsOf(key)
	for at := words.hash(); ; at++ {
		slot := &n.slots[at&n.mask]
		if slot.next == 0 || slot.words == words && (len(key) <= keyWordsMax || slot.key == string(key)) {
			return slot.next
		}
	}
}

// pathTree is an element while rules are collected.
type pathTree struct {
	ids      []PathID
	children map[string]*pathTree
}

func (t *pathTree) add(elements []string, id PathID) {
	for _, element := range elements {
		if t.children == nil {
			t.children = map[string]*pathTree{}
		}
		if t.children[element] == nil {
			t.children[element] = &pathTree{}
		}
		t = t.children[element]
	}
	t.ids = append(t.ids, id)
}

type pathCompiler struct {
	anywhere map[string][]PathID
	types    map[TypeCode]*pathTree
	any      *pathTree
	paths    Paths
}

// check refuses malformed rules, and notes the types that rules name.
func (c *pathCompiler) check(rule PathRule) error {
	head, tail, _ := strings.Cut(rule.Path, ".")
	elements := strings.Split(tail, ".")
	if slices.Contains(elements, "") {
		return fmt.Errorf("cannot compile path %q: an element is empty", rule.Path)
	}
	if head == "*" {
		return nil
	}
	if head == "**" {
		if len(elements) != 1 {
			return fmt.Errorf("cannot compile path %q: ** takes one element", rule.Path)
		}
		return nil
	}
	t := TypeByName([]byte(head))
	if t == 0 {
		return fmt.Errorf("cannot compile path %q: %q is no resource type", rule.Path, head)
	}
	c.types[t] = &pathTree{}
	return nil
}

func (c *pathCompiler) add(rule PathRule) {
	head, tail, _ := strings.Cut(rule.Path, ".")
	elements := strings.Split(tail, ".")
	switch head {
	case "**":
		c.anywhere[tail] = append(c.anywhere[tail], rule.ID)
	case "*":
		c.any.add(elements, rule.ID)
		for _, tree := range c.types {
			tree.add(elements, rule.ID)
		}
	default:
		c.types[TypeByName([]byte(head))].add(elements, rule.ID)
	}
}

func (c *pathCompiler) compile() *Paths {
	p := &c.paths
	p.nodes = make([]pathNode, 1)
	p.typed = len(c.types) > 0
	anywhere := &pathTree{children: map[string]*pathTree{}}
	for key := range c.anywhere {
		anywhere.children[key] = &pathTree{}
		p.lengths |= 1 << (uint(len(key)) % 64)
	}
	c.fill(0, anywhere)
	p.anyType = c.node("", c.any)
	for t := range p.roots {
		p.roots[t] = p.anyType
	}
	for t := TypeCode(1); t <= TypeMax; t++ {
		if tree := c.types[t]; tree != nil {
			p.roots[t] = c.node("", tree)
		}
	}
	return p
}

// node adds the state of the element named key.
func (c *pathCompiler) node(key string, tree *pathTree) uint32 {
	at := uint32(len(c.paths.nodes))
	ids := slices.Concat(tree.ids, c.anywhere[key])
	slices.Sort(ids)
	c.paths.nodes = append(c.paths.nodes, pathNode{ids: slices.Compact(ids), reference: key == referenceKey})
	c.fill(at, tree)
	return at
}

// fill gives the state at its children, in the order of their keys so that the
// same rules always give the same automaton.
func (c *pathCompiler) fill(at uint32, tree *pathTree) {
	if len(tree.children) == 0 {
		return
	}
	size := 2
	for size < 2*len(tree.children) {
		size *= 2
	}
	slots, mask := make([]pathSlot, size), uint32(size-1)
	keys := make([]string, 0, len(tree.children))
	for key := range tree.children {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		words := wordsOf([]byte(key))
		slot := words.hash()
		for slots[slot&mask].next != 0 {
			slot++
		}
		slots[slot&mask] = pathSlot{words, key, c.node(key, tree.children[key])}
	}
	c.paths.nodes[at].slots, c.paths.nodes[at].mask = slots, mask
}

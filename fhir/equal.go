package fhir

import (
	"bytes"
	"slices"
)

// EqualContent tells whether two bodies hold the same content: JSON values are
// compared, so the order of keys and the escapes of strings do not count; the
// text of numbers does. At the top level `"meta":{}` equals no meta. Both must be
// bodies that Scan gave; a text that is not valid JSON equals only itself.
func EqualContent(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	left, right := contentTree{src: a}, contentTree{src: b}
	if !left.read() || !right.read() {
		return false
	}
	return equalObjects(&left, &right, left.topLevel(), right.topLevel())
}

// contentTree is a JSON text taken apart into nodes, each child after its parent.
type contentTree struct {
	src   []byte
	nodes []contentNode
	scan  Scanner
}

type contentNode struct {
	first byte   // of the value's text: tells the kind
	key   []byte // unescaped; nil in arrays
	text  []byte // of a string unescaped, of other scalars as it is
	kids  []int32
}

// read takes src apart; false when it is not a JSON object.
func (t *contentTree) read() bool {
	t.scan.src, t.scan.paths = t.src, noPaths
	if len(t.src) > SourceBytesMax {
		return false
	}
	_, end := t.value(0)
	return end >= 0 && t.nodes[0].first == '{' && t.scan.blanks(end) == len(t.src)
}

// value reads the value at i into a new node; end is -1 when it is malformed.
func (t *contentTree) value(i int) (node int32, end int) {
	s := &t.scan
	if i = s.blanks(i); i >= len(t.src) {
		return 0, -1
	}
	node = int32(len(t.nodes))
	t.nodes = append(t.nodes, contentNode{first: t.src[i]})
	switch t.src[i] {
	case '{', '[':
		return node, t.children(node, i)
	case '"':
		text, end := s.string(i)
		t.nodes[node].text = s.lasting(text)
		return node, end
	}
	if end = s.scalar(i); end >= 0 {
		t.nodes[node].text = t.src[i:end]
	}
	return node, end
}

func (t *contentTree) children(node int32, i int) int {
	s := &t.scan
	closer := t.src[i] + ('}' - '{')
	if i = s.open(i); i < 0 {
		return -1
	}
	var kids []int32
	for first := true; i < len(t.src) && t.src[i] != closer; first = false {
		if !first {
			if t.src[i] != ',' {
				return -1
			}
			i = s.blanks(i + 1)
		}
		var kid int32
		if kid, i = t.child(i, closer); i < 0 {
			return -1
		}
		kids = append(kids, kid)
		i = s.blanks(i)
	}
	if i >= len(t.src) {
		return -1
	}
	s.depth--
	t.nodes[node].kids = kids
	return i + 1
}

func (t *contentTree) child(i int, closer byte) (node int32, end int) {
	if closer == ']' {
		return t.value(i)
	}
	key, at := t.scan.key(i)
	if at < 0 {
		return 0, -1
	}
	key = t.scan.lasting(key)
	if node, end = t.value(at); end >= 0 {
		t.nodes[node].key = key
	}
	return node, end
}

// topLevel lists the top object's members without an empty meta.
func (t *contentTree) topLevel() []int32 {
	return slices.DeleteFunc(slices.Clone(t.nodes[0].kids), func(kid int32) bool {
		n := &t.nodes[kid]
		return n.first == '{' && len(n.kids) == 0 && string(n.key) == "meta"
	})
}

func equalNodes(a, b *contentTree, left, right int32) bool {
	l, r := &a.nodes[left], &b.nodes[right]
	if l.first == '{' && r.first == '{' {
		return equalObjects(a, b, l.kids, r.kids)
	}
	if l.first != r.first || len(l.kids) != len(r.kids) || !bytes.Equal(l.text, r.text) {
		return false
	}
	for i := range l.kids {
		if !equalNodes(a, b, l.kids[i], r.kids[i]) {
			return false
		}
	}
	return true
}

// equalObjects compares members by key. Keys that are repeated (which only inner
// objects can have) are compared in the order in which they come.
func equalObjects(a, b *contentTree, left, right []int32) bool {
	if len(left) != len(right) {
		return false
	}
	left, right = a.sorted(left), b.sorted(right)
	for i := range left {
		if !bytes.Equal(a.nodes[left[i]].key, b.nodes[right[i]].key) || !equalNodes(a, b, left[i], right[i]) {
			return false
		}
	}
	return true
}

func (t *contentTree) sorted(kids []int32) []int32 {
	kids = slices.Clone(kids)
	slices.SortStableFunc(kids, func(x, y int32) int { return bytes.Compare(t.nodes[x].key, t.nodes[y].key) })
	return kids
}

package patch

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// node is a JSON value. Until it is opened it is a piece of text; an object or
// array that is open is its members.
type node struct {
	text    []byte // checked and minified JSON; what counts while not open
	open    bool
	emptied bool // a removal took the last member
	members []member
}

// member is a member of an object or an element of an array.
type member struct {
	quoted []byte // the key as it is written, with quotes; nil in arrays
	key    string
	value  *node
}

func newNode(text []byte) *node { return &node{text: text} }

// parseTree checks a text and makes a tree of it.
func parseTree(text []byte) (*node, error) {
	checked, err := fhir.Minify(text)
	if err != nil {
		return nil, err
	}
	return newNode(checked), nil
}

func (n *node) isObject() bool { return n.text[0] == '{' }
func (n *node) isArray() bool  { return n.text[0] == '[' }
func (n *node) isString() bool { return n.text[0] == '"' }
func (n *node) isNull() bool   { return n.text[0] == 'n' }

// str is the characters of a string, and the text of another scalar.
func (n *node) str() string {
	if n.isString() {
		return string(fhir.AppendText(nil, n.text))
	}
	return string(n.text)
}

// list returns the members of an object or array.
func (n *node) list() []member {
	if !n.open {
		n.open = true
		n.split()
	}
	return n.members
}

// split takes the text of an object or array apart, one level.
func (n *node) split() {
	if !n.isObject() && !n.isArray() {
		return
	}
	if n.isArray() {
		fhir.Elements(n.text, 0, func(at, end int) bool {
			n.members = append(n.members, member{value: newNode(n.text[at:end:end])})
			return true
		})
		return
	}
	keyAt := 1
	fhir.Members(n.text, 0, func(key []byte, at, end int) bool {
		if n.text[keyAt] == ',' {
			keyAt++
		}
		n.members = append(n.members, member{quoted: n.text[keyAt : at-1 : at-1], key: string(key), value: newNode(n.text[at:end:end])})
		keyAt = end
		return true
	})
}

// find returns the place of a key, or -1. A key that is there twice is refused,
// since nobody could say which of the two is meant.
func (n *node) find(key string) (int, error) {
	at := -1
	for i, m := range n.list() {
		if m.key != key {
			continue
		}
		if at >= 0 {
			return 0, notApplicable("The key '%s' is there twice.", key)
		}
		at = i
	}
	return at, nil
}

// get returns a member's value; nil when there is none.
func (n *node) get(key string) (*node, error) {
	at, err := n.find(key)
	if err != nil || at < 0 {
		return nil, err
	}
	return n.members[at].value, nil
}

// set replaces or appends the member of an object.
func (n *node) set(key string, value *node) error {
	at, err := n.find(key)
	if err != nil {
		return err
	}
	if at >= 0 {
		n.members[at].value = value
		return nil
	}
	n.members = append(n.members, member{quoted: appendQuoted(nil, key), key: key, value: value})
	return nil
}

// rename gives a member another key; its place stays.
func (n *node) rename(at int, key string) {
	n.members[at].quoted, n.members[at].key = appendQuoted(nil, key), key
}

func (n *node) insert(at int, value *node) {
	n.members = slices.Insert(n.list(), at, member{value: value})
}

func (n *node) remove(at int) *node {
	value := n.list()[at].value
	n.members = slices.Delete(n.members, at, at+1)
	n.emptied = len(n.members) == 0
	return value
}

func (n *node) removeKeys(keys map[string]bool) {
	before := len(n.list())
	n.members = slices.DeleteFunc(n.members, func(m member) bool { return keys[m.key] })
	n.emptied = n.emptied || before > 0 && len(n.members) == 0
}

func (n *node) isEmptied() bool { return n.open && n.emptied && len(n.members) == 0 }

// prune leaves out what removals have emptied, from the leaves up. An emptied
// element of an array whose places count (a "_given") becomes null.
func (n *node) prune(placesCount bool) {
	if !n.open {
		return
	}
	for i := len(n.members) - 1; i >= 0; i-- {
		m := &n.members[i]
		m.value.prune(strings.HasPrefix(m.key, "_"))
		if !m.value.isEmptied() {
			continue
		}
		if placesCount && n.isArray() {
			m.value = newNode([]byte("null"))
			continue
		}
		n.remove(i)
	}
}

// size is the length of the node's text, as append would make it.
func (n *node) size() int {
	if !n.open || !n.isObject() && !n.isArray() {
		return len(n.text)
	}
	total := 2 + max(0, len(n.members)-1)
	for _, m := range n.members {
		if m.quoted != nil {
			total += len(m.quoted) + 1
		}
		total += m.value.size()
	}
	return total
}

func (n *node) append(dst []byte) []byte {
	if !n.open || !n.isObject() && !n.isArray() {
		return append(dst, n.text...)
	}
	dst = append(dst, n.text[0])
	for i, m := range n.members {
		if i > 0 {
			dst = append(dst, ',')
		}
		if m.quoted != nil {
			dst = append(append(dst, m.quoted...), ':')
		}
		dst = m.value.append(dst)
	}
	return append(dst, n.text[0]+('}'-'{'))
}

// copy is the node as it is now, apart from the original.
func (n *node) copy() *node { return newNode(n.append(make([]byte, 0, n.size()))) }

// appendQuoted appends a JSON string of valid UTF-8.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

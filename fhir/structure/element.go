package structure

import (
	"iter"
	"strings"
	"sync"
)

// Element is one member of a resource or of a data type, for whoever walks
// resources by their types. Its Types are shared: they must not be changed.
type Element struct {
	List      bool
	Mandatory bool // at least one
	Summary   bool
	Modifier  bool // it may change what the others mean
	// Choice: the member's key is the name and one of Types, as in valueQuantity.
	Choice bool
	// Types are the types that the element may have, such as "HumanName"; the
	// path of an element whose members are defined in place, as "Patient.contact".
	Types []string
}

// primitiveNames are those of the kinds that have no children.
var primitiveNames = [...]string{
	kindBoolean: "boolean", kindInteger: "integer", kindUnsignedInt: "unsignedInt", kindPositiveInt: "positiveInt", kindDecimal: "decimal",
	kindString: "string", kindMarkdown: "markdown", kindCode: "code", kindID: "id", kindURI: "uri", kindURL: "url", kindCanonical: "canonical",
	kindOID: "oid", kindUUID: "uuid", kindDate: "date", kindDateTime: "dateTime", kindInstant: "instant", kindTime: "time",
	kindBase64Binary: "base64Binary", kindXHTML: "xhtml", kindResource: "Resource",
}

// elementTable is the table of members as others ask for it.
type elementTable struct {
	nodes   map[string]uint16 // by path
	members []Element         // by member; a choice has one type
}

var elements = sync.OnceValue(func() *elementTable {
	t := &elementTable{nodes: make(map[string]uint16, len(nodes)), members: make([]Element, len(members))}
	for k, name := range primitiveNames {
		if kind(k) != kindResource && kind(k) != kindXHTML {
			t.nodes[name] = nodeElement // an id and extensions
		}
	}
	delete(t.nodes, "")
	for n := range nodes {
		t.nodes[nodes[n].path] = uint16(n)
		for i := nodes[n].first; i < nodes[n].end; i++ {
			if m := &members[i]; m.kind != kindResourceType {
				t.members[i] = m.asElement(nodes[n].required>>m.element&1 != 0)
			}
		}
	}
	return t
})

func (m *member) asElement(mandatory bool) Element {
	e := Element{List: m.is(many), Mandatory: mandatory, Summary: m.is(summary), Modifier: m.is(modifier), Choice: m.is(choice)}
	if m.kind >= kindNode {
		e.Types = []string{nodes[m.kind-kindNode].path}
	} else {
		e.Types = []string{primitiveNames[m.kind]}
	}
	return e
}

// Of returns the element of that name in a parent: a resource type, a data type,
// or the path of an element with members of its own. A choice has the name
// without "[x]". ok is false when R4 has no such element.
func Of(parent, name string) (e Element, ok bool) {
	t := elements()
	n, ok := t.nodes[parent]
	if !ok {
		return Element{}, false
	}
	var types []string
	for i := nodes[n].first; i < nodes[n].end; i++ {
		m := &members[i]
		if m.kind != kindResourceType && m.key[:m.name] == name {
			e = t.members[i]
			types = append(types, e.Types...)
		}
	}
	e.Types = types
	return e, len(types) > 0
}

// ByKey is Of for a JSON key, in which a choice carries its type; the result's
// Types then hold that one.
func ByKey(parent, key string) (name string, e Element, ok bool) {
	t := elements()
	n, ok := t.nodes[parent]
	if !ok {
		return "", Element{}, false
	}
	i := table.find(n, []byte(key))
	if i == 0 || members[i].kind == kindResourceType {
		return "", Element{}, false
	}
	return key[:members[i].name], t.members[i], true
}

// Keys are the JSON keys of a parent in R4's order, each with what ByKey gives for
// it; none when R4 has no such parent. resourceType is not among them.
func Keys(parent string) iter.Seq2[string, Element] {
	return func(yield func(string, Element) bool) {
		t := elements()
		n, ok := t.nodes[parent]
		if !ok {
			return
		}
		for i := nodes[n].first; i < nodes[n].end; i++ {
			if members[i].kind != kindResourceType && !yield(members[i].key, t.members[i]) {
				return
			}
		}
	}
}

// Suffix is what a type adds to the key of a choice: "dateTime" gives "DateTime".
func Suffix(typeName string) string {
	if typeName == "" {
		return ""
	}
	return strings.ToUpper(typeName[:1]) + typeName[1:]
}

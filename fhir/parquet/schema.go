package parquet

import (
	"cmp"
	"slices"
	"strings"

	lib "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"kiln/fhir/structure"
)

// SchemaVersion is written into each file (key "kiln.schemaVersion"); it goes up
// when a type's columns change.
const SchemaVersion = 1

const (
	// groupDepthMax is how deep groups nest below the resource: Patient.contact.name.period
	// is 3. Deeper objects are JSON: R4's deepest types would have ten thousands of columns.
	groupDepthMax = 4
	// openChoiceTypes tells a choice that is open to all types (R4 has 50) from one
	// that names its own (at most 17).
	openChoiceTypes = 40
	// otherName is the column of what has no other. No element begins so.
	otherName = "_other"
)

// kind is what a column holds.
type kind uint8

const (
	group kind = iota
	boolean
	integer
	decimal // its text
	text
	document // JSON
)

// column is a node of a schema.
type column struct {
	name     string
	kind     kind
	list     bool
	isLong   bool               // a text that hardly repeats
	order    int                // among its parent's children
	children []*column          // of a group, by name: the order of the library's
	byKey    map[string]*column // of a group, without otherName
	other    *column            // of a group
	// leaf is the number of the column's first leaf, leaves how many it has.
	leaf, leaves int
	// defined is the definition level of a value that is there; that of an array's
	// elements is one more than that of the array's being there, twice.
	defined, repeated int
	// nulls are its leaves' values where the column is missing and nothing repeats.
	nulls []lib.Value
}

// typeColumns is the schema of a resource type; its root is required.
func typeColumns(resourceType string) *column {
	root := &column{name: resourceType}
	b := builder{within: []string{resourceType}}
	b.fill(root, resourceType, true)
	leaf := 0
	root.number(&leaf)
	return root
}

// builder makes the columns of a type; within are the types that a column is in.
type builder struct {
	within []string
}

func (b *builder) fill(c *column, parent string, isResource bool) {
	c.byKey = map[string]*column{}
	for key, e := range structure.Keys(parent) {
		if key == "id" && !isResource {
			continue // rare; in _other
		}
		child := b.child(c, parent, key, e)
		c.children = append(c.children, child)
		c.byKey[key] = child
	}
	c.other = &column{name: otherName, kind: document, isLong: true, defined: c.defined + 1, repeated: c.repeated}
	c.children = append(c.children, c.other)
	slices.SortFunc(c.children, func(a, b *column) int { return cmp.Compare(a.name, b.name) })
	for i, child := range c.children {
		child.order = i
	}
}

// isRoot tells the resource itself from what is in it.
func (c *column) isRoot() bool { return c.defined == 0 }

func (b *builder) child(parent *column, path, key string, e structure.Element) *column {
	c := &column{name: key, list: e.List, defined: parent.defined + 1, repeated: parent.repeated}
	if e.List {
		c.defined += 2
		c.repeated++
	}
	name := e.Types[0]
	switch name {
	case "boolean":
		c.kind = boolean
	case "integer", "positiveInt", "unsignedInt":
		c.kind = integer
	case "decimal":
		c.kind = decimal
	case "Extension", "Resource":
		c.document()
	default:
		switch {
		case isPrimitive(name):
			c.kind = text
			c.isLong = name == "xhtml" || name == "base64Binary" || name == "markdown"
		case len(b.within) > groupDepthMax || slices.Contains(b.within, name) || isOpen(path, key, e):
			c.document()
		default:
			b.within = append(b.within, name)
			b.fill(c, name, false)
			b.within = b.within[:len(b.within)-1]
		}
	}
	return c
}

// document makes the column JSON: an array is one text.
func (c *column) document() {
	if c.list {
		c.defined -= 2
		c.repeated--
	}
	c.kind, c.list, c.isLong = document, false, true
}

// isPrimitive: data types begin with a capital, and so do the paths of elements
// with members of their own.
func isPrimitive(name string) bool { return strings.ToLower(name[:1]) == name[:1] }

// isOpen tells a choice that may have any type.
func isOpen(parent, key string, e structure.Element) bool {
	if !e.Choice {
		return false
	}
	name, _, _ := structure.ByKey(parent, key)
	all, _ := structure.Of(parent, name)
	return len(all.Types) >= openChoiceTypes
}

func (c *column) number(next *int) {
	c.leaf = *next
	if c.kind != group {
		*next++
	}
	for _, child := range c.children {
		child.number(next)
	}
	c.leaves = *next - c.leaf
	for leaf := range c.leaves {
		c.nulls = append(c.nulls, lib.Value{}.Level(0, c.missing(), c.leaf+leaf))
	}
}

// missing is the definition level that tells that the column is not there.
func (c *column) missing() int {
	if c.list {
		return c.defined - 3
	}
	return max(0, c.defined-1) // the resource itself is always there
}

// node is the column as the library wants it. Its groups order their members by
// name too. All columns share one codec, which keeps encoders of a megabyte each.
func (c *column) node(codec compress.Codec) lib.Node {
	var n lib.Node
	switch c.kind {
	case group:
		n = c.members(codec)
	case boolean:
		n = lib.Leaf(lib.BooleanType)
	case integer:
		n = lib.Int(32)
	case decimal, text:
		n = lib.String()
	case document:
		n = lib.JSON()
	}
	if c.kind != group {
		n = lib.Compressed(n, codec)
	}
	if c.kind == text && !c.isLong {
		n = lib.Encoded(n, &lib.RLEDictionary)
	}
	if c.list {
		n = lib.List(lib.Optional(n))
	}
	return n
}

// members is a group's node without its being optional or repeated.
func (c *column) members(codec compress.Codec) lib.Group {
	g := lib.Group{}
	for _, child := range c.children {
		g[child.name] = lib.Optional(child.node(codec))
	}
	return g
}

package terminology

import "strings"

// codeSystem is a CodeSystem with its concepts.
type codeSystem struct {
	identity
	id            string
	content       string
	hierarchy     string
	compositional bool
	count         int               // -1: not said
	defined       map[string]string // properties: code to uri
	concepts      []concept
	properties    []property // of the concepts, one after the other
	byCode        map[string]int32
	broken        string

	up, down *edges // made when asked for
}

// concept is one concept; parent is the one that it is nested in, or -1.
type concept struct {
	code     string
	parent   int32
	from, to int32 // in properties
}

// property is a value of a concept. kind is what follows "value": "Code".
type property struct{ code, kind, text string }

// propertyURIs begins the uris of the properties that R4 defines.
const propertyURIs = "http://hl7.org/fhir/concept-properties#"

// parseCodeSystem reads a CodeSystem. tick is called for each concept, and its
// error ends the work.
func parseCodeSystem(id string, body []byte, tick func() error) (*codeSystem, error) {
	r := &codeSystemReader{tick: tick, c: &codeSystem{
		id: id, count: -1, defined: map[string]string{}, byCode: map[string]int32{},
	}}
	r.members("CodeSystem", body, func(key []byte, value node) {
		switch string(key) {
		case "content":
			r.c.content = r.text("content", value)
		case "hierarchyMeaning":
			r.c.hierarchy = r.text("hierarchyMeaning", value)
		case "compositional":
			r.c.compositional = r.flag("compositional", value)
		case "count":
			r.c.count = r.integer("count", value)
		case "property":
			r.elements("property", value, r.definition)
		case "concept":
			r.nested(value, -1, 0)
		default:
			r.c.read(&r.shape, key, value)
		}
	})
	r.c.broken = r.bad
	return r.c, r.err
}

type codeSystemReader struct {
	shape
	c    *codeSystem
	tick func() error
	err  error
}

// definition reads what a property is.
func (r *codeSystemReader) definition(n node) {
	code, uri := "", ""
	r.members("property", n, func(key []byte, value node) {
		switch string(key) {
		case "code":
			code = r.text("property.code", value)
		case "uri":
			uri = r.text("property.uri", value)
		}
	})
	if old, twice := r.c.defined[code]; code == "" || twice && old != uri {
		r.fail("property")
	}
	r.c.defined[code] = uri
}

// nested reads concepts inside of the parent-th; -1: of the top.
func (r *codeSystemReader) nested(n node, parent int32, depth int) {
	if depth > conceptDepthMax {
		r.fail("concept")
		return
	}
	r.elements("concept", n, func(n node) {
		if r.err == nil {
			r.err = r.tick()
		}
		if r.err == nil {
			r.concept(n, parent, depth)
		}
	})
}

func (r *codeSystemReader) concept(n node, parent int32, depth int) {
	at := int32(len(r.c.concepts))
	c := concept{parent: parent, from: int32(len(r.c.properties))}
	var inside []node
	r.members("concept", n, func(key []byte, value node) {
		switch string(key) {
		case "code":
			c.code = r.text("concept.code", value)
		case "property":
			r.elements("concept.property", value, r.property)
		case "concept":
			inside = append(inside, value)
		}
	})
	c.to = int32(len(r.c.properties))
	if _, twice := r.c.byCode[c.code]; c.code == "" || twice { // csd-1
		r.fail("concept.code")
		return
	}
	r.c.byCode[c.code] = at
	r.c.concepts = append(r.c.concepts, c)
	for _, n := range inside {
		r.nested(n, at, depth+1)
	}
}

// property reads a value of a concept's property; a Coding is its code.
func (r *codeSystemReader) property(n node) {
	var p property
	r.members("concept.property", n, func(key []byte, value node) {
		kind, isValue := strings.CutPrefix(string(key), "value")
		switch {
		case string(key) == "code":
			p.code = r.text("concept.property.code", value)
		case isValue && len(value) > 0 && value[0] == '"':
			p.kind, p.text = kind, r.text("concept.property.value", value)
		case isValue:
			p.kind, p.text = kind, string(value)
		}
	})
	if p.code == "" || p.kind == "" {
		r.fail("concept.property")
	}
	r.c.properties = append(r.c.properties, p)
}

// means tells whether a property is the one that R4 defines by this name: by its
// uri or, when it has none, by its code.
func (c *codeSystem) means(code, name string) bool {
	uri, defined := c.defined[code]
	if defined && uri != "" {
		return uri == propertyURIs+name
	}
	return code == name
}

// of gives a concept's properties.
func (c *codeSystem) of(i int32) []property {
	return c.properties[c.concepts[i].from:c.concepts[i].to]
}

// isInactive tells whether a concept is not in use any more.
func (c *codeSystem) isInactive(i int32) bool {
	for _, p := range c.of(i) {
		if c.means(p.code, "inactive") && p.text == "true" || c.means(p.code, "status") && (p.text == "retired" || p.text == "inactive") {
			return true
		}
	}
	return false
}

// isAbstract tells whether a concept is there to group others, and for no use by
// itself.
func (c *codeSystem) isAbstract(i int32) bool {
	for _, p := range c.of(i) {
		if c.means(p.code, "notSelectable") && p.text == "true" {
			return true
		}
	}
	return false
}

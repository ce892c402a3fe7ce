package terminology

import "bytes"

// valueSet is a ValueSet as far as its codes are concerned.
type valueSet struct {
	identity
	id        string
	compose   *compose
	expansion *expansion
	// broken names what is not built as R4 says; "": nothing.
	broken string
}

// compose is the definition of a set.
type compose struct {
	lockedDate string
	activeOnly bool // inactive is false
	include    []criteria
	exclude    []criteria
}

// criteria are the codes that are of the system, among the concepts, pass the
// filters, and are in all of the value sets, whichever are given.
type criteria struct {
	system, version string
	concepts        []string
	filters         []propertyFilter
	valueSets       []string
}

// propertyFilter chooses concepts of a code system.
type propertyFilter struct{ property, op, value string }

// expansion is the codes of a set at some time.
type expansion struct {
	codes    []Code
	abstract []Code // entries for finding one's way, with a code that is not for use
	system   string // of the last entry
	// doubt says why codes may be missing; "": none are.
	doubt string
}

// The extensions of an expansion by which a server says that codes are missing.
const (
	extensionUnclosed  = "http://hl7.org/fhir/StructureDefinition/valueset-unclosed"
	extensionTooCostly = "http://hl7.org/fhir/StructureDefinition/valueset-toocostly"
)

// parseValueSet reads a ValueSet.
func parseValueSet(id string, body []byte) *valueSet {
	s, v := &shape{}, &valueSet{id: id}
	s.members("ValueSet", body, func(key []byte, value node) {
		switch string(key) {
		case "compose":
			v.compose = readCompose(s, value)
		case "expansion":
			v.expansion = readExpansion(s, value)
		default:
			v.read(s, key, value)
		}
	})
	v.broken = s.bad
	return v
}

func readCompose(s *shape, n node) *compose {
	c := &compose{}
	s.members("compose", n, func(key []byte, value node) {
		switch string(key) {
		case "lockedDate":
			c.lockedDate = s.text("compose.lockedDate", value)
		case "inactive":
			c.activeOnly = !s.flag("compose.inactive", value)
		case "include":
			s.elements("compose.include", value, func(n node) { c.include = append(c.include, readCriteria(s, "compose.include", n)) })
		case "exclude":
			s.elements("compose.exclude", value, func(n node) { c.exclude = append(c.exclude, readCriteria(s, "compose.exclude", n)) })
		}
	})
	return c
}

func readCriteria(s *shape, what string, n node) (c criteria) {
	s.members(what, n, func(key []byte, value node) {
		switch string(key) {
		case "system":
			c.system = s.text(what+".system", value)
		case "version":
			c.version = s.text(what+".version", value)
		case "concept":
			s.elements(what+".concept", value, func(n node) { c.concepts = append(c.concepts, readConcept(s, what+".concept", n)) })
		case "filter":
			s.elements(what+".filter", value, func(n node) { c.filters = append(c.filters, readFilter(s, what+".filter", n)) })
		case "valueSet":
			s.elements(what+".valueSet", value, func(n node) { c.valueSets = append(c.valueSets, s.text(what+".valueSet", n)) })
		}
	})
	if c.system == "" && len(c.valueSets) == 0 || c.system == "" && len(c.concepts)+len(c.filters) > 0 || len(c.concepts) > 0 && len(c.filters) > 0 {
		s.fail(what) // vsd-1, vsd-2, vsd-3
	}
	return c
}

func readConcept(s *shape, what string, n node) (code string) {
	s.members(what, n, func(key []byte, value node) {
		if string(key) == "code" {
			code = s.text(what+".code", value)
		}
	})
	if code == "" {
		s.fail(what + ".code")
	}
	return code
}

func readFilter(s *shape, what string, n node) (f propertyFilter) {
	s.members(what, n, func(key []byte, value node) {
		switch string(key) {
		case "property":
			f.property = s.text(what+".property", value)
		case "op":
			f.op = s.text(what+".op", value)
		case "value":
			f.value = s.text(what+".value", value)
		}
	})
	if f.property == "" || f.op == "" || f.value == "" {
		s.fail(what)
	}
	return f
}

// readExpansion reads an expansion and looks for signs that it is not whole.
func readExpansion(s *shape, n node) *expansion {
	e := &expansion{}
	total, nodes, paged := -1, 0, false
	s.members("expansion", n, func(key []byte, value node) {
		switch string(key) {
		case "total":
			total = s.integer("expansion.total", value)
		case "offset":
			if s.integer("expansion.offset", value) != 0 {
				e.doubt = "it does not begin with the first code"
			}
		case "extension":
			s.elements("expansion.extension", value, func(n node) { e.extension(s, n) })
		case "parameter":
			s.elements("expansion.parameter", value, func(n node) { paged = e.parameter(s, n) || paged })
		case "contains":
			nodes = e.contains(s, value, 0)
		}
	})
	switch {
	case total > nodes:
		e.doubt = "its total is more than the codes it has"
	case total < 0 && paged:
		e.doubt = "it is a page, and has no total"
	}
	return e
}

// extension notes those that say that codes are missing.
func (e *expansion) extension(s *shape, n node) {
	url, set := "", false
	s.members("expansion.extension", n, func(key []byte, value node) {
		switch string(key) {
		case "url":
			url = s.text("expansion.extension.url", value)
		case "valueBoolean":
			set = s.flag("expansion.extension.valueBoolean", value)
		}
	})
	if set && (url == extensionUnclosed || url == extensionTooCostly) {
		e.doubt = "it says that there are more codes"
	}
}

// parameter notes what was asked for less than all by; paged: for one page.
func (e *expansion) parameter(s *shape, n node) (paged bool) {
	name, given := "", ""
	s.members("expansion.parameter", n, func(key []byte, value node) {
		switch {
		case string(key) == "name":
			name = s.text("expansion.parameter.name", value)
		case bytes.HasPrefix(key, []byte("value")):
			given = string(value)
		}
	})
	switch {
	case name == "count" || name == "offset":
		return true
	case name == "filter" && given != `""`, name == "limitedExpansion" && given != "false" && given != `"false"`:
		e.doubt = "it was made with the parameter '" + name + "'"
	}
	return false
}

// contains collects the codes of nested entries and counts all entries.
func (e *expansion) contains(s *shape, n node, depth int) (nodes int) {
	if depth > conceptDepthMax {
		s.fail("expansion.contains")
		return 0
	}
	s.elements("expansion.contains", n, func(n node) {
		nodes++
		var c Code
		abstract := false
		s.members("expansion.contains", n, func(key []byte, value node) {
			switch string(key) {
			case "system":
				c.System = s.name("expansion.contains.system", value, &e.system)
			case "code":
				c.Code = s.text("expansion.contains.code", value)
			case "abstract":
				abstract = s.flag("expansion.contains.abstract", value)
			case "contains":
				nodes += e.contains(s, value, depth+1)
			}
		})
		switch {
		case abstract && (c.Code == "" || c.System == ""):
		case abstract:
			e.abstract = append(e.abstract, c)
		case c.Code == "" || c.System == "": // vsd-9, vsd-10
			s.fail("expansion.contains")
		default:
			e.codes = append(e.codes, c)
		}
	})
	return nodes
}

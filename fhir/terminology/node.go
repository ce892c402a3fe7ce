package terminology

import (
	"bytes"
	"strconv"

	"kiln/fhir"
)

// node is the text of one JSON value that was checked and has no white space.
type node []byte

func (n node) isObject() bool { return len(n) > 0 && n[0] == '{' }
func (n node) isArray() bool  { return len(n) > 0 && n[0] == '[' }

// shape reads values and notes the first that is not of the kind that R4 has there.
// Resources are stored as they came, so anything can stand anywhere.
type shape struct{ bad string }

func (s *shape) fail(what string) {
	if s.bad == "" {
		s.bad = what
	}
}

// members calls fn for each member of an object.
func (s *shape) members(what string, n node, fn func(key []byte, value node)) {
	if !n.isObject() {
		s.fail(what)
		return
	}
	fhir.Members(n, 0, func(key []byte, at, end int) bool {
		if string(key) == "modifierExtension" || string(key) == "implicitRules" { // they may turn the meaning of what is beside them
			s.fail(what + "." + string(key))
			return false
		}
		fn(key, n[at:end])
		return true
	})
}

// elements calls fn for each element of an array.
func (s *shape) elements(what string, n node, fn func(value node)) {
	if !n.isArray() {
		s.fail(what)
		return
	}
	fhir.Elements(n, 0, func(at, end int) bool {
		fn(n[at:end])
		return true
	})
}

// name is text, for what many values have: it is the same string again while it does
// not change.
func (s *shape) name(what string, n node, last *string) string {
	if len(n) > 2 && string(n[1:len(n)-1]) == *last && bytes.IndexByte(n, '\\') < 0 {
		return *last
	}
	*last = s.text(what, n)
	return *last
}

// text is the text of a string.
func (s *shape) text(what string, n node) string {
	if len(n) == 0 || n[0] != '"' {
		s.fail(what)
		return ""
	}
	quoted := n[1 : len(n)-1]
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted)
	}
	return string(fhir.AppendText(nil, n))
}

// flag is a boolean.
func (s *shape) flag(what string, n node) bool {
	switch string(n) {
	case "true":
		return true
	case "false":
	default:
		s.fail(what)
	}
	return false
}

// integer is a whole number.
func (s *shape) integer(what string, n node) int {
	i, err := strconv.Atoi(string(n))
	if err != nil {
		s.fail(what)
	}
	return i
}

package fhir

import "bytes"

// Kind is the kind of a JSON value.
type Kind uint8

// The kinds of values a Visitor gets; objects come as Begin and End.
const (
	KindString Kind = iota + 1
	KindNumber
	KindBool
	KindNull
)

// Visitor gets the values that the Paths of a scan name, in source order.
// Arrays are transparent: each of their elements comes by itself.
type Visitor interface {
	// Value is called for a string, number, boolean or null. text is the
	// unescaped text of a string, without quotes, and the source text of the
	// others; it holds only until Value returns.
	Value(id PathID, kind Kind, text []byte)
	// Begin and End enclose the values inside an object.
	Begin(id PathID)
	End(id PathID)
}

// referenceKey names the members that hold references, at any depth.
const referenceKey = "reference"

// value checks the value at i and returns the offset just past it, or -1.
// state is the automaton's for this value, 0 when no path leads here.
func (s *Scanner) value(i int, state uint32) int {
	if state == 0 {
		return s.skip(i)
	}
	if i >= len(s.src) {
		return s.failEnd()
	}
	switch s.src[i] {
	case '{':
		s.begin(state)
		if i = s.object(i, rolePlain, state); i >= 0 {
			s.end(state)
		}
		return i
	case '[':
		return s.array(i, state, rolePlain)
	case '"':
		text, end := s.string(i)
		if end >= 0 {
			s.visitString(state, text)
		}
		return end
	}
	end := s.skip(i)
	if end >= 0 {
		s.visit(state, kindOf(s.src[i]), s.src[i:end])
	}
	return end
}

// array checks the array at i, whose elements have the array's own state.
func (s *Scanner) array(i int, state uint32, as role) int {
	if i = s.open(i); i < 0 {
		return -1
	}
	if s.src[i] == ']' {
		s.depth--
		return i + 1
	}
	for {
		if i = s.arrayElement(i, state, as); i < 0 {
			return -1
		}
		if i = s.blanks(i); i >= len(s.src) {
			return s.failEnd()
		}
		switch s.src[i] {
		case ',':
			i = s.blanks(i + 1)
		case ']':
			s.depth--
			return i + 1
		default:
			return s.failByte(i, "after an element of an array (expected ',' or ']')")
		}
	}
}

func (s *Scanner) arrayElement(i int, state uint32, as role) int {
	if as != roleExtension {
		return s.value(i, state)
	}
	s.meta.element = metaExtension{start: s.out(i)}
	end := 0
	if i < len(s.src) && s.src[i] == '{' {
		s.begin(state)
		if end = s.object(i, roleExtension, state); end >= 0 {
			s.end(state)
		}
	} else {
		end = s.value(i, state)
	}
	if end >= 0 {
		s.meta.element.end = s.out(end)
		s.meta.elements = append(s.meta.elements, s.meta.element)
	}
	return end
}

func (s *Scanner) visitString(state uint32, text []byte) {
	if s.paths.nodes[state].reference && bytes.IndexByte(text, '?') >= 0 {
		s.res.ConditionalReference = true
	}
	s.visit(state, KindString, text)
}

func (s *Scanner) visit(state uint32, kind Kind, text []byte) {
	for _, id := range s.paths.nodes[state].ids {
		s.visitor.Value(id, kind, text)
	}
}

func (s *Scanner) begin(state uint32) {
	for _, id := range s.paths.nodes[state].ids {
		s.visitor.Begin(id)
	}
}

func (s *Scanner) end(state uint32) {
	for _, id := range s.paths.nodes[state].ids {
		s.visitor.End(id)
	}
}

// kindOf tells the kind of a checked value that is no string from its first byte.
func kindOf(first byte) Kind {
	switch first {
	case 't', 'f':
		return KindBool
	case 'n':
		return KindNull
	}
	return KindNumber
}

// skip checks the value at i, at full speed, and returns the offset just past
// it, or -1. Only keys that matter at any depth are looked at.
func (s *Scanner) skip(i int) int {
	src := s.src
	base := s.depth
	var c byte
value:
	if uint(i) >= uint(len(src)) {
		return s.failEnd()
	}
	c = src[i]
	if c == '"' {
		if i = PlainEnd(src, i+1); i < len(src) && src[i] == '"' {
			i++
		} else if i = s.stringTail(i); i < 0 {
			return -1
		}
	} else if c == '{' || c == '[' {
		if s.depth >= DepthMax {
			return s.failDepth(i)
		}
		s.depth++
		c += '}' - '{' // the closing bracket of either kind
		s.closers[s.depth] = c
		if i++; i < len(src) && src[i] <= ' ' {
			i = s.blanks(i)
		}
		if i < len(src) && src[i] == c {
			s.depth--
			i++
		} else if c == '}' {
			goto key
		} else {
			goto value
		}
	} else if i = s.scalar(i); i < 0 {
		return -1
	}
after:
	if s.depth == base {
		return i
	}
	if uint(i) >= uint(len(src)) {
		return s.failEnd()
	}
	if c = src[i]; c == s.closers[s.depth] {
		s.depth--
		i++
		goto after
	}
	if c != ',' {
		if end := s.blanks(i); end > i {
			i = end
			goto after
		}
		return s.failByte(i, "after a value in an object or array")
	}
	if i++; i < len(src) && src[i] <= ' ' {
		i = s.blanks(i)
	}
	if s.closers[s.depth] == ']' {
		goto value
	}
key:
	if i = s.skipKey(i); i > 0 {
		goto value
	}
	if i = -i; i != 1 {
		goto after
	}
	return -1
}

// skipKey reads the key at i and returns the offset of its value; when the key
// matters at any depth, it reads the value too and returns minus the offset just
// past it. -1 is an error.
func (s *Scanner) skipKey(i int) int {
	src := s.src
	if i < len(src) && src[i] == '"' {
		start := i + 1
		end := PlainEnd(src, start)
		if end+1 < len(src) && src[end] == '"' && src[end+1] == ':' {
			i = end + 2
			if i < len(src) && src[i] <= ' ' {
				i = s.blanks(i)
			}
			if !s.paths.anywhereLength(end - start) {
				return i
			}
			return s.skipValueOf(src[start:end], i)
		}
	}
	key, at := s.key(i)
	if at < 0 {
		return -1
	}
	return s.skipValueOf(key, at)
}

func (s *Scanner) skipValueOf(key []byte, i int) int {
	state := s.paths.step(0, key)
	if state == 0 {
		return i
	}
	if i = s.value(i, state); i < 0 {
		return -1
	}
	return -i
}

// scalar checks the number, true, false or null at i.
func (s *Scanner) scalar(i int) int {
	switch s.src[i] {
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return s.number(i)
	}
	return s.failByte(i, "at the start of a value")
}

func (s *Scanner) literal(i int, word string) int {
	if len(s.src)-i < len(word) || string(s.src[i:i+len(word)]) != word {
		return s.fail(i, ErrSyntax, "not a value (expected "+word+")")
	}
	return i + len(word)
}

// number checks the number at i against the grammar of RFC 8259, section 6.
func (s *Scanner) number(i int) int {
	src := s.src
	if src[i] == '-' {
		i++
	}
	if i < len(src) && src[i] == '0' {
		i++
	} else if i = s.digits(i); i < 0 {
		return -1
	}
	if i < len(src) && src[i] == '.' {
		if i = s.digits(i + 1); i < 0 {
			return -1
		}
	}
	if i < len(src) && src[i]|0x20 == 'e' {
		if i++; i < len(src) && (src[i] == '+' || src[i] == '-') {
			i++
		}
		return s.digits(i)
	}
	return i
}

// digits steps over one or more digits.
func (s *Scanner) digits(i int) int {
	start := i
	for i < len(s.src) && '0' <= s.src[i] && s.src[i] <= '9' {
		i++
	}
	if i > start {
		return i
	}
	if i >= len(s.src) {
		return s.failEnd()
	}
	return s.failByte(i, "in a number (expected a digit)")
}

package structure

import "kiln/fhir"

// value checks the value at i of a member and returns the offset just past it.
func (c *Checker) value(i int, m *member, sibling bool, o *open) int {
	k := m.kind
	if sibling {
		k = kindNode + nodeElement
	}
	isArray := c.src[i] == '['
	switch {
	case isArray && m.is(many):
		return c.array(i, k, m, sibling, o)
	case isArray:
		c.report(CodeStructure, "There can be only one: expected %s, found an array.", kindText(k))
		return c.skip(i)
	case m.is(many):
		c.report(CodeStructure, "The element can repeat: expected an array, found %s.", found(c.src[i]))
		return c.skip(i)
	}
	return c.single(i, k, m)
}

// array checks the array at i, whose elements have kind k.
func (c *Checker) array(i int, k kind, m *member, sibling bool, o *open) int {
	i = c.blanks(i + 1)
	if c.src[i] == ']' {
		c.report(CodeStructure, "The array is empty; leave the element out.")
		return i + 1
	}
	for index := int32(0); ; index++ {
		c.frames[c.depth-1].index = index
		if c.src[i] == 'n' && m.kind.isPrimitive() {
			if i += len("null"); !sibling {
				o.nulls |= 1 << m.element
			}
		} else {
			i = c.single(i, k, m)
		}
		if i = c.blanks(i); c.src[i] == ']' {
			return i + 1
		}
		i = c.blanks(i + 1)
	}
}

// single checks the one value at i.
func (c *Checker) single(i int, k kind, m *member) int {
	switch {
	case k >= kindNode:
		return c.object(i, uint16(k-kindNode), false)
	case k.isPrimitive():
		return c.primitive(i, k)
	case k == kindResource:
		return c.resource(i, m.is(contained))
	}
	return c.skip(i) // the resourceType was read when the resource began
}

func (c *Checker) primitive(i int, k kind) int {
	switch first := c.src[i]; {
	case first == '"':
		if k > kindDecimal {
			return c.stringOf(i, k)
		}
	case first == '-' || '0' <= first && first <= '9':
		if kindInteger <= k && k <= kindDecimal {
			end := c.scalarEnd(i)
			if !validNumber(k, c.src[i:end]) {
				c.badValue(k, c.src[i:end])
			}
			return end
		}
	case first == 't' || first == 'f':
		if k == kindBoolean {
			return c.scalarEnd(i)
		}
	}
	return c.wrongType(i, k)
}

// stringOf checks the string at i. Only an escape can bring in a control
// character: the scanner refuses them elsewhere.
func (c *Checker) stringOf(i int, k kind) int {
	start := i + 1
	end := fhir.PlainEnd(c.src, start)
	if c.src[end] == '"' {
		if text := c.src[start:end]; !validString(k, text) {
			c.badValue(k, text)
		}
		return end + 1
	}
	text, end := c.string(i)
	if hasControl(text) || !validString(k, text) {
		c.badValue(k, text)
	}
	return end
}

// key reads the key at i and returns it unescaped, and the offset of the value.
func (c *Checker) key(i int) (key []byte, at int) {
	start := i + 1
	end := fhir.PlainEnd(c.src, start)
	if c.src[end] == '"' {
		key, i = c.src[start:end], end+1
	} else {
		key, i = c.string(i)
	}
	if c.src[i] != ':' {
		i = c.blanks(i)
	}
	return key, c.blanks(i + 1)
}

// string reads the string at i. The text is unescaped; it aliases src when
// nothing was escaped, c.text otherwise. end is just past the quote.
func (c *Checker) string(i int) (text []byte, end int) {
	end, escaped := c.stringEnd(i)
	text = c.src[i+1 : end-1]
	if escaped {
		c.text = fhir.AppendUnescaped(c.text[:0], text)
		text = c.text
	}
	return text, end
}

// stringEnd is the offset just past the string at i.
func (c *Checker) stringEnd(i int) (end int, escaped bool) {
	for i++; ; {
		switch i = fhir.PlainEnd(c.src, i); c.src[i] {
		case '"':
			return i + 1, escaped
		case '\\':
			escaped = true
			i += 2
		default:
			i++
		}
	}
}

// skip steps over the value at i.
func (c *Checker) skip(i int) int {
	for depth := 0; ; {
		switch c.src[i] {
		case '"':
			i, _ = c.stringEnd(i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ' ', '\n', '\r', '\t', ',', ':':
			i++
			continue
		default:
			i = c.scalarEnd(i)
		}
		if depth == 0 {
			return i
		}
	}
}

// scalarEnd is the offset just past the number, true, false or null at i.
func (c *Checker) scalarEnd(i int) int {
	for i < len(c.src) && c.src[i] > ' ' && c.src[i] != ',' && c.src[i] != '}' && c.src[i] != ']' {
		i++
	}
	return i
}

// blanks steps over white space at i.
func (c *Checker) blanks(i int) int {
	for c.src[i] <= ' ' {
		i++
	}
	return i
}

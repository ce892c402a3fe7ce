package structure

import "math/bits"

// open is what is known of the members of an object while it is read; the bits
// are those of elements in the node.
type open struct {
	node      uint16
	contained bool // it is a contained resource
	places    int  // how many places there were before
	values    uint64
	siblings  uint64
	nulls     uint64 // arrays of primitives with a null in them
}

// resource checks the resource at i and returns the offset just past it.
func (c *Checker) resource(i int, isContained bool) int {
	if c.src[i] != '{' {
		return c.wrongType(i, kindResource)
	}
	name, ok := c.typeName(i)
	if !ok {
		c.report(CodeRequired, "The resource has no resourceType, or it is not a string.")
		return c.skip(i)
	}
	n, known := resourceNode(name)
	if !known {
		c.report(CodeStructure, "%s is not a resource type of R4.", quoted(name))
		return c.skip(i)
	}
	if c.depth == 0 {
		c.root = nodes[n].path
	}
	return c.object(i, n, isContained)
}

// typeName finds the resourceType of the object at i.
func (c *Checker) typeName(i int) (name []byte, ok bool) {
	i = c.blanks(i + 1)
	for c.src[i] != '}' {
		key, at := c.key(i)
		if string(key) == "resourceType" {
			if c.src[at] != '"' {
				return nil, false
			}
			name, _ = c.string(at)
			return name, true
		}
		if i = c.blanks(c.skip(at)); c.src[i] == ',' {
			i = c.blanks(i + 1)
		}
	}
	return nil, false
}

// object checks the object at i, whose members are node n's, and returns the
// offset just past it.
func (c *Checker) object(i int, n uint16, isContained bool) int {
	if c.src[i] != '{' {
		return c.wrongType(i, kindNode+kind(n))
	}
	o := open{node: n, contained: isContained, places: len(c.places)}
	i = c.blanks(i + 1)
	if c.src[i] == '}' {
		c.report(CodeStructure, "The object is empty; leave the element out.")
		return i + 1
	}
	for {
		i = c.blanks(c.member(i, &o))
		if c.src[i] == '}' {
			break
		}
		i = c.blanks(i + 1)
	}
	c.closeObject(&o)
	return i + 1
}

// member checks the member whose key is at i, and returns the offset just past
// its value.
func (c *Checker) member(i int, o *open) int {
	key, i := c.key(i)
	sibling := len(key) > 1 && key[0] == '_'
	if sibling {
		key = key[1:]
	}
	number := table.find(o.node, key)
	m := &members[number]
	if number == 0 || sibling && (!m.kind.isPrimitive() || m.is(plain)) {
		c.unknown(o.node, number, key, sibling)
		return c.skip(i)
	}
	c.frames[c.depth] = frame{number, -1}
	c.depth++
	if c.isFirst(o, number, sibling, i) {
		i = c.value(i, m, sibling, o)
	} else {
		i = c.skip(i)
	}
	c.depth--
	return i
}

// isFirst notes a member and its place, and tells whether it may be there beside
// those before it.
func (c *Checker) isFirst(o *open, number uint16, sibling bool, at int) bool {
	m := &members[number]
	bit := uint64(1) << m.element
	before := (o.values | o.siblings) & bit
	if before != 0 && !c.isPartner(o, number, sibling) {
		return false
	}
	if m.is(contained) && o.contained {
		c.report(CodeStructure, "A contained resource must not contain others.")
		return false
	}
	if sibling {
		o.siblings |= bit
	} else {
		o.values |= bit
	}
	if m.kind.isPrimitive() || m.is(choice) {
		c.places = append(c.places, place{uint32(at), number, sibling})
	}
	return true
}

// isPartner tells whether the earlier members of the same element are only a
// primitive for these extensions, or the other way around.
func (c *Checker) isPartner(o *open, number uint16, sibling bool) bool {
	m := &members[number]
	if m.kind.isPrimitive() || m.is(choice) {
		for _, p := range c.places[o.places:] {
			switch {
			case members[p.member].element != m.element:
			case p.member != number:
				c.report(CodeStructure, "There can be only one %s[x]; there are %s and %s.", m.key[:m.name], members[p.member].key, m.key)
				return false
			case p.sibling == sibling:
				c.repeated(m.key, sibling)
				return false
			}
		}
		return true
	}
	c.repeated(m.key, false)
	return false
}

// closeObject checks what only the whole object tells.
func (c *Checker) closeObject(o *open) {
	there := o.values | o.siblings
	for missing := nodes[o.node].required &^ there; missing != 0; missing &= missing - 1 {
		c.missing(o.node, uint8(bits.TrailingZeros64(missing)))
	}
	if o.node == nodeExtension {
		c.extension(there)
	}
	if o.siblings|o.nulls != 0 {
		c.pairs(o)
	}
	c.places = c.places[:o.places]
}

// extension checks that an extension has either a value or extensions (ext-1).
func (c *Checker) extension(there uint64) {
	switch there & (1<<extensionExtension | 1<<extensionValue) {
	case 0:
		c.report(CodeStructure, "The extension has neither a value[x] nor extensions; it must have one of them.")
	case 1<<extensionExtension | 1<<extensionValue:
		c.report(CodeStructure, "The extension has both a value[x] and extensions; it must have only one of them.")
	}
}

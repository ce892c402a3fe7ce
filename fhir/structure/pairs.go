package structure

// pairs checks the arrays of primitives of an object against those of their
// extensions: where one is null, the other has to be there. The shorter one goes
// on with null (json.html#primitive says to fill up both, and official test cases
// leave the end out).
func (c *Checker) pairs(o *open) {
	own := c.places[o.places:]
	for i, p := range own {
		m := &members[p.member]
		if !m.is(many) || c.src[p.at] != '[' || !p.sibling && o.nulls>>m.element&1 == 0 {
			continue
		}
		partner := -1
		for j, q := range own {
			if j != i && q.member == p.member {
				partner = j
			}
		}
		switch {
		case partner < 0:
			c.pair(p, -1)
		case p.sibling && c.src[own[partner].at] == '[':
			c.pair(p, int(own[partner].at))
		}
	}
}

// pair walks the array at p and the other one, whose offset is -1 when there is
// none, together.
func (c *Checker) pair(p place, other int) {
	c.frames[c.depth] = frame{p.member, -1}
	c.depth++
	a, b := int(p.at), other
	for index := int32(0); a >= 0 || b >= 0; index++ {
		var isThere, isOtherThere bool
		isThere, a = c.element(a)
		isOtherThere, b = c.element(b)
		if !isThere && !isOtherThere && (a >= 0 || b >= 0) {
			c.frames[c.depth-1].index = index
			c.report(CodeStructure, "There is neither a value nor an extension; null in an array needs the other one.")
		}
	}
	c.depth--
}

// element steps over the next element of the array that at is in: at its bracket,
// or just past an element. end is -1 at the end of the array, and stays so.
func (c *Checker) element(at int) (isThere bool, end int) {
	if at < 0 {
		return false, -1
	}
	if c.src[at] == '[' || c.src[at] == ',' {
		at = c.blanks(at + 1)
	}
	if c.src[at] == ']' {
		return false, -1
	}
	return c.src[at] != 'n', c.blanks(c.skip(at))
}

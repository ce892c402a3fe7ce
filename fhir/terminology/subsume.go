package terminology

// edges are the links of a hierarchy in one direction: those of concept i are
// to[from[i]:from[i+1]].
type edges struct{ from, to []int32 }

func (e *edges) of(i int32) []int32 { return e.to[e.from[i]:e.from[i+1]] }

// link is one step of a hierarchy.
type link struct{ parent, child int32 }

// links finds all steps: concepts that are nested in others, and the properties
// parent, child and subsumedBy.
func (c *codeSystem) links() []link {
	var all []link
	for i := range c.concepts {
		at := int32(i)
		if parent := c.concepts[i].parent; parent >= 0 {
			all = append(all, link{parent, at})
		}
		for _, p := range c.of(at) {
			other, known := c.byCode[p.text]
			switch {
			case !known || p.kind != "Code":
			case c.means(p.code, "parent"), p.code == "subsumedBy":
				all = append(all, link{other, at})
			case c.means(p.code, "child"):
				all = append(all, link{at, other})
			}
		}
	}
	return all
}

// arranged gives the links by one of their ends.
func arranged(concepts int, links []link, ends func(link) (from, to int32)) *edges {
	e := &edges{from: make([]int32, concepts+1), to: make([]int32, len(links))}
	for _, l := range links {
		from, _ := ends(l)
		e.from[from+1]++
	}
	for i := range concepts {
		e.from[i+1] += e.from[i]
	}
	next := append([]int32(nil), e.from...)
	for _, l := range links {
		from, to := ends(l)
		e.to[next[from]] = to
		next[from]++
	}
	return e
}

// arrange makes both directions.
func (c *codeSystem) arrange() {
	if c.down != nil {
		return
	}
	links := c.links()
	c.down = arranged(len(c.concepts), links, func(l link) (int32, int32) { return l.parent, l.child })
	c.up = arranged(len(c.concepts), links, func(l link) (int32, int32) { return l.child, l.parent })
}

// isA refuses a code system whose hierarchy says nothing of what a concept is.
func (c *codeSystem) isA() error {
	if c.hierarchy == "is-a" {
		c.arrange()
		return nil
	}
	return notSupported("The stored CodeSystem/%s does not say that a concept is what it is nested in: its hierarchyMeaning is '%s' and not 'is-a'. Store an expanded ValueSet and search with ':in'.", c.id, c.hierarchy)
}

// reach marks a concept and all that its links lead to.
func (c *codeSystem) reach(start int32, e *edges) []bool {
	reached := make([]bool, len(c.concepts))
	reached[start] = true
	for open := []int32{start}; len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		for _, next := range e.of(at) {
			if !reached[next] {
				reached[next] = true
				open = append(open, next)
			}
		}
	}
	return reached
}

// concept gives the place of a code.
func (c *codeSystem) concept(code string) (int32, error) {
	at, ok := c.byCode[code]
	if !ok {
		return 0, unknown("The stored CodeSystem/%s has no code '%s'.", c.id, code)
	}
	return at, nil
}

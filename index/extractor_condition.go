package index

// A value inside of objects that a condition is about, as in
// extension.where(url='x').value, is held until the object ends: the member that
// decides may come behind it. What an inner object lets pass waits for the outer
// one.

// holding is the values that wait.
type holding struct {
	values []heldValue
	arena  []byte
}

type heldValue struct {
	use  *use
	left int // so many of the use's conditions are not decided: the outer ones
	text arenaSpan
}

func (h *holding) reset() {
	h.values, h.arena = h.values[:0], h.arena[:0]
	if cap(h.arena) > arenaBytesKept {
		h.values, h.arena = nil, nil
	}
}

// give gives a value to the sink, or holds it.
func (x *Extractor) give(u *use, value []byte) {
	if len(u.conditions) == 0 {
		x.term(u.param, value)
		return
	}
	from := uint32(len(x.held.arena))
	x.held.arena = append(x.held.arena, value...)
	x.held.values = append(x.held.values, heldValue{u, len(u.conditions), arenaSpan{from, uint32(len(x.held.arena))}})
}

// decide looks at the values that were held inside of an object that has ended.
func (x *Extractor) decide(f *frame) {
	h, member := &x.held, x.text(f, roleMember)
	kept := h.values[:f.held]
	for _, v := range h.values[f.held:] {
		c := &v.use.conditions[v.left-1]
		switch {
		case c.site != f.site: // it is about another object, or another member
		case c.value != string(member):
			continue
		default:
			v.left--
		}
		if v.left > 0 {
			kept = append(kept, v)
		} else {
			x.term(v.use.param, h.arena[v.text.from:v.text.to])
		}
	}
	h.values = kept
	if len(kept) == 0 {
		h.arena = h.arena[:0]
	}
}

package index

// The value of a composite field is the values of its parts, one behind the
// other, each with a separator behind it:
//
//	+--------+----+--------+----+-----
//	| part 0 | 00 | part 1 | 00 | ...
//	+--------+----+--------+----+-----
//
// A part is what the same component would be as a term of its own field. So
// code-value-quantity=system|code$gt5.4|system|unit is one walk: AppendToken,
// separator, AppendQuantityUnit, and from there a range of decimals.
// AppendPart appends a part.

// AppendPart appends a part's value, as AppendToken and the others give it.
func AppendPart(dst, value []byte) []byte { return append(append(dst, value...), termSeparator) }

// pairsMax bounds how many pairs one element may have: a coding for each of
// many code systems, say. A resource beyond it is refused, since a pair that is
// left out would be a wrong answer.
const pairsMax = 4096

// pairing collects the parts' values of the groups of one open element.
type pairing struct {
	parts []partValue
	arena []byte
}

type partValue struct {
	group int32
	part  uint8
	text  arenaSpan
}

func (p *pairing) reset() {
	p.parts, p.arena = p.parts[:0], p.arena[:0]
	if cap(p.arena) > arenaBytesKept {
		p.parts, p.arena = nil, nil
	}
}

func (p *pairing) add(u *use, value []byte) {
	from := uint32(len(p.arena))
	p.arena = append(p.arena, value...)
	p.parts = append(p.parts, partValue{u.group, u.part, arenaSpan{from, uint32(len(p.arena))}})
}

// closeGroup pairs what the element that has ended holds, for each of its groups.
func (x *Extractor) closeGroup(s *site) {
	for i := range s.uses {
		u := &s.uses[i]
		made := 0
		x.pair(u, x.buf[:0], 0, &made)
		if made > pairsMax {
			x.fail("an element gives more than %d pairs of values", pairsMax)
		}
	}
	x.pairs.reset()
}

// pair appends each value of a part to value, and of the parts behind it.
func (x *Extractor) pair(u *use, value []byte, part int, made *int) {
	if part == x.rules.groups[u.group].parts {
		if *made++; *made <= pairsMax {
			x.term(u.param, value)
		}
		x.buf = value[:0]
		return
	}
	for i := 0; i < len(x.pairs.parts) && *made <= pairsMax; i++ {
		if p := &x.pairs.parts[i]; p.group == u.group && int(p.part) == part {
			x.pair(u, AppendPart(value, x.pairs.arena[p.text.from:p.text.to]), part+1, made)
		}
	}
}

package parquet

import (
	"bytes"
	"strconv"

	lib "github.com/parquet-go/parquet-go"

	"kiln/fhir"
)

// span is where a value stands in the resource; end 0: there is none.
type span struct{ at, end int }

// shredder turns resources into the values of their columns' leaves.
type shredder struct {
	text   []byte        // of the resource at hand
	leaves [][]lib.Value // of all rows since reset
	spans  []span        // of the members of the objects that the walk is in
	space  []byte        // texts without escapes, and what is in _other
}

func newShredder(root *column) *shredder { return &shredder{leaves: make([][]lib.Value, root.leaves)} }

// row adds the resource's values, which share text's bytes. text is checked JSON
// without white space.
func (s *shredder) row(root *column, text []byte) {
	s.text, s.spans = text, s.spans[:0]
	s.object(root, 0, 0)
}

func (s *shredder) reset() {
	s.space = s.space[:0]
	for i := range s.leaves {
		s.leaves[i] = s.leaves[i][:0]
	}
}

// object adds the object at i, repeated at the level that its first values have.
func (s *shredder) object(c *column, i, repeated int) {
	first := len(s.spans)
	s.spans = append(s.spans, make([]span, len(c.children))...)
	other := s.members(c, i, s.spans[first:])
	for k, child := range c.children {
		switch at := s.spans[first+k]; {
		case child == c.other && len(other) > 0:
			s.add(child, lib.ByteArrayValue(other), repeated)
		case at.end == 0:
			s.missing(child, repeated)
		case child.list:
			s.array(child, at, repeated)
		default:
			s.value(child, at, repeated)
		}
	}
	s.spans = s.spans[:first]
}

// members finds the places of an object's members by child, and returns as an
// object those that have no column or do not fit it.
func (s *shredder) members(c *column, i int, spans []span) (other []byte) {
	start := len(s.space)
	for i++; s.text[i] != '}'; {
		if s.text[i] == ',' {
			i++
		}
		key := i
		keyEnd := fhir.StringEnd(s.text, i)
		at := span{keyEnd + 1, fhir.ValueEnd(s.text, keyEnd+1)}
		i = at.end
		child := c.byKey[string(s.text[key+1:keyEnd-1])]
		if child != nil && spans[child.order].end == 0 && s.fits(child, at) {
			spans[child.order] = at
			continue
		}
		if c.isRoot() && string(s.text[key:keyEnd]) == `"resourceType"` {
			continue
		}
		s.space = append(s.space, "{,"[min(len(s.space)-start, 1)])
		s.space = append(s.space, s.text[key:at.end]...)
	}
	if len(s.space) == start {
		return nil
	}
	s.space = append(s.space, '}')
	return s.space[start:len(s.space):len(s.space)]
}

// fits tells whether a value is of the column's shape.
func (s *shredder) fits(c *column, at span) bool {
	if !c.list {
		return s.fitsOne(c, at)
	}
	if s.text[at.at] != '[' {
		return false
	}
	ok := true
	fhir.Elements(s.text, at.at, func(from, end int) bool {
		ok = s.text[from] == 'n' || s.fitsOne(c, span{from, end})
		return ok
	})
	return ok
}

func (s *shredder) fitsOne(c *column, at span) bool {
	value := s.text[at.at:at.end]
	switch c.kind {
	case group:
		return value[0] == '{'
	case boolean:
		return value[0] == 't' || value[0] == 'f'
	case integer:
		_, err := strconv.ParseInt(string(value), 10, 32)
		return err == nil && string(value) != "-0"
	case decimal:
		return value[0] == '-' || value[0] >= '0' && value[0] <= '9'
	case text:
		return value[0] == '"' && !hasLoneSurrogate(value)
	default:
		return true
	}
}

// hasLoneSurrogate: such an escape stands for no character, and UTF-8 has none for it.
func hasLoneSurrogate(quoted []byte) bool {
	if !bytes.Contains(quoted, []byte(`\u`)) {
		return false
	}
	return bytes.Count(fhir.AppendText(nil, quoted), []byte("\ufffd")) != bytes.Count(quoted, []byte("\ufffd"))+bytes.Count(bytes.ToLower(quoted), []byte(`\ufffd`))
}

func (s *shredder) array(c *column, at span, repeated int) {
	count := 0
	fhir.Elements(s.text, at.at, func(from, end int) bool {
		if count > 0 {
			repeated = c.repeated
		}
		count++
		if s.text[from] == 'n' {
			s.cut(c, repeated, c.defined-1)
		} else {
			s.value(c, span{from, end}, repeated)
		}
		return true
	})
	if count == 0 {
		s.cut(c, repeated, c.defined-2)
	}
}

func (s *shredder) value(c *column, at span, repeated int) {
	value := s.text[at.at:at.end]
	switch c.kind {
	case group:
		s.object(c, at.at, repeated)
	case boolean:
		s.add(c, lib.BooleanValue(value[0] == 't'), repeated)
	case integer:
		n, _ := strconv.ParseInt(string(value), 10, 32) // it fits
		s.add(c, lib.Int32Value(int32(n)), repeated)
	case text:
		s.add(c, lib.ByteArrayValue(s.unquoted(value)), repeated)
	default:
		s.add(c, lib.ByteArrayValue(value), repeated)
	}
}

func (s *shredder) unquoted(value []byte) []byte {
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	start := len(s.space)
	s.space = fhir.AppendText(s.space, value)
	return s.space[start:len(s.space):len(s.space)]
}

func (s *shredder) add(c *column, v lib.Value, repeated int) {
	s.leaves[c.leaf] = append(s.leaves[c.leaf], v.Level(repeated, c.defined, c.leaf))
}

// missing adds that a member is not there.
func (s *shredder) missing(c *column, repeated int) {
	if repeated > 0 {
		s.cut(c, repeated, c.missing())
		return
	}
	leaves := s.leaves[c.leaf : c.leaf+c.leaves]
	for i := range leaves {
		leaves[i] = append(leaves[i], c.nulls[i])
	}
}

// cut adds a path that ends at a definition level.
func (s *shredder) cut(c *column, repeated, defined int) {
	for leaf := c.leaf; leaf < c.leaf+c.leaves; leaf++ {
		s.leaves[leaf] = append(s.leaves[leaf], lib.Value{}.Level(repeated, defined, leaf))
	}
}

package engine

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

const (
	// containedChunkMin and containedChunkMax are how many holders are read at once:
	// more from chunk to chunk, so that a page of a few matches reads few.
	containedChunkMin = 16
	containedChunkMax = 512
	// containedChunkBytes ends a chunk; one body may have more.
	containedChunkBytes = 4 << 20
	// containedTermsMax bounds the terms of a chunk.
	containedTermsMax = 256 << 20
)

// containedChunk is some holders, read together.
type containedChunk struct {
	last    *rowPlace // of those that were read; nil: there were no more
	version Version   // of that
	found   []*holder // those with a match, in order
	// terms has the contained resources of the types, an ordinal each.
	terms *index.MemoryTerms
	parts []heldPart
	// whole: the one part is a version, and not inside of one.
	whole bool
}

// heldPart is a contained resource whose terms were made.
type heldPart struct {
	Part
	in *holder
}

// holder is a version that contains resources.
type holder struct {
	place   rowPlace
	version Version
	parts   []Part // that match
}

// behind is the place behind all that was read.
func (c *containedChunk) behind() Cursor {
	return Cursor{typ: c.version.Type, version: c.version.VersionID, id: string(c.version.ID)}
}

// nextChunk reads the next holders, and finds what matches in them.
func (c *containedSearch) nextChunk() (*containedChunk, error) {
	chunk := &containedChunk{terms: index.NewMemoryTerms()}
	x := c.s.n.s.extractor(chunk.terms)
	defer c.s.n.s.keepExtractor(x)
	rows, size := min(max(containedChunkMin, c.read), containedChunkMax), 0
	for n := 0; n < rows && size < containedChunkBytes && !chunk.terms.Full(); n++ {
		place, ok, err := c.holders.peek()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		h := &holder{place: *place}
		c.holders.skip()
		if h.version, err = c.s.n.read(h.place.src.place(h.place.row)); err != nil {
			return nil, err
		}
		size += len(h.version.Body)
		chunk.last, chunk.version = &h.place, h.version
		if err := chunk.add(x, h, c.wants); err != nil {
			return nil, err
		}
		c.read++
	}
	c.bytes += size
	return chunk, c.evaluate(chunk)
}

// wants tells whether a type is searched.
func (c *containedSearch) wants(t fhir.TypeCode, _ []byte) bool {
	return len(c.q.Types) == 0 || slices.Contains(c.q.Types, t)
}

// add makes the terms of what a holder contains, and somebody wants. What cannot be scanned as a resource,
// since a member occurs twice, is none that could be found.
func (k *containedChunk) add(x *index.Extractor, h *holder, wants func(t fhir.TypeCode, id []byte) bool) error {
	number := uint32(0)
	var failure error
	eachContained(h.version.Body, func(body []byte) bool {
		number++
		name, _ := fhir.MemberText(body, 0, "resourceType")
		id, _ := fhir.MemberText(body, 0, "id")
		t := fhir.TypeByName(name)
		if t == 0 || !wants(t, id) {
			return true
		}
		if _, err := x.Scan(body); err != nil && !wasRead(err) {
			k.terms.Discard()
			return true
		}
		if k.terms.MemoryBytes() > containedTermsMax {
			failure = fmt.Errorf("%w: %v/%s contains resources with too many search terms", ErrQueryTooLarge, h.version.Type, h.version.ID)
			return false
		}
		k.terms.AddTerm(index.ParamType, index.AppendType(nil, t))
		k.terms.Commit(index.Ordinal(len(k.parts)))
		k.parts = append(k.parts, heldPart{Part{Type: t, ID: string(id), Body: body, number: number}, h})
		return true
	})
	return failure
}

// eachContained calls fn with each object in the "contained" of a body, until it
// returns false.
func eachContained(body []byte, fn func(part []byte) bool) {
	fhir.Members(body, 0, func(key []byte, at, end int) bool {
		if string(key) != "contained" {
			return true
		}
		switch body[at] {
		case '{':
			fn(body[at:end:end])
		case '[':
			fhir.Elements(body, at, func(at, end int) bool {
				return body[at] != '{' || fn(body[at:end:end])
			})
		}
		return false
	})
}

// evaluate finds the parts that match.
func (c *containedSearch) evaluate(chunk *containedChunk) error {
	all, err := chunk.eval(c.s, c.q.Where, c.q.Explain)
	if err != nil {
		return err
	}
	for it := all.Iterator(); it.HasNext(); {
		p := &chunk.parts[it.Next()]
		if n := len(chunk.found); n == 0 || chunk.found[n-1] != p.in {
			chunk.found = append(chunk.found, p.in)
		}
		p.in.parts = append(p.in.parts, p.Part)
	}
	return nil
}

// eval gives the parts that an expression chooses.
func (k *containedChunk) eval(s *searching, where *Expr, x *Explanation) (*roaring.Bitmap, error) {
	src := &source{rows: uint32(len(k.parts))}
	all := roaring.New()
	all.AddRange(0, uint64(src.rows))
	if where == nil || len(k.parts) == 0 {
		return all, nil
	}
	v := evaluation{
		s: s, src: src, parts: k.parts, whole: k.whole, small: true,
		terms: index.MemorySource{Terms: k.terms, Below: index.Ordinal(src.rows)},
	}
	return v.eval(where, all, x)
}

// partKeys gives the rows of within whose type and id are among the keys of e.
func (v *evaluation) partKeys(e *Expr, within *roaring.Bitmap) *roaring.Bitmap {
	sorted, rows := v.s.sortedKeys(e), roaring.New()
	if e.Stored && !v.whole {
		return rows
	}
	for it := within.Iterator(); it.HasNext(); {
		o := it.Next()
		key := index.AppendKey(nil, v.parts[o].Type, []byte(v.parts[o].ID))
		if _, ok := slices.BinarySearchFunc(sorted, key, bytes.Compare); ok {
			rows.Add(o)
		}
	}
	return rows
}

// rowTerms gives the terms of a row, made of its body.
func (v *evaluation) rowTerms(o uint32, sink termFunc) error {
	if v.parts != nil {
		x := v.s.n.s.extractor(sink)
		defer v.s.n.s.keepExtractor(x)
		if _, err := x.Scan(v.parts[o].Body); err != nil && !wasRead(err) {
			return err
		}
		return nil
	}
	version, err := v.s.n.read(v.src.place(o))
	if err != nil {
		return err
	}
	return v.s.n.s.VersionTerms(&version, sink)
}

package engine

import (
	"bytes"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// A chain leads to resources of the store, and to those that the referring resource
// contains ("#id"; R4 search.html#contained). The latter have no terms in the store:
// of the rows that have such a reference the bodies are read, and the condition is
// evaluated on what they contain. A contained resource may refer to its neighbours.

// insideRowsMax bounds the versions that a search reads for that: some ten seconds.
// Exports have the time.
const insideRowsMax = 1_000_000

// termsOrInside gives the rows of within that have a term of the walks, or refer to
// something inside of them.
func (v *evaluation) termsOrInside(e *Expr, within *roaring.Bitmap, enough uint64, x *Explanation) (*roaring.Bitmap, error) {
	inside := roaring.New()
	for i := range e.Inside {
		rows, err := v.insideRows(&e.Inside[i], within, x.step(i))
		if err != nil {
			return nil, err
		}
		inside.Or(rows)
	}
	if inside.IsEmpty() {
		return v.walks(e.Walks, within, enough)
	}
	rows, err := v.walks(e.Walks, within, 0)
	if err != nil {
		return nil, err
	}
	return roaring.Or(rows, inside), nil
}

// anyInside tells whether the source has a reference that Inside would look into.
func (v *evaluation) anyInside(e *Expr) (bool, error) {
	for i := range e.Inside {
		for k := range e.Inside[i].Walks {
			w := &e.Inside[i].Walks[k]
			if column := v.column(w); column != nil {
				if places, err := column.Places(w, v.s.check); len(places) > 0 || err != nil {
					return len(places) > 0, err
				}
				continue
			}
			c := v.terms.Cursor(w.Param)
			if c.SeekGE(w.From) && bytes.Compare(c.Value(), w.To) < 0 {
				return true, nil
			}
			if err := c.Err(); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

func (v *evaluation) insideRows(e *Inside, within *roaring.Bitmap, x *Explanation) (*roaring.Bitmap, error) {
	found := roaring.New()
	rows, err := v.walks(e.Walks, within, 0)
	if err != nil {
		return nil, err
	}
	for it := rows.Iterator(); it.HasNext(); {
		if err := v.insideChunk(e, it, found, x); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// insideChunk reads some rows, and adds those found.
func (v *evaluation) insideChunk(e *Inside, it roaring.IntPeekable, found *roaring.Bitmap, x *Explanation) error {
	chunk := &containedChunk{terms: index.NewMemoryTerms()}
	extractor := v.s.n.s.extractor(chunk.terms)
	defer v.s.n.s.keepExtractor(extractor)
	rowOf := map[*holder]uint32{}
	for size := 0; it.HasNext() && len(rowOf) < containedChunkMax && size < containedChunkBytes && !chunk.terms.Full(); {
		if err := v.s.check(); err != nil {
			return err
		}
		if v.s.inside++; v.s.inside > insideRowsMax && !v.s.patient {
			return ErrInsideTooMany
		}
		o := it.Next()
		h, named, err := v.fragments(e, o)
		if err != nil {
			return err
		}
		rowOf[h] = o
		size += len(h.version.Body)
		wants := func(t fhir.TypeCode, id []byte) bool {
			return t == e.Type && len(id) > 0 && named[string(index.AppendReference(nil, append([]byte{'#'}, id...)))]
		}
		if err := chunk.add(extractor, h, wants); err != nil {
			return err
		}
	}
	parts, err := chunk.eval(v.s, e.Where, x)
	if err != nil {
		return err
	}
	for it := parts.Iterator(); it.HasNext(); {
		found.Add(rowOf[chunk.parts[it.Next()].in])
	}
	return nil
}

// fragments reads a row's container, and the references of the row that name what is
// in it.
func (v *evaluation) fragments(e *Inside, o uint32) (*holder, map[string]bool, error) {
	h := &holder{}
	if v.parts != nil {
		h.version = v.parts[o].in.version
	} else {
		var err error
		if h.version, err = v.s.n.read(v.src.place(o)); err != nil {
			return nil, nil, err
		}
	}
	named := map[string]bool{}
	err := v.rowTerms(o, func(p index.Param, value []byte) {
		for i := range e.Walks {
			if e.Walks[i].Param == p && e.Walks[i].Takes(value) {
				named[string(value)] = true
			}
		}
	})
	return h, named, err
}

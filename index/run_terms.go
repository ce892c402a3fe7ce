package index

import (
	"bytes"

	"github.com/RoaringBitmap/roaring/v2"
)

// Postings is the set of ordinals that have the term; empty when none has. The
// bitmap is the caller's.
func (r *Run) Postings(p Param, value []byte) (*roaring.Bitmap, error) {
	payload, block, err := r.findTerm(p, value)
	if payload == nil || err != nil {
		return roaring.New(), err
	}
	return r.postingBitmap(payload, block)
}

// Cursor is Terms as a TermSource has it.
func (r *Run) Cursor(p Param) Cursor { return r.Terms(p) }

// AddPostings adds the ordinals that have the term.
func (r *Run) AddPostings(rows *RowSet, p Param, value []byte) error {
	payload, block, err := r.findTerm(p, value)
	if payload == nil || err != nil {
		return err
	}
	return r.addPosting(rows, payload, block)
}

// PostingCount is the number of ordinals that have the term.
func (r *Run) PostingCount(p Param, value []byte) (uint64, error) {
	payload, _, err := r.findTerm(p, value)
	if payload == nil || err != nil {
		return 0, err
	}
	return postingCount(payload), nil
}

// postingCount is the number of ordinals in a payload.
func postingCount(payload []byte) uint64 {
	r := byteReader{b: payload}
	if n := r.uvarint(); n > 0 {
		return n
	}
	return r.uvarint()
}

// addPosting adds the ordinals of a payload in term block i.
func (r *Run) addPosting(rows *RowSet, payload []byte, i int) error {
	if len(payload) > 0 && payload[0] != 0 {
		if !rows.addInline(payload, r.footer.meta.Rows) {
			return r.impossible(blockTerms, r.terms, i)
		}
		return nil
	}
	p, ok := parsePosting(nil, payload, r.footer.meta.Rows)
	if !ok {
		return r.impossible(blockTerms, r.terms, i)
	}
	if p.place.count <= addedOrdinalsMax && !rows.isEmpty() {
		return r.addPlaced(rows, p.place, i)
	}
	bm, err := r.placedBitmap(p.place, i)
	if err == nil {
		rows.AddBitmap(bm)
	}
	return err
}

// addedOrdinalsMax: up to so many ordinals of a bitmap are added one by one to
// what is there; making a bitmap and uniting it costs more.
const addedOrdinalsMax = 1 << 12

// addPlaced adds the ordinals of a bitmap that term block i names.
func (r *Run) addPlaced(rows *RowSet, p postingPlace, i int) (err error) {
	rows.room, err = r.eachPlaced(rows.room, p, i, func(ordinals []uint32) { rows.Add(ordinals...) })
	return err
}

// eachPlaced calls fn with the ordinals of a bitmap that term block i names,
// ascending, some at a time. room is memory for them, and given back.
func (r *Run) eachPlaced(room []uint32, p postingPlace, i int, fn func(ordinals []uint32)) ([]uint32, error) {
	b, block, err := r.placed(p, i)
	if err != nil {
		return room, err
	}
	if checkBitmap(b) != nil {
		return room, r.impossible(blockPostings, r.postings, block)
	}
	count := uint64(0)
	room = eachOrdinal(room, b, func(ordinals []uint32) {
		if count += uint64(len(ordinals)); ordinals[len(ordinals)-1] < r.footer.meta.Rows {
			fn(ordinals)
		} else {
			err = r.impossible(blockPostings, r.postings, block)
		}
	})
	if count != p.count {
		err = r.impossible(blockPostings, r.postings, block)
	}
	return room, err
}

// eachPosting is eachPlaced for a payload in term block i.
func (r *Run) eachPosting(room []uint32, payload []byte, i int, fn func(ordinals []uint32)) ([]uint32, error) {
	p, ok := parsePosting(room[:0], payload, r.footer.meta.Rows)
	if !ok {
		return room, r.impossible(blockTerms, r.terms, i)
	}
	if p.ordinals == nil {
		return r.eachPlaced(room, p.place, i, fn)
	}
	fn(p.ordinals)
	return p.ordinals, nil
}

// termKeyTypical has room for most terms' keys.
const termKeyTypical = 128

// findTerm gives the payload of a term and the block it is in; nil: there is none.
func (r *Run) findTerm(p Param, value []byte) (payload []byte, block int, err error) {
	if r.terms.count() == 0 {
		return nil, 0, nil
	}
	key := appendTermKey(make([]byte, 0, termKeyTypical), p, value)
	for i := r.terms.seek(key); i < r.terms.count(); i++ {
		if bytes.Compare(r.terms.separator(i), key) > 0 {
			break
		}
		b, err := r.block(blockTerms, r.terms, i)
		if err != nil {
			return nil, i, err
		}
		var c tableCursor
		found := c.open(b.payload, skipPosting) && c.seekGE(key)
		if c.bad {
			return nil, i, r.impossible(blockTerms, r.terms, i)
		}
		if found {
			if !bytes.Equal(c.key, key) {
				break
			}
			return c.payload, i, nil
		}
	}
	return nil, 0, nil
}

// postingBitmap gives the bitmap of a payload in term block i.
func (r *Run) postingBitmap(payload []byte, i int) (*roaring.Bitmap, error) {
	var inline [postingInlineMax]uint32
	p, ok := parsePosting(inline[:0], payload, r.footer.meta.Rows)
	if !ok {
		return nil, r.impossible(blockTerms, r.terms, i)
	}
	if p.ordinals == nil {
		return r.placedBitmap(p.place, i)
	}
	bm := roaring.New()
	bm.AddMany(p.ordinals)
	return bm, nil
}

// placed gives the bytes of a bitmap that term block i names, and its block.
func (r *Run) placed(p postingPlace, i int) ([]byte, int, error) {
	if p.block >= uint64(r.postings.count()) {
		return nil, 0, r.impossible(blockTerms, r.terms, i)
	}
	block := int(p.block)
	b, err := r.block(blockPostings, r.postings, block)
	if err != nil {
		return nil, block, err
	}
	n := uint64(len(b.payload))
	if p.offset > n || p.length > n-p.offset {
		return nil, block, r.impossible(blockTerms, r.terms, i)
	}
	return b.payload[p.offset : p.offset+p.length], block, nil
}

// placedBitmap reads a bitmap that term block i names.
func (r *Run) placedBitmap(p postingPlace, i int) (*roaring.Bitmap, error) {
	b, block, err := r.placed(p, i)
	if err != nil {
		return nil, err
	}
	bm, err := ParseBitmap(b, r.footer.meta.Rows)
	if err != nil || bm.GetCardinality() != p.count {
		return nil, r.impossible(blockPostings, r.postings, block)
	}
	return bm, nil
}

// Range ORs the postings of all terms of p with from <= value < to (nil: open).
// Bounds and values that agree in their first TermPrefixBytes have no order.
func (r *Run) Range(p Param, from, to []byte) (*roaring.Bitmap, error) {
	all := roaring.New()
	c := r.Terms(p)
	if to != nil {
		to = appendTermValue(make([]byte, 0, TermBytesMax), to) // not nil, even when empty
	}
	for ok := c.SeekGE(from); ok; ok = c.Next() {
		if to != nil && bytes.Compare(c.Value(), to) >= 0 {
			break
		}
		if err := c.or(all); err != nil {
			return nil, err
		}
	}
	return all, c.Err()
}

package index

import (
	"bytes"
	"sort"

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
func (r *Run) addPlaced(rows *RowSet, p postingPlace, i int) error {
	b, block, err := r.placed(p, i)
	if err != nil {
		return err
	}
	if checkBitmap(b) != nil {
		return r.impossible(blockPostings, r.postings, block)
	}
	count := uint64(0)
	eachOrdinal(b, func(ordinals []uint32) {
		if count += uint64(len(ordinals)); ordinals[len(ordinals)-1] < r.footer.meta.Rows {
			rows.Add(ordinals...)
		} else {
			err = r.impossible(blockPostings, r.postings, block)
		}
	})
	if count != p.count {
		err = r.impossible(blockPostings, r.postings, block)
	}
	return err
}

// findTerm gives the payload of a term and the block it is in; nil: there is none.
func (r *Run) findTerm(p Param, value []byte) (payload []byte, block int, err error) {
	key := appendTermKey(nil, p, value)
	if r.terms.count() == 0 {
		return nil, 0, nil
	}
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

// Terms returns a cursor over the terms of p in value order.
func (r *Run) Terms(p Param) *TermCursor { return &TermCursor{r: r, p: p, block: -1} }

// TermCursor walks neighbouring terms either way. Start with SeekGE, SeekLT,
// First or Last. A move that returns false leaves it on no term; Err tells
// whether that was the end. Not safe for concurrent use.
type TermCursor struct {
	r        *Run
	p        Param
	block    int // decoded block; -1: none
	at       int // entry in it
	on       bool
	keys     []byte
	keyEnds  []int
	payloads [][]byte
	target   []byte
	err      error
}

// First moves to the lowest value.
func (c *TermCursor) First() bool { return c.SeekGE(nil) }

// Last moves to the highest value.
func (c *TermCursor) Last() bool {
	if c.p == ^Param(0) {
		c.target = append(c.target[:0], bytes.Repeat([]byte{0xff}, 2+TermBytesMax+1)...)
	} else {
		c.target = appendTermKey(c.target[:0], c.p+1, nil)
	}
	return c.seek() && c.back()
}

// SeekGE moves to the lowest value that is not less than value.
func (c *TermCursor) SeekGE(value []byte) bool {
	c.target = appendTermKey(c.target[:0], c.p, value)
	return c.seek() && c.settle()
}

// SeekLT moves to the highest value that is less than value.
func (c *TermCursor) SeekLT(value []byte) bool {
	c.target = appendTermKey(c.target[:0], c.p, value)
	return c.seek() && c.back()
}

// Next moves to the next higher value.
func (c *TermCursor) Next() bool {
	if !c.on {
		return false
	}
	c.at++
	return c.settle()
}

// Prev moves to the next lower value.
func (c *TermCursor) Prev() bool { return c.on && c.back() }

// Value is the value the cursor is on; it holds until the next move. It is
// what AddTerm was given, or, for one of TermBytesMax bytes or more, what
// became of it.
func (c *TermCursor) Value() []byte { return c.key()[2:] }

// Postings is the set of ordinals that have the value. The bitmap is the caller's.
func (c *TermCursor) Postings() (*roaring.Bitmap, error) {
	bm, err := c.r.postingBitmap(c.payloads[c.at], c.block)
	if err != nil {
		c.err = err
	}
	return bm, err
}

// Count is the number of ordinals that have the value.
func (c *TermCursor) Count() uint64 {
	return postingCount(c.payloads[c.at])
}

// AddTo adds the ordinals that have the value.
func (c *TermCursor) AddTo(rows *RowSet) error {
	return c.r.addPosting(rows, c.payloads[c.at], c.block)
}

// Err is the first damage or failure the cursor met.
func (c *TermCursor) Err() error { return c.err }

// or adds the postings to all.
func (c *TermCursor) or(all *roaring.Bitmap) error {
	var inline [postingInlineMax]uint32
	p, ok := parsePosting(inline[:0], c.payloads[c.at], c.r.footer.meta.Rows)
	if !ok {
		return c.r.impossible(blockTerms, c.r.terms, c.block)
	}
	if p.ordinals != nil {
		all.AddMany(p.ordinals)
		return nil
	}
	bm, err := c.r.placedBitmap(p.place, c.block)
	if err == nil {
		all.Or(bm)
	}
	return err
}

func (c *TermCursor) key() []byte {
	start := 0
	if c.at > 0 {
		start = c.keyEnds[c.at-1]
	}
	return c.keys[start:c.keyEnds[c.at]]
}

// seek stands at the first term of any parameter that is >= target, or behind
// the last one. False only for a failure, or when there is no term at all.
func (c *TermCursor) seek() bool {
	c.on = false
	if c.err != nil || c.r.terms.count() == 0 {
		return false
	}
	block := c.r.terms.seek(c.target)
	for {
		if !c.load(block) {
			return false
		}
		c.at = sort.Search(len(c.payloads), func(i int) bool {
			start := 0
			if i > 0 {
				start = c.keyEnds[i-1]
			}
			return bytes.Compare(c.keys[start:c.keyEnds[i]], c.target) >= 0
		})
		if c.at < len(c.payloads) || block+1 == c.r.terms.count() ||
			bytes.Compare(c.r.terms.separator(block+1), c.target) > 0 {
			return true
		}
		block++
	}
}

// settle goes on to the next block at the end of one, and tells whether the
// cursor is on a term of its parameter.
func (c *TermCursor) settle() bool {
	if c.at == len(c.payloads) {
		if c.block+1 == c.r.terms.count() || !c.load(c.block+1) {
			c.on = false
			return false
		}
		c.at = 0
	}
	return c.land()
}

// back steps to the term before.
func (c *TermCursor) back() bool {
	if c.at == 0 {
		if c.block == 0 || !c.load(c.block-1) {
			c.on = false
			return false
		}
		c.at = len(c.payloads)
	}
	c.at--
	return c.land()
}

func (c *TermCursor) land() bool {
	key := c.key()
	c.on = len(key) >= 2 && key[0] == byte(c.p>>8) && key[1] == byte(c.p)
	return c.on
}

// load decodes a term block.
func (c *TermCursor) load(block int) bool {
	if c.block == block {
		return true
	}
	b, err := c.r.block(blockTerms, c.r.terms, block)
	if err != nil {
		c.err = err
		return false
	}
	c.block, c.keys, c.keyEnds, c.payloads = block, c.keys[:0], c.keyEnds[:0], c.payloads[:0]
	var t tableCursor
	for ok := t.open(b.payload, skipPosting) && t.next(); ok; ok = t.next() {
		c.keys = append(c.keys, t.key...)
		c.keyEnds = append(c.keyEnds, len(c.keys))
		c.payloads = append(c.payloads, t.payload)
	}
	if t.bad || len(c.payloads) == 0 {
		c.block = -1
		c.err = c.r.impossible(blockTerms, c.r.terms, block)
		return false
	}
	return true
}

package index

import (
	"bytes"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"
)

// Terms returns a cursor over the terms of p in value order.
func (r *Run) Terms(p Param) *TermCursor { return &TermCursor{r: r, p: p, block: -1} }

// TermCursor walks neighbouring terms either way. Start with SeekGE, SeekLT,
// First or Last. A move that returns false leaves it on no term; Err tells
// whether that was the end. Not safe for concurrent use.
//
// Upwards it reads a block's entries one by one, so that a seek costs some
// entries and not a block. Entries share their beginnings with those before, up to
// a restart: downwards the entries between two restarts are decoded at once.
type TermCursor struct {
	r     *Run
	p     Param
	block int         // -1: none
	entry tableCursor // stands on the term, unless whole
	ended bool        // behind the block's last entry
	on    bool

	whole    bool // a part of the block is decoded into what follows
	part     int  // the number of the restart that it begins with
	at       int  // entry in it
	keys     []byte
	keyEnds  []int
	payloads [][]byte

	target []byte
	err    error
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
	if !c.whole {
		c.ended = !c.entry.next()
		return c.settle()
	}
	if c.at++; c.at == len(c.payloads) {
		if c.ended = c.part+1 == c.entry.restartCount(); !c.ended && !c.decode(c.part+1) {
			return false
		}
		c.at = 0
	}
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
	bm, err := c.r.postingBitmap(c.payload(), c.block)
	if err != nil {
		c.err = err
	}
	return bm, err
}

// Count is the number of ordinals that have the value.
func (c *TermCursor) Count() uint64 { return postingCount(c.payload()) }

// CountIn is the number of ordinals in rows that have the value.
func (c *TermCursor) CountIn(rows *roaring.Bitmap) (n uint64, err error) {
	var inline [postingInlineMax]uint32
	p, ok := parsePosting(inline[:0], c.payload(), c.r.footer.meta.Rows)
	if !ok {
		c.err = c.r.impossible(blockTerms, c.r.terms, c.block)
		return 0, c.err
	}
	if p.ordinals == nil {
		bm, err := c.r.placedBitmap(p.place, c.block)
		if err != nil {
			c.err = err
			return 0, err
		}
		return bm.AndCardinality(rows), nil
	}
	for _, o := range p.ordinals {
		if rows.Contains(o) {
			n++
		}
	}
	return n, nil
}

// AddTo adds the ordinals that have the value.
func (c *TermCursor) AddTo(rows *RowSet) error {
	return c.r.addPosting(rows, c.payload(), c.block)
}

// Err is the first damage or failure the cursor met.
func (c *TermCursor) Err() error { return c.err }

// or adds the postings to all.
func (c *TermCursor) or(all *roaring.Bitmap) error {
	var inline [postingInlineMax]uint32
	p, ok := parsePosting(inline[:0], c.payload(), c.r.footer.meta.Rows)
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
	if !c.whole {
		return c.entry.key
	}
	return c.keyAt(c.at)
}

func (c *TermCursor) keyAt(i int) []byte {
	start := 0
	if i > 0 {
		start = c.keyEnds[i-1]
	}
	return c.keys[start:c.keyEnds[i]]
}

func (c *TermCursor) payload() []byte {
	if !c.whole {
		return c.entry.payload
	}
	return c.payloads[c.at]
}

// seek stands at the first term of any parameter that is >= target, or behind
// the last one. False only for a failure, or when there is no term at all.
func (c *TermCursor) seek() bool {
	c.on = false
	if c.err != nil || c.r.terms.count() == 0 {
		return false
	}
	for block := c.r.terms.seek(c.target); ; block++ {
		if !c.load(block) {
			return false
		}
		c.whole = false
		if c.ended = !c.entry.seekGE(c.target); c.entry.bad {
			return c.fail()
		}
		if !c.ended || block+1 == c.r.terms.count() ||
			bytes.Compare(c.r.terms.separator(block+1), c.target) > 0 {
			return true
		}
	}
}

// search gives the place of the first entry of a decoded part that is >= key.
func (c *TermCursor) search(key []byte) int {
	return sort.Search(len(c.payloads), func(i int) bool { return bytes.Compare(c.keyAt(i), key) >= 0 })
}

// settle goes on to the next block at the end of one, and tells whether the
// cursor is on a term of its parameter.
func (c *TermCursor) settle() bool {
	if !c.whole && c.entry.bad {
		return c.fail()
	}
	if c.ended {
		if c.block+1 == c.r.terms.count() || !c.load(c.block+1) {
			c.on = false
			return false
		}
		if c.ended = !c.entry.next(); c.ended {
			return c.fail() // no block is empty
		}
	}
	return c.land()
}

// back steps to the term before.
func (c *TermCursor) back() bool {
	if !c.whole && !c.enterPart() {
		return false
	}
	for c.at == 0 {
		part := c.part - 1
		if part < 0 {
			if c.block == 0 || !c.load(c.block-1) {
				c.on = false
				return false
			}
			part = c.entry.restartCount() - 1
		}
		if !c.decode(part) {
			return false
		}
		c.at = len(c.payloads)
	}
	c.at--
	c.ended = false
	return c.land()
}

// enterPart decodes the part of the block that the cursor is in.
func (c *TermCursor) enterPart() bool {
	if c.ended {
		if !c.decode(c.entry.restartCount() - 1) {
			return false
		}
		c.at = len(c.payloads)
		return true
	}
	// What follows the entry begins behind it.
	part := sort.Search(c.entry.restartCount(), func(i int) bool { return c.entry.restart(i) >= c.entry.at }) - 1
	if part < 0 {
		return c.fail()
	}
	if !c.decode(part) {
		return false
	}
	c.at = c.search(c.entry.key)
	return true
}

func (c *TermCursor) land() bool {
	key := c.key()
	c.on = len(key) >= 2 && key[0] == byte(c.p>>8) && key[1] == byte(c.p)
	return c.on
}

// load opens a term block before its first entry, unless it is open.
func (c *TermCursor) load(block int) bool {
	if c.block == block {
		return true
	}
	b, err := c.r.block(blockTerms, c.r.terms, block)
	if err != nil {
		c.err, c.on = err, false
		return false
	}
	c.block, c.whole, c.ended = block, false, false
	if !c.entry.open(b.payload, skipPosting) {
		return c.fail()
	}
	return true
}

// decode decodes the entries of the open block from a restart up to the next one.
func (c *TermCursor) decode(part int) bool {
	if c.payloads == nil {
		c.keys = make([]byte, 0, tableRestartEvery*termKeyTypical/4)
		c.keyEnds, c.payloads = make([]int, 0, tableRestartEvery), make([][]byte, 0, tableRestartEvery)
	}
	c.keys, c.keyEnds, c.payloads = c.keys[:0], c.keyEnds[:0], c.payloads[:0]
	t, ok := c.entry.part(part)
	for ok = ok && t.next(); ok; ok = t.next() {
		c.keys = append(c.keys, t.key...)
		c.keyEnds = append(c.keyEnds, len(c.keys))
		c.payloads = append(c.payloads, t.payload)
	}
	if t.bad || len(c.payloads) == 0 {
		return c.fail()
	}
	c.whole, c.part = true, part
	return true
}

// fail says that the open block is damaged.
func (c *TermCursor) fail() bool {
	c.err = c.r.impossible(blockTerms, c.r.terms, c.block)
	c.block, c.on, c.whole = -1, false, false
	return false
}

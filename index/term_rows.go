package index

import (
	"encoding/binary"
	"slices"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"
)

// TermRows is the ordinals of a run that have one term: found, but not read yet.
// The zero TermRows has none.
type TermRows struct {
	r       *Run
	payload []byte // nil: no ordinal
	block   int    // of terms, where payload lies
}

// TermRows finds the ordinals that have a term.
func (r *Run) TermRows(p Param, value []byte) (TermRows, error) {
	payload, block, err := r.findTerm(p, value)
	return TermRows{r: r, payload: payload, block: block}, err
}

// Rows is the ordinals that have the value.
func (c *TermCursor) Rows() TermRows { return TermRows{r: c.r, payload: c.payload(), block: c.block} }

// Count is how many ordinals there are.
func (t TermRows) Count() uint64 {
	if t.payload == nil {
		return 0
	}
	return postingCount(t.payload)
}

// Bitmap is the ordinals, the caller's.
func (t TermRows) Bitmap() (*roaring.Bitmap, error) {
	if t.payload == nil {
		return roaring.New(), nil
	}
	return t.r.postingBitmap(t.payload, t.block)
}

// AppendTo appends the ordinals, ascending.
func (t TermRows) AppendTo(dst []uint32) ([]uint32, error) {
	if t.payload == nil {
		return dst, nil
	}
	p, ok := parsePosting(dst, t.payload, t.r.footer.meta.Rows)
	if !ok {
		return dst, t.r.impossible(blockTerms, t.r.terms, t.block)
	}
	if p.ordinals != nil {
		return p.ordinals, nil
	}
	return t.appendPlaced(dst, p.place)
}

func (t TermRows) appendPlaced(dst []uint32, p postingPlace) ([]uint32, error) {
	b, block, err := t.r.placed(p, t.block)
	if err != nil {
		return dst, err
	}
	if checkBitmap(b) != nil {
		return dst, t.r.impossible(blockPostings, t.r.postings, block)
	}
	all := appendOrdinals(slices.Grow(dst, int(p.count)), b) // parsePosting has bounded it by the rows
	if n := len(all) - len(dst); uint64(n) != p.count || all[len(all)-1] >= t.r.footer.meta.Rows {
		return dst, t.r.impossible(blockPostings, t.r.postings, block)
	}
	return all, nil
}

// Keep gives those of rows, which ascend, that are among the ordinals, in the
// memory of rows. It looks each up where it lies: what it does not come across is
// neither read nor checked, so that it costs no more where a term has many.
func (t TermRows) Keep(rows []uint32) ([]uint32, error) {
	if t.payload == nil {
		return rows[:0], nil
	}
	var inline [postingInlineMax]uint32
	p, ok := parsePosting(inline[:0], t.payload, t.r.footer.meta.Rows)
	if !ok {
		return nil, t.r.impossible(blockTerms, t.r.terms, t.block)
	}
	if p.ordinals != nil {
		return keepListed(rows, p.ordinals), nil
	}
	b, block, err := t.r.placed(p.place, t.block)
	if err != nil {
		return nil, err
	}
	kept, ok := keepPlaced(rows, b)
	if !ok {
		return nil, t.r.impossible(blockPostings, t.r.postings, block)
	}
	return kept, nil
}

// keepListed is Keep for ascending ordinals.
func keepListed(rows, ordinals []uint32) []uint32 {
	kept := 0
	for _, o := range rows {
		for len(ordinals) > 0 && ordinals[0] < o {
			ordinals = ordinals[1:]
		}
		if len(ordinals) == 0 {
			break
		}
		if ordinals[0] == o {
			rows[kept] = o
			kept++
		}
	}
	return rows[:kept]
}

// keepPlaced is Keep for the bytes of a bitmap; ok is false when they end too soon.
func keepPlaced(rows []uint32, b []byte) (kept []uint32, ok bool) {
	r := byteReader{b: b}
	n, runs := bitmapHead(&r)
	heads := r.take(4 * n)
	if runs == nil || n >= bitmapOffsetsMin {
		r.take(4 * n)
	}
	kept = rows[:0]
	for i := uint64(0); i < n && !r.bad && len(rows) > 0; i++ {
		head := binary.LittleEndian.Uint32(heads[4*i:])
		key, count := head&0xFFFF, int(head>>16)+1
		isOfRuns := runs != nil && runs[i/8]>>(i%8)&1 != 0
		has := containerLookup(&r, isOfRuns, count)
		if r.bad {
			break
		}
		for len(rows) > 0 && rows[0]>>16 < key {
			rows = rows[1:]
		}
		for len(rows) > 0 && rows[0]>>16 == key {
			if has(uint16(rows[0])) {
				kept = append(kept, rows[0])
			}
			rows = rows[1:]
		}
	}
	return kept, !r.bad
}

// containerLookup takes a container off the front of r, and gives what tells
// whether it has a value; it is asked for ascending ones.
func containerLookup(r *byteReader, isOfRuns bool, count int) func(value uint16) bool {
	switch {
	case isOfRuns:
		runs := r.take(4 * uint64(r.uint16()))
		return func(value uint16) bool {
			i := sort.Search(len(runs)/4, func(i int) bool { return binary.LittleEndian.Uint16(runs[4*i:]) > value }) - 1
			return i >= 0 && value-binary.LittleEndian.Uint16(runs[4*i:]) <= binary.LittleEndian.Uint16(runs[4*i+2:])
		}
	case count > containerListMax:
		words := r.take(8 * containerWords)
		return func(value uint16) bool { return words[value/8]>>(value%8)&1 != 0 }
	}
	values, at := r.take(2*uint64(count)), 0
	get := func(i int) uint16 { return binary.LittleEndian.Uint16(values[2*i:]) }
	// What is asked for ascends: each search begins where the last one ended.
	return func(value uint16) bool {
		n, bound := len(values)/2, 1
		for at+bound < n && get(at+bound) < value {
			bound *= 2
		}
		low, high := at+bound/2, min(at+bound, n)
		for low < high {
			middle := (low + high) / 2
			if get(middle) < value {
				low = middle + 1
			} else {
				high = middle
			}
		}
		at = low
		return low < n && get(low) == value
	}
}

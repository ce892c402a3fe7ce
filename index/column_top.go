package index

import (
	"bytes"
	"slices"
)

// ColumnTop finds, of rows that are shown to it, those that come first in the order of
// their values. Make it with Top.
type ColumnTop struct {
	f     *FieldColumn
	limit int
	flip  uint32 // turns the order of places around
	// best is a heap, the last of the order at its top: the place, flipped, and the
	// row, so that less is before.
	best []uint64
}

// PlacedRow is a row with the place of its value.
type PlacedRow struct{ Place, Row uint32 }

// Top is for finding limit rows, at least 1; with desc those of the highest values. The
// column has not Several.
func (f *FieldColumn) Top(limit int, desc bool) *ColumnTop {
	t := &ColumnTop{f: f, limit: limit, best: make([]uint64, 0, limit)}
	if desc {
		t.flip = ^uint32(0)
	}
	return t
}

// Add shows rows, which ascend from call to call. Those without a value do not count.
func (t *ColumnTop) Add(rows []uint32) {
	for _, o := range rows {
		page := t.f.pages[o/columnPageRows]
		if page == nil {
			continue
		}
		at := page[o%columnPageRows]
		if at == 0 {
			continue
		}
		v := uint64((at-1)^t.flip)<<32 | uint64(o)
		switch {
		case len(t.best) < t.limit:
			t.push(v)
		case v < t.best[0]:
			t.best[0] = v
			t.sink()
		}
	}
}

func (t *ColumnTop) push(v uint64) {
	t.best = append(t.best, v)
	for i := len(t.best) - 1; i > 0; {
		parent := (i - 1) / 2
		if t.best[parent] >= t.best[i] {
			return
		}
		t.best[parent], t.best[i] = t.best[i], t.best[parent]
		i = parent
	}
}

// sink puts the top into its place.
func (t *ColumnTop) sink() {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(t.best) {
			return
		}
		if child+1 < len(t.best) && t.best[child+1] > t.best[child] {
			child++
		}
		if t.best[child] <= t.best[i] {
			return
		}
		t.best[i], t.best[child] = t.best[child], t.best[i]
		i = child
	}
}

// Rows gives the rows in order, those of one value ascending; once.
func (t *ColumnTop) Rows() []PlacedRow {
	slices.Sort(t.best)
	rows := make([]PlacedRow, len(t.best))
	for i, v := range t.best {
		rows[i] = PlacedRow{Place: uint32(v>>32) ^ t.flip, Row: uint32(v)}
	}
	return rows
}

// DatesOrdered tells whether the column's values are dates that stand in the order of
// their beginnings, which are their sort keys: all are of one class.
func (f *FieldColumn) DatesOrdered() bool {
	n := f.count()
	return n > 0 && f.value(0)[0] == f.value(n - 1)[0] && f.value(0)[0] != dateOpenStart
}

// DateKey is the sort key of a value of DatesOrdered.
func (f *FieldColumn) DateKey(place uint32) []byte { return dateKey(f.value(int(place))) }

// dateKey is the beginning in a date's value that has one.
func dateKey(value []byte) []byte { return value[1:9] }

// DateShared tells whether a value of DatesOrdered has a neighbour with the same sort
// key.
func (f *FieldColumn) DateShared(place uint32) bool {
	key, at := f.DateKey(place), int(place)
	return at > 0 && bytes.Equal(dateKey(f.value(at-1)), key) || at+1 < f.count() && bytes.Equal(dateKey(f.value(at+1)), key)
}

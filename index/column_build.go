package index

import "slices"

// columnBuilder makes a FieldColumn of a run's terms.
type columnBuilder struct {
	r        *Run
	f        *FieldColumn
	bytes    int64 // of values and pages
	bytesMax int64
	more     []columnPlace // of rows that have a place already
}

type columnPlace struct{ row, place uint32 }

// buildColumn reads all terms of a field. nil without an error: there are values
// that were cut, or it would take more than bytesMax. Errors are those of reading
// and of check.
func (r *Run) buildColumn(p Param, bytesMax int64, check func() error) (*FieldColumn, error) {
	pages := (int(r.footer.meta.Rows) + columnPageRows - 1) / columnPageRows
	b := columnBuilder{r: r, f: &FieldColumn{pages: make([][]uint32, pages)}, bytes: 24 * int64(pages), bytesMax: bytesMax}
	c, space := r.Terms(p), []uint32(nil)
	for ok := c.First(); ok; ok = c.Next() {
		if b.f.count()%walkTermsPerCheck == 0 {
			if err := check(); err != nil {
				return nil, err
			}
		}
		if len(c.Value()) == TermBytesMax || !b.value(c.Value()) {
			return nil, nil
		}
		var err error
		if space, err = r.eachPosting(space, c.payload(), c.block, b.add); err != nil {
			return nil, err
		}
	}
	if c.Err() != nil || b.bytes > bytesMax {
		return nil, c.Err()
	}
	b.finish()
	return b.f, nil
}

// value adds a value; false: it is too much.
func (b *columnBuilder) value(value []byte) bool {
	f := b.f
	b.bytes += int64(len(value)) + 4
	if b.bytes > b.bytesMax || f.count() == columnSeveral-1 {
		return false
	}
	f.values = append(f.values, value...)
	f.ends = append(f.ends, uint32(len(f.values)))
	return true
}

// add gives the last value to rows.
func (b *columnBuilder) add(rows []uint32) {
	place := uint32(b.f.count()) - 1
	for _, row := range rows {
		page := b.f.pages[row/columnPageRows]
		if page == nil {
			if b.bytes += 4 * columnPageRows; b.bytes > b.bytesMax {
				return // the next value says so
			}
			page = make([]uint32, columnPageRows)
			b.f.pages[row/columnPageRows] = page
		}
		if at := &page[row%columnPageRows]; *at == 0 {
			*at = place + 1
			b.f.rows++
		} else {
			b.bytes += 12
			b.more = append(b.more, columnPlace{row, place})
		}
	}
}

// finish makes the lists of rows with several values.
func (b *columnBuilder) finish() {
	slices.SortStableFunc(b.more, func(x, y columnPlace) int { return int(x.row) - int(y.row) })
	for more := b.more; len(more) > 0; {
		n := 1
		for n < len(more) && more[n].row == more[0].row {
			n++
		}
		at := &b.f.pages[more[0].row/columnPageRows][more[0].row%columnPageRows]
		list := uint32(len(b.f.lists))
		b.f.lists = append(b.f.lists, uint32(n)+1, *at-1)
		for _, m := range more[:n] {
			b.f.lists = append(b.f.lists, m.place)
		}
		*at = list | columnSeveral
		more = more[n:]
	}
	b.f.values, b.f.ends, b.f.lists = slices.Clip(b.f.values), slices.Clip(b.f.ends), slices.Clip(b.f.lists)
}

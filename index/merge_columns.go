package index

import "github.com/RoaringBitmap/roaring/v2"

// columnMerge packs the rows of all inputs into column blocks anew: their
// number in a block and their LSNs change.
type columnMerge struct {
	m       *merger
	index   blockIndex
	columns [columnCount][]int64
	payload []byte
	disk    []byte
	any     bool // a live row was seen
}

// columns writes the columns and finds the range of lastUpdated.
func (m *merger) columns() error {
	c := columnMerge{m: m}
	for _, in := range m.inputs {
		live := in.live.Iterator()
		for i := range in.Run.columns.count() {
			if err := c.take(in, live, i); err != nil {
				return err
			}
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	var err error
	m.footer.sections[sectionColumns], err = m.out.section(blockColumnIndex, c.index.append(nil, indexPlain))
	return err
}

// take adds the rows of an input's i-th column block.
func (c *columnMerge) take(in *mergeInput, live roaring.IntPeekable, i int) error {
	r := in.Run
	length := int(r.columns.lengths[i])
	c.disk = roomFor(c.disk, length)
	checked, err := r.readBlock(c.disk, blockColumns, r.columns.offsets[i], length)
	if err != nil {
		return err
	}
	first := i * columnBlockRows
	block, ok := parseColumnBlock(checked.payload)
	if !ok || block.rows != min(columnBlockRows, int(r.footer.meta.Rows)-first) {
		return r.impossible(blockColumns, r.columns, i)
	}
	for j := range block.rows {
		if !live.HasNext() || live.PeekNext() != uint32(first+j) {
			c.repeat()
		} else {
			row, err := r.row(&block, Ordinal(live.Next()))
			if err != nil {
				return err
			}
			if row.LSN == 0 {
				row.LSN = in.PublishLSN
			}
			c.add(&row)
		}
		if len(c.columns[0]) == columnBlockRows {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.m.step(length)
}

func (c *columnMerge) add(row *Row) {
	meta, milli := &c.m.footer.meta, row.LastUpdated.Milli
	if !c.any {
		meta.MilliMin, meta.MilliMax, c.any = milli, milli, true
	}
	meta.MilliMin, meta.MilliMax = min(meta.MilliMin, milli), max(meta.MilliMax, milli)
	values := [columnCount]int64{
		columnType: int64(row.Type), columnVersion: row.VersionID, columnMilli: milli,
		columnOffset: int64(row.LastUpdated.OffsetMinutes), columnLSN: int64(row.LSN), columnFlags: int64(row.Flags),
	}
	for i, v := range values {
		c.columns[i] = append(c.columns[i], v)
	}
}

// repeat adds a dropped row, which widens no frame.
func (c *columnMerge) repeat() {
	n := len(c.columns[0])
	for i := range c.columns {
		last := int64(0)
		if n > 0 {
			last = c.columns[i][n-1]
		}
		c.columns[i] = append(c.columns[i], last)
	}
}

func (c *columnMerge) flush() error {
	if len(c.columns[0]) == 0 {
		return nil
	}
	c.payload = appendColumnBlock(c.payload[:0], &c.columns)
	offset, length, err := c.m.out.block(blockColumns, c.payload)
	if err != nil {
		return err
	}
	c.index.add(offset, length)
	for i := range c.columns {
		c.columns[i] = c.columns[i][:0]
	}
	return nil
}

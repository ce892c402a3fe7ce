package index

import "fmt"

// Row reads the columns of one ordinal; a dropped ordinal is ErrNoRow.
func (r *Run) Row(o Ordinal) (Row, error) {
	if !r.live.Contains(uint32(o)) {
		return Row{}, r.noRow(o)
	}
	c, err := r.columnBlock(int(o) / columnBlockRows)
	if err != nil {
		return Row{}, err
	}
	return r.row(&c, o)
}

// row reads an ordinal's row from its column block.
func (r *Run) row(c *columnBlock, o Ordinal) (Row, error) {
	row, ok := c.row(int(o) % columnBlockRows)
	if !ok {
		return Row{}, r.impossible(blockColumns, r.columns, int(o)/columnBlockRows)
	}
	if row.LSN == 0 {
		row.LSN = r.publishLSN
	}
	return row, nil
}

func (r *Run) columnBlock(i int) (columnBlock, error) {
	b, err := r.block(blockColumns, r.columns, i)
	if err != nil {
		return columnBlock{}, err
	}
	c, ok := parseColumnBlock(b.payload)
	if !ok || c.rows != min(columnBlockRows, int(r.footer.meta.Rows)-i*columnBlockRows) {
		return columnBlock{}, r.impossible(blockColumns, r.columns, i)
	}
	return c, nil
}

// Body reads one body through the cache; a dropped ordinal is ErrNoRow.
func (r *Run) Body(o Ordinal) (Stored, error) {
	if !r.live.Contains(uint32(o)) {
		return Stored{}, r.noRow(o)
	}
	i := r.bodies.blockOf(o)
	b, err := r.block(blockBodies, r.bodies, i)
	if err != nil {
		return Stored{}, err
	}
	return b.entries[uint32(o)-r.bodies.first[i]].stored(b.payload), nil
}

func (r *Run) noRow(o Ordinal) error {
	return fmt.Errorf("cannot read row %d of run %q: %w", o, r.name, ErrNoRow)
}

// RowReader reads rows one after the other: it keeps the blocks of the last one, since
// the next is mostly in them too. Not safe for concurrent use.
type RowReader struct {
	r       *Run
	column  int // the block of columns; -1: none
	columns columnBlock
	block   int // of bodies; -1: none
	bodies  *cachedBlock
}

// RowReader is a reader that has read nothing.
func (r *Run) RowReader() *RowReader { return &RowReader{r: r, column: -1, block: -1} }

// Row is Run.Row.
func (c *RowReader) Row(o Ordinal) (Row, error) {
	if !c.r.live.Contains(uint32(o)) {
		return Row{}, c.r.noRow(o)
	}
	if i := int(o) / columnBlockRows; i != c.column {
		columns, err := c.r.columnBlock(i)
		if err != nil {
			return Row{}, err
		}
		c.column, c.columns = i, columns
	}
	return c.r.row(&c.columns, o)
}

// Body is Run.Body.
func (c *RowReader) Body(o Ordinal) (Stored, error) {
	if !c.r.live.Contains(uint32(o)) {
		return Stored{}, c.r.noRow(o)
	}
	first := c.r.bodies.first
	if c.block < 0 || uint32(o) < first[c.block] || uint32(o) >= first[c.block+1] {
		i := c.r.bodies.blockOf(o)
		b, err := c.r.block(blockBodies, c.r.bodies, i)
		if err != nil {
			return Stored{}, err
		}
		c.block, c.bodies = i, b
	}
	return c.bodies.entries[uint32(o)-first[c.block]].stored(c.bodies.payload), nil
}

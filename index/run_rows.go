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

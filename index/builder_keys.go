package index

import "fmt"

const (
	rowBytes      = 8 + 8 + 8 + 2 + 1 + 1 // of rowColumns
	sortItemBytes = 16
)

// rowColumns is what SetRow was told, by column.
type rowColumns struct {
	version []int64
	milli   []int64
	lsn     []uint64
	offset  []int16
	flags   []Flags
	state   []rowState
}

type rowState uint8

const (
	rowUnset rowState = iota
	rowSet
	rowDropped
)

// resize makes room for n rows, all unset.
func (c *rowColumns) resize(n int) {
	if cap(c.state) < n {
		*c = rowColumns{
			version: make([]int64, n), milli: make([]int64, n), lsn: make([]uint64, n),
			offset: make([]int16, n), flags: make([]Flags, n), state: make([]rowState, n),
		}
		return
	}
	c.version, c.milli, c.lsn = c.version[:n], c.milli[:n], c.lsn[:n]
	c.offset, c.flags, c.state = c.offset[:n], c.flags[:n], c.state[:n]
	clear(c.state)
}

// SortKeys sorts the rows by (key, ordinal); no Append may follow.
func (b *Builder) SortKeys() {
	if b.sorted {
		return
	}
	n := len(b.keyEnds)
	if cap(b.order) < n {
		b.order = make([]sortItem, n)
	}
	b.order = b.order[:n]
	for i := range b.order {
		b.order[i].id = uint32(i)
	}
	b.sorter.key = b.key
	b.sorter.sort(b.order)
	b.rows.resize(n)
	b.sorted = true
}

// KeyCursor begins before the first row in (key, ordinal) order.
func (b *Builder) KeyCursor() *KeyCursor {
	if !b.sorted {
		panic("BUG: KeyCursor before SortKeys")
	}
	return &KeyCursor{b: b, at: -1}
}

// KeyCursor walks a Builder's sorted keys.
type KeyCursor struct {
	b  *Builder
	at int
}

// Next advances; false at the end. Key aliases the builder's memory.
func (c *KeyCursor) Next() bool {
	c.at++
	return c.at < len(c.b.order)
}
func (c *KeyCursor) Key() []byte      { return c.b.key(c.b.order[c.at].id) }
func (c *KeyCursor) Ordinal() Ordinal { return Ordinal(c.b.order[c.at].id) }

// SetRow gives an ordinal its columns (Type is already known from Append).
// Drop makes it a hole: no key, no terms, no row; its body stays in its block.
// The last call for an ordinal counts.
func (b *Builder) SetRow(o Ordinal, r Row) {
	if r.Type != b.typeOf(uint32(o)) {
		panic(fmt.Sprintf("BUG: ordinal %d was appended as another type", o))
	}
	c := &b.rows
	c.version[o], c.milli[o], c.lsn[o] = r.VersionID, r.LastUpdated.Milli, r.LSN
	c.offset[o], c.flags[o], c.state[o] = r.LastUpdated.OffsetMinutes, r.Flags, rowSet
}

func (b *Builder) Drop(o Ordinal) { b.rows.state[o] = rowDropped }

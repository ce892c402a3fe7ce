package index

import (
	"bytes"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// MemoryTerms is a term table that grows: the terms of versions that are in no
// run yet. A termSet finds a term by its hash; for walks the terms stand in two
// sorted lists, the newer one short, so that a walk after each of many writes
// does not sort everything again. Reading is safe for concurrent use after Sort,
// until the next AddTerm.
type MemoryTerms struct {
	set    *termSet
	known  int        // records that are in one of the lists
	old    []sortItem // by key
	young  []sortItem // by key
	sorter keySorter
}

// youngShare: the young terms join the old ones when they are more than this
// part of them.
const youngShare = 8

// youngMin is how many young terms are never worth joining.
const youngMin = 1 << 10

var _ TermSink = (*MemoryTerms)(nil)

// NewMemoryTerms makes an empty table.
func NewMemoryTerms() *MemoryTerms {
	m := &MemoryTerms{set: newTermSet()}
	m.sorter.key = m.set.termKey
	return m
}

// AddTerm adds a term of the version whose Commit comes next. value is copied.
func (m *MemoryTerms) AddTerm(p Param, value []byte) { m.set.add(p, value) }

// AddRow adds the terms that a Builder makes of a row itself.
func (m *MemoryTerms) AddRow(row Row) {
	var value [8]byte
	m.AddTerm(ParamLastUpdated, AppendMilli(value[:0], row.LastUpdated.Milli))
	m.AddTerm(ParamType, AppendType(value[:0], row.Type))
	if row.Flags&FlagDeleted != 0 {
		m.AddTerm(ParamDeleted, nil)
	}
}

// Commit gives the terms added since the last Commit or Discard to version o;
// ordinals ascend.
func (m *MemoryTerms) Commit(o Ordinal) { m.set.commit(uint32(o)) }

// Discard forgets the terms added since the last Commit or Discard.
func (m *MemoryTerms) Discard() { m.set.discard() }

// MemoryBytes is what the table holds.
func (m *MemoryTerms) MemoryBytes() int64 {
	return m.set.memoryBytes() + int64(cap(m.old)+cap(m.young)+cap(m.sorter.tmp))*sortItemBytes
}

// Full says that the table takes no more: its arenas' offsets are 32 bits.
func (m *MemoryTerms) Full() bool { return m.set.full() }

// find gives the record of a term, nil when no version has it.
func (m *MemoryTerms) find(p Param, value []byte) *termRec {
	rec, ok := m.set.find(appendTermKey(nil, p, value))
	if !ok {
		return nil
	}
	return &m.set.recs[rec]
}

// rows gives the ordinals below a bound that have a record's term.
func (m *MemoryTerms) rows(rec *termRec, below Ordinal) *roaring.Bitmap {
	rows := roaring.New()
	if rec != nil {
		ordinals := m.set.ordinals(nil, rec)
		end, _ := slices.BinarySearch(ordinals, uint32(below))
		rows.AddMany(ordinals[:end])
	}
	return rows
}

// Postings is the set of ordinals below a bound that have the term.
func (m *MemoryTerms) Postings(p Param, value []byte, below Ordinal) *roaring.Bitmap {
	return m.rows(m.find(p, value), below)
}

// Range ORs the postings of all terms of p with from <= value < to (nil: open),
// as Run.Range does.
func (m *MemoryTerms) Range(p Param, from, to []byte, below Ordinal) *roaring.Bitmap {
	all := roaring.New()
	c := m.Terms(p, below)
	if to != nil {
		to = appendTermValue(make([]byte, 0, TermBytesMax), to)
	}
	for ok := c.SeekGE(from); ok && (to == nil || bytes.Compare(c.Value(), to) < 0); ok = c.Next() {
		all.Or(c.Postings())
	}
	return all
}

// Sort brings the lists up to date.
func (m *MemoryTerms) Sort() {
	if m.known == len(m.set.recs) {
		return
	}
	for ; m.known < len(m.set.recs); m.known++ {
		m.young = append(m.young, sortItem{id: uint32(m.known)})
	}
	m.sorter.sort(m.young)
	if len(m.young) <= max(youngMin, len(m.old)/youngShare) {
		return
	}
	joined := make([]sortItem, 0, len(m.old)+len(m.young))
	a, b := m.old, m.young
	for len(a) > 0 && len(b) > 0 {
		if bytes.Compare(m.set.termKey(a[0].id), m.set.termKey(b[0].id)) < 0 {
			joined, a = append(joined, a[0]), a[1:]
		} else {
			joined, b = append(joined, b[0]), b[1:]
		}
	}
	m.old, m.young = append(append(joined, a...), b...), m.young[:0]
}

// Terms returns a cursor over the terms of p that some ordinal below a bound
// has, in value order. It is good until the next AddTerm.
func (m *MemoryTerms) Terms(p Param, below Ordinal) *MemoryCursor {
	m.Sort()
	return &MemoryCursor{m: m, p: p, below: below}
}

// MemoryCursor walks neighbouring terms upwards. Start with SeekGE or First.
type MemoryCursor struct {
	m          *MemoryTerms
	p          Param
	below      Ordinal
	old, young int // next places in the lists
	rec        uint32
	target     []byte
}

// First moves to the lowest value.
func (c *MemoryCursor) First() bool { return c.SeekGE(nil) }

// Last moves to the highest value.
func (c *MemoryCursor) Last() bool {
	if c.p == ^Param(0) {
		c.old, c.young = len(c.m.old), len(c.m.young)
	} else {
		c.target = appendTermKey(c.target[:0], c.p+1, nil)
		c.place()
	}
	return c.back()
}

// SeekGE moves to the lowest value that is not less than value.
func (c *MemoryCursor) SeekGE(value []byte) bool {
	c.target = appendTermKey(c.target[:0], c.p, value)
	c.place()
	return c.Next()
}

// SeekLT moves to the highest value that is less than value.
func (c *MemoryCursor) SeekLT(value []byte) bool {
	c.target = appendTermKey(c.target[:0], c.p, value)
	c.place()
	return c.back()
}

// place puts the target's place into both lists.
func (c *MemoryCursor) place() {
	in := func(list []sortItem) int {
		at, _ := slices.BinarySearchFunc(list, c.target, func(item sortItem, target []byte) int {
			return bytes.Compare(c.m.set.termKey(item.id), target)
		})
		return at
	}
	c.old, c.young = in(c.m.old), in(c.m.young)
}

// Next moves to the next higher value.
func (c *MemoryCursor) Next() bool {
	for {
		old, young := c.old < len(c.m.old), c.young < len(c.m.young)
		switch {
		case !old && !young:
			return false
		case !young || old && c.less(c.m.old[c.old], c.m.young[c.young]):
			c.rec = c.m.old[c.old].id
			c.old++
		default:
			c.rec = c.m.young[c.young].id
			c.young++
		}
		if !c.inField() {
			return false
		}
		if c.visible() {
			return true
		}
	}
}

// Prev moves to the next lower value. Not after a move that returned false.
func (c *MemoryCursor) Prev() bool {
	c.drop()
	return c.back()
}

// back stands on the highest of the terms before the places in both lists.
func (c *MemoryCursor) back() bool {
	for c.old > 0 || c.young > 0 {
		if c.oldIsLast() {
			c.rec = c.m.old[c.old-1].id
		} else {
			c.rec = c.m.young[c.young-1].id
		}
		if !c.inField() {
			return false
		}
		if c.visible() {
			return true
		}
		c.drop()
	}
	return false
}

// drop takes the highest of the terms before the places away.
func (c *MemoryCursor) drop() {
	if c.oldIsLast() {
		c.old--
	} else {
		c.young--
	}
}

func (c *MemoryCursor) oldIsLast() bool {
	return c.young == 0 || c.old > 0 && !c.less(c.m.old[c.old-1], c.m.young[c.young-1])
}

func (c *MemoryCursor) less(a, b sortItem) bool {
	return bytes.Compare(c.m.set.termKey(a.id), c.m.set.termKey(b.id)) < 0
}

func (c *MemoryCursor) inField() bool {
	key := c.m.set.termKey(c.rec)
	return key[0] == byte(c.p>>8) && key[1] == byte(c.p)
}

func (c *MemoryCursor) visible() bool {
	rec := &c.m.set.recs[c.rec]
	return rec.first < uint32(c.below)
}

// Value is the value the cursor is on; see TermCursor.Value.
func (c *MemoryCursor) Value() []byte { return c.m.set.termKey(c.rec)[2:] }

// Postings is the set of ordinals below the bound that have the value. The
// bitmap is the caller's.
func (c *MemoryCursor) Postings() *roaring.Bitmap {
	return c.m.rows(&c.m.set.recs[c.rec], c.below)
}

// Count is how many ordinals have the value, whatever the bound.
func (c *MemoryCursor) Count() uint64 { return uint64(c.m.set.recs[c.rec].count) }

// AddTo adds the ordinals below the bound that have the value.
func (c *MemoryCursor) AddTo(rows *RowSet) error {
	c.m.addRows(rows, &c.m.set.recs[c.rec], c.below)
	return nil
}

// Err is nil: memory does not fail.
func (c *MemoryCursor) Err() error { return nil }

func (m *MemoryTerms) addRows(rows *RowSet, rec *termRec, below Ordinal) {
	ordinals := m.set.ordinals(nil, rec)
	end, _ := slices.BinarySearch(ordinals, uint32(below))
	rows.Add(ordinals[:end]...)
}

// MemorySource is the terms in memory of the ordinals below a bound.
type MemorySource struct {
	Terms *MemoryTerms
	Below Ordinal
}

var (
	_ TermSource = MemorySource{}
	_ TermSource = (*Run)(nil)
)

// Cursor walks the terms of a field.
func (s MemorySource) Cursor(p Param) Cursor { return s.Terms.Terms(p, s.Below) }

// AddPostings adds the ordinals that have the term.
func (s MemorySource) AddPostings(rows *RowSet, p Param, value []byte) error {
	if rec := s.Terms.find(p, value); rec != nil {
		s.Terms.addRows(rows, rec, s.Below)
	}
	return nil
}

// PostingCount is at least the number of ordinals that have the term.
func (s MemorySource) PostingCount(p Param, value []byte) (uint64, error) {
	if rec := s.Terms.find(p, value); rec != nil {
		return uint64(rec.count), nil
	}
	return 0, nil
}

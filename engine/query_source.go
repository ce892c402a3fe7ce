package engine

import (
	"context"
	"math"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// A search reads sources: each run in the order of compareRuns, then each
// generation of the head. Rows of a source lie by (LSN, place in the record), so
// the store's order is (LSN, source, row). It outlives flushes and merges: see
// compareItems for why.
//
// What a search at AsOf shows of a source is its live rows: up to AsOf, not
// void, not deleted, of the types, and current then. A head entry knows since
// when it is not current. A run knows it for what was superseded after
// runState.settled; whether an older superseded row was current at AsOf is asked
// of the key table when it is about to be delivered. Such rows are doubtful.

// source is a run or a generation of the head, as one search sees it.
type source struct {
	run   *runState // nil: the head
	gen   *headGen
	order int
	rows  uint32 // all ordinals are below
	// live is what the search may show, doubtful what of it is to be asked
	// about; nil: not made yet. Both are not modified.
	live, doubtful *roaring.Bitmap
	// gone is the run's rows of the query's types that live leaves out; nil: not known.
	gone    *goneRows
	matches *roaring.Bitmap  // of the query; nil: not made yet
	counted uint64           // matches beside those, where only their number is wanted
	cut     bool             // there may be more matches, above those
	reader  *index.RowReader // of the run; nil: nothing was read yet
}

// read reads the version of a row.
func (src *source) read(n *Snapshot, o uint32) (Version, error) {
	if src.run == nil {
		return n.read(src.place(o))
	}
	r := src.rowReader()
	row, err := r.Row(index.Ordinal(o))
	if err != nil {
		return Version{}, err
	}
	stored, err := r.Body(index.Ordinal(o))
	if err != nil {
		return Version{}, err
	}
	return makeVersion(src.run.dated(row), stored), nil
}

// rowReader reads rows of the run.
func (src *source) rowReader() *index.RowReader {
	if src.reader == nil {
		src.reader = src.run.run.RowReader()
	}
	return src.reader
}

// searching is one search under way. Not safe for concurrent use.
type searching struct {
	n       *Snapshot
	ctx     context.Context
	q       *Query
	asOf    uint64
	needed  needs // of the query's Where
	sources []*source
	bytes   uint64 // of the bitmaps that are kept
	keysOf  map[*Expr][][]byte
	inside  int  // versions that were read for what they contain
	patient bool // and they are not bounded
	// counting: how many rows match is enough.
	counting bool
	nothing  *roaring.Bitmap // of none
	listed   []uint32        // room for a list of rows, the store's
	work     searchWork
	last     delivered
}

// searchWork is what a search did, for tests that its cost follows its page.
type searchWork struct {
	terms uint64 // that a sort walked over
	asked uint64 // versions of which the key table was asked whether they were current
	own   uint64 // versions whose own terms were made
}

// queryBytesMax bounds the bitmaps that one search keeps: the matches of 2e9
// versions at worst.
const queryBytesMax = 256 << 20

func (n *Snapshot) newSearch(ctx context.Context, q *Query) (*searching, error) {
	s := &searching{n: n, ctx: ctx, q: q, asOf: n.lsn, needed: q.Where.needs()}
	if room, ok := n.s.lists.Get().(*[]uint32); ok {
		s.listed = *room
	}
	if q.AsOf != 0 {
		s.asOf = min(q.AsOf, n.lsn)
	}
	room := make([]source, 0, len(n.view.byAge)+len(n.view.gens))
	for _, r := range n.view.byAge {
		if r.run.Meta().Live > 0 {
			room = append(room, source{run: r, order: len(room), rows: r.run.Meta().Rows})
		}
	}
	for _, g := range n.view.gens {
		if count := g.countAt(s.asOf); count > 0 {
			room = append(room, source{gen: g, order: len(room), rows: uint32(count)})
		}
	}
	s.sources = make([]*source, len(room))
	for i := range room {
		s.sources[i] = &room[i]
	}
	return s, s.check()
}

// end gives back what the search has borrowed.
func (s *searching) end() {
	if room := s.listed[:0]; cap(room) > 0 {
		s.listed = nil
		s.n.s.lists.Put(&room)
	}
}

// check ends a search whose time is over.
func (s *searching) check() error { return s.ctx.Err() }

// none is an empty bitmap, the same for all sources. Do not modify.
func (s *searching) none() *roaring.Bitmap {
	if s.nothing == nil {
		s.nothing = roaring.New()
	}
	return s.nothing
}

// keep counts a bitmap that stays.
func (s *searching) keep(b *roaring.Bitmap) error {
	if s.bytes += b.GetSizeInBytes(); s.bytes > queryBytesMax {
		return ErrQueryTooLarge
	}
	return nil
}

// prepare makes live and doubtful.
func (s *searching) prepare(src *source) error {
	if src.live != nil {
		return nil
	}
	if src.gen != nil {
		s.prepareHead(src)
		return nil
	}
	return s.prepareRun(src)
}

func (s *searching) prepareHead(src *source) {
	wanted := map[fhir.TypeCode]bool{}
	for _, t := range s.q.Types {
		wanted[t] = true
	}
	live := index.NewRowSet(src.rows)
	for i := range int(src.rows) {
		e := src.gen.entry(i)
		if !e.isDeleted() && e.isCurrentAt(s.asOf) && !e.isPurgedAt(s.n.lsn) && (len(wanted) == 0 || wanted[e.typ]) {
			live.Add(uint32(i))
		}
	}
	src.live, src.doubtful = live.Bitmap(), roaring.New()
}

func (s *searching) prepareRun(src *source) error {
	live, doubtful, current, err := s.liveRows(src.run)
	if err != nil {
		return err
	}
	switch {
	case len(s.q.Types) <= 1 && current != nil:
		of := fhir.TypeCode(0)
		if len(s.q.Types) == 1 {
			of = s.q.Types[0]
		}
		typed, err := src.run.currentOf(current, of)
		if err != nil {
			return err
		}
		live, src.gone = typed.rows, typed.gone
	case len(s.q.Types) == 0 || live.IsEmpty():
	default:
		types, err := src.run.ofTypes(s.q.Types...)
		if err != nil {
			return err
		}
		types.And(live)
		live = types
	}
	src.live, src.doubtful = live, doubtful
	return s.keep(live)
}

// liveRows is the rows of all types that the search may show, and those of them
// that are to be asked about. Do not modify either. current is what live comes
// from when it is just that; nil: it is not.
func (s *searching) liveRows(r *runState) (live, doubtful *roaring.Bitmap, current *currentRows, err error) {
	known := r.supersessions()
	if s.asOf == s.n.lsn || s.asOf >= known.settled {
		if current, err = r.currentAt(known, s.asOf); err == nil {
			live = current.rows
		}
		doubtful = s.none()
	} else {
		live, err = r.liveWithout(foldMarks(roaring.New(), known.marks, known.bulk, s.asOf))
		doubtful = known.base
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if void := r.voidAt(s.n.lsn); void != nil {
		live, current = roaring.AndNot(live, void), nil
	}
	if r.publishLSN <= s.asOf {
		return live, doubtful, current, nil
	}
	newer, err := r.boundary(s.asOf)
	if err != nil {
		return nil, nil, nil, err
	}
	live = live.Clone()
	live.RemoveRange(uint64(newer), math.MaxUint32+1)
	return live, doubtful, nil, nil
}

// isMatch tells whether a row of matches was current at AsOf.
func (s *searching) isMatch(src *source, o uint32) (bool, error) {
	if src.run == nil || !src.doubtful.Contains(o) {
		return true, nil
	}
	s.work.asked++
	row, err := src.run.row(index.Ordinal(o))
	if err != nil {
		return false, err
	}
	stored, err := src.run.run.Body(index.Ordinal(o))
	if err != nil {
		return false, err
	}
	return s.wasCurrent(row, stored.ID)
}

// wasCurrent asks whether no version of a resource up to AsOf is above row's.
func (s *searching) wasCurrent(row index.Row, id []byte) (bool, error) {
	current, rowErr := row.VersionID > 0, error(nil)
	key := index.AppendKey(make([]byte, 0, keyBytesTypical), row.Type, id)
	err := s.n.versions(key, func(f found) bool {
		if f.versionID <= row.VersionID {
			return true
		}
		var other index.Row
		if other, rowErr = f.row(); rowErr != nil {
			return false
		}
		if other.LSN <= s.asOf {
			current = false
		}
		return current
	})
	if err == nil {
		err = rowErr
	}
	return current, err
}

// place is where a row is read.
func (src *source) place(o uint32) found {
	if src.run != nil {
		return found{run: src.run, ordinal: index.Ordinal(o)}
	}
	return found{entry: src.gen.entry(int(o))}
}

// lsn is a row's.
func (src *source) lsn(o uint32) (uint64, error) {
	if src.run == nil {
		return src.gen.entry(int(o)).lsn, nil
	}
	if src.run.kind == ingestImport {
		return src.run.publishLSN, nil
	}
	row, err := src.run.row(index.Ordinal(o))
	return row.LSN, err
}

// firstLSN is not above that of any row.
func (src *source) firstLSN() (uint64, error) {
	if src.run != nil && src.run.kind != ingestImport {
		return src.lsn(src.run.run.Live().Minimum())
	}
	return src.lsn(0)
}

// behind is the first row with an LSN above lsn.
func (src *source) behind(lsn uint64) (uint32, error) {
	if src.run == nil {
		return uint32(src.gen.countAt(lsn)), nil
	}
	return src.run.boundary(lsn)
}

// cursorPlace is where the query's cursor points.
type cursorPlace struct {
	lsn   uint64
	order int
	row   uint32
	part  uint32 // of the cursor
	found found
}

// findCursor locates the version that the cursor is behind; nil for a zero cursor.
func (s *searching) findCursor() (*cursorPlace, error) {
	c := s.q.After
	if c == (Cursor{}) {
		return nil, nil
	}
	var at *cursorPlace
	key := index.AppendKey(make([]byte, 0, keyBytesTypical), c.typ, []byte(c.id))
	err := s.n.versions(key, func(f found) bool {
		if f.versionID == c.version {
			at = &cursorPlace{found: f}
		}
		return at == nil
	})
	if err != nil {
		return nil, err
	}
	if at == nil {
		return nil, ErrCursorGone
	}
	row, err := at.found.row()
	if err != nil {
		return nil, err
	}
	if at.lsn = row.LSN; at.lsn > s.asOf {
		return nil, ErrCursorGone // purged, and its number given again
	}
	for _, src := range s.sources {
		if o, ok := src.rowOf(at.found); ok {
			at.order, at.row, at.part = src.order, o, c.part
			return at, nil
		}
	}
	panic("BUG: a version of a snapshot is in none of its sources")
}

// rowOf is the row of a place, if it is in this source.
func (src *source) rowOf(f found) (uint32, bool) {
	if f.run != nil || src.run != nil {
		return uint32(f.ordinal), f.run == src.run
	}
	i := f.number - uint32(src.gen.base)
	return i, i < src.rows && src.gen.entry(int(i)) == f.entry
}

// startAfter is the first row of a source that lies behind a cursor in the
// store's order, or that the cursor is inside of.
func (src *source) startAfter(at *cursorPlace) (uint32, error) {
	switch {
	case at == nil:
		return 0, nil
	case src.order == at.order && at.part > 0:
		return at.row, nil
	case src.order == at.order:
		return at.row + 1, nil
	case src.order < at.order:
		return src.behind(at.lsn)
	}
	return src.behind(at.lsn - 1)
}

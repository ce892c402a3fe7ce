package engine

import (
	"cmp"
	"math"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// runState is a published run with what changes about it: which of its rows
// are superseded, and since when.
type runState struct {
	run *index.Run
	// publishLSN is the LSN of every row of an import. The rows of a flush, and
	// of runs that were merged, have their own, in rising order by ordinal;
	// none is above publishLSN. A merged run has that of its last input.
	publishLSN uint64
	kind       ingestKind
	// rank is the run's own id, or that of the last run that went into it.
	rank index.RunID
	// void rows are those that were taken out. Readers load it; it is stored under mu.
	void atomic.Pointer[voidRows]
	// refs counts the views that hold the run; replaced says that a merged run
	// has taken its place, so that its file goes with the last view; merging
	// that a merge is reading it; unmergeable that one failed at it. All guarded by Store.mu.
	refs                           int
	replaced, merging, unmergeable bool

	// mu guards what follows. Leaf lock: nothing is locked under it.
	mu sync.Mutex
	// base holds the superseded rows that every live snapshot sees as such. The
	// bitmap is never changed, only replaced. All of them were superseded up to
	// the LSN settled.
	base    *roaring.Bitmap
	settled uint64
	// marks and bulk, in LSN order, are younger supersessions. Append-only, so
	// a reader may keep a prefix; fold moves old ones into base.
	marks []mark
	bulk  []bulkMark
	// current is what a search at some LSN found current; nil: none did yet.
	current *currentRows
}

// currentRows is the rows that are live, current and not deleted as of base and
// so many marks; void rows are still in.
type currentRows struct {
	base        *roaring.Bitmap
	marks, bulk int
	rows        *roaring.Bitmap // never changed
	// ofType is those of rows that are of one type, 0: of all; guarded by runState.mu.
	ofType map[fhir.TypeCode]*typedRows
}

// typedRows is the current rows of a type, and the other ones. Immutable.
type typedRows struct {
	rows *roaring.Bitmap
	gone *goneRows
}

// goneRows is a run's rows of a type that are not current, when they are few.
type goneRows struct {
	rows []uint32 // ascending
	many bool     // and not listed
}

// isFew tells whether all of them are known; of nil nothing is.
func (g *goneRows) isFew() bool { return g != nil && !g.many }

func newGoneRows(rows *roaring.Bitmap) *goneRows {
	if rows.GetCardinality() > goneRowsMax {
		return &goneRows{many: true}
	}
	return &goneRows{rows: rows.ToArray()}
}

type mark struct {
	lsn     uint64
	ordinal uint32
}

type bulkMark struct {
	lsn      uint64
	ordinals *roaring.Bitmap // never changed
}

// newRunState is a run's state; superseded is as of the LSN settled.
func newRunState(run *index.Run, publishLSN uint64, kind ingestKind, rank index.RunID, superseded, void *roaring.Bitmap, settled uint64) *runState {
	if superseded == nil {
		superseded = roaring.New()
	}
	r := &runState{run: run, publishLSN: publishLSN, kind: kind, rank: rank, base: superseded, settled: settled}
	r.void.Store(newVoidRows(void))
	return r
}

// mergedState is the state of a run that takes the place of inputs, which have
// so many rows each, at an LSN: what is superseded in them is superseded in it,
// and what is void in them is void. Void rows that the merge left out are nothing
// in the result; trimVoid forgets them when run, which may be nil, is there.
// Slot and recovery only.
func mergedState(inputs []*runState, rows []uint32, run *index.Run, lsn uint64) *runState {
	superseded, void, base := roaring.New(), roaring.New(), uint32(0)
	for i, in := range inputs {
		superseded.Or(roaring.AddOffset(in.superseded(math.MaxUint64), base))
		if gone := in.voidAt(math.MaxUint64); gone != nil {
			void.Or(roaring.AddOffset(gone, base))
		}
		base += rows[i]
	}
	superseded.RunOptimize()
	last, kind := inputs[len(inputs)-1], ingestMerged
	if last.fromFlush() {
		kind = ingestFlush
	}
	return newRunState(run, last.publishLSN, kind, last.rank, superseded, void, lsn)
}

// fromFlush tells whether the rows were written one by one, through the head,
// and not by imports.
func (r *runState) fromFlush() bool { return r.kind == ingestFlush }

// compareRuns orders runs by age: first those of imports, then those of
// flushes, each by the record that published them and then by id. Runs are only
// merged with their neighbours in this order; so LSNs rise with the ordinals of
// a merged run, and versions of one record stay in the order they had.
func compareRuns(a, b *runState) int {
	switch {
	case a.fromFlush() && !b.fromFlush():
		return 1
	case !a.fromFlush() && b.fromFlush():
		return -1
	}
	return cmp.Or(cmp.Compare(a.publishLSN, b.publishLSN), cmp.Compare(a.rank, b.rank))
}

// supersede records that a row is not current from lsn on. Only the committer
// and recovery call it, before lsn becomes visible.
func (r *runState) supersede(lsn uint64, ordinal uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, mark{lsn, ordinal})
}

func (r *runState) supersedeAll(lsn uint64, ordinals *roaring.Bitmap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bulk = append(r.bulk, bulkMark{lsn, ordinals})
}

// superseded is the set of rows that are not current at lsn. The result may be
// shared: do not modify it.
func (r *runState) superseded(lsn uint64) *roaring.Bitmap {
	r.mu.Lock()
	base, marks, bulk := r.base, r.marks, r.bulk
	r.mu.Unlock()
	return foldMarks(base, marks, bulk, lsn)
}

// foldMarks is base with the marks up to lsn; base itself when there are none.
func foldMarks(base *roaring.Bitmap, marks []mark, bulk []bulkMark, lsn uint64) *roaring.Bitmap {
	out := base
	own := func() {
		if out == base {
			out = base.Clone()
		}
	}
	for _, m := range marks {
		if m.lsn > lsn {
			break
		}
		own()
		out.Add(m.ordinal)
	}
	for _, m := range bulk {
		if m.lsn > lsn {
			break
		}
		own()
		out.Or(m.ordinals)
	}
	return out
}

// fold moves the marks up to lsn into base. No live snapshot may be older.
func (r *runState) fold(lsn uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.base = foldMarks(r.base, r.marks, r.bulk, lsn)
	for len(r.marks) > 0 && r.marks[0].lsn <= lsn {
		r.settled = max(r.settled, r.marks[0].lsn)
		r.marks = r.marks[1:]
	}
	for len(r.bulk) > 0 && r.bulk[0].lsn <= lsn {
		r.settled = max(r.settled, r.bulk[0].lsn)
		r.bulk = r.bulk[1:]
	}
	if len(r.marks) == 0 {
		r.marks = nil // lets go of the array
	}
	if len(r.bulk) == 0 {
		r.bulk = nil
	}
	r.void.Store(r.void.Load().folded(lsn))
}

// row reads the columns of a row, with its LSN filled in.
func (r *runState) row(o index.Ordinal) (index.Row, error) {
	row, err := r.run.Row(o)
	if err != nil {
		return row, err
	}
	return r.dated(row), nil
}

func (r *runState) dated(row index.Row) index.Row {
	if row.LSN == 0 {
		row.LSN = r.publishLSN
	}
	return row
}

// supersessions is what a run knew of its superseded rows at one moment.
type supersessions struct {
	base    *roaring.Bitmap
	settled uint64
	marks   []mark
	bulk    []bulkMark
}

// supersessions takes all at once: fold moves marks into base.
func (r *runState) supersessions() supersessions {
	r.mu.Lock()
	defer r.mu.Unlock()
	return supersessions{base: r.base, settled: r.settled, marks: r.marks, bulk: r.bulk}
}

// currentAt is the rows, void ones included, that are live, current and not
// deleted at an LSN that is not below s.settled, or is that of a live snapshot. Do not modify it.
// Searches ask again and again, so that the last answer is kept.
func (r *runState) currentAt(s supersessions, lsn uint64) (*currentRows, error) {
	marks := s.marks[:sort.Search(len(s.marks), func(i int) bool { return s.marks[i].lsn > lsn })]
	bulk := s.bulk[:sort.Search(len(s.bulk), func(i int) bool { return s.bulk[i].lsn > lsn })]
	r.mu.Lock()
	known := r.current
	r.mu.Unlock()
	if known != nil && known.base == s.base && known.marks == len(marks) && known.bulk == len(bulk) {
		return known, nil
	}
	rows, err := r.liveWithout(foldMarks(s.base, marks, bulk, lsn))
	if err != nil {
		return nil, err
	}
	rows.RunOptimize()
	current := &currentRows{base: s.base, marks: len(marks), bulk: len(bulk), rows: rows, ofType: map[fhir.TypeCode]*typedRows{}}
	r.mu.Lock()
	r.current = current
	r.mu.Unlock()
	return current, nil
}

// currentOf is those of current that are of one type; 0: of all. It is kept too: all
// types together take about what the rows take.
func (r *runState) currentOf(current *currentRows, t fhir.TypeCode) (*typedRows, error) {
	r.mu.Lock()
	typed := current.ofType[t]
	r.mu.Unlock()
	if typed != nil {
		return typed, nil
	}
	if t == 0 {
		typed = &typedRows{rows: current.rows, gone: newGoneRows(roaring.AndNot(r.run.Live(), current.rows))}
	} else {
		all, err := r.ofTypes(t)
		if err != nil {
			return nil, err
		}
		rows := roaring.And(all, current.rows)
		all.AndNot(rows)
		rows.RunOptimize()
		typed = &typedRows{rows: rows, gone: newGoneRows(all)}
	}
	r.mu.Lock()
	current.ofType[t] = typed
	r.mu.Unlock()
	return typed, nil
}

// liveWithout is the rows that are live and not deleted, without some.
func (r *runState) liveWithout(gone *roaring.Bitmap) (*roaring.Bitmap, error) {
	rows := roaring.AndNot(r.run.Live(), gone)
	deleted, err := r.run.Postings(index.ParamDeleted, nil)
	if err != nil {
		return nil, err
	}
	rows.AndNot(deleted)
	return rows, nil
}

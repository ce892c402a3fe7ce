package engine

import (
	"errors"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// runHistory walks a run's rows by falling lastUpdated, and inside one date by
// falling ordinal. That is falling LSN too: all rows of an import have the LSN
// of its record, a flush writes its rows in LSN order, and a merge takes runs in it.
type runHistory struct {
	r     *runState
	terms *index.TermCursor // over lastUpdated
	more  bool              // terms is on a term
	rows  *roaring.Bitmap   // that the query wants at all; nil: every row
	since []byte            // the lowest value wanted; nil: none
	// date and ordinals are of the current term.
	date     int64
	ordinals roaring.IntIterable
}

// openRunHistory begins at the query's cursor; nil when the run has nothing.
// skip counts down for rows of the cursor's group.
func (n *Snapshot) openRunHistory(r *runState, q *HistoryQuery, skip *historySkip) (*runHistory, error) {
	if meta := r.run.Meta(); meta.Live == 0 || (q.SinceMilli != 0 && meta.MilliMax < q.SinceMilli) {
		return nil, nil
	}
	rows, err := n.historyCandidates(r, q)
	if err != nil || rows.IsEmpty() {
		return nil, err
	}
	w := &runHistory{r: r, terms: r.run.Terms(index.ParamLastUpdated), rows: rows}
	if q.SinceMilli != 0 {
		w.since = index.AppendMilli(nil, q.SinceMilli)
	}
	switch {
	case q.After != (HistoryCursor{}):
		return w, w.seekCursor(q.After, skip)
	case q.BeforeMilli != 0:
		w.more = w.terms.SeekLT(index.AppendMilli(nil, q.BeforeMilli))
	default:
		w.more = w.terms.Last()
	}
	return w, w.terms.Err()
}

// seekCursor begins behind the cursor: what was delivered of its date is taken
// out of the first term.
func (w *runHistory) seekCursor(c HistoryCursor, skip *historySkip) error {
	w.more = w.terms.SeekLT(index.AppendMilli(nil, c.Milli+1))
	if !w.more {
		return w.terms.Err()
	}
	milli, rows, err := w.term()
	if err != nil || milli != c.Milli {
		return err
	}
	group, err := w.r.boundary(c.LSN - 1) // the group's ordinals are [group, newer)
	if err != nil {
		return err
	}
	newer, err := w.r.boundary(c.LSN)
	if err != nil {
		return err
	}
	rows.RemoveRange(uint64(newer), 1<<32)
	inGroup := rows.GetCardinality()
	if group > 0 {
		inGroup -= rows.Rank(group - 1)
	}
	drop := min(inGroup, uint64(skip.left))
	if drop > 0 {
		first, err := rows.Select(uint32(rows.GetCardinality() - drop))
		if err != nil {
			return err
		}
		skip.take(uint32(drop), found{run: w.r, ordinal: index.Ordinal(first)})
		rows.RemoveRange(uint64(first), 1<<32)
	}
	w.date, w.ordinals = milli, rows.ReverseIterator()
	w.more = w.terms.Prev()
	return w.terms.Err()
}

// term reads the term that the cursor is on.
func (w *runHistory) term() (milli int64, rows *roaring.Bitmap, err error) {
	milli, ok := index.ParseMilli(w.terms.Value())
	if !ok {
		return 0, nil, errBadVersion
	}
	rows, err = w.terms.Postings()
	if err != nil {
		return 0, nil, err
	}
	rows.And(w.rows)
	return milli, rows, nil
}

// next gives the following item.
func (w *runHistory) next() (historyItem, bool, error) {
	for w.ordinals == nil || !w.ordinals.HasNext() {
		if !w.more || (w.since != nil && string(w.terms.Value()) < string(w.since)) {
			return historyItem{}, false, w.terms.Err()
		}
		milli, rows, err := w.term()
		if err != nil {
			return historyItem{}, false, err
		}
		w.date, w.ordinals = milli, rows.ReverseIterator()
		w.more = w.terms.Prev()
		if err := w.terms.Err(); err != nil {
			return historyItem{}, false, err
		}
	}
	o := index.Ordinal(w.ordinals.Next())
	lsn := w.r.publishLSN
	if w.r.kind != ingestImport {
		row, err := w.r.row(o)
		if err != nil {
			return historyItem{}, false, err
		}
		lsn = row.LSN
	}
	return historyItem{milli: w.date, lsn: lsn, found: found{run: w.r, ordinal: o}}, true, nil
}

// boundary is an ordinal that no row with an LSN up to lsn reaches and every row
// above has a greater LSN (the row count when none is).
func (r *runState) boundary(lsn uint64) (uint32, error) {
	rows := r.run.Meta().Rows
	if r.kind == ingestImport {
		if r.publishLSN > lsn {
			return 0, nil
		}
		return rows, nil
	}
	if r.publishLSN <= lsn {
		return rows, nil
	}
	live := r.run.Live() // dropped rows have no LSN
	var failure error
	ordinal := func(i int) uint32 {
		o, err := live.Select(uint32(i))
		failure = errors.Join(failure, err)
		return o
	}
	count := int(live.GetCardinality())
	n := sort.Search(count, func(i int) bool {
		row, err := r.row(index.Ordinal(ordinal(i)))
		failure = errors.Join(failure, err)
		return err != nil || row.LSN > lsn
	})
	if n == count || failure != nil {
		return rows, failure
	}
	return ordinal(n), failure
}

// historyCandidates is the rows of the query's type and LSN, whatever their date.
func (n *Snapshot) historyCandidates(r *runState, q *HistoryQuery) (*roaring.Bitmap, error) {
	limit := n.historyLSN(q)
	if r.kind == ingestImport && r.publishLSN > limit {
		return roaring.New(), nil
	}
	rows := r.visible(n.lsn)
	if q.Type != 0 {
		types, err := r.ofTypes(q.Type)
		if err != nil {
			return nil, err
		}
		rows = roaring.And(rows, types)
	}
	if limit < r.publishLSN {
		newer, err := r.boundary(limit)
		if err != nil {
			return nil, err
		}
		rows = rows.Clone() // it may be the run's own
		rows.RemoveRange(uint64(newer), 1<<32)
	}
	return rows, nil
}

// historyRows is the rows that the query's history has, without its cursor.
func (n *Snapshot) historyRows(r *runState, q *HistoryQuery) (*roaring.Bitmap, error) {
	rows, err := n.historyCandidates(r, q)
	if err != nil || rows.IsEmpty() || (q.SinceMilli == 0 && q.BeforeMilli == 0) {
		return rows, err
	}
	var from, to []byte
	if q.SinceMilli != 0 {
		from = index.AppendMilli(nil, q.SinceMilli)
	}
	if q.BeforeMilli != 0 {
		to = index.AppendMilli(nil, q.BeforeMilli)
	}
	dated, err := r.run.Range(index.ParamLastUpdated, from, to)
	if err != nil {
		return nil, err
	}
	dated.And(rows)
	return dated, nil
}

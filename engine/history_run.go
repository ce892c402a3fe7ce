package engine

import (
	"bytes"
	"context"
	"errors"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// runHistory walks a run's rows by falling lastUpdated, and inside one date by
// falling ordinal. That is falling LSN too: all rows of an import have the LSN
// of its record, a flush writes its rows in LSN order, and a merge takes runs in
// it. With rising it does all of this the other way round.
type runHistory struct {
	r      *runState
	rising bool
	terms  *index.TermCursor // over lastUpdated
	more   bool              // terms is on a term
	rows   *roaring.Bitmap   // that the query wants at all
	// since is the lowest value wanted, before the first too high; nil: no bound.
	since, before []byte
	// date and ordinals are of the current term.
	date     int64
	ordinals roaring.IntIterable
}

// runSource gives the items of a run behind the query's cursor; nil when there
// are none. skip counts down for rows of the cursor's group.
func (n *Snapshot) runSource(ctx context.Context, r *runState, q *HistoryQuery, skip *historySkip) (*historySource, error) {
	if q.missesDates(r) {
		return nil, nil
	}
	rows, err := n.historyCandidates(r, q)
	if err != nil || rows.IsEmpty() {
		return nil, err
	}
	if r.isSparse(rows) {
		first := newFirstItems(q)
		if err := r.eachRowItem(ctx, rows, q, first.add); err != nil {
			return nil, err
		}
		return listSource(first.behindCursor(skip)), nil
	}
	walk, err := openRunHistory(r, rows, q, skip)
	if err != nil {
		return nil, err
	}
	s := &historySource{pull: func() (historyItem, bool, error) { return walk.next(ctx) }}
	return s, s.advance()
}

// isSparse tells whether reading some rows one by one costs less than going
// through dates: a page of 50 passes about 50 × rows / wanted dates, and a row costs
// as much as some 50 dates (2.5 µs, when half of the column blocks are not in memory).
func (r *runState) isSparse(rows *roaring.Bitmap) bool {
	wanted := rows.GetCardinality()
	return wanted*wanted <= uint64(r.run.Meta().Rows)
}

// eachRowItem calls fn for each of some rows that is inside the query's dates.
func (r *runState) eachRowItem(ctx context.Context, rows *roaring.Bitmap, q *HistoryQuery, fn func(historyItem)) error {
	for it := rows.Iterator(); it.HasNext(); {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		o := index.Ordinal(it.Next())
		row, err := r.row(o)
		if err != nil {
			return err
		}
		if q.wants(row.LastUpdated.Milli) {
			fn(historyItem{milli: row.LastUpdated.Milli, lsn: row.LSN, found: found{run: r, ordinal: o}})
		}
	}
	return nil
}

// openRunHistory begins at the query's cursor. skip is that of runSource.
func openRunHistory(r *runState, rows *roaring.Bitmap, q *HistoryQuery, skip *historySkip) (*runHistory, error) {
	w := &runHistory{r: r, rising: q.OldestFirst, terms: r.run.Terms(index.ParamLastUpdated), rows: rows}
	if q.SinceMilli != 0 {
		w.since = index.AppendMilli(nil, q.SinceMilli)
	}
	if q.BeforeMilli != 0 {
		w.before = index.AppendMilli(nil, q.BeforeMilli)
	}
	if q.After != (HistoryCursor{}) {
		return w, w.seekCursor(q.After, skip)
	}
	w.begin()
	return w, w.terms.Err()
}

// begin moves to the first term.
func (w *runHistory) begin() {
	switch {
	case w.rising:
		w.more = w.terms.SeekGE(w.since)
	case w.before != nil:
		w.more = w.terms.SeekLT(w.before)
	default:
		w.more = w.terms.Last()
	}
}

// step moves to the following term.
func (w *runHistory) step() error {
	if w.rising {
		w.more = w.terms.Next()
	} else {
		w.more = w.terms.Prev()
	}
	return w.terms.Err()
}

// wanted tells whether the term that the cursor is on is inside the dates.
func (w *runHistory) wanted() bool {
	value := w.terms.Value()
	return (w.since == nil || bytes.Compare(value, w.since) >= 0) && (w.before == nil || bytes.Compare(value, w.before) < 0)
}

// seekCursor begins behind the cursor: what was delivered of its date is taken
// out of the first term.
func (w *runHistory) seekCursor(c HistoryCursor, skip *historySkip) error {
	if w.rising {
		w.more = w.terms.SeekGE(index.AppendMilli(nil, c.Milli))
	} else {
		w.more = w.terms.SeekLT(index.AppendMilli(nil, c.Milli+1))
	}
	if !w.more {
		return w.terms.Err()
	}
	milli, rows, err := w.term()
	if err != nil || milli != c.Milli {
		return err
	}
	if err := w.leaveOut(rows, c, skip); err != nil {
		return err
	}
	w.enter(milli, rows)
	return w.step()
}

// leaveOut takes out of the rows of the cursor's date what was delivered.
func (w *runHistory) leaveOut(rows *roaring.Bitmap, c HistoryCursor, skip *historySkip) error {
	group, err := w.r.boundary(c.LSN - 1) // the group's ordinals are [group, newer)
	if err != nil {
		return err
	}
	newer, err := w.r.boundary(c.LSN)
	if err != nil {
		return err
	}
	below, upTo := rankBelow(rows, group), rankBelow(rows, newer)
	drop := min(upTo-below, uint64(skip.left))
	switch {
	case drop == 0 && w.rising:
		rows.RemoveRange(0, uint64(group))
		return nil
	case drop == 0:
		rows.RemoveRange(uint64(newer), 1<<32)
		return nil
	}
	at := upTo - drop
	if w.rising {
		at = below + drop - 1
	}
	last, err := rows.Select(uint32(at))
	if err != nil {
		return err
	}
	skip.take(uint32(drop), found{run: w.r, ordinal: index.Ordinal(last)})
	if w.rising {
		rows.RemoveRange(0, uint64(last)+1)
	} else {
		rows.RemoveRange(uint64(last), 1<<32)
	}
	return nil
}

// rankBelow counts the rows below an ordinal.
func rankBelow(rows *roaring.Bitmap, ordinal uint32) uint64 {
	if ordinal == 0 {
		return 0
	}
	return rows.Rank(ordinal - 1)
}

// enter begins the rows of a term.
func (w *runHistory) enter(milli int64, rows *roaring.Bitmap) {
	w.date = milli
	if w.rising {
		w.ordinals = rows.Iterator()
	} else {
		w.ordinals = rows.ReverseIterator()
	}
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
func (w *runHistory) next(ctx context.Context) (historyItem, bool, error) {
	for n := 1; w.ordinals == nil || !w.ordinals.HasNext(); n++ {
		if n%walksPerCheck == 0 && ctx.Err() != nil {
			return historyItem{}, false, ctx.Err()
		}
		if !w.more || !w.wanted() {
			return historyItem{}, false, w.terms.Err()
		}
		if err := w.nextDate(); err != nil {
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

// nextDate enters the rows of the term that the cursor is on, if any is wanted.
func (w *runHistory) nextDate() error {
	count, err := w.terms.CountIn(w.rows) // most dates have none of a rare type
	if err != nil {
		return err
	}
	if count > 0 {
		milli, rows, err := w.term()
		if err != nil {
			return err
		}
		w.enter(milli, rows)
	}
	return w.step()
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
	if q.Of != nil {
		rows = q.chosen.ofRun(r) // up to the LSN, and of nothing that is purged
	}
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

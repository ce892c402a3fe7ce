package engine

import (
	"bytes"
	"context"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// HistoryTotal counts what History without Count and After would deliver. A run
// costs what its bitmaps cost: the rows that exist, those of the type, those of
// the LSNs. Only in a run that the dates cut through dates are counted. The head
// is gone through, and so are the versions of resources that the query names. Judge
// is not asked.
func (n *Snapshot) HistoryTotal(ctx context.Context, q HistoryQuery) (int64, error) {
	q.After = HistoryCursor{}
	total := int64(0)
	count := func(historyItem) { total++ }
	if q.isKeyed() {
		err := n.eachKeyedItem(ctx, &q, count)
		return total, err
	}
	if err := n.chooseHistory(ctx, &q); err != nil {
		return 0, err
	}
	n.eachHeadItem(&q, count)
	for _, r := range n.view.runs {
		rows, err := n.historyCount(ctx, r, &q)
		if err != nil {
			return 0, err
		}
		total += rows
	}
	return total, nil
}

// historyCount counts the rows that the query's history has in a run.
func (n *Snapshot) historyCount(ctx context.Context, r *runState, q *HistoryQuery) (int64, error) {
	if q.missesDates(r) {
		return 0, nil
	}
	rows, err := n.historyCandidates(r, q)
	if err != nil || rows.IsEmpty() {
		return 0, err
	}
	if meta := r.run.Meta(); q.wants(meta.MilliMin) && q.wants(meta.MilliMax) {
		return int64(rows.GetCardinality()), nil
	}
	if r.isSparse(rows) {
		total := int64(0)
		err := r.eachRowItem(ctx, rows, q, func(historyItem) { total++ })
		return total, err
	}
	return countDated(ctx, r.run, rows, q)
}

// missesDates tells whether no row of the run is inside the query's dates.
func (q *HistoryQuery) missesDates(r *runState) bool {
	meta := r.run.Meta()
	return meta.Live == 0 || (q.SinceMilli != 0 && meta.MilliMax < q.SinceMilli) || (q.BeforeMilli != 0 && meta.MilliMin >= q.BeforeMilli)
}

// countDated counts the rows inside the query's dates. Two walks take turns, over
// the dates inside and over those outside, and the one that ends first tells:
// every row has one date. So the dates of a recent hour cost no more than
// those of all but the first one.
func countDated(ctx context.Context, run *index.Run, rows *roaring.Bitmap, q *HistoryQuery) (int64, error) {
	inside, outside := dateCounter{run: run, rows: rows}, dateCounter{run: run, rows: rows}
	var since, before []byte
	if q.SinceMilli != 0 {
		since = index.AppendMilli(nil, q.SinceMilli)
		outside.stretches = append(outside.stretches, dateStretch{to: since})
	}
	if q.BeforeMilli != 0 {
		before = index.AppendMilli(nil, q.BeforeMilli)
		outside.stretches = append(outside.stretches, dateStretch{from: before})
	}
	inside.stretches = []dateStretch{{since, before}}
	for i := 0; ; i++ {
		if i%walksPerCheck == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if more, err := inside.step(); !more || err != nil {
			return inside.count, err
		}
		if more, err := outside.step(); !more || err != nil {
			return int64(rows.GetCardinality()) - outside.count, err
		}
	}
}

// dateStretch is from <= value < to; nil: open.
type dateStretch struct{ from, to []byte }

// dateCounter counts rows by their date, term by term.
type dateCounter struct {
	run       *index.Run
	rows      *roaring.Bitmap
	stretches []dateStretch     // the first is being counted
	terms     *index.TermCursor // in it; nil: not yet
	on        bool              // terms is on a term
	count     int64
}

// step counts one date; more is false when there was none.
func (d *dateCounter) step() (more bool, err error) {
	for len(d.stretches) > 0 {
		s := &d.stretches[0]
		if d.terms == nil {
			d.terms = d.run.Terms(index.ParamLastUpdated)
			d.on = d.terms.SeekGE(s.from)
		}
		if d.on && (s.to == nil || bytes.Compare(d.terms.Value(), s.to) < 0) {
			n, err := d.terms.CountIn(d.rows)
			d.count += int64(n)
			d.on = d.terms.Next()
			return true, err
		}
		if err := d.terms.Err(); err != nil {
			return false, err
		}
		d.stretches, d.terms = d.stretches[1:], nil
	}
	return false, nil
}

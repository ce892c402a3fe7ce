package engine

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// HistoryTotal counts what History without Count and After would deliver. A run costs what
// its bitmaps cost: the rows that exist, those of the type, those of the LSNs.
// Only a run that the dates cut through is asked for the rows between them. The
// head is gone through, and so are the versions of resources that the query names.
func (n *Snapshot) HistoryTotal(ctx context.Context, q HistoryQuery) (int64, error) {
	q.After = HistoryCursor{}
	total := int64(0)
	count := func(historyItem) { total++ }
	if q.isKeyed() {
		err := n.eachKeyedItem(ctx, &q, count)
		return total, err
	}
	n.eachHeadItem(&q, count)
	for _, r := range n.view.runs {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		rows, err := n.historyRows(r, &q)
		if err != nil {
			return 0, err
		}
		total += int64(rows.GetCardinality())
	}
	return total, nil
}

// historyRows is the rows that the query's history has, whatever its cursor is.
func (n *Snapshot) historyRows(r *runState, q *HistoryQuery) (*roaring.Bitmap, error) {
	if q.missesDates(r) {
		return roaring.New(), nil
	}
	rows, err := n.historyCandidates(r, q)
	if meta := r.run.Meta(); err != nil || rows.IsEmpty() || q.wants(meta.MilliMin) && q.wants(meta.MilliMax) {
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

// missesDates tells whether no row of the run is inside the query's dates.
func (q *HistoryQuery) missesDates(r *runState) bool {
	meta := r.run.Meta()
	return meta.Live == 0 || (q.SinceMilli != 0 && meta.MilliMax < q.SinceMilli) || (q.BeforeMilli != 0 && meta.MilliMin >= q.BeforeMilli)
}

package engine

import (
	"context"
	"slices"

	"kiln/index"
)

// The head, which is bounded, and resources that a query names, whose versions
// are few, are read through for every page. What comes first is kept.

// firstItems keeps the first of a query's items: those of one page, the one
// behind it, and those of the cursor's group that were delivered.
type firstItems struct {
	q     *HistoryQuery
	keep  int // 0: all
	items []historyItem
}

func newFirstItems(q *HistoryQuery) *firstItems {
	f := &firstItems{q: q}
	if q.Count > 0 && (q.Judge == nil || q.JudgeMax > 0) {
		f.keep = q.Count + q.JudgeMax + 1 + int(q.After.Skip)
	}
	return f
}

func (f *firstItems) add(item historyItem) {
	if after, inGroup := f.q.place(item.milli, item.lsn); !after && !inGroup {
		return
	}
	f.items = append(f.items, item)
	if f.keep > 0 && len(f.items) >= 4*f.keep {
		slices.SortFunc(f.items, f.q.compare)
		f.items = f.items[:f.keep]
	}
}

// behindCursor is what was not delivered. skip counts down for the cursor's group.
func (f *firstItems) behindCursor(skip *historySkip) []historyItem {
	slices.SortFunc(f.items, f.q.compare)
	kept := f.items[:0]
	for _, item := range f.items {
		if _, inGroup := f.q.place(item.milli, item.lsn); inGroup && skip.left > 0 {
			skip.take(1, item.found)
			continue
		}
		kept = append(kept, item)
	}
	return kept
}

// headItems is the head's part of a type's or the system's history.
func (n *Snapshot) headItems(q *HistoryQuery, skip *historySkip) []historyItem {
	first := newFirstItems(q)
	n.eachHeadItem(q, first.add)
	return first.behindCursor(skip)
}

// eachHeadItem calls fn for every version in the head that the query wants, in
// no order and whatever its cursor is.
func (n *Snapshot) eachHeadItem(q *HistoryQuery, fn func(historyItem)) {
	limit := n.historyLSN(q)
	for _, g := range n.view.gens {
		for i := range g.countAt(limit) {
			e := g.entry(i)
			if (q.Type == 0 || e.typ == q.Type) && q.wants(e.lastUpdated.Milli) && !e.isPurgedAt(n.lsn) && q.choosesHead(g, i) {
				fn(historyItem{milli: e.lastUpdated.Milli, lsn: e.lsn, found: found{entry: e, versionID: e.versionID}})
			}
		}
	}
}

// keyedItems is the history of resources that the query names.
func (n *Snapshot) keyedItems(ctx context.Context, q *HistoryQuery, skip *historySkip) ([]historyItem, error) {
	first := newFirstItems(q)
	if err := n.eachKeyedItem(ctx, q, first.add); err != nil {
		return nil, err
	}
	return first.behindCursor(skip), nil
}

// eachKeyedItem is eachHeadItem for the versions of resources that the query
// names. ErrNotFound when it names one, which never was.
func (n *Snapshot) eachKeyedItem(ctx context.Context, q *HistoryQuery, fn func(historyItem)) error {
	if len(q.ID) > 0 {
		resource, own := HistoryMember{Key: Key{Type: q.Type, ID: q.ID}}, fn
		if q.Among != nil {
			own = func(historyItem) {} // only whether there is one
		}
		any, err := n.eachMemberItem(q, &resource, own)
		if err == nil && !any {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
	}
	for i := range q.Among {
		member := &q.Among[i]
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case q.Type != 0 && member.Type != q.Type, len(q.ID) > 0 && string(member.ID) != string(q.ID):
			continue
		}
		if _, err := n.eachMemberItem(q, member, fn); err != nil {
			return err
		}
	}
	return nil
}

// eachMemberItem does it for one resource, and tells whether that has any version
// at all.
func (n *Snapshot) eachMemberItem(q *HistoryQuery, member *HistoryMember, fn func(historyItem)) (any bool, err error) {
	var rowErr error
	limit := n.historyLSN(q)
	key := index.AppendKey(make([]byte, 0, keyBytesTypical), member.Type, member.ID)
	err = n.versions(key, func(f found) bool {
		any = true
		if member.Version != 0 && f.versionID != member.Version {
			return true
		}
		var row index.Row
		if row, rowErr = f.row(); rowErr != nil {
			return false
		}
		if row.LSN <= limit && q.wants(row.LastUpdated.Milli) {
			fn(historyItem{milli: row.LastUpdated.Milli, lsn: row.LSN, found: f})
		}
		return true
	})
	if err == nil {
		err = rowErr
	}
	return any, err
}

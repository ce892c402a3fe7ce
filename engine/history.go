package engine

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"

	"kiln/fhir"
	"kiln/index"
)

// HistoryQuery selects versions, newest lastUpdated first.
type HistoryQuery struct {
	Type        fhir.TypeCode // 0: the whole system
	ID          []byte        // with Type: one resource
	SinceMilli  int64         // lastUpdated >= ; 0: no bound
	BeforeMilli int64         // lastUpdated < ; 0: no bound
	Count       int           // at most this many; 0 or less: all
	After       HistoryCursor // zero: from the newest
	LSN         uint64        // only versions committed up to it; 0: the snapshot's
}

// HistoryCursor is a place in a history that stays right across flushes and restarts:
// Skip versions of the group (Milli, LSN) were already delivered. Last is a hash of
// the last of them, which shows whether a purge has moved the place.
type HistoryCursor struct {
	Milli int64
	LSN   uint64
	Skip  uint32
	Last  uint64
}

// The order of a history is (lastUpdated, LSN) descending. Versions that agree
// in both, a group, were written by one record; among them those in the head
// come first, by falling number in the record, then runs from the youngest to
// the oldest (compareRuns), and in a run falling ordinals. A flush keeps that
// order: its runs are younger than all of imports, and its ordinals rise with
// LSN and number. A merge keeps it: it takes runs that follow each other, the
// older one's rows first, and its run has their place in the order. So
// (milli, LSN, skip) names the same place before and after a flush, a merge or
// a restart.

// History calls fn for each version. next is where the following page starts;
// more is false at the end. ErrNotFound for an ID that never was; ErrCursorGone
// when versions were purged so that it is not known which come next.
func (n *Snapshot) History(ctx context.Context, q HistoryQuery, fn func(*Version) error) (next HistoryCursor, more bool, err error) {
	sources, err := n.historySources(&q)
	if err != nil {
		return next, false, err
	}
	next = q.After
	for delivered := 0; ; delivered++ {
		if err := ctx.Err(); err != nil {
			return next, false, err
		}
		best, err := newest(sources)
		if err != nil {
			return next, false, err
		}
		if best == nil {
			return next, false, nil
		}
		if q.Count > 0 && delivered == q.Count {
			return next, true, nil
		}
		item := best.head
		v, err := n.read(item.found)
		if err != nil {
			return next, false, err
		}
		if err := fn(&v); err != nil {
			return next, false, err
		}
		if next.Milli != item.milli || next.LSN != item.lsn {
			next = HistoryCursor{Milli: item.milli, LSN: item.lsn}
		}
		next.Skip++
		next.Last = historyMark(v.Type, v.ID, v.VersionID)
		if err := best.advance(); err != nil {
			return next, false, err
		}
	}
}

// historyItem is one version on its way out.
type historyItem struct {
	milli int64
	lsn   uint64
	found found
}

// historySource gives items of one place (the head, or a run) in order.
type historySource struct {
	head historyItem
	ok   bool // head is set
	// pull gives the next item; ok is false at the end.
	pull func() (item historyItem, ok bool, err error)
}

func (s *historySource) advance() (err error) {
	s.head, s.ok, err = s.pull()
	return err
}

// newest is the source whose item comes next. Sources are in the order that
// decides between items of one group.
func newest(sources []*historySource) (*historySource, error) {
	var best *historySource
	for _, s := range sources {
		if !s.ok {
			continue
		}
		if best == nil || s.head.milli > best.head.milli || (s.head.milli == best.head.milli && s.head.lsn > best.head.lsn) {
			best = s
		}
	}
	return best, nil
}

// bound normalises the query's LSN and gives the exclusive upper date.
func (n *Snapshot) historyLSN(q *HistoryQuery) uint64 {
	if q.LSN == 0 || q.LSN > n.lsn {
		return n.lsn
	}
	return q.LSN
}

// wants tells whether a version's date is inside the query's bounds.
func (q *HistoryQuery) wants(milli int64) bool {
	return (q.SinceMilli == 0 || milli >= q.SinceMilli) && (q.BeforeMilli == 0 || milli < q.BeforeMilli)
}

// isAfterCursor tells whether a version comes behind the cursor's group;
// inGroup whether it is of that group.
func (c HistoryCursor) place(milli int64, lsn uint64) (after, inGroup bool) {
	if c == (HistoryCursor{}) {
		return true, false
	}
	if milli == c.Milli && lsn == c.LSN {
		return false, true
	}
	return milli < c.Milli || (milli == c.Milli && lsn < c.LSN), false
}

// historySources opens what the query reads, each at its first item.
func (n *Snapshot) historySources(q *HistoryQuery) ([]*historySource, error) {
	if q.Type != 0 && len(q.ID) > 0 {
		items, err := n.instanceItems(q)
		if err != nil {
			return nil, err
		}
		return []*historySource{listSource(items)}, nil
	}
	skip := historySkip{left: q.After.Skip}
	sources := []*historySource{listSource(n.headItems(q, &skip))}
	for _, r := range slices.Backward(n.view.byAge) {
		walk, err := n.openRunHistory(r, q, &skip)
		if err != nil {
			return nil, err
		}
		if walk == nil {
			continue
		}
		s := &historySource{pull: walk.next}
		if err := s.advance(); err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	return sources, skip.check(n, q.After)
}

func listSource(items []historyItem) *historySource {
	s := &historySource{}
	s.pull = func() (historyItem, bool, error) {
		if len(items) == 0 {
			return historyItem{}, false, nil
		}
		item := items[0]
		items = items[1:]
		return item, true, nil
	}
	_ = s.advance() // a list does not fail
	return s
}

// compareItems is the order of a history: a before b is negative.
func compareItems(a, b historyItem) int {
	if c := cmp.Or(cmp.Compare(b.milli, a.milli), cmp.Compare(b.lsn, a.lsn)); c != 0 {
		return c
	}
	return cmp.Or(compareAges(&b.found, &a.found), cmp.Compare(b.found.within(), a.found.within()))
}

// compareAges orders places inside a group: the head is younger than all runs.
func compareAges(a, b *found) int {
	switch {
	case a.run == nil && b.run == nil:
		return 0
	case a.run == nil:
		return 1
	case b.run == nil:
		return -1
	}
	return compareRuns(a.run, b.run)
}

// within orders versions of one group in one place.
func (f *found) within() uint32 {
	if f.run == nil {
		return f.entry.index
	}
	return uint32(f.ordinal)
}

// instanceItems is one resource's history, whole: its versions are few.
func (n *Snapshot) instanceItems(q *HistoryQuery) ([]historyItem, error) {
	var items []historyItem
	var rowErr error
	any := false
	limit := n.historyLSN(q)
	key := index.AppendKey(make([]byte, 0, keyBytesTypical), q.Type, q.ID)
	err := n.versions(key, func(f found) bool {
		any = true
		var row index.Row
		if row, rowErr = f.row(); rowErr != nil {
			return false
		}
		if row.LSN <= limit && q.wants(row.LastUpdated.Milli) {
			items = append(items, historyItem{milli: row.LastUpdated.Milli, lsn: row.LSN, found: f})
		}
		return true
	})
	if err == nil {
		err = rowErr
	}
	if err != nil {
		return nil, err
	}
	if !any {
		return nil, ErrNotFound
	}
	slices.SortFunc(items, compareItems)
	skip := historySkip{left: q.After.Skip}
	items = afterCursor(items, q.After, &skip)
	return items, skip.check(n, q.After)
}

// historySkip leaves out the versions of the cursor's group that were delivered.
type historySkip struct {
	left uint32
	last found // of those left out
}

// take leaves out count versions, the last of which is given.
func (k *historySkip) take(count uint32, last found) { k.left, k.last = k.left-count, last }

// check makes sure that what was left out last is what was delivered last. After
// a purge it may be a version that comes next. When nothing is left of the
// group, nothing of it was left out that should not.
func (k *historySkip) check(n *Snapshot, c HistoryCursor) error {
	if !k.last.ok() {
		return nil
	}
	v, err := n.read(k.last)
	if err == nil && historyMark(v.Type, v.ID, v.VersionID) != c.Last {
		err = ErrCursorGone
	}
	return err
}

// historyMark is the hash of a version's name.
func historyMark(t fhir.TypeCode, id []byte, version int64) uint64 {
	name := index.AppendKey(make([]byte, 0, keyBytesTypical+8), t, id)
	return index.KeyHash(binary.BigEndian.AppendUint64(name, uint64(version)))
}

// afterCursor drops what was delivered already, from sorted items. skip counts
// down for the cursor's group.
func afterCursor(items []historyItem, c HistoryCursor, skip *historySkip) []historyItem {
	kept := items[:0]
	for _, item := range items {
		after, inGroup := c.place(item.milli, item.lsn)
		if inGroup && skip.left > 0 {
			skip.take(1, item.found)
			continue
		}
		if after || inGroup {
			kept = append(kept, item)
		}
	}
	return kept
}

// headItems is the head's part of a type's or the system's history: the first
// Count+1 items. The head is bounded, so it is read through.
func (n *Snapshot) headItems(q *HistoryQuery, skip *historySkip) []historyItem {
	var items []historyItem
	limit := n.historyLSN(q)
	keep := q.Count + 1 + int(skip.left)
	for _, g := range n.view.gens {
		for i := range g.countAt(limit) {
			e := g.entry(i)
			milli := e.lastUpdated.Milli
			if (q.Type != 0 && e.typ != q.Type) || !q.wants(milli) || e.isPurgedAt(n.lsn) {
				continue
			}
			if after, inGroup := q.After.place(milli, e.lsn); !after && !inGroup {
				continue
			}
			items = append(items, historyItem{milli: milli, lsn: e.lsn, found: found{entry: e, versionID: e.versionID}})
			if q.Count > 0 && len(items) >= 4*keep {
				slices.SortFunc(items, compareItems)
				items = items[:keep]
			}
		}
	}
	slices.SortFunc(items, compareItems)
	return afterCursor(items, q.After, skip)
}

// HistoryTotal counts what History without Count would deliver.
func (n *Snapshot) HistoryTotal(ctx context.Context, q HistoryQuery) (int64, error) {
	q.After = HistoryCursor{}
	if q.Type != 0 && len(q.ID) > 0 {
		items, err := n.instanceItems(&q)
		return int64(len(items)), err
	}
	total := int64(0)
	limit := n.historyLSN(&q)
	for _, g := range n.view.gens {
		for i := range g.countAt(limit) {
			e := g.entry(i)
			if (q.Type == 0 || e.typ == q.Type) && q.wants(e.lastUpdated.Milli) && !e.isPurgedAt(n.lsn) {
				total++
			}
		}
	}
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

package engine

import (
	"cmp"
	"context"
	"encoding/binary"

	"kiln/fhir"
	"kiln/index"
)

// HistoryQuery selects versions, newest lastUpdated first.
type HistoryQuery struct {
	Type        fhir.TypeCode // 0: the whole system
	ID          []byte        // with Type: one resource
	Among       []HistoryMember
	SinceMilli  int64         // lastUpdated >= ; 0: no bound
	BeforeMilli int64         // lastUpdated < ; 0: no bound
	OldestFirst bool          // the other way round
	Count       int           // at most this many; 0 or less: all
	After       HistoryCursor // zero: from the first; of a query with the same OldestFirst
	LSN         uint64        // only versions committed up to it; 0: the snapshot's
	// Of is what is taken, each version judged by its own content; a deletion has none,
	// and is taken with index.ParamDeleted. nil: everything. It does not count where
	// Among or ID names the resources.
	Of []ScanOf
	// Judge, when set, decides about each version before it is delivered. A page ends
	// early when it has asked JudgeMax times; 0: it does not.
	Judge    func(*Version) (bool, error)
	JudgeMax int

	chosen chosenRows // by Of
}

// HistoryMember is a resource that HistoryQuery.Among names, or one version of
// it. Among is no bound when it is nil; it names no version twice.
type HistoryMember struct {
	Key
	Version int64 // 0: all
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
// a restart. A history with the oldest first has the same order backwards, to the
// last tie; so all of this holds for it too.

// History calls fn for each version. next is where the following page starts;
// more is false at the end, and where Judge lets nothing more through that was looked
// at. ErrNotFound for an ID that never was; ErrCursorGone when versions were purged so
// that it is not known which come next. With Of errors as for Scan, too.
func (n *Snapshot) History(ctx context.Context, q HistoryQuery, fn func(*Version) error) (next HistoryCursor, more bool, err error) {
	sources, err := n.historySources(ctx, &q)
	if err != nil {
		return next, false, err
	}
	next = q.After
	for delivered, judged := 0, 0; ; {
		if err := ctx.Err(); err != nil {
			return next, false, err
		}
		best, full := q.first(sources), q.Count > 0 && delivered == q.Count
		if best == nil || full && q.Judge == nil || q.JudgeMax > 0 && judged == q.JudgeMax {
			return next, best != nil, nil
		}
		v, err := n.read(best.head.found)
		wanted := true
		if err == nil && q.Judge != nil {
			judged++
			wanted, err = q.Judge(&v)
		}
		if err != nil || wanted && full {
			return next, err == nil, err
		}
		if wanted {
			if err := fn(&v); err != nil {
				return next, false, err
			}
			delivered++
		}
		next.pass(&best.head, &v)
		if err := best.advance(); err != nil {
			return next, false, err
		}
	}
}

// pass moves the cursor behind an item that comes next.
func (c *HistoryCursor) pass(item *historyItem, v *Version) {
	if c.Milli != item.milli || c.LSN != item.lsn {
		*c = HistoryCursor{Milli: item.milli, LSN: item.lsn}
	}
	c.Skip++
	c.Last = historyMark(v.Type, v.ID, v.VersionID)
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

// first is the source whose item comes next. Sources are in the order that
// decides between items of one group.
func (q *HistoryQuery) first(sources []*historySource) *historySource {
	var best *historySource
	for _, s := range sources {
		if s.ok && (best == nil || q.compareGroups(s.head.milli, s.head.lsn, best.head.milli, best.head.lsn) < 0) {
			best = s
		}
	}
	return best
}

// compareGroups orders groups: negative when (milli, lsn) comes before the other.
func (q *HistoryQuery) compareGroups(milli int64, lsn uint64, otherMilli int64, otherLSN uint64) int {
	order := cmp.Or(cmp.Compare(otherMilli, milli), cmp.Compare(otherLSN, lsn))
	if q.OldestFirst {
		return -order
	}
	return order
}

// historyLSN is the newest record that counts.
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

// place tells whether a version comes behind the cursor's group, or is of it.
func (q *HistoryQuery) place(milli int64, lsn uint64) (after, inGroup bool) {
	if q.After == (HistoryCursor{}) {
		return true, false
	}
	order := q.compareGroups(milli, lsn, q.After.Milli, q.After.LSN)
	return order > 0, order == 0
}

// isKeyed tells whether the query names its resources.
func (q *HistoryQuery) isKeyed() bool { return q.Among != nil || len(q.ID) > 0 }

// historySources opens what the query reads, each at its first item.
func (n *Snapshot) historySources(ctx context.Context, q *HistoryQuery) ([]*historySource, error) {
	skip := historySkip{left: q.After.Skip}
	if q.isKeyed() {
		items, err := n.keyedItems(ctx, q, &skip)
		if err != nil {
			return nil, err
		}
		return []*historySource{listSource(items)}, skip.check(n, q.After)
	}
	if err := n.chooseHistory(ctx, q); err != nil {
		return nil, err
	}
	var sources []*historySource
	if !q.OldestFirst {
		sources = append(sources, listSource(n.headItems(q, &skip)))
	}
	for i := range n.view.byAge {
		if !q.OldestFirst {
			i = len(n.view.byAge) - 1 - i
		}
		s, err := n.runSource(ctx, n.view.byAge[i], q, &skip)
		if err != nil {
			return nil, err
		}
		if s != nil {
			sources = append(sources, s)
		}
	}
	if q.OldestFirst {
		sources = append(sources, listSource(n.headItems(q, &skip)))
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

// compare is the order of the history: negative when a comes before b.
func (q *HistoryQuery) compare(a, b historyItem) int {
	if order := q.compareGroups(a.milli, a.lsn, b.milli, b.lsn); order != 0 {
		return order
	}
	order := cmp.Or(compareAges(&b.found, &a.found), cmp.Compare(b.found.within(), a.found.within()))
	if q.OldestFirst {
		return -order
	}
	return order
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

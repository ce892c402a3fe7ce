package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"kiln/internal/vfs"
)

// TestChosenHistories compares histories of what an expression takes, judged version by
// version and page by page, with the whole history of a scan's versions: in the head, in
// runs, merged, opened again.
func TestChosenHistories(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m, fsys := newSearchModel(t, seed+50), vfs.NewMem(seed)
			s := mustOpen(t, mergingOptions(fsys, seed))
			m.purges = true
			m.commit(t, s)
			for i := range 40 {
				when := "after an import of histories"
				if i%6 == 5 {
					m.ingestHistory(t, s, i)
				} else {
					s, when = m.step(t, s, fsys)
				}
				for range 4 {
					m.checkChosen(t, s, when)
				}
			}
			mustClose(t, s)
		})
	}
}

func (m *searchModel) checkChosen(t *testing.T, s *Store, when string) {
	t.Helper()
	n := mustSnapshot(t, s)
	defer n.Release()
	of := m.scan(t).query.Of
	for i := range of {
		if of[i].Where != nil && m.rng.IntN(2) == 0 {
			of[i].Where = OrDeleted(of[i].Where)
		}
	}
	q := HistoryQuery{Of: of, OldestFirst: m.rng.IntN(2) == 0, LSN: oneOf(m.rng, 0, 1+m.rng.Uint64N(n.lsn)), Type: oneOf(m.rng, 0, patient)}
	if m.rng.IntN(8) == 0 {
		q.Of = []ScanOf{}
	}
	odd := func(v *Version) (bool, error) { return (v.VersionID+int64(v.ID[len(v.ID)-1]))%2 == 1, nil }
	want := m.wantChosen(t, n, q, odd)
	q.Judge, q.Count, q.JudgeMax = odd, 1+m.rng.IntN(5), 1+m.rng.IntN(7)
	var got []string
	for more := true; more; {
		judged, given, last := 0, 0, q.After
		page := q
		page.Judge = func(v *Version) (bool, error) { judged++; return odd(v) }
		var err error
		q.After, more, err = n.History(context.Background(), page, func(v *Version) error {
			given++
			got = append(got, historyLine(v))
			return nil
		})
		if err != nil || judged > q.JudgeMax || given > q.Count || more && q.After == last {
			t.Fatalf("%s: a page judged %d of %d, gave %d of %d, went from %v to %v: %v", when, judged, q.JudgeMax, given, q.Count, last, q.After, err)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %+v of %v\ngives %v\nwant  %v", when, q, describeOf(of), got, want)
	}
}

// wantChosen is the whole history, less what no scan takes and what judge does not.
func (m *searchModel) wantChosen(t *testing.T, n *Snapshot, q HistoryQuery, judge func(*Version) (bool, error)) (lines []string) {
	t.Helper()
	taken := map[string]bool{}
	note := func(v *Version) error {
		taken[historyLine(v)] = true
		return nil
	}
	parts, err := n.ScanParts(context.Background(), ScanQuery{Of: q.Of, Versions: ScanAllOrDeleted, AsOf: q.LSN})
	for i := range parts {
		if err == nil {
			err = parts[i].Run(context.Background(), note)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	nothing := q.Of != nil && len(q.Of) == 0
	q.Of = nil
	_, _, err = n.History(context.Background(), q, func(v *Version) error {
		if ok, _ := judge(v); ok && taken[historyLine(v)] && !nothing {
			lines = append(lines, historyLine(v))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

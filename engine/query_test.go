package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"kiln/internal/vfs"
)

// step does something at random that a store may meet, and tells what.
func (m *searchModel) step(t *testing.T, s *Store, fsys *vfs.Mem) (*Store, string) {
	t.Helper()
	switch k := m.rng.IntN(21); {
	case k < 11:
		m.commit(t, s)
		return s, "after a commit"
	case k < 14:
		m.ingest(t, s)
		return s, "after an import"
	case k < 16:
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		return s, "after a flush"
	case k < 17:
		if err := s.checkpointNow(); err != nil {
			t.Fatal(err)
		}
		return s, "after a checkpoint"
	case k < 18:
		if _, err := s.mergeOnce(context.Background(), mergeSmall); err != nil {
			t.Fatal(err)
		}
		return s, "after a merge"
	case k == 20 && m.purges:
		m.purge(t, s)
		return s, "after a purge"
	}
	mustClose(t, s)
	return mustOpen(t, mergingOptions(fsys, m.rng.Uint64())), "after opening again"
}

func mergingOptions(fsys *vfs.Mem, seed uint64) Options {
	opts := testOptions(fsys, seed)
	opts.MergeFanIn = 2
	return opts
}

func TestSearchesAgreeWithAPlainReading(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m, fsys := newSearchModel(t, seed), vfs.NewMem(seed)
			s := mustOpen(t, mergingOptions(fsys, seed))
			m.purges = true
			m.commit(t, s)
			for range 70 {
				var when string
				s, when = m.step(t, s, fsys)
				m.check(t, s, when, 6)
			}
			mustClose(t, s)
		})
	}
}

// TestPagesMakeOneListWhateverHappensBetween: the pages of one search show what
// was there at the first, each version once, in order.
func TestPagesMakeOneListWhateverHappensBetween(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m, fsys := newSearchModel(t, seed), vfs.NewMem(seed)
			s := mustOpen(t, mergingOptions(fsys, seed))
			for range 40 {
				s, _ = m.step(t, s, fsys)
				m.commit(t, s)
			}
			for range 3 {
				q := m.query(t)
				n := mustSnapshot(t, s)
				want := m.want(q, n.lsn)
				got := pages(t, n, q.query, 2, func() *Snapshot {
					s, _ = m.step(t, s, fsys)
					return mustSnapshot(t, s)
				})
				if !slices.Equal(got, want) {
					t.Fatalf("%s sorted by %s\nfound %v\nwant  %v", describe(q.query.Where), sortNames(&q.query), got, want)
				}
			}
			mustClose(t, s)
		})
	}
}

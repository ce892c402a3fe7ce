package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
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
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m, fsys := newSearchModel(t, seed), vfs.NewMem(seed)
			s := mustOpen(t, mergingOptions(fsys, seed))
			m.purges = true
			m.commit(t, s)
			for range 70 {
				var when string
				s, when = m.step(t, s, fsys)
				m.check(t, s, when, 3)
				s.readThrough = true
				m.check(t, s, when+", reading rows through", 3)
				s.readThrough = false
				for i, rule := range []columnRule{columnsByCost, columnsLookUp, columnsPostings} {
					s.columns = rule
					m.check(t, s, fmt.Sprint(when, ", columns by rule ", rule), i)
				}
				s.columns = columnsByCost
			}
			mustClose(t, s)
		})
	}
}

// TestPagesMakeOneListWhateverHappensBetween: the pages of one search show what
// was there at the first, each version once, in order.
func TestPagesMakeOneListWhateverHappensBetween(t *testing.T) {
	for seed := range uint64(6) {
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

// familyQuery is a search for patients by the beginning of a family name.
func familyQuery(t *testing.T, family string) *Query {
	t.Helper()
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	walks, err := index.StringWalks(table.Param(patient, "family").Sources, []byte(family))
	if err != nil {
		t.Fatal(err)
	}
	return &Query{Types: []fhir.TypeCode{patient}, Where: &Expr{Op: Terms, Walks: walks}}
}

// TestSearchesRefuseWhatTheyCannotAnswer: an error, never a wrong answer.
func TestSearchesRefuseWhatTheyCannotAnswer(t *testing.T) {
	ctx := context.Background()
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	mustCommit(t, s, patientNamed("a", "Chalmers"), patientNamed("b", "Chalmers"))
	n := mustSnapshot(t, s)
	none := func(*Version) error { return nil }
	q := familyQuery(t, "chal")
	q.Limit = 1
	page, err := n.Search(ctx, q, none)
	if err != nil || !page.More {
		t.Fatalf("%+v, %v", page, err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := n.Search(over, q, none); !errors.Is(err, context.Canceled) {
		t.Errorf("a search whose time is over: %v", err)
	}
	q.Sort = []SortKey{{Param: &search.Param{Code: "near", Kind: search.Special}}}
	if _, err := n.Search(ctx, q, none); !errors.Is(err, ErrUnsortable) {
		t.Errorf("a sort without an order: %v", err)
	}
	n.Release()
	if _, err := s.Purge(ctx, patient, []byte("a"), PurgeAll, Precondition{}); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, patientNamed("a", "Chalmers")) // another one, with the same number
	n = mustSnapshot(t, s)
	q.Sort, q.After, q.AsOf = nil, page.Next, page.AsOf
	if _, err := n.Search(ctx, q, none); !errors.Is(err, ErrCursorGone) {
		t.Errorf("a page behind what was purged: %v", err)
	}
	n.Release()
	for _, bad := range []string{"", "x", "0123456789", "\x00\x01\x02a", "\x00\x01\x02a\x00", "\x00\x01\x02a\x00\x00\x05", "\x00\x01\x02a\x00\x00\x05\x00", "\x00\x01\x02a\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if _, _, err := ParseCursor([]byte(bad)); !errors.Is(err, ErrCursor) {
			t.Errorf("%q is taken for a cursor: %v", bad, err)
		}
	}
	mustClose(t, s)
}

// TestValuesThatWereCutAreFound: what a term does not hold is read in the bodies.
func TestValuesThatWereCutAreFound(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	mustCommit(t, s, patientNamed("a", strings.Repeat("x", 2000)+"Needle"), patientNamed("b", strings.Repeat("x", 2000)+"Hay"), patientNamed("c", "needle"))
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	sources := table.Param(patient, "family").Sources
	q := &Query{Where: &Expr{Op: Terms, Walks: index.StringContainsWalks(sources, []byte("NEEDLE"))}}
	for _, when := range []string{"in the head", "in a run"} {
		n := mustSnapshot(t, s)
		if got := fmt.Sprint(pages(t, n, *q, 0, nil)); got != "[Patient/a/1 Patient/c/1]" {
			t.Errorf("%s: found %s", when, got)
		}
		n.Release()
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
}

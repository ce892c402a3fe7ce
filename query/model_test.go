package query

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"kiln/engine"
)

// seeds are those of seedsDefault; SEEDS says how many instead, SEED_FROM from which.
func seeds(t *testing.T) (from, to uint64) {
	t.Helper()
	number := func(name string, usual uint64) uint64 {
		text := os.Getenv(name)
		if text == "" {
			return usual
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s=%s is no number", name, text)
		}
		return n
	}
	from = number("SEED_FROM", 1)
	return from, from + number("SEEDS", seedsDefault)
}

// TestSearchesAgreeWithTheOracle: whatever is asked as an address asks it, the
// answer is that of a plain reading of R4 over decoded JSON, in the same
// order: in the head, in runs and in both, with updates and deletes, around
// flushes, merges and openings.
func TestSearchesAgreeWithTheOracle(t *testing.T) {
	from, to := seeds(t)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newSearchModel(t, seed)
			for range 16 {
				m.checkSearches(m.step(), 12)
			}
			m.close()
		})
	}
}

// oracle is the oracle of what is current now.
func (m *searchModel) oracle() *oracle {
	return &oracle{base: modelBase, now: time.Date(2021, 8, 1, 0, 0, 0, 0, time.UTC), all: m.current(), defs: oracleDefs()}
}

func (m *searchModel) checkSearches(when string, count int) {
	m.Helper()
	o := m.oracle()
	for range count {
		s := m.search(o)
		read, err := Parse(s.pathTypes(), s.parameters, Options{Base: o.base, Now: o.now})
		if err != nil {
			m.Fatalf("%s: %s is refused: %v", when, s, err)
		}
		found := o.find(s.types, s.parameters)
		o.sort(found, s)
		got, total := m.pages(read, oneOf(m.rng, 1, 3, 1000))
		want := names(found)
		if !slices.Equal(got, want) || total != uint64(len(want)) {
			m.Fatalf("%s: %s\n got %v (%d)\nwant %v (%d)\n%s", when, s, got, total, want, len(want), m.difference(got, found))
		}
	}
}

func names(found []*modelVersion) (all []string) {
	for _, v := range found {
		all = append(all, fmt.Sprintf("%s/%s/%d", v.typ, v.id, v.version))
	}
	return all
}

// difference shows the first resource that one list has and the other has not.
func (m *searchModel) difference(got []string, found []*modelVersion) string {
	want := names(found)
	for _, v := range m.current() {
		name := names([]*modelVersion{v})[0]
		if slices.Contains(got, name) != slices.Contains(want, name) {
			return fmt.Sprintf("wanted %t: %s", slices.Contains(want, name), v.body)
		}
	}
	for i, name := range got {
		if name != want[i] {
			return fmt.Sprintf("another order from place %d on, where %s is wanted", i, found[i].body)
		}
	}
	return ""
}

// pages reads all pages of a search.
func (m *searchModel) pages(s *Search, limit int) (lines []string, total uint64) {
	m.Helper()
	n := m.snapshot()
	defer n.Release()
	page := Page{Limit: limit, Bytes: 1 << 20, Total: true}
	for {
		r, err := s.Run(context.Background(), m.store, n, page)
		if err != nil {
			m.Fatalf("Run: %v", err)
		}
		for i := range r.Matches {
			lines = append(lines, version(&r.Matches[i]))
		}
		if page.Total {
			total = r.Total
		}
		if !r.More {
			return lines, total
		}
		page.After, page.AsOf, page.Total = r.Next, r.AsOf, false
	}
}

func version(v *engine.Version) string { return fmt.Sprintf("%v/%s/%d", v.Type, v.ID, v.VersionID) }

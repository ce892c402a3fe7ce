package index

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// A table in memory gives what a plain map gives, at every bound and while it grows.
func TestMemoryTermsAgreeWithAMap(t *testing.T) {
	f := func(seed uint64, values, steps int) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 1))
		m, want := NewMemoryTerms(), map[Param]map[string][]uint32{}
		for o := range uint32(steps) {
			if rng.IntN(10) == 0 {
				m.AddTerm(20, fmt.Append(nil, "refused ", rng.IntN(values)))
				m.Discard()
			}
			for range rng.IntN(5) {
				p, value := Param(20+rng.IntN(3)), fmt.Sprint(rng.IntN(values))
				m.AddTerm(p, []byte(value))
				if want[p] == nil {
					want[p] = map[string][]uint32{}
				}
				if list := want[p][value]; len(list) == 0 || list[len(list)-1] != o {
					want[p][value] = append(list, o)
				}
			}
			m.Commit(Ordinal(o))
			if rng.IntN(steps/5) == 0 || int(o) == steps-1 {
				checkMemoryTerms(t, m, want, rng.Uint32N(o+2))
			}
		}
	}
	f(1, 5, 300)
	f(2, 1000, 3000)
	f(3, 1_000_000, 6000)
}

func checkMemoryTerms(t *testing.T, m *MemoryTerms, want map[Param]map[string][]uint32, below uint32) {
	t.Helper()
	for p := Param(19); p <= 23; p++ {
		values := slices.Sorted(maps.Keys(want[p]))
		c := m.Terms(p, Ordinal(below))
		ok := c.First()
		for _, value := range values {
			rows := upTo(want[p][value], below)
			if got := m.Postings(p, []byte(value), Ordinal(below)).ToArray(); !slices.Equal(got, rows) {
				t.Fatalf("%d %s below %d has rows %v, want %v", p, value, below, got, rows)
			}
			if len(rows) == 0 {
				continue
			}
			if !ok || string(c.Value()) != value || !slices.Equal(c.Postings().ToArray(), rows) {
				t.Fatalf("the walk of %d below %d is not at %s", p, below, value)
			}
			ok = c.Next()
		}
		if ok {
			t.Fatalf("the walk of %d below %d goes on to %s", p, below, c.Value())
		}
		if rows := m.Postings(p, []byte("refused 1"), Ordinal(below)); !rows.IsEmpty() {
			t.Fatalf("a refused version's term has rows %v", rows)
		}
		checkMemoryRange(t, m, p, want[p], values, below)
	}
}

func checkMemoryRange(t *testing.T, m *MemoryTerms, p Param, terms map[string][]uint32, values []string, below uint32) {
	t.Helper()
	if len(values) == 0 {
		return
	}
	from, to := values[len(values)/3], values[2*len(values)/3]
	var rows []uint32
	for _, value := range values {
		if from <= value && value < to {
			rows = append(rows, upTo(terms[value], below)...)
		}
	}
	slices.Sort(rows)
	if got := m.Range(p, []byte(from), []byte(to), Ordinal(below)).ToArray(); !slices.Equal(got, slices.Compact(rows)) {
		t.Fatalf("%d from %s to %s below %d has rows %v, want %v", p, from, to, below, got, rows)
	}
}

func upTo(rows []uint32, below uint32) []uint32 {
	end, _ := slices.BinarySearch(rows, below)
	return rows[:end]
}

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
	"kiln/fhir"
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
		if m.rng.IntN(8) == 0 {
			found = m.within(o, s, read, found)
		}
		o.sort(found, s)
		got, total := m.pages(read, oneOf(m.rng, 1, 3, 1000), false)
		want := names(found)
		if !slices.Equal(got, want) || total != uint64(len(want)) {
			m.Fatalf("%s: %s\n got %v (%d)\nwant %v (%d)\n%s", when, s, got, total, want, len(want), m.difference(got, found))
		}
	}
}

// within limits a search to the compartment of a patient.
func (m *searchModel) within(o *oracle, s *modelSearch, read *Search, found []*modelVersion) (kept []*modelVersion) {
	m.Helper()
	patient, whole := m.id(), m.rng.IntN(2) == 0
	if err := read.Within(fhir.TypeByName([]byte("Patient")), patient, whole); err != nil {
		m.Fatal(err)
	}
	s.parameters = append(s.parameters, Parameter{"(in the compartment)", "Patient/" + patient})
	for _, v := range found {
		if o.inCompartment(v, patient) || whole && v.typ == "Patient" && v.id == patient {
			kept = append(kept, v)
		}
	}
	return kept
}

// TestPagesAgreeWithTheOracle: the pages of a search, its chains and lists
// too, are those of the first page's moment, whatever happens in between.
func TestPagesAgreeWithTheOracle(t *testing.T) {
	from, to := seeds(t)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newSearchModel(t, seed)
			for range 6 {
				m.step()
			}
			for range 4 {
				o := m.oracle()
				s := m.search(o)
				read, err := Parse(s.pathTypes(), s.parameters, Options{Base: o.base, Now: o.now})
				if err != nil {
					m.Fatalf("%s is refused: %v", s, err)
				}
				found := o.find(s.types, s.parameters)
				o.sort(found, s)
				want := names(found)
				if got, _ := m.pages(read, max(2, len(want)/5), true); !slices.Equal(got, want) {
					m.Fatalf("%s\n got %v\nwant %v", s, got, want)
				}
			}
			m.close()
		})
	}
}

// TestIncludesAgreeWithTheOracle: what pages bring along.
func TestIncludesAgreeWithTheOracle(t *testing.T) {
	from, to := seeds(t)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newSearchModel(t, seed)
			for range 8 {
				m.step()
				m.checkIncludes(m.oracle())
			}
			m.close()
		})
	}
}

func (m *searchModel) checkIncludes(o *oracle) {
	m.Helper()
	s, includes := &modelSearch{types: []string{oneOf(m.rng, "Patient", "Observation", "Encounter", "List", "Organization")}}, []oracleInclude{}
	if m.rng.IntN(2) == 0 {
		s.parameters = append(s.parameters, m.condition(o, s.types[0], 1))
	}
	for range 1 + m.rng.IntN(3) {
		in := m.include(o)
		includes, s.parameters = append(includes, in), append(s.parameters, in.parameter())
	}
	read, err := Parse(s.pathTypes(), s.parameters, Options{Base: o.base, Now: o.now})
	if err != nil {
		m.Fatalf("%s is refused: %v", s, err)
	}
	n := m.snapshot()
	defer n.Release()
	r, err := read.Run(context.Background(), m.store, n, Page{Limit: 1000, Bytes: 1 << 20})
	if err != nil {
		m.Fatal(err)
	}
	var got []string
	for i := range r.Included {
		got = append(got, version(&r.Included[i]))
	}
	want := names(o.bring(o.find(s.types, s.parameters), includes))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.Fatalf("%s brings\n     %v\nwant %v", s, got, want)
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

// pages reads all pages of a search; moving: other things happen in between.
func (m *searchModel) pages(s *Search, limit int, moving bool) (lines []string, total uint64) {
	m.Helper()
	page := Page{Limit: limit, Bytes: 1 << 20, Total: true}
	for {
		n := m.snapshot()
		r, err := s.Run(context.Background(), m.store, n, page)
		if err != nil {
			m.Fatalf("Run: %v", err)
		}
		n.Release()
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
		if moving {
			m.step()
		}
	}
}

func version(v *engine.Version) string { return fmt.Sprintf("%v/%s/%d", v.Type, v.ID, v.VersionID) }

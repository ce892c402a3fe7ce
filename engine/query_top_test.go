package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// observed is an Observation of a status, with a date or a period unless that is empty.
func observed(id, status, date string) Change {
	member := ""
	if start, end, ok := strings.Cut(date, "/"); ok {
		member = fmt.Sprintf(`,"effectivePeriod":{"start":%q,"end":%q}`, start, end)
	} else if date != "" {
		member = fmt.Sprintf(`,"effectiveDateTime":%q`, date)
	}
	body := fmt.Appendf(nil, `{"resourceType":"Observation","id":"%s","status":%q%s}`, id, status, member)
	at := uint32(len(`{"resourceType":"Observation","id":"`))
	return Change{Type: fhir.TypeByName([]byte("Observation")), ID: []byte(id), IDAt: at, Body: body, Splice: fhir.Splice{At: at + uint32(len(id)) + 1}}
}

// datedStore has runs of observations, of dates that are often equal or begin alike.
func datedStore(t *testing.T, rng *rand.Rand, kind uint64) *Store {
	t.Helper()
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	dates := []string{"2012-01-01", "2013-05-01", "2013-05-02", "2014-02-02", "2015-07-07", ""}
	switch kind {
	case 1:
		dates = append(dates, "2012", "2013-05")
	case 2: // the same beginning, and ends of one class
		dates = []string{"2013-05-01/2013-05-20", "2013-05-01/2013-05-21", "2013-05-02/2013-05-22", "2014-01-01/2014-01-19", "2015-01-01/2015-01-19", "2016-01-01/2016-01-20"}
	}
	for range 3 {
		for range 40 {
			var changes []Change
			for range 1 + rng.IntN(4) {
				id := fmt.Sprintf("o%d", rng.IntN(250))
				if !slices.ContainsFunc(changes, func(c Change) bool { return string(c.ID) == id }) {
					changes = append(changes, observed(id, []string{"final", "amended"}[rng.IntN(2)], dates[rng.IntN(len(dates))]))
				}
			}
			mustCommit(t, s, changes...)
		}
		mustFlush(t, s)
	}
	return s
}

// sortedPlaces is the places of a first page, by the column where that can tell and byColumn
// is set, or by walks.
func sortedPlaces(t *testing.T, n *Snapshot, q *Query, byColumn bool) (places []string, ok bool) {
	t.Helper()
	s, err := n.newSearch(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	o := sorter{s: s, none: s.none(), limit: q.Limit + 1}
	ok = true
	if byColumn {
		ok, err = o.topByColumn()
	} else {
		err = o.byWalks()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range o.places {
		places = append(places, fmt.Sprint(p.src.order, " ", p.row))
	}
	return places, ok
}

// TestFirstPagesByColumn: what a column tells is what the walks over terms tell.
func TestFirstPagesByColumn(t *testing.T) {
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	observation := fhir.TypeByName([]byte("Observation"))
	final, err := index.TokenWalks(table.Param(observation, "status").Sources, index.Token{Code: []byte("final")})
	if err != nil {
		t.Fatal(err)
	}
	told, left := 0, 0
	for seed := range uint64(6) {
		s := datedStore(t, rand.New(rand.NewPCG(seed, 1)), seed%3)
		s.columns = columnsLookUp
		n := mustSnapshot(t, s)
		for _, where := range []*Expr{nil, {Op: Terms, Walks: final}, {Op: Or}} {
			for _, desc := range []bool{false, true} {
				for limit := 1; limit < 130; limit += 7 {
					q := &Query{Types: []fhir.TypeCode{observation}, Where: where, Limit: limit, Sort: []SortKey{{table.Param(observation, "date"), desc}}}
					want, _ := sortedPlaces(t, n, q, false)
					switch got, ok := sortedPlaces(t, n, q, true); {
					case !ok:
						left++
					case !slices.Equal(got, want):
						t.Fatalf("falling: %v, limit %d: %v, want %v", desc, limit, got, want)
					default:
						told++
					}
				}
			}
		}
		n.Release()
		mustClose(t, s)
	}
	if told < 50 || left < 50 {
		t.Errorf("columns told %d pages, and not %d: the data do not try both", told, left)
	}
}

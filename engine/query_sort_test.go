package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/vfs"
)

const sortedDocs = 1200

// sortedStore has one Observation a day, most with two categories, written in no
// order of their dates, in a run.
func sortedStore(t *testing.T) (*Store, *vfs.Mem) {
	t.Helper()
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	for from := 0; from < sortedDocs; from += 100 {
		var changes []Change
		for i := from; i < from+100; i++ {
			changes = append(changes, sortedDoc(i, "one").change(t))
		}
		mustCommit(t, s, changes...)
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s, fsys
}

func sortedDoc(i int, tag string) *searchDoc {
	day := i * 7919 % sortedDocs
	d := &searchDoc{typ: observation, id: fmt.Sprint(i), code: "01", tag: tag}
	d.date = fmt.Sprintf("%04d-%02d-%02d", 2000+day/336, 1+day/28%12, 1+day%28)
	if d.cats = []string{fmt.Sprintf("c%04d", day)}; day%3 > 0 {
		d.cats = append(d.cats, fmt.Sprintf("c%04d", (day+sortedDocs/2)%sortedDocs))
	}
	return d
}

// pagesWithWork reads a query page by page and tells the work of each.
func pagesWithWork(t *testing.T, n *Snapshot, q Query) (ids []string, works []searchWork) {
	t.Helper()
	for {
		s, err := n.newSearch(context.Background(), &q)
		if err != nil {
			t.Fatal(err)
		}
		page, err := s.sorted(func(v *Version) error {
			ids = append(ids, string(v.ID))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		works = append(works, s.work)
		if !page.More {
			return ids, works
		}
		q.After, q.AsOf = page.Next, page.AsOf
	}
}

// TestSortedPagesCostTheSameWhereverTheyAre: a page begins at its cursor, in each
// order, with one key and with several.
func TestSortedPagesCostTheSameWhereverTheyAre(t *testing.T) {
	const limit = 10
	s, _ := sortedStore(t)
	defer mustClose(t, s)
	n := mustSnapshot(t, s)
	defer n.Release()
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	f := func(desc bool, codes ...string) {
		t.Helper()
		q := Query{Types: []fhir.TypeCode{observation}, Limit: limit}
		for _, code := range codes {
			q.Sort = append(q.Sort, SortKey{Param: table.Param(observation, code), Desc: desc})
		}
		ids, works := pagesWithWork(t, n, q)
		if slices.Sort(ids); len(slices.Compact(ids)) != sortedDocs || len(works) != sortedDocs/limit {
			t.Fatalf("%v: %d versions on %d pages", codes, len(ids), len(works))
		}
		for i, w := range works {
			// A version with several values is met at each; the first decides.
			if w.terms > 8*(limit+2) || w.own > 8*(limit+2) || w.asked > 0 {
				t.Fatalf("%v, page %d of %d: %+v", codes, i+1, len(works), w)
			}
		}
	}
	for _, desc := range []bool{false, true} {
		f(desc, "date")
		f(desc, "_lastUpdated")
		f(desc, "category")
		f(desc, "date", "category")
		f(desc, "status", "date") // none has a status
	}
}

// TestSortedPagesAskAboutTheirOwnRowsOnly: a page as of before a flood of writes asks
// the key table about what it shows, and not about all that the flood superseded.
func TestSortedPagesAskAboutTheirOwnRowsOnly(t *testing.T) {
	const limit = 10
	s, fsys := sortedStore(t)
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	n := mustSnapshot(t, s)
	asOf := n.LSN()
	n.Release()
	for from := 0; from < sortedDocs; from += 100 {
		var changes []Change
		for i := from; i < from+100; i++ {
			changes = append(changes, sortedDoc(i, "two").change(t))
		}
		mustCommit(t, s, changes...)
	}
	mustClose(t, s)
	s = mustOpen(t, testOptions(fsys, 2))
	defer mustClose(t, s)
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	n = mustSnapshot(t, s)
	defer n.Release()
	q := Query{Types: []fhir.TypeCode{observation}, AsOf: asOf, Limit: limit, Sort: []SortKey{{Param: table.Param(observation, "date")}}}
	ids, works := pagesWithWork(t, n, q)
	if slices.Sort(ids); len(slices.Compact(ids)) != sortedDocs {
		t.Fatalf("%d versions", len(ids))
	}
	asked := uint64(0)
	for i, w := range works {
		if asked += w.asked; w.asked > limit+1 {
			t.Fatalf("page %d: %+v", i+1, w)
		}
	}
	if asked == 0 {
		t.Error("nothing was asked about: the rows are not superseded for good")
	}
}

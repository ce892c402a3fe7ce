package engine

import (
	"context"
	"fmt"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// tokenHits are how many versions have each code of countedStore.
var tokenHits = []int{10, 1_000, 100_000}

// countedStore holds Observations, most of them in one run, of which so many as
// tokenHits says have the category c0, c1 and so on; twenty were changed since.
func countedStore(b *testing.B) *Store {
	b.Helper()
	opts := testOptions(vfs.NewMem(1), 1)
	opts.SegmentBytes, opts.HeadBytes = 64<<20, 64<<20
	s, err := Open(context.Background(), opts)
	if err != nil {
		b.Fatal(err)
	}
	most := tokenHits[len(tokenHits)-1]
	doc := func(i int, tag string) Change {
		d := searchDoc{typ: observation, id: fmt.Sprint(i), tag: tag}
		for n, hits := range tokenHits {
			if i%(most/hits) == 0 {
				d.cats = append(d.cats, fmt.Sprint("c", n))
			}
		}
		return d.change(b)
	}
	var changes []Change
	for i := range most {
		if changes = append(changes, doc(i, "")); len(changes) == 1000 {
			mustCommit(b, s, changes...)
			changes = nil
		}
	}
	if err := s.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	for i := range 20 {
		mustCommit(b, s, doc(i*4999, "new"))
	}
	return s
}

// BenchmarkCountOfAToken counts tokens that ever more versions have.
func BenchmarkCountOfAToken(b *testing.B) {
	s := countedStore(b)
	defer s.Close()
	n := mustSnapshot(b, s)
	defer n.Release()
	table, err := search.Load()
	if err != nil {
		b.Fatal(err)
	}
	for i, hits := range tokenHits {
		walks, err := index.TokenWalks(table.Param(observation, "category").Sources, index.Token{Code: fmt.Append(nil, "c", i)})
		if err != nil {
			b.Fatal(err)
		}
		q := &Query{Types: []fhir.TypeCode{observation}, Where: &Expr{Op: Terms, Walks: walks}}
		b.Run(fmt.Sprint(hits), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if found, err := n.Count(context.Background(), q); err != nil || found != uint64(hits) {
					b.Fatalf("%d of %d: %v", found, hits, err)
				}
			}
		})
	}
}

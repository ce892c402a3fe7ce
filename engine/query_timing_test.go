package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// searchedStore opens the data directory that KILN_BENCH_DIR names, such as one
// that `kiln load` made of the benchmark's corpus.
func searchedStore(b *testing.B) *Snapshot {
	b.Helper()
	dir := os.Getenv("KILN_BENCH_DIR")
	if dir == "" {
		b.Skip("KILN_BENCH_DIR is not set")
	}
	s, err := Open(context.Background(), Options{FS: vfs.OS(), Dir: dir, Now: time.Now, NewID: rand.Uint64, MergeFanIn: -1})
	if err != nil {
		b.Fatal(err)
	}
	n, err := s.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		n.Release()
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return n
}

// searchTerms makes a step of walks.
func searchTerms(b *testing.B, walks []index.Walk, err error) *Expr {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	return &Expr{Op: Terms, Walks: walks}
}

// benchmarkQueries are queries over the corpus: names and expressions.
func benchmarkQueries(b *testing.B) (names []string, queries []Query) {
	b.Helper()
	table, err := search.Load()
	if err != nil {
		b.Fatal(err)
	}
	of := func(typ fhir.TypeCode, code string) []search.Source { return table.Param(typ, code).Sources }
	add := func(name string, typ fhir.TypeCode, sort string, args ...*Expr) {
		q := Query{Types: []fhir.TypeCode{typ}, Where: &Expr{Op: And, Args: args}}
		if len(args) == 1 {
			q.Where = args[0]
		}
		if sort != "" {
			q.Sort = []SortKey{{Param: table.Param(typ, sort), Desc: true}}
		}
		names, queries = append(names, name), append(queries, q)
	}
	token := func(param, system, code string) *Expr {
		walks, err := index.TokenWalks(of(observation, param), index.Token{System: []byte(system), Code: []byte(code), AnySystem: system == ""})
		return searchTerms(b, walks, err)
	}
	date := func(c index.Compare, text string) *Expr {
		first, last, _ := fhir.ParseDate([]byte(text))
		return searchTerms(b, index.DateWalks(of(observation, "date"), c, first, last), nil)
	}
	family, err := index.StringWalks(of(patient, "family"), []byte("sch"))
	name := searchTerms(b, family, err)
	one, err := index.ReferenceWalks(of(observation, "patient"), []byte("Patient/057aa36e-b892-9964-75b9-ffb46b097e34"))
	subject := searchTerms(b, one, err)
	large, err := index.QuantityWalks(of(observation, "value-quantity"), index.Gt, []byte("100"), index.Unit{AnySystem: true})
	value := searchTerms(b, large, err)
	var codes []index.Walk
	for i := range 5000 {
		one, err := index.TokenWalks(of(observation, "code"), index.Token{Code: fmt.Append(nil, 2000+i, "-", i%10), AnySystem: true})
		if err != nil {
			b.Fatal(err)
		}
		codes = append(codes, one...)
	}
	add("everything", observation, "")
	add("5,000 codes", observation, "", searchTerms(b, index.JoinWalks(codes), nil))
	add("status", observation, "", token("status", "", "final"))
	add("code", observation, "", token("code", "http://loinc.org", "72514-3"))
	add("code of any system", observation, "", token("code", "", "72514-3"))
	add("rare code", observation, "", token("code", "http://loinc.org", "32465-7"))
	add("code and category", observation, "", token("code", "http://loinc.org", "72514-3"), token("category", "", "vital-signs"))
	add("code and date range", observation, "", token("code", "http://loinc.org", "72514-3"), date(index.Ge, "2012"), date(index.Lt, "2014"))
	add("date range", observation, "", date(index.Ge, "2012"), date(index.Lt, "2014"))
	add("not code", observation, "", &Expr{Op: Not, Args: []*Expr{token("code", "http://loinc.org", "72514-3")}})
	add("patient and code", observation, "", subject, token("code", "http://loinc.org", "72514-3"))
	add("patient and date range", observation, "", subject, date(index.Ge, "2012"), date(index.Lt, "2014"))
	add("value", observation, "", token("code", "http://loinc.org", "72514-3"), value)
	add("family", patient, "", name)
	add("code by date", observation, "date", token("code", "http://loinc.org", "72514-3"))
	add("patient by date", observation, "date", subject)
	add("everything by date", observation, "date")
	return names, queries
}

func BenchmarkSearch(b *testing.B) {
	n := searchedStore(b)
	ctx := context.Background()
	names, queries := benchmarkQueries(b)
	for i := range queries {
		q := &queries[i]
		total, err := n.Count(ctx, q)
		if err != nil {
			b.Fatal(err)
		}
		if len(q.Sort) == 0 {
			b.Run(fmt.Sprintf("count %s (%d)", names[i], total), func(b *testing.B) {
				for b.Loop() {
					if _, err := n.Count(ctx, q); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		q.Limit = 50
		b.Run("page "+names[i], func(b *testing.B) {
			for b.Loop() {
				if _, err := n.Search(ctx, q, func(*Version) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package guard

import (
	"context"
	"fmt"
	"testing"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// runs builds runs of the sample, with lent memory as an import does. What a run
// costs as a whole is shared by its rows.
type runs struct {
	tb   testing.TB
	fs   vfs.FS
	all  []scanned
	pool index.BuilderPool
	last index.RunID
	stub []byte
}

func openRuns(tb testing.TB) *runs {
	fs := vfs.NewMem(1)
	if err := fs.MkdirAll("runs"); err != nil {
		tb.Fatal(err)
	}
	return &runs{tb: tb, fs: fs, all: scanSample(tb)}
}

// build makes a run of terms, of bodies, or of both.
func (r *runs) build(terms, bodies bool) index.RunMeta {
	r.last++
	b := must(index.NewBuilder(index.BuilderOptions{FS: r.fs, Dir: "runs", ID: r.last, Pool: &r.pool}))(r.tb)
	for i := range r.all {
		r.append(b, &r.all[i], terms, bodies)
	}
	b.SortKeys()
	for i := range r.all {
		b.SetRow(index.Ordinal(i), index.Row{Type: r.all[i].Type, VersionID: 1, LastUpdated: fhir.Instant{Milli: int64(i)}})
	}
	return must(b.Seal(context.Background()))(r.tb)
}

func (r *runs) append(b *index.Builder, s *scanned, terms, bodies bool) {
	if terms {
		for i := range s.terms {
			b.AddTerm(s.terms[i].field, s.terms[i].value)
		}
	}
	body, at, splice := s.Body, s.IDAt, s.Splice
	if !bodies {
		r.stub, at, splice = fhir.StubBody(r.stub[:0], s.Type, s.ID)
		body = r.stub
	}
	if _, err := b.Append(s.Type, s.ID, at, body, splice); err != nil {
		r.tb.Fatal(err)
	}
}

// rebuild makes a run and removes it.
func (r *runs) rebuild(terms, bodies bool) {
	r.build(terms, bodies)
	if err := r.fs.Remove(fmt.Sprintf("runs/%016x.run", uint64(r.last))); err != nil {
		r.tb.Fatal(err)
	}
}

func openBuildTerms(tb testing.TB) func() {
	r := openRuns(tb)
	return func() { r.rebuild(true, false) }
}

func openBuildBodies(tb testing.TB) func() {
	r := openRuns(tb)
	return func() { r.rebuild(false, true) }
}

// openRun gives a run that is read, with its decoded blocks in memory.
func openRun(tb testing.TB) (*runs, *index.Run) {
	r := openRuns(tb)
	meta := r.build(true, true)
	run := must(index.OpenRun(r.fs, "runs", meta, 1, index.NewCache(64<<20)))(tb)
	tb.Cleanup(func() { _ = run.Close() })
	return r, run
}

func openLookup(tb testing.TB) func() {
	r, run := openRun(tb)
	var key []byte
	var found []index.Found
	return func() {
		for i := range r.all {
			key = index.AppendKey(key[:0], r.all[i].Type, r.all[i].ID)
			if !run.MayContain(index.KeyHash(key)) {
				tb.Fatalf("the filter lost %s", key)
			}
			var err error
			if found, err = run.Lookup(found[:0], key); err != nil || len(found) != 1 {
				tb.Fatalf("%d versions of %s: %v", len(found), key, err)
			}
		}
	}
}

func openLookupAscending(tb testing.TB) func() {
	_, run := openRun(tb)
	var found []index.Found
	return func() {
		c, keys := run.LookupCursor(), run.KeyCursor()
		for keys.Next() {
			var err error
			if found, err = c.Lookup(found[:0], keys.Key()); err != nil || len(found) != 1 {
				tb.Fatalf("%d versions of %s: %v", len(found), keys.Key(), err)
			}
		}
	}
}

func openReadBody(tb testing.TB) func() {
	r, run := openRun(tb)
	return func() {
		for i := range r.all {
			if stored, err := run.Body(index.Ordinal(i)); err != nil || len(stored.Body) != len(r.all[i].Body) {
				tb.Fatalf("row %d has %d bytes, not %d: %v", i, len(stored.Body), len(r.all[i].Body), err)
			}
		}
	}
}

func openSplice(tb testing.TB) func() {
	all := scanSample(tb)
	var out []byte
	return func() {
		for i := range all {
			s := &all[i]
			out = fhir.AppendResource(out[:0], s.Body, s.Splice, int64(i), fhir.Instant{Milli: 1_700_000_000_000 + int64(i)})
		}
	}
}

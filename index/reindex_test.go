package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/vfs"
)

// reindexTest builds runs of the same random resources.
type reindexTest struct {
	t      *testing.T
	fs     vfs.FS
	bodies []string
	fields []*search.Field
	next   RunID
}

func newReindexTest(t *testing.T, seed uint64, rows int) *reindexTest {
	t.Helper()
	d := func(kind search.Kind, base, expression string) search.Definition {
		return search.Definition{URL: "u", Code: "c", Kind: kind, Bases: []string{base}, Expression: expression}
	}
	x := &reindexTest{t: t, fs: newTestFS(t), next: 1}
	x.fields = customFields(t, d(search.Token, "Patient", "Patient.extension('race').value"), d(search.String, "Patient", "Patient.name.where(use='old').family"),
		d(search.Token, "DomainResource", "DomainResource.extension('every').value"), d(search.Number, "Observation", "Observation.extension('n').value as decimal"))
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range rows {
		name := []string{"Patient", "Observation"}[rng.IntN(2)]
		contained := []string{"", "", `"contained":[{"resourceType":"Group","id":"g"},{"id":"d","resourceType":"Device"}],`, `"contained":[{"resourceType":"Group"}],`}[rng.IntN(4)]
		x.bodies = append(x.bodies, fmt.Sprintf(`{"resourceType":%q,"id":"r%d",`+contained+`"extension":[{"url":"race","valueCode":"c%d"},{"valueString":"s%d","url":"every"},{"url":"n","valueDecimal":%s}],`+
			`"name":[{"use":"old","family":"f%d"}],"status":"final","pad":%q}`, name, i, rng.IntN(7), rng.IntN(rows), []string{"1.5", "2e3", "1e99999999999999999999"}[rng.IntN(3)], rng.IntN(9), strings.Repeat("x", rng.IntN(300))))
	}
	return x
}

// build makes a run by the first fields, without some rows. Every ninth row is deleted.
func (x *reindexTest) build(fields int, void *roaring.Bitmap) RunMeta {
	x.t.Helper()
	extraction, err := NewExtraction(x.fields[:fields])
	if err != nil {
		x.t.Fatal(err)
	}
	return x.buildBy(extraction, void)
}

// buildByFirst is build by the rules of version 1.
func (x *reindexTest) buildByFirst(fields int) RunMeta {
	x.t.Helper()
	table, err := search.Load()
	if err != nil {
		x.t.Fatal(err)
	}
	extraction, err := newExtraction(slices.Concat(table.Fields(), x.fields[:fields]), false)
	if err != nil {
		x.t.Fatal(err)
	}
	extraction.custom = fields
	return x.buildBy(extraction, nil)
}

func (x *reindexTest) buildBy(extraction *Extraction, void *roaring.Bitmap) RunMeta {
	x.t.Helper()
	b, err := NewBuilder(BuilderOptions{FS: x.fs, Dir: testDir, ID: x.id(), Extraction: extraction})
	if err != nil {
		x.t.Fatal(err)
	}
	e := b.Extraction().NewExtractor(b)
	for i, body := range x.bodies {
		r, err := e.Scan([]byte(body))
		if err != nil && !errors.Is(err, ErrTerms) {
			x.t.Fatal(err)
		}
		if i%9 == 0 {
			b.DiscardTerms()
		}
		id := []byte(fmt.Sprintf("r%d", i))
		at := uint32(strings.Index(body, `"id":"`) + len(`"id":"`))
		if _, err := b.Append(typeOfBody(body), id, at, []byte(body), fhir.Splice{}); err != nil {
			x.t.Fatal(err, r)
		}
	}
	b.SortKeys()
	for i := range x.bodies {
		row := Row{Type: typeOfBody(x.bodies[i]), VersionID: 1, LastUpdated: fhir.Instant{Milli: int64(i)}}
		if i%9 == 0 {
			row.Flags = FlagDeleted
		}
		if void != nil && void.Contains(uint32(i)) {
			b.Drop(Ordinal(i))
		} else {
			b.SetRow(Ordinal(i), row)
		}
	}
	meta, err := b.Seal(context.Background())
	if err != nil {
		x.t.Fatal(err)
	}
	return meta
}

func typeOfBody(body string) fhir.TypeCode {
	_, rest, _ := strings.Cut(body, `"resourceType":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return fhir.TypeByName([]byte(name))
}

func (x *reindexTest) id() RunID {
	x.next++
	return x.next - 1
}

func (x *reindexTest) open(meta RunMeta) *Run {
	x.t.Helper()
	r, err := OpenRun(x.fs, testDir, meta, 7, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { _ = r.Close() })
	return r
}

// terms is every term of a run with its rows.
func (x *reindexTest) terms(r *Run) map[string]string {
	x.t.Helper()
	table, err := search.Load()
	if err != nil {
		x.t.Fatal(err)
	}
	params := []Param{ParamLastUpdated, ParamType, ParamDeleted, ParamContained}
	for _, f := range slices.Concat(table.Fields(), x.fields) {
		params = append(params, Param(f.Number))
	}
	all := map[string]string{}
	for _, p := range params {
		c := r.Cursor(p)
		for ok := c.SeekGE(nil); ok; ok = c.Next() {
			rows, err := r.Postings(p, c.Value())
			if err != nil {
				x.t.Fatal(err)
			}
			all[fmt.Sprintf("%d %x", p, c.Value())] = rows.String()
		}
		if err := c.Err(); err != nil {
			x.t.Fatal(err)
		}
	}
	return all
}

func (x *reindexTest) options(in *Run, fields int, void *roaring.Bitmap) ReindexOptions {
	return ReindexOptions{
		FS: x.fs, Dir: testDir, ID: x.id(), NewID: x.id, Fields: x.fields[:fields],
		Input: MergeInput{Run: in, PublishLSN: 7, Void: void},
	}
}

// A run that is indexed again is as one that had the fields from the start.
func TestReindexedRunIsAsABuiltOne(t *testing.T) {
	f := func(seed uint64, rows, have, want int, memory int64, version uint32, voidEvery int) {
		t.Helper()
		x := newReindexTest(t, seed, rows)
		var void *roaring.Bitmap
		for i := 0; voidEvery > 0 && i < rows; i += voidEvery {
			if void == nil {
				void = roaring.New()
			}
			void.Add(uint32(i))
		}
		meta := x.build(have, nil)
		if version == extractionFields {
			meta = x.buildByFirst(have)
		}
		in := x.open(meta)
		if in.footer.extraction = version; in.HasContainedTerms() != (version == ExtractionVersion) || in.HasFieldTerms() != (version == ExtractionVersion || version == 1) {
			t.Error("the run tells other terms than it has")
		}
		opts := x.options(in, want, void)
		opts.memoryBytes = memory
		meta, report, err := Reindex(context.Background(), opts)
		if err != nil {
			t.Fatal(err)
		}
		out, fresh := x.open(meta), x.open(x.build(want, void))
		if out.Extraction() != ExtractionVersion || out.Custom() != want {
			t.Errorf("the run tells extraction %d and %d fields", out.Extraction(), out.Custom())
		}
		got, expected := x.terms(out), x.terms(fresh)
		if !maps.Equal(got, expected) {
			for term, rows := range expected {
				if got[term] != rows {
					t.Fatalf("seed %d: term %s has rows %s, want %s", seed, term, got[term], rows)
				}
			}
			t.Fatalf("seed %d: %d terms, want %d", seed, len(got), len(expected))
		}
		if rows > 100 && report.Unindexable == 0 && want == 4 && have < 4 {
			t.Error("no number was too large for a term")
		}
		err = Verify(context.Background(), x.fs, testDir, meta.ID, func(e *vfs.CorruptError) { t.Errorf("Verify: %v", e) })
		if err != nil {
			t.Fatal(err)
		}
		names, err := x.fs.List(testDir)
		if err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, tempSuffix) }) {
			t.Errorf("left behind: %q, error %v", names, err)
		}
	}
	f(1, 0, 0, 4, 0, ExtractionVersion, 0)
	f(2, 1, 0, 4, 0, ExtractionVersion, 0)
	f(3, 3000, 0, 4, 0, ExtractionVersion, 0)
	f(4, 3000, 0, 1, 0, ExtractionVersion, 3)
	f(5, 1000, 1, 3, 20_000, ExtractionVersion, 0)
	f(6, 200, 2, 4, 1, ExtractionVersion, 5)
	f(7, 500, 0, 4, 0, ExtractionVersion+1, 0)
	f(8, 500, 3, 4, 1000, 0, 2)
	f(9, 500, 4, 4, 0, ExtractionVersion, 0)
	f(10, 500, 0, 0, 0, 0, 0)
	f(11, 50, 0, 2, 0, ExtractionVersion, 1)
	f(12, 3000, 0, 0, 0, 1, 0)
	f(13, 1000, 2, 2, 1000, 1, 3)
	f(14, 500, 1, 4, 0, 1, 5)
	f(15, 500, 4, 3, 0, 1, 0)
}

// Only the bodies of the fields' types are read.
func TestReindexReadsTheTypesOfNewFields(t *testing.T) {
	x := newReindexTest(t, 1, 400)
	in := x.open(x.build(3, nil))
	_, report, err := Reindex(context.Background(), x.options(in, 4, nil))
	if err != nil || report.Read == 0 || report.Read > 250 {
		t.Errorf("%d of 400 versions read, error %v", report.Read, err)
	}
}

// Whatever call fails, nothing is left behind, and the input is whole.
func TestReindexSurvivesFaults(t *testing.T) {
	x := newReindexTest(t, 1, 60)
	meta := x.build(0, nil)
	in := x.open(meta)
	mem := x.fs.(*vfs.Mem)
	for at := 1; ; at++ {
		left := at
		mem.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpRemove || op.Kind == vfs.OpClose {
				return nil
			}
			if left--; left == 0 {
				return syscall.ENOSPC
			}
			return nil
		})
		opts := x.options(in, 4, nil)
		opts.memoryBytes = 1000
		_, _, err := Reindex(context.Background(), opts)
		mem.SetHook(nil)
		if err == nil {
			break
		}
		names, err := x.fs.List(testDir)
		if err != nil || len(names) != 1 {
			t.Fatalf("after fault %d: files %q, error %v", at, names, err)
		}
	}
}

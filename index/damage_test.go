package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// smallModel has every kind of block, each kind of posting, a dropped row and
// a key with two versions, in as few bytes as that takes.
func smallModel() *model {
	rng := rand.New(rand.NewPCG(3, 4))
	m := &model{}
	for i := range 24 {
		id := fmt.Sprintf("r%d", i)
		switch i % 3 {
		case 0:
			id = uuidFrom(rng)
		case 1:
			id = fmt.Sprintf("r%d", i/12)
		}
		body := fmt.Sprintf(`{"resourceType":"T","id":%q}`, id)
		r := modelRow{typ: fhir.TypeCode(1 + i%3), id: id, body: body, dropped: i == 5}
		r.row = Row{Type: r.typ, VersionID: int64(i), LastUpdated: fhir.Instant{Milli: int64(1000 + i/2)}}
		r.terms = []string{string(appendTermKey(nil, 9, []byte("all")))}
		if i%2 == 0 {
			r.terms = append(r.terms, string(appendTermKey(nil, 9, []byte("half"))))
			r.row.Flags = FlagDeleted
		}
		r.terms = append(r.terms, string(appendTermKey(nil, 10, []byte(id))))
		m.rows = append(m.rows, r)
	}
	return m
}

// prober asks a run that may be damaged. An answer is right, or a CorruptError.
type prober struct {
	t       *testing.T
	what    string
	refused int
}

func (p *prober) check(err error, right bool) {
	p.t.Helper()
	var damage *vfs.CorruptError
	switch {
	case errors.As(err, &damage):
		p.refused++
	case err != nil:
		p.t.Fatalf("%s: an error that is no damage: %v", p.what, err)
	case !right:
		p.t.Fatalf("%s: a wrong answer", p.what)
	}
}

func (p *prober) probe(m *model, r *Run) {
	p.t.Helper()
	for i, want := range m.rows {
		found, err := r.Lookup(nil, []byte(m.key(i)))
		if !want.dropped {
			hit := slices.Contains(found, Found{want.row.VersionID, Ordinal(i)})
			p.check(err, hit && r.MayContain(KeyHash([]byte(m.key(i)))))
			row, err := r.Row(Ordinal(i))
			p.check(err, row == want.row)
			s, err := r.Body(Ordinal(i))
			p.check(err, string(s.Body) == want.body && string(s.ID) == want.id)
		}
	}
	n := 0
	err := r.Scan(context.Background(), r.Live(), func(o Ordinal, row Row, s Stored) error {
		n++
		p.check(nil, row == m.rows[o].row && string(s.Body) == m.rows[o].body)
		return nil
	})
	p.check(err, n == len(m.rows)-1)
	for key, want := range m.terms() {
		got, err := r.Postings(Param(key[0])<<8|Param(key[1]), []byte(key[2:]))
		p.check(err, err != nil || slices.Equal(got.ToArray(), want))
		found, err := r.TermRows(Param(key[0])<<8|Param(key[1]), []byte(key[2:]))
		p.check(err, err != nil || found.Count() == uint64(len(want)))
		kept, err := found.Keep(slices.Clone(want))
		p.check(err, err != nil || found.Count() == 0 || slices.Equal(kept, want))
	}
	c, n := r.Terms(10), 0
	for ok := c.Last(); ok; ok = c.Prev() {
		n++
	}
	p.check(c.Err(), n == 17)
}

// overwrite replaces a file's content.
func overwrite(t testing.TB, fs vfs.FS, name string, content []byte) {
	t.Helper()
	file, err := fs.OpenWrite(name)
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt(content, 0)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestEveryFlippedByteIsFoundOrHarmless(t *testing.T) {
	fs := newTestFS(t)
	m := smallModel()
	meta := m.build(t, fs, 5)
	name := runPath(testDir, 5)
	whole := readAll(t, fs, name)
	rng := rand.New(rand.NewPCG(1, 1))
	open, err := OpenRun(fs, testDir, meta, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= byte(1 << rng.IntN(8))
		if at%2 == 1 {
			damaged[at] = ^whole[at]
		}
		overwrite(t, fs, name, damaged)
		p := &prober{t: t, what: fmt.Sprintf("byte %d of %d changed from %02x to %02x", at, len(whole), whole[at], damaged[at])}
		r, err := OpenRun(fs, testDir, meta, 0, nil)
		p.check(err, true)
		if err == nil {
			p.probe(m, r)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if p.refused == 0 {
			t.Fatalf("%s: nobody noticed", p.what)
		}
		if n := problems(t, fs, 5); n == 0 {
			t.Fatalf("%s: Verify found nothing", p.what)
		}
		n := 0
		if err := open.Check(context.Background(), nil, func(*vfs.CorruptError) { n++ }); err != nil || n == 0 {
			t.Fatalf("%s: Check of the open run found nothing, %v", p.what, err)
		}
	}
}

// A run that was opened when it was sound is checked to the last byte.
func TestCheckReadsEveryByteOnce(t *testing.T) {
	fs := newTestFS(t)
	meta := randomModel(rand.New(rand.NewPCG(1, 5)), 20000).build(t, fs, 3)
	r, err := OpenRun(fs, testDir, meta, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	paced := 0
	err = r.Check(context.Background(), func(_ context.Context, n int) error { paced += n; return nil }, func(e *vfs.CorruptError) { t.Error(e) })
	if err != nil || int64(paced) > meta.Bytes || int64(paced) < meta.Bytes-2*checkStepBytes {
		t.Errorf("Check of %d bytes: %v, paced over %d", meta.Bytes, err, paced)
	}
	stop := errors.New("stop")
	if err := r.Check(context.Background(), func(context.Context, int) error { return stop }, ignore); err != stop {
		t.Errorf("Check ends with %v", err)
	}
}

// problems counts what Verify reports.
func problems(t testing.TB, fs vfs.FS, id RunID) (n int) {
	t.Helper()
	err := Verify(context.Background(), fs, testDir, id, func(e *vfs.CorruptError) { n++ })
	if err != nil {
		t.Fatalf("Verify gave up: %v", err)
	}
	return n
}

func TestEveryShorterFileIsRefused(t *testing.T) {
	fs := newTestFS(t)
	meta := smallModel().build(t, fs, 5)
	name := runPath(testDir, 5)
	whole := readAll(t, fs, name)
	for n := range whole {
		overwrite(t, fs, name, whole[:n])
		var damage *vfs.CorruptError
		if _, err := OpenRun(fs, testDir, meta, 0, nil); !errors.As(err, &damage) {
			t.Fatalf("a run cut to %d of %d bytes opens: %v", n, len(whole), err)
		}
		if problems(t, fs, 5) == 0 {
			t.Fatalf("Verify finds nothing wrong with %d of %d bytes", n, len(whole))
		}
	}
	overwrite(t, fs, name, append(bytes.Clone(whole), 0))
	if _, err := OpenRun(fs, testDir, meta, 0, nil); err == nil {
		t.Fatal("a run with a byte too many opens")
	}
}

func TestVerifyFindsNothingWrongWithGoodRuns(t *testing.T) {
	for seed, rows := range []int{0, 1, 17, 300, 5000, 20000} {
		fs := newTestFS(t)
		m := randomModel(rand.New(rand.NewPCG(uint64(seed), 5)), rows)
		m.build(t, fs, 3)
		err := Verify(context.Background(), fs, testDir, 3, func(e *vfs.CorruptError) { t.Errorf("%d rows: %v", rows, e) })
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefusesWhatTheLogDidNotPublish(t *testing.T) {
	fs := newTestFS(t)
	meta := smallModel().build(t, fs, 5)
	f := func(change func(*RunMeta)) {
		t.Helper()
		other := meta
		change(&other)
		if _, err := OpenRun(fs, testDir, other, 0, nil); err == nil {
			t.Fatalf("the run opens as %+v", other)
		}
	}
	f(func(m *RunMeta) { m.Hash++ })
	f(func(m *RunMeta) { m.Bytes-- })
	f(func(m *RunMeta) { m.Rows++ })
	f(func(m *RunMeta) { m.Live-- })
	f(func(m *RunMeta) { m.MilliMax++ })
	f(func(m *RunMeta) { m.ID++ })
	if err := fs.Rename(runPath(testDir, 5), runPath(testDir, 6)); err != nil {
		t.Fatal(err)
	}
	f(func(m *RunMeta) { m.ID = 6 })
}

func TestDumpShowsRowsAndTerms(t *testing.T) {
	fs := newTestFS(t)
	smallModel().build(t, fs, 5)
	var out strings.Builder
	if err := Dump(context.Background(), fs, testDir, 5, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"run 0000000000000005: format 2,", "rows 24, live 23, keys ",
		"row 1: ActivityDefinition/r0 version 1, 1970-01-01T00:00:01.000+00:00, lsn 0, flags 0, body of ",
		"term lastUpdated 1970-01-01T00:00:01.000Z: 2 rows {0,1}", "term 9 \"half\": 12 rows", "term type Account: 8 rows",
		"term deleted: 12 rows",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the dump does not say %q:\n%s", want, out.String())
		}
	}
}

type testFS = vfs.FS

func ignore(*vfs.CorruptError) {}

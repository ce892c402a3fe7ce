package index

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/vfs"
)

const testDir = "runs"

// modelRow is one version as the model knows it.
type modelRow struct {
	typ     fhir.TypeCode
	id      string
	body    string
	splice  fhir.Splice
	row     Row
	dropped bool
	terms   []string // term keys
}

// model is what a run should answer, kept in plain slices and maps.
type model struct {
	rows []modelRow
}

// paramTest is the first parameter that the model uses.
const paramTest Param = search.FieldMin

func (m *model) key(i int) string { return string(AppendKey(nil, m.rows[i].typ, []byte(m.rows[i].id))) }

// terms maps every term key to its live ordinals.
func (m *model) terms() map[string][]uint32 {
	all := map[string][]uint32{}
	for o, r := range m.rows {
		if r.dropped {
			continue
		}
		own := []string{
			string(AppendMilli([]byte{0, byte(ParamLastUpdated)}, r.row.LastUpdated.Milli)),
			string([]byte{0, byte(ParamType), byte(r.typ >> 8), byte(r.typ)}),
		}
		if r.row.Flags&FlagDeleted != 0 {
			own = append(own, string([]byte{0, byte(ParamDeleted)}))
		}
		given := slices.Clone(r.terms)
		slices.Sort(given)
		for _, t := range append(own, slices.Compact(given)...) {
			all[t] = append(all[t], uint32(o))
		}
	}
	return all
}

func uuidFrom(rng *rand.Rand) string {
	a, b := rng.Uint64(), rng.Uint64()
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&(1<<48-1))
}

func randomID(rng *rand.Rand) string {
	switch rng.IntN(4) {
	case 0:
		return fmt.Sprintf("id-%d", rng.IntN(50))
	case 1:
		return strings.ToUpper(uuidFrom(rng))
	}
	return uuidFrom(rng)
}

// randomModel makes n rows; a tenth are further versions of earlier ids, a tenth dropped.
func randomModel(rng *rand.Rand, n int) *model {
	m := &model{}
	next := map[string]int64{}
	words := []string{"alpha", "beta", "gamma", "delta", strings.Repeat("long", 400), strings.Repeat("long", 400) + "er"}
	for i := range n {
		r := modelRow{typ: fhir.TypeCode(1 + rng.IntN(5)), id: randomID(rng)}
		if i > 0 && rng.IntN(10) == 0 {
			old := m.rows[rng.IntN(i)]
			r.typ, r.id = old.typ, old.id
		}
		filler := strings.Repeat("x", rng.IntN(40)) + strings.Repeat(uuidFrom(rng), rng.IntN(5))
		if rng.IntN(500) == 0 {
			filler = strings.Repeat(uuidFrom(rng), 4000)
		}
		r.body = fmt.Sprintf(`{"resourceType":"T%d","id":%q,"text":%q}`, r.typ, r.id, filler)
		r.splice = fhir.Splice{At: uint32(rng.IntN(len(r.body) + 1)), Kind: fhir.SpliceKind(rng.IntN(3))}
		key := fmt.Sprint(r.typ, "/", r.id)
		next[key] += 1 + rng.Int64N(3)
		r.row = Row{Type: r.typ, VersionID: next[key] - 5, LSN: uint64(rng.IntN(3)) * 1000,
			LastUpdated: fhir.Instant{Milli: 1_600_000_000_000 + rng.Int64N(50), OffsetMinutes: int16(rng.IntN(3) * 60)}}
		if rng.IntN(8) == 0 {
			r.row.Flags = FlagDeleted
		}
		if rng.IntN(4) == 0 {
			r.row.Flags |= [...]Flags{FlagCreated, FlagPosted, FlagCreated | FlagPosted}[rng.IntN(3)]
		}
		for range rng.IntN(6) {
			value := words[rng.IntN(len(words))]
			if rng.IntN(3) == 0 {
				value = uuidFrom(rng)
			}
			r.terms = append(r.terms, string(appendTermKey(nil, paramTest+Param(rng.IntN(3)), []byte(value))))
		}
		r.dropped = rng.IntN(10) == 0
		m.rows = append(m.rows, r)
	}
	return m
}

// longValues maps what becomes of long values to the whole values.
func longValues() map[string]string {
	longs := map[string]string{}
	for _, whole := range []string{strings.Repeat("long", 400), strings.Repeat("long", 400) + "er"} {
		longs[string(appendTermValue(nil, []byte(whole)))] = whole
	}
	return longs
}

// build makes a run of the model, and checks the builder on the way.
func (m *model) build(t testing.TB, fs vfs.FS, id RunID) RunMeta {
	t.Helper()
	return m.buildIn(t, fs, id, nil)
}

func (m *model) buildIn(t testing.TB, fs vfs.FS, id RunID, pool *BuilderPool) RunMeta {
	t.Helper()
	longs := longValues()
	b, err := NewBuilder(BuilderOptions{FS: fs, Dir: testDir, ID: id, Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range m.rows {
		b.AddTerm(paramTest, []byte("of a refused line"))
		b.DiscardTerms()
		for _, term := range r.terms {
			value := term[2:]
			if whole, ok := longs[value]; ok {
				value = whole
			}
			b.AddTerm(Param(term[0])<<8|Param(term[1]), []byte(value))
		}
		o, err := b.Append(r.typ, []byte(r.id), uint32(strings.Index(r.body, r.id)), []byte(r.body), r.splice)
		if err != nil || int(o) != i {
			t.Fatalf("Append of row %d: ordinal %d, %v", i, o, err)
		}
	}
	m.checkBuilder(t, b)
	for i, r := range m.rows {
		if r.dropped {
			b.Drop(Ordinal(i))
		} else {
			b.SetRow(Ordinal(i), r.row)
		}
	}
	meta, err := b.Seal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

// checkBuilder compares the sorted keys and the bodies read back.
func (m *model) checkBuilder(t testing.TB, b *Builder) {
	t.Helper()
	b.SortKeys()
	order := make([]int, len(m.rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(m.key(x), m.key(y)) })
	c := b.KeyCursor()
	for _, want := range order {
		if !c.Next() || int(c.Ordinal()) != want || string(c.Key()) != m.key(want) {
			t.Fatalf("key cursor is not at ordinal %d", want)
		}
	}
	if c.Next() {
		t.Fatal("key cursor goes on after the last row")
	}
	for i, r := range m.rows {
		s, err := b.Body(Ordinal(i))
		if err != nil || string(s.Body) != r.body || string(s.ID) != r.id || s.Splice != r.splice {
			t.Fatalf("body %d read back as %q: %v", i, s.Body, err)
		}
	}
}

// check asks the run everything and compares.
func (m *model) check(t testing.TB, r *Run, publishLSN uint64) {
	t.Helper()
	m.checkRows(t, r, publishLSN)
	m.checkKeys(t, r)
	m.checkScan(t, r, publishLSN)
	m.checkTerms(t, r)
}

func (m *model) wantRow(i int, publishLSN uint64) Row {
	row := m.rows[i].row
	if row.LSN == 0 {
		row.LSN = publishLSN
	}
	return row
}

func (m *model) checkRows(t testing.TB, r *Run, publishLSN uint64) {
	t.Helper()
	for i, want := range m.rows {
		row, err := r.Row(Ordinal(i))
		s, bodyErr := r.Body(Ordinal(i))
		if want.dropped {
			if err == nil || bodyErr == nil || r.Live().Contains(uint32(i)) {
				t.Fatalf("row %d was dropped and is there", i)
			}
			continue
		}
		if err != nil || row != m.wantRow(i, publishLSN) {
			t.Fatalf("row %d: %+v, want %+v: %v", i, row, m.wantRow(i, publishLSN), err)
		}
		if bodyErr != nil || string(s.Body) != want.body || string(s.ID) != want.id || s.Splice != want.splice {
			t.Fatalf("body %d is %q: %v", i, s.Body, bodyErr)
		}
	}
	if _, err := r.Row(Ordinal(len(m.rows))); err == nil {
		t.Fatal("there is a row behind the last")
	}
}

func (m *model) checkKeys(t testing.TB, r *Run) {
	t.Helper()
	keys := map[string][]Found{}
	for i, row := range m.rows {
		keys[m.key(i)] = slices.Clip(keys[m.key(i)])
		if !row.dropped {
			keys[m.key(i)] = append(keys[m.key(i)], Found{row.row.VersionID, Ordinal(i)})
		}
	}
	for i := range 50 {
		keys[string(AppendKey(nil, fhir.TypeCode(i%6), fmt.Appendf(nil, "absent-%d", i)))] = nil
	}
	sorted := make([]string, 0, len(keys))
	for key, found := range keys {
		slices.SortFunc(found, func(a, b Found) int { return cmp.Compare(b.VersionID, a.VersionID) })
		sorted = append(sorted, key)
	}
	sort.Strings(sorted)
	f := func(c *LookupCursor, key string) {
		t.Helper()
		found, err := c.Lookup(nil, []byte(key))
		if err != nil || !slices.Equal(found, keys[key]) {
			t.Fatalf("lookup of %x: %v, want %v: %v", key, found, keys[key], err)
		}
		for most := range min(4, len(found)+2) {
			some, err := c.Highest([]Found{{}}, []byte(key), most) // behind what is there
			if err != nil || !slices.Equal(some[1:], found[:min(most, len(found))]) {
				t.Fatalf("the %d highest of %x: %v of %v: %v", most, key, some, found, err)
			}
		}
		if len(found) > 0 && !r.MayContain(KeyHash([]byte(key))) {
			t.Fatalf("the filter denies %x", key)
		}
	}
	c, sparse := r.LookupCursor(), r.LookupCursor()
	for i, key := range sorted {
		f(c, key)
		f(c, key) // the same again
		f(r.LookupCursor(), key)
		f(sparse, sorted[i*7919%len(sorted)]) // any order
	}
}

func (m *model) checkScan(t testing.TB, r *Run, publishLSN uint64) {
	t.Helper()
	f := func(want *roaring.Bitmap) {
		t.Helper()
		it := want.Iterator()
		err := r.Scan(context.Background(), want, func(o Ordinal, row Row, s Stored) error {
			if !it.HasNext() || it.Next() != uint32(o) {
				t.Fatalf("scan delivers %d out of order", o)
			}
			if row != m.wantRow(int(o), publishLSN) || string(s.Body) != m.rows[o].body || string(s.ID) != m.rows[o].id {
				t.Fatalf("scan delivers a wrong row %d", o)
			}
			return nil
		})
		if err != nil || it.HasNext() {
			t.Fatalf("scan ended early: %v", err)
		}
	}
	f(r.Live())
	f(roaring.New())
	some := roaring.New()
	for it := r.Live().Iterator(); it.HasNext(); {
		if o := it.Next(); o%17 == 3 {
			some.Add(o)
		}
	}
	f(some)
	for i, row := range m.rows {
		if row.dropped {
			if err := r.Scan(context.Background(), roaring.BitmapOf(uint32(i)), nil); err == nil {
				t.Fatalf("scan of dropped row %d is no error", i)
			}
		}
	}
}

func (m *model) checkTerms(t testing.TB, r *Run) {
	t.Helper()
	terms, rng := m.terms(), rand.New(rand.NewPCG(1, 2))
	byParam := map[Param][]string{}
	for key, want := range terms {
		p := Param(key[0])<<8 | Param(key[1])
		byParam[p] = append(byParam[p], key[2:])
		if len(key)-2 < TermBytesMax {
			got, err := r.Postings(p, []byte(key[2:]))
			if err != nil || !slices.Equal(got.ToArray(), want) {
				t.Fatalf("postings of %q: %v, want %v: %v", key, got, want, err)
			}
			checkTermRows(t, r, p, []byte(key[2:]), want, rng)
		}
	}
	for p := Param(0); p < 9; p++ {
		values := byParam[p]
		sort.Strings(values)
		checkCursor(t, r, p, values, terms)
		if got, err := r.Postings(p, []byte("no such value")); err != nil || !got.IsEmpty() {
			t.Fatalf("an absent term has postings %v: %v", got, err)
		}
		checkTermRows(t, r, p, []byte("no such value"), nil, rng)
	}
}

func checkCursor(t testing.TB, r *Run, p Param, values []string, terms map[string][]uint32) {
	t.Helper()
	c := r.Terms(p)
	on := func(ok bool, i int) {
		t.Helper()
		if c.Err() != nil || ok != (i >= 0 && i < len(values)) {
			t.Fatalf("cursor of %d at %d of %d: %v, %v", p, i, len(values), ok, c.Err())
		}
		if !ok {
			return
		}
		want := terms[string([]byte{byte(p >> 8), byte(p)})+values[i]]
		got, err := c.Postings()
		if err != nil || string(c.Value()) != values[i] || !slices.Equal(got.ToArray(), want) || c.Count() != uint64(len(want)) {
			t.Fatalf("cursor of %d at %d is on %q with %v: %v", p, i, c.Value(), got, err)
		}
	}
	on(c.First(), min(0, len(values)-1))
	for i := range values {
		on(c.Next(), i+1)
	}
	on(c.Last(), len(values)-1)
	for i := range values {
		on(c.Prev(), len(values)-2-i)
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(values))))
	for range min(len(values), 50) {
		i, j := rng.IntN(len(values)), rng.IntN(len(values))
		if len(values[i]) >= TermBytesMax || len(values[j]) >= TermBytesMax {
			continue
		}
		on(c.SeekGE([]byte(values[i])), i)
		on(c.SeekGE([]byte(values[i]+"\x00")), i+1)
		on(c.SeekLT([]byte(values[i])), i-1)
		on(c.SeekLT([]byte(values[i]+"\x00")), i)
		if on(c.SeekGE([]byte(values[i])), i); i > 0 && i+1 < len(values) {
			on(c.Next(), i+1)
			on(c.Prev(), i)
			on(c.Prev(), i-1)
			on(c.Next(), i)
			on(c.SeekGE([]byte(values[i])), i)
			on(c.Prev(), i-1)
		}
		i, j = min(i, j), max(i, j)
		want := roaring.New()
		for _, v := range values[i:j] {
			want.AddMany(terms[string([]byte{byte(p >> 8), byte(p)})+v])
		}
		got, err := r.Range(p, []byte(values[i]), []byte(values[j]))
		if err != nil || !got.Equals(want) {
			t.Fatalf("range of %d: %v, want %v: %v", p, got, want, err)
		}
	}
}

func newTestFS(t testing.TB) *vfs.Mem {
	t.Helper()
	fs := vfs.NewMem(1)
	if err := fs.MkdirAll(testDir); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestRunAnswersAsTheModelDoes(t *testing.T) {
	longs := longValues()
	pool := &BuilderPool{}
	f := func(seed uint64, rows int, cacheBytes int64) {
		t.Helper()
		fs := newTestFS(t)
		m := randomModel(rand.New(rand.NewPCG(seed, 2)), rows)
		meta := m.buildIn(t, fs, RunID(seed), pool)
		var cache *Cache
		if cacheBytes >= 0 {
			cache = NewCache(cacheBytes)
		}
		r, err := OpenRun(fs, testDir, meta, 4711, cache)
		if err != nil {
			t.Fatal(err)
		}
		m.check(t, r, 4711)
		for i, whole := range longs {
			want := []uint32(nil)
			for o, row := range m.rows {
				if !row.dropped && slices.Contains(row.terms, string([]byte{0, byte(paramTest)})+i) {
					want = append(want, uint32(o))
				}
			}
			got, err := r.Postings(paramTest, []byte(whole))
			if err != nil || !slices.Equal(got.ToArray(), want) && len(want) > 0 {
				t.Fatalf("postings of a long value: %v, want %v: %v", got, want, err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f(1, 0, -1)
	f(2, 1, 0)
	f(3, 20, 1<<20)
	f(4, 300, -1)
	f(5, 2000, 64<<10)
	f(6, 9000, 16<<20)
	for seed := range uint64(20) {
		f(100+seed, int(seed*7), 1<<20)
	}
}

func TestRunDependsOnItsInputOnly(t *testing.T) {
	m := randomModel(rand.New(rand.NewPCG(9, 9)), 500)
	build := func() []byte {
		fs := newTestFS(t)
		meta := m.build(t, fs, 7)
		return readAll(t, fs, runPath(testDir, meta.ID))
	}
	if !bytes.Equal(build(), build()) {
		t.Fatal("the same rows made two different files")
	}
}

func readAll(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(fs, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

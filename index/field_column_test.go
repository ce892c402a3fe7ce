package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
)

// columnRun is a run whose rows have up to three of the values v00 to v99.
func columnRun(t *testing.T, rng *rand.Rand, rows int, cache *Cache) (*Run, [][]string) {
	t.Helper()
	fs := newTestFS(t)
	b, err := NewBuilder(BuilderOptions{FS: fs, Dir: testDir, ID: 1})
	if err != nil {
		t.Fatal(err)
	}
	values := make([][]string, rows)
	for i := range values {
		for range max(0, rng.IntN(6)-2) {
			value := fmt.Sprintf("v%02d", rng.IntN(100))
			values[i] = append(values[i], value)
			b.AddTerm(paramTest, []byte(value))
		}
		b.AddTerm(paramTest+1, fmt.Append(nil, i))
		if _, err := b.Append(1, fmt.Append(nil, i), 0, fmt.Append(nil, i), fhir.Splice{}); err != nil {
			t.Fatal(err)
		}
	}
	b.SortKeys()
	for i := range values {
		b.SetRow(Ordinal(i), Row{Type: 1, VersionID: 1})
	}
	meta, err := b.Seal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenRun(fs, testDir, meta, 1, cache)
	if err != nil {
		t.Fatal(err)
	}
	return r, values
}

func mustWalk(t *testing.T, r *Run, p Param, terms uint64) {
	t.Helper()
	if err := r.Walked(p, terms, noCheck); err != nil {
		t.Fatal(err)
	}
}

func TestColumnsAnswerForRowsWithSeveralValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r, values := columnRun(t, rng, 10_000, NewCache(64<<20))
	mustWalk(t, r, paramTest, 1<<40)
	column := r.Column(paramTest)
	if column == nil || !column.Several() {
		t.Fatal("no column of several values")
	}
	for range 50 {
		var wanted []Places
		for at := 0; at < 100; {
			from := at + rng.IntN(40)
			at = min(from+1+rng.IntN(10), 100)
			wanted = appendPlaces(wanted, min(from, 100), at)
		}
		within, want := roaring.New(), roaring.New()
		for range rng.IntN(9000) {
			within.Add(rng.Uint32N(10_000))
		}
		for o, has := range values {
			in := func(value string) bool {
				return slices.ContainsFunc(wanted, func(p Places) bool {
					return fmt.Sprintf("v%02d", p.From) <= value && value < fmt.Sprintf("v%02d", p.To) || p.To == 100 && value >= fmt.Sprintf("v%02d", p.From)
				})
			}
			if within.Contains(uint32(o)) && slices.ContainsFunc(has, in) {
				want.Add(uint32(o))
			}
		}
		got, _, err := column.Filter(wanted, within, 0, noCheck)
		if err != nil || !got.Equals(want) {
			t.Fatalf("values %v: %d rows (%v), want %d", wanted, got.GetCardinality(), err, want.GetCardinality())
		}
		// What it gives when it stops is the beginning of that.
		some, stopped, err := column.Filter(wanted, within, 1+rng.Uint64N(100), noCheck)
		if err != nil || !stopped && !some.Equals(want) || stopped && !slices.Equal(some.ToArray(), want.ToArray()[:some.GetCardinality()]) {
			t.Fatalf("values %v: the first %d rows (%v) are not the first of %d", wanted, some.GetCardinality(), err, want.GetCardinality())
		}
	}
}

// TestMaskedCursorsStandOnValuesOfTheRows walks both ways.
func TestMaskedCursorsStandOnValuesOfTheRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	r, values := columnRun(t, rng, 5000, NewCache(64<<20))
	mustWalk(t, r, paramTest, 1<<40)
	for _, n := range []int{0, 1, 7, 60, 400} {
		rows, has := roaring.New(), map[string]bool{}
		for range n {
			o := rng.IntN(len(values))
			rows.Add(uint32(o))
			for _, value := range values[o] {
				has[value] = true
			}
		}
		var want, up, down []string
		for value := range has {
			want = append(want, value)
		}
		slices.Sort(want)
		terms, err := r.Masked([]Param{paramTest}, rows, noCheck)
		if err != nil {
			t.Fatal(err)
		}
		c := terms.Cursor(paramTest)
		for ok := c.SeekGE(nil); ok; ok = c.Next() {
			up = append(up, string(c.Value()))
			have, whole := NewRowSet(5000), NewRowSet(5000)
			if err := errors.Join(c.AddTo(have), r.AddPostings(whole, paramTest, c.Value())); err != nil {
				t.Fatal(err)
			}
			if n := whole.Bitmap(); !have.Bitmap().Equals(n) || c.Count() != n.GetCardinality() {
				t.Errorf("rows of %s differ", c.Value())
			}
		}
		for ok := c.Last(); ok; ok = c.Prev() {
			down = append(down, string(c.Value()))
		}
		slices.Reverse(down)
		if !slices.Equal(up, want) || !slices.Equal(down, want) {
			t.Errorf("upwards %v, downwards %v, want %v", up, down, want)
		}
		for i, value := range want {
			if !c.SeekLT([]byte(value+"x")) || string(c.Value()) != value || c.SeekLT([]byte(value)) != (i > 0) {
				t.Errorf("SeekLT around %s", value)
			}
		}
		if other := terms.Cursor(paramTest + 1); !other.SeekGE(nil) || !bytes.Equal(other.Value(), []byte("0")) {
			t.Error("another field is not walked whole")
		}
	}
}

func TestColumnsAreMadeWhenWalksCostAsMuch(t *testing.T) {
	r, _ := columnRun(t, rand.New(rand.NewPCG(3, 1)), 3000, NewCache(64<<20))
	if mustWalk(t, r, paramTest, columnTermsMin-1); r.Column(paramTest) != nil {
		t.Error("a column is made after few terms")
	}
	if mustWalk(t, r, paramTest, 1); r.Column(paramTest) == nil {
		t.Error("no column is made")
	}
	stopped := errors.New("stopped")
	if err := r.Walked(paramTest+1, 1<<40, func() error { return stopped }); err != stopped || r.Column(paramTest+1) != nil {
		t.Errorf("a column whose making was stopped: %v", err)
	}
	if mustWalk(t, r, paramTest+1, 1<<40); r.Column(paramTest+1) == nil {
		t.Error("no column is made after one was stopped")
	}
	if err := r.Close(); err != nil || len(r.cache.columns.fields) != 0 || r.cache.columns.bytes != 0 {
		t.Errorf("a closed run has columns: %v", err)
	}
}

func TestColumnsStayBelowTheirBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	small, _ := columnRun(t, rng, 3000, NewCache(4<<10))
	if mustWalk(t, small, paramTest, 1<<40); small.Column(paramTest) != nil {
		t.Error("a column is larger than its bound")
	}
	if e := small.cache.columns.fields[columnKey{small.space, paramTest}]; !e.never {
		t.Error("a column that is too large would be tried again")
	}
	r, _ := columnRun(t, rng, 3000, NewCache(64<<20))
	mustWalk(t, r, paramTest, 1<<40)
	one := r.Column(paramTest).memoryBytes()
	columns := newColumnCache(columnShare * (3*one + one/2))
	add := func(p Param) {
		t.Helper()
		if !columns.walked(columnKey{1, p}, 1<<40, 1) {
			t.Errorf("column %d is not made", p)
		}
		columns.put(columnKey{1, p}, r.Column(paramTest), false)
	}
	for p := range Param(3) {
		add(p)
	}
	columns.get(columnKey{1, 0})
	add(3)
	for p, want := range []bool{true, false, true, true} {
		if got := columns.get(columnKey{1, Param(p)}) != nil; got != want {
			t.Errorf("column %d is there: %v", p, got)
		}
	}
	if columns.bytes != 3*one {
		t.Errorf("%d bytes, want %d", columns.bytes, 3*one)
	}
	for p := range Param(columnFieldsMax) {
		columns.walked(columnKey{2, p}, 1, 1)
	}
	if len(columns.fields) > columnFieldsMax || columns.get(columnKey{1, 0}) == nil {
		t.Errorf("%d fields are remembered", len(columns.fields))
	}
}

func TestPlacesAreCombined(t *testing.T) {
	f := func(a, b, both, either []Places) {
		t.Helper()
		for range 2 {
			if got := CommonPlaces(a, b); !slices.Equal(got, both) {
				t.Errorf("common of %v and %v: %v", a, b, got)
			}
			if got := UnitedPlaces(a, b); !slices.Equal(got, either) {
				t.Errorf("united %v and %v: %v", a, b, got)
			}
			a, b = b, a
		}
	}
	f(nil, nil, nil, nil)
	f([]Places{{1, 3}}, nil, nil, []Places{{1, 3}})
	f([]Places{{1, 3}}, []Places{{3, 5}}, nil, []Places{{1, 5}})
	f([]Places{{1, 3}, {7, 9}}, []Places{{2, 8}}, []Places{{2, 3}, {7, 8}}, []Places{{1, 9}})
	f([]Places{{1, 9}}, []Places{{2, 3}, {5, 6}}, []Places{{2, 3}, {5, 6}}, []Places{{1, 9}})
	if n := CountPlaces([]Places{{1, 3}, {7, 9}}); n != 4 {
		t.Errorf("%d places", n)
	}
}

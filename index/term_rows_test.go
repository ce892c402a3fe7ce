package index

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// checkTermRows compares a term's rows, read in each way, with what they are.
func checkTermRows(t testing.TB, r *Run, p Param, value []byte, want []uint32, rng *rand.Rand) {
	t.Helper()
	found, err := r.TermRows(p, value)
	if err != nil || found.Count() != uint64(len(want)) {
		t.Fatalf("%d rows: %v, want %d", found.Count(), err, len(want))
	}
	before := []uint32{7}
	got, err := found.AppendTo(before)
	if err != nil || !slices.Equal(got[1:], want) || got[0] != 7 {
		t.Fatalf("rows %v: %v, want %v", got, err, want)
	}
	bm, err := found.Bitmap()
	if err != nil || !slices.Equal(bm.ToArray(), want) {
		t.Fatalf("rows %v: %v, want %v", bm.ToArray(), err, want)
	}
	for _, n := range []int{0, 20} {
		some := roaring.New()
		for range n {
			some.Add(rng.Uint32N(r.Meta().Rows + 10))
			if len(want) > 0 {
				some.Add(want[rng.IntN(len(want))])
			}
		}
		kept, err := found.Keep(some.ToArray())
		some.And(roaring.BitmapOf(want...))
		if err != nil || !slices.Equal(kept, some.ToArray()) {
			t.Fatalf("kept %v: %v, want %v", kept, err, some.ToArray())
		}
	}
}

func TestTermRowsAreKeptFromListsBitsAndRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	for range 20 {
		all := roaring.New()
		for key := range uint32(5) {
			base := key<<16 + rng.Uint32N(1000)
			switch rng.IntN(4) {
			case 0:
				all.AddRange(uint64(base), uint64(base)+1+rng.Uint64N(60_000))
			case 1:
				for range 9000 {
					all.Add(base + rng.Uint32N(64_000))
				}
			case 2:
				for range 1 + rng.IntN(100) {
					all.Add(base + rng.Uint32N(64_000))
				}
			}
		}
		if rng.IntN(2) == 0 {
			all.RunOptimize()
		}
		b, err := all.ToBytes()
		if err != nil {
			t.Fatal(err)
		}
		some := roaring.New()
		for range 1 + rng.IntN(3000) {
			some.Add(rng.Uint32N(6 << 16))
		}
		kept, ok := keepPlaced(some.ToArray(), b)
		some.And(all)
		if !ok || !slices.Equal(kept, some.ToArray()) {
			t.Fatalf("%d kept of %d", len(kept), some.GetCardinality())
		}
		if len(b) > 8 {
			keepPlaced(roaring.BitmapOf(1<<18).ToArray(), b[:rng.IntN(len(b))]) // does not panic
		}
	}
}

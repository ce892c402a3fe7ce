package engine

import (
	"math/rand/v2"
	"testing"
)

// mergeAll lets candidates arrive one by one and merges whatever the choice
// finds; it returns the runs that are left, the most there ever were, and the bytes written.
func mergeAll(arrive []mergeCandidate, l mergeLimits) (left []mergeCandidate, most int, written int64) {
	for _, r := range arrive {
		left = append(left, r)
		most = max(most, len(left))
		for {
			c := chooseMerge(left, l)
			if !c.ok() {
				break
			}
			sum := mergeCandidate{}
			for _, r := range left[c.from:c.to] {
				sum.bytes, sum.rows = sum.bytes+r.bytes, sum.rows+r.rows
			}
			written += sum.bytes
			left = append(append(append([]mergeCandidate{}, left[:c.from]...), sum), left[c.to:]...)
		}
	}
	return left, most, written
}

func defaultLimits() mergeLimits {
	return mergeLimits{fanIn: mergeFanInDefault, bytesMax: mergeBytesMaxDefault, runBytesMax: mergeBytesMaxDefault, rowsMax: 64 << 20}
}

// TestMergesOfABillionVersions holds the arithmetic of merge_choice.go.
func TestMergesOfABillionVersions(t *testing.T) {
	var arrive []mergeCandidate
	total := int64(0)
	for range 5000 {
		arrive = append(arrive, mergeCandidate{bytes: 33 << 20, rows: 200_000})
		total += 33 << 20
	}
	left, most, written := mergeAll(arrive, defaultLimits())
	if most > 60 || float64(written) > 3.2*float64(total) {
		t.Errorf("%d runs at the end, %d at most, written %.2f times", len(left), most, float64(written)/float64(total))
	}
	t.Logf("%d runs at the end, %d at most, written %.2f times", len(left), most, float64(written)/float64(total))
}

// TestRunsStayFewForAnyMix: small and large, sorted and not, the number of runs
// keeps the bound that merge_choice.go names.
func TestRunsStayFewForAnyMix(t *testing.T) {
	f := func(name string, n int, size func(i int) int64) {
		t.Helper()
		l := defaultLimits()
		var arrive []mergeCandidate
		bytes, rows := int64(0), uint64(0)
		for i := range n {
			r := mergeCandidate{bytes: size(i), rows: uint64(size(i)/160 + 1)}
			arrive = append(arrive, r)
			bytes, rows = bytes+r.bytes, rows+r.rows
		}
		left, most, written := mergeAll(arrive, l)
		bound := 6*l.fanIn + int(2*bytes/l.runBytesMax) + int(2*rows/l.rowsMax)
		if most > bound {
			t.Errorf("%s: %d runs at most, the bound is %d", name, most, bound)
		}
		t.Logf("%s: %d runs at the end, %d at most (bound %d), written %.2f times", name, len(left), most, bound, float64(written)/float64(bytes))
	}
	rng := rand.New(rand.NewPCG(1, 1))
	f("tiny", 3000, func(int) int64 { return 2000 })
	f("one large among tiny", 3000, func(i int) int64 {
		if i%100 == 0 {
			return 1 << 30
		}
		return 2000
	})
	f("turn about", 2000, func(i int) int64 { return []int64{2000, 33 << 20}[i%2] })
	f("saw teeth", 2000, func(i int) int64 { return 1000 << (i % 24) })
	f("falling", 2000, func(i int) int64 { return 8 << 30 >> (i % 24) })
	f("any", 2000, func(int) int64 { return 1000 << rng.IntN(20) })
	f("full ones between tiny", 300, func(i int) int64 { return []int64{2000, 15 << 30}[i%2] })
}

func TestChoiceGoesAcrossNoBarrierAndNoBound(t *testing.T) {
	f := func(l mergeLimits, wantFrom, wantTo int, runs ...mergeCandidate) {
		t.Helper()
		if c := chooseMerge(runs, l); c.from != wantFrom || c.to != wantTo {
			t.Errorf("runs [%d, %d), want [%d, %d)", c.from, c.to, wantFrom, wantTo)
		}
	}
	l := mergeLimits{fanIn: 4, bytesMax: 100, runBytesMax: 100, rowsMax: 100}
	one := mergeCandidate{bytes: 10, rows: 1}
	barrier := mergeCandidate{bytes: 10, rows: 1, barrier: true}
	f(l, 0, 0)
	f(l, 0, 0, one)
	f(l, 0, 2, one, one)
	f(l, 0, 4, one, one, one, one, one)
	f(l, 2, 5, one, barrier, one, one, one)
	f(l, 0, 0, one, barrier, one)
	other := mergeCandidate{bytes: 10, rows: 1, terms: termsOrigin{1, 0}}
	f(l, 1, 4, one, other, other, other, one)
	f(l, 0, 0, one, other, one)
	f(l, 0, 0, mergeCandidate{bytes: 60}, mergeCandidate{bytes: 60})
	f(l, 0, 0, mergeCandidate{rows: 60}, mergeCandidate{rows: 60})
	l.bytesMin = 30
	f(l, 0, 0, one, one, one)
	f(l, 0, 4, one, one, one, one)
}

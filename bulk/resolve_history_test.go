package bulk

import (
	"math/rand/v2"
	"testing"

	"kiln/fhir"
)

// plainFits and plainNeighbours say what the index must: version by version.
func plainFits(history []known, line *incoming) bool {
	for _, k := range history {
		if k.version == line.version {
			return false
		}
		if line.version > 0 && k.version > 0 && (k.at.Milli > line.at.Milli) != (k.version > line.version) {
			return false
		}
	}
	return true
}

func plainNeighbours(history []known, milli int64) (above, below int64) {
	var aboveAt, belowAt int64
	for _, k := range history {
		switch {
		case k.version <= 0:
		case k.at.Milli > milli && (above == 0 || k.at.Milli < aboveAt):
			above, aboveAt = k.version, k.at.Milli
		case k.at.Milli < milli && (below == 0 || k.at.Milli > belowAt):
			below, belowAt = k.version, k.at.Milli
		}
	}
	return above, below
}

// testRandomHistory grows a history that is mostly in order, in no order of arrival.
func testRandomHistory(r *rand.Rand, n int) []known {
	history := make([]known, n)
	for i := range history {
		milli := 10 + r.Int64N(int64(3*n))
		version := milli
		switch r.IntN(20) {
		case 0:
			version = 1 + r.Int64N(int64(3*n))
		case 1:
			version = -1 - r.Int64N(int64(n))
		}
		history[i] = known{version: version, at: fhir.Instant{Milli: milli}, ref: ^int32(i)}
	}
	return history
}

func TestDateIndexAnswersLikeTheWholeHistory(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		r := &resolver{lines: make([]incoming, indexLinesMin)}
		for _, k := range testRandomHistory(random, 700) {
			r.history = append(r.history, k)
			r.coverHistory()
			line := &incoming{class: classVersioned, version: random.Int64N(2200) - 100, at: fhir.Instant{Milli: random.Int64N(2200)}}
			if random.IntN(2) == 0 {
				line.version = line.at.Milli
			}
			if got, want := r.fits(line, len(r.history)), plainFits(r.history, line); got != want {
				t.Fatalf("seed %d, %d versions: fits(%+v) is %t", seed, len(r.history), line, got)
			}
			above, below := r.neighbours(line.at.Milli, len(r.history))
			if a, b := plainNeighbours(r.history, line.at.Milli); a != above || b != below {
				t.Fatalf("seed %d, %d versions: neighbours of %d are %d and %d, want %d and %d", seed, len(r.history), line.at.Milli, above, below, a, b)
			}
			testDated(t, r, line.at.Milli)
		}
		if r.dates.covered == 0 {
			t.Fatal("the index was not used")
		}
	}
}

// testDated asks for the versions of a date, which a line is compared with in
// the order of the history.
func testDated(t *testing.T, r *resolver, milli int64) {
	t.Helper()
	var got, want []int32
	r.lines[0] = incoming{class: classDated, at: fhir.Instant{Milli: milli}}
	r.outcomes = make([]outcome, 1)
	r.same = func(_ int, k known) (bool, error) {
		got = append(got, k.ref)
		return false, nil
	}
	if err := r.compareWithStored(0, len(r.history)); err != nil {
		t.Fatal(err)
	}
	for _, k := range r.history {
		if k.at.Milli == milli {
			want = append(want, k.ref)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("date %d has %d versions, want %d", milli, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("date %d is compared with %v, want %v", milli, got, want)
		}
	}
}

// longHistory is n lines of one key in random order, so many to a unit, against
// stored versions between them. They are of a class, or of all.
func longHistory(n, perUnit int, class lineClass, mixed bool) *resolver {
	random := rand.New(rand.NewPCG(7, 7))
	r := &resolver{allowNegative: true, instant: fhir.Instant{Milli: 1 << 40}}
	r.same = func(line int, k known) (bool, error) { return line%3 == 0, nil }
	for i, at := range random.Perm(n) {
		in := incoming{batch: int32(i / perUnit), class: class, version: int64(at + 1), at: fhir.Instant{Milli: int64(at+1) << 10}}
		if mixed {
			in.class = lineClass(random.IntN(3))
		}
		r.lines = append(r.lines, in)
	}
	return r
}

// Time must not grow with the square of a key's versions: the largest of these
// took 20 seconds when each line looked at all versions, and take half a second.
func BenchmarkResolveOneKey(b *testing.B) {
	f := func(name string, perUnit int, class lineClass, mixed bool) {
		b.Run(name, func(b *testing.B) {
			lines := longHistory(100_000, perUnit, class, mixed)
			for b.Loop() {
				lines.history = lines.history[:0]
				if err := lines.resolve(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("versioned/one-unit", 100_000, classVersioned, false)
	f("versioned/unit-each", 1, classVersioned, false)
	f("dated/unit-each", 1, classDated, false)
	f("mixed/one-unit", 100_000, 0, true)
	f("mixed/units-of-100", 100, 0, true)
	f("mixed/unit-each", 1, 0, true)
}

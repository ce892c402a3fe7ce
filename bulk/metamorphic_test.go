package bulk

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/vfs"
	"kiln/query"
)

// metamorphicSteps is how many things are done to each store.
const metamorphicSteps = 25

// The same requests give the same answers under any options: how large segments,
// head and blocks are, how many runs are merged at once, how many workers import
// and how much memory they have, what is cached, and what happens in the background.
func TestAnswersDoNotDependOnOptions(t *testing.T) {
	for seed := range uint64(testSeeds(t, 3)) {
		want := ""
		for variant := range 3 {
			got := metamorphicRun(t, seed, variant)
			if variant == 0 {
				want = got
			} else if got != want {
				t.Fatalf("seed %d: with the options of variant %d: %s", seed, variant, firstDifference(got, want))
			}
		}
	}
}

// metamorphicRun does what the seed says and tells all answers.
func metamorphicRun(t *testing.T, seed uint64, variant int) string {
	s := metamorphicSite(t, rand.New(rand.NewPCG(seed, uint64(variant))))
	defer s.close()
	random := rand.New(rand.NewPCG(seed, 99))
	for step := range metamorphicSteps {
		s.clock.Add(1000)
		id := fmt.Sprint("p", random.IntN(8))
		rest := fmt.Sprintf(`,"name":[{"family":"F%d"}],"birthDate":"19%02d-01-01"`, random.IntN(4), random.IntN(100))
		switch random.IntN(9) {
		case 0, 1, 2:
			s.change(id, rest, false)
		case 3:
			s.change(id, "", true)
		case 4, 5, 6:
			files := testMix(random)
			var urls []string
			for i, lines := range files {
				urls = append(urls, s.file(fmt.Sprintf("%d-%d", step, i), lines...))
			}
			s.imports(IncrementalLoad, 700, urls...)
		case 7:
			scope := engine.PurgeScope(random.IntN(2))
			if _, err := s.store.Purge(context.Background(), fhir.TypeByName([]byte("Patient")), []byte(id), scope, engine.Precondition{}); err != nil {
				t.Fatal(err)
			}
		case 8:
			if s.rng.IntN(2) == 0 { // a flush changes no answer either
				if err := s.store.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return s.metamorphicAnswers()
}

// metamorphicStore is a site with options of its own.
type metamorphicStore struct {
	testSite
	rng *rand.Rand
}

func metamorphicSite(t *testing.T, rng *rand.Rand) *metamorphicStore {
	t.Helper()
	s := &metamorphicStore{testSite: *makeTestSite(t), rng: rng}
	s.frozen, s.fs, s.lineBytes = true, vfs.NewMem(rng.Uint64()), testLineBytes
	s.workers, s.rounds = 1+rng.IntN(4), []int64{0, 1, 4000}[rng.IntN(3)]
	one := func(of ...int64) int64 { return of[rng.IntN(len(of))] }
	ids := rand.New(rand.NewPCG(rng.Uint64(), 1))
	var err error
	s.store, err = engine.Open(context.Background(), engine.Options{
		FS: s.fs, Dir: "data", Now: s.now, NewID: ids.Uint64, FreeBytesMin: -1, CatalogInMem: true, Logger: slog.New(slog.DiscardHandler),
		SegmentBytes: one(32<<10, 256<<10, 1<<20), HeadBytes: one(2<<10, 20<<10, 1<<20), CacheBytes: one(4<<10, 1<<20), BlockBytes: int(one(0, 200, 2000)),
		MergeFanIn: int(one(-1, 2, 3, 8)), MergeBytesMax: one(20<<10, 1<<30), PrepareInline: rng.IntN(2) == 0,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.jobs, err = NewManager(context.Background(), s.options(ids.Uint64)); err != nil {
		t.Fatal(err)
	}
	s.jobs.chunkBytes, s.jobs.lineBytes = s.lineBytes/2, s.lineBytes
	return s
}

// metamorphicAnswers is the history in its order, searches and exports.
func (s *metamorphicStore) metamorphicAnswers() string {
	s.t.Helper()
	snap, err := s.store.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	defer snap.Release()
	var out []string
	if _, _, err = snap.History(context.Background(), engine.HistoryQuery{}, func(v *engine.Version) error {
		out = append(out, fmt.Sprintf("%s deleted %t", v.AppendJSON(nil), v.Deleted))
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(out) // of one date, a round's versions come in the order of its runs
	for _, q := range []query.Parameter{{Name: "family", Value: "f1"}, {Name: "birthdate", Value: "ge1950"}, {Name: "_lastUpdated", Value: "lt2015"}, {Name: "active", Value: "true"}} {
		search, err := query.Parse([]fhir.TypeCode{fhir.TypeByName([]byte("Patient"))}, []query.Parameter{q}, query.Options{Now: s.now()})
		if err != nil {
			s.t.Fatal(err)
		}
		matches, err := search.First(context.Background(), snap, 1000)
		if err != nil {
			s.t.Fatal(err)
		}
		found := []string{}
		for i := range matches {
			found = append(found, fmt.Sprintf("%s/%d", matches[i].ID, matches[i].VersionID))
		}
		slices.Sort(found)
		out = append(out, fmt.Sprint(q, found))
	}
	for _, asked := range []map[string][]string{nil, {"_type": {"Patient"}, "_typeFilter": {"Patient?family=f2"}}} {
		_, files := s.exports(asked)
		lines := files["Patient"]
		slices.Sort(lines)
		out = append(out, lines...)
	}
	return strings.Join(out, "\n")
}

package bulk

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"kiln/engine"
	"kiln/internal/vfs"
)

// Random histories of a few resources arrive in random pieces, interrupted in
// every way, with writes of the API between the jobs; counts, error files and
// histories are compared with the model after each job. A seed decides all but
// the interleaving of goroutines, so a failing one is run again with
//
//	SEED=<seed> go test ./bulk -run TestImportSimulation$
//
// SEEDS says how many seeds to run, from SEED_FROM on.
func TestImportSimulation(t *testing.T) {
	forSeeds(t, randomSeedsDefault, randomHistories)
}

// Seeds that ever failed are run every time. These three had resources with
// negative versions only when an initial load came.
func TestImportSimulationOfSeedsThatFailed(t *testing.T) {
	for _, seed := range []uint64{133, 147, 196} {
		randomHistories(t, seed)
	}
}

func randomHistories(t *testing.T, seed uint64) {
	t.Helper()
	s := newRandomSite(t, seed)
	for range 1 + s.rng.IntN(4) {
		s.randomWrites()
		s.randomJob()
	}
	s.finish()
}

// A history whose versions rise with their dates comes out as it was, in
// whatever order and pieces it arrives, deletes and negative versions included,
// and stays so when all of it comes again.
func TestImportSimulationReplaysAHistoryInAnyOrder(t *testing.T) {
	forSeeds(t, replaySeedsDefault, func(t *testing.T, seed uint64) {
		s := newRandomSite(t, seed)
		lines, want := s.trueHistory()
		for rest := lines; len(rest) > 0; {
			n := 1 + s.rng.IntN(len(rest))
			s.replay(rest[:n])
			rest = rest[n:]
		}
		s.compareHistory(want)
		s.replay(lines)
		s.compareHistory(want)
		s.finish()
	})
}

// replay imports lines that must all be taken.
func (s *randomSite) replay(lines []*modelLine) {
	s.t.Helper()
	job := s.newJob(lines, s.rng.IntN(2) == 0)
	job.negative = true
	for _, l := range lines {
		l.verdict = loaded
	}
	s.run(job)
	s.compareOutcomes(job)
}

// forSeeds runs f for each seed, some at a time.
func forSeeds(t *testing.T, usual uint64, f func(t *testing.T, seed uint64)) {
	t.Helper()
	count, from := envSeed("SEEDS", usual), envSeed("SEED_FROM", 1)
	if seed := envSeed("SEED", 0); seed > 0 {
		count, from = 1, seed
	}
	for seed := from; seed < from+count; seed++ {
		t.Run("SEED="+strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			f(t, seed)
		})
	}
}

func envSeed(name string, fallback uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return fallback
}

// randomSite is a store and its model.
type randomSite struct {
	*testSite
	rng   *rand.Rand
	model *model
	maker *lineMaker
	disk  *vfs.Mem
	job   int64 // number of the import that runs, or ran last
	next  int64 // number that the next registration gets
}

func newRandomSite(t *testing.T, seed uint64) *randomSite {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 4))
	s := &randomSite{testSite: makeTestSite(t), rng: rng, disk: vfs.NewMem(seed), model: &model{versions: map[string][]modelVersion{}}}
	s.frozen, s.lineBytes, s.fs, s.next = true, testLineBytes, s.disk, 1
	s.head = pick[int64](rng, 0, 4096)
	s.clock.Store(contractNow.UnixMilli())
	s.maker = newLineMaker(rng)
	s.randomOpen()
	t.Cleanup(s.close)
	return s
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// randomOpen opens with other sizes than before.
func (s *randomSite) randomOpen() {
	s.t.Helper()
	s.workers, s.rounds = 1+s.rng.IntN(4), pick[int64](s.rng, 0, 1, 1, 4096)
	s.open()
	// The catalog is in memory: what a real one keeps is the next job's number.
	if err := s.store.CatalogPut(keyNextJob, strconv.AppendInt(nil, s.next, 10)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *randomSite) reopen() {
	s.t.Helper()
	s.close()
	s.randomOpen()
}

// crash cuts the power and opens what is left.
func (s *randomSite) crash() {
	s.t.Helper()
	_ = s.jobs.Close()
	_ = s.store.Close() // it says that the disk is gone
	s.disk = s.disk.CrashClone(s.rng.Uint64())
	s.fs = s.disk
	s.randomOpen()
}

// later moves the clock on.
func (s *randomSite) later() {
	s.model.now = s.clock.Add(time.Minute.Milliseconds())
}

// randomWrites are some of the API.
func (s *randomSite) randomWrites() {
	s.t.Helper()
	for range max(0, s.rng.IntN(6)-3) {
		s.later()
		key := s.maker.key()
		typ, id := contractType(s.t, key)
		if s.rng.IntN(3) == 0 {
			s.model.del(key)
			s.commit(engine.Change{Type: typ, ID: id, Delete: true})
			continue
		}
		content := s.maker.content()
		s.model.put(key, content)
		s.commit(apiChange(s.t, s.maker.json(&modelLine{key: key, content: content}, "", "")))
	}
}

// randomJob runs an import of random lines and compares what it leaves.
func (s *randomSite) randomJob() {
	s.t.Helper()
	s.later()
	disturbed := s.rng.IntN(3) > 0
	var lines []*modelLine
	for range 1 + s.rng.IntN(s.maker.many) {
		lines = append(lines, s.maker.line(s.model.now, !disturbed))
	}
	job := s.newJob(lines, disturbed)
	job.negative = job.negative || s.maker.below
	if s.rng.IntN(6) == 0 || s.maker.below && s.rng.IntN(2) == 0 {
		job.mode = InitialLoad
	}
	s.model.importJob(job.mode, job.negative, job.inputs)
	s.run(job)
	s.compareOutcomes(job)
	s.compareWithModel()
}

// finish compares once more after a restart, and has every byte checked.
func (s *randomSite) finish() {
	s.t.Helper()
	before := s.readHistory(s.t)
	s.reopen()
	s.compareHistory(before)
	s.close()
	err := engine.Fsck(context.Background(), engine.FsckOptions{FS: s.fs, Dir: "data", Terms: true, Report: func(p engine.Problem) { s.t.Errorf("fsck: %+v", p) }})
	if err != nil {
		s.t.Errorf("fsck: %v", err)
	}
}

// randomInputs is a job.
type randomInputs struct {
	mode      Mode
	negative  bool
	disturbed bool
	unitBytes int64
	inputs    [][]*modelLine
	texts     []string // of the inputs
	request   *ImportRequest
	status    *ImportStatus
	errors    [][]string
}

// newJob spreads lines over files, in their order, and settles their units.
func (s *randomSite) newJob(lines []*modelLine, disturbed bool) *randomInputs {
	s.t.Helper()
	job := &randomInputs{negative: s.rng.IntN(2) == 0, disturbed: disturbed, unitBytes: pick[int64](s.rng, 0, 1, 150, 400, 1000)}
	for files := 1 + s.rng.IntN(4); files > 0; files-- {
		n := len(lines)
		if files > 1 {
			n = s.rng.IntN(n + 1)
		}
		job.inputs = append(job.inputs, lines[:n])
		job.texts = append(job.texts, s.place(lines[:n], job.unitBytes))
		lines = lines[n:]
	}
	return job
}

// place writes the text of a file, with empty lines among the others, and notes
// where its lines lie. A line that starts at s is of unit k when k*U < s <= (k+1)*U.
func (s *randomSite) place(lines []*modelLine, unitBytes int64) string {
	if unitBytes == 0 {
		unitBytes = 10_000_000
	}
	end := pick(s.rng, "\n", "\r\n")
	text := ""
	for i, l := range lines {
		if s.rng.IntN(10) == 0 {
			text += end
		}
		l.number, l.offset = i+1, len(text)
		l.unit = max(0, len(text)-1) / int(unitBytes)
		text += l.text
		if i+1 < len(lines) || s.rng.IntN(2) == 0 {
			text += end
		}
	}
	return text
}

// write makes the job's files and its request.
func (s *randomSite) write(job *randomInputs) {
	s.t.Helper()
	job.request = &ImportRequest{
		URL: "http://host/$import", InputSource: strconv.FormatInt(s.job, 10), Mode: job.mode, AllowNegativeVersions: job.negative, UnitBytes: job.unitBytes,
	}
	for i, text := range job.texts {
		if s.rng.IntN(4) == 0 {
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			if _, err := w.Write([]byte(text)); err != nil {
				s.t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				s.t.Fatal(err)
			}
			text = packed.String()
		}
		job.request.Inputs = append(job.request.Inputs, ImportInput{URL: s.file(fmt.Sprintf("%d-%d", s.job, i), text)})
	}
}

// compareOutcomes compares counts and error files.
func (s *randomSite) compareOutcomes(job *randomInputs) {
	s.t.Helper()
	for i, lines := range job.inputs {
		var want []string
		for _, l := range lines {
			if text := l.outcome(); text != "" {
				want = append(want, text)
			}
		}
		counts := fmt.Sprintf("%d/%d", len(lines)-len(want), len(want))
		if got := fmt.Sprintf("%d/%d", job.status.Inputs[i].Loaded, job.status.Inputs[i].Refused); got != counts || !slices.Equal(job.errors[i], want) {
			s.t.Errorf("job %d, input %d: ok/err is %s, want %s; errors\n%s\nwant\n%s", s.job, i, got, counts, strings.Join(job.errors[i], "\n"), strings.Join(want, "\n"))
		}
	}
	if s.t.Failed() {
		s.t.Fatalf("job %d, mode %v, negative versions %t, units of %d, inputs\n%s", s.job, job.mode, job.negative, job.unitBytes, strings.Join(job.texts, "\n--\n"))
	}
}

func (s *randomSite) compareWithModel() {
	s.t.Helper()
	s.compareMaps(s.readHistory(s.t), nil)
}

func (s *randomSite) compareHistory(want contractHistory) {
	s.t.Helper()
	s.compareMaps(s.readHistory(s.t), want)
}

// compareMaps compares with the model when want is nil.
func (s *randomSite) compareMaps(got, want contractHistory) {
	s.t.Helper()
	if want == nil {
		want = s.model.history(got)
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !slices.Equal(got[key], want[key]) {
			s.t.Errorf("after job %d, %s has\n%s\nwant\n%s", s.job, key, strings.Join(got[key], "\n"), strings.Join(want[key], "\n"))
		}
	}
	if len(got) != len(want) {
		s.t.Errorf("after job %d there are %d resources, want %d", s.job, len(got), len(want))
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}

package bulk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"kiln/internal/vfs"
)

// testLineBytes is the longest line of these tests.
const testLineBytes = 1024

// testMix writes inputs in which keys repeat, within units, across units and
// across files, with and without dates and versions, with broken lines.
func testMix(random *rand.Rand) [][]string {
	files := make([][]string, 3)
	for f := range files {
		for range 40 + random.IntN(80) {
			id := "p" + strconv.Itoa(random.IntN(25))
			rest := fmt.Sprintf(`,"active":%t`, random.IntN(2) == 0)
			switch year := 2000 + random.IntN(20); random.IntN(8) {
			case 0:
				files[f] = append(files[f], `{"resourceType":"Patient"`)
				continue
			case 1:
				id = "#" + id
			case 2:
				rest += fmt.Sprintf(`,"meta":{"lastUpdated":"%d-01-01T00:00:00Z"}`, year)
			case 3:
				rest += fmt.Sprintf(`,"meta":{"lastUpdated":"%d-01-01T00:00:00Z","versionId":"%d"}`, year, year-1999)
			case 4:
				rest += `,"meta":{"extension":[{"url":"http://azurehealthcareapis.com/data-extensions/deleted-state","valueString":"soft-deleted"}]}`
			case 5:
				files[f] = append(files[f], "")
			case 6:
				if random.IntN(4) == 0 { // too long for testLineBytes
					rest += `,"language":"` + strings.Repeat("x", random.IntN(3*testLineBytes)) + `"`
				}
			}
			files[f] = append(files[f], patient(id, rest))
		}
	}
	return files
}

// testOutcome is everything an import leaves, but for the dates it gave.
func (s *testSite) testOutcome(status *ImportStatus) string {
	s.t.Helper()
	out := testCounts(status) + "\n" + strings.Join(s.versions(), "\n")
	for i := range status.Inputs {
		out += "\n-- " + strconv.Itoa(i) + "\n" + strings.Join(s.errorTexts(status, i), "\n")
	}
	return out
}

// startFixed begins the same registration every time.
func (s *testSite) startFixed(mode Mode, unitBytes int64, urls []string) (int64, error) {
	r := &ImportRequest{URL: "http://host/$import", Mode: mode, UnitBytes: unitBytes}
	for _, u := range urls {
		r.Inputs = append(r.Inputs, ImportInput{URL: u})
	}
	return s.jobs.StartImport(context.Background(), r)
}

// firstDifference shows where two outcomes part.
func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d of %d and %d is\n%s\nwant\n%s", i, len(a), len(b), a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(a), len(b))
}

func testSeeds(t *testing.T, usual int) int {
	t.Helper()
	if text := os.Getenv("SEEDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SEEDS=%s is no number", text)
		}
		return n
	}
	return usual
}

// One result, however many workers and however small the rounds.
func TestImportDoesNotDependOnWorkersOrRounds(t *testing.T) {
	for seed := range uint64(testSeeds(t, 6)) {
		files := testMix(rand.New(rand.NewPCG(seed, 1)))
		mode := Mode(seed % 2)
		f := func(workers int, rounds int64) string {
			t.Helper()
			s := newTestSite(t)
			s.close()
			s.workers, s.rounds, s.fs, s.lineBytes = workers, rounds, vfs.NewMem(seed), testLineBytes
			s.open()
			defer s.close()
			var urls []string
			for i, lines := range files {
				urls = append(urls, s.file(fmt.Sprintf("%d.ndjson", i), lines...))
			}
			id, err := s.startFixed(mode, 700, urls)
			if err != nil {
				t.Fatal(err)
			}
			status := s.wait(id)
			if status.State != Completed {
				t.Fatalf("seed %d: ended as %d: %+v", seed, status.State, status.Error)
			}
			return s.testOutcome(status)
		}
		want := f(1, 0)
		if got := f(4, 0); got != want {
			t.Errorf("seed %d: four workers: %s", seed, firstDifference(got, want))
		}
		if got := f(1, 1); got != want {
			t.Errorf("seed %d: small rounds: %s", seed, firstDifference(got, want))
		}
		if got := f(3, 1); got != want {
			t.Errorf("seed %d: three workers and small rounds: %s", seed, firstDifference(got, want))
		}
	}
}

// The power is cut at a random file operation, several times; the import goes
// on after each, to the state of an undisturbed one.
func TestImportCrashGoesOn(t *testing.T) {
	for seed := range uint64(testSeeds(t, 12)) {
		random := rand.New(rand.NewPCG(seed, 2))
		files := testMix(random)
		s := newTestSite(t)
		var urls []string
		for i, lines := range files {
			urls = append(urls, s.file(fmt.Sprintf("%d.ndjson", i), lines...))
		}
		run := func() *ImportStatus {
			id, err := s.startFixed(Mode(seed%2), 700, urls)
			if err != nil {
				return nil
			}
			return s.wait(id)
		}
		s.close()
		calm := vfs.NewMem(seed)
		s.rounds, s.fs, s.lineBytes = 1, calm, testLineBytes
		s.open()
		before := calm.Ops()
		want := s.testOutcome(run())
		ops := calm.Ops() - before
		s.close()

		disk, status := vfs.NewMem(seed), (*ImportStatus)(nil)
		for cut := 0; status == nil || status.State != Completed; cut++ {
			s.fs = disk
			s.open()
			if cut < 3 {
				disk.CutPowerAt(disk.Ops() + 1 + random.Int64N(ops))
			}
			if status = run(); cut == 3 && status.State != Completed {
				t.Fatalf("seed %d: the import ends as %+v", seed, status)
			}
			texts := ""
			if cut == 3 {
				texts = s.testOutcome(status)
			}
			if texts != "" && texts != want {
				t.Fatalf("seed %d: after power cuts: %s", seed, firstDifference(texts, want))
			}
			_ = s.jobs.Close()
			_ = s.store.Close() // it says that the disk is gone
			s.store = nil
			disk = disk.CrashClone(random.Uint64())
		}
		s.fs = disk
		s.open()
		want, _, _ = strings.Cut(want, "\n-- ")
		if got := testCounts(status) + "\n" + strings.Join(s.versions(), "\n"); got != want {
			t.Fatalf("seed %d: reopened after power cuts: %s", seed, firstDifference(got, want))
		}
		s.close()
	}
}

// Stopped and started again in between, as a server that is updated.
func TestImportGoesOnAfterClose(t *testing.T) {
	files := testMix(rand.New(rand.NewPCG(7, 7)))
	s := newTestSite(t)
	var urls []string
	for i, lines := range files {
		urls = append(urls, s.file(fmt.Sprintf("%d.ndjson", i), lines...))
	}
	want := ""
	for try := range 2 {
		s.close()
		s.fs, s.rounds, s.workers = vfs.NewMem(uint64(try)), 1, 2
		s.open()
		id, err := s.startFixed(IncrementalLoad, 700, urls)
		if err != nil {
			t.Fatal(err)
		}
		for range try * 5 {
			s.close()
			s.open()
			if id, err = s.startFixed(IncrementalLoad, 700, urls); err != nil {
				t.Fatal(err)
			}
		}
		status := s.wait(id)
		if status.State != Completed {
			t.Fatalf("ended as %+v", status)
		}
		if got := s.testOutcome(status); try == 0 {
			want = got
		} else if got != want {
			t.Errorf("with restarts: %s", firstDifference(got, want))
		}
	}
}

func TestImportFailsWhenTheDiskIsFullAndGoesOn(t *testing.T) {
	s := newTestSite(t)
	disk := s.fs.(*vfs.Mem)
	s.close()
	s.rounds = 1
	s.open()
	var lines []string
	for i := range 3000 {
		lines = append(lines, patient(fmt.Sprintf("p%d", i), ""))
	}
	url := s.file("p.ndjson", lines...)
	// Less than all lines take, however many runs they come in: a slow machine
	// may have read everything before the first round ends.
	disk.SetCapacity(disk.UsedBytes() + 16_000)
	id, err := s.startFixed(InitialLoad, 1000, []string{url})
	if err != nil {
		t.Fatal(err)
	}
	status := s.wait(id)
	if status.State != Failed || status.Error == nil || status.Error.Status != 507 {
		t.Fatalf("on a full disk the import ends as %+v %+v", status, status.Error)
	}
	disk.SetCapacity(1 << 40)
	again, err := s.startFixed(InitialLoad, 1000, []string{url})
	if err != nil || again != id {
		t.Fatalf("the same request is job %d after %d, %v", again, id, err)
	}
	if status = s.wait(id); status.State != Completed || testCounts(status) != "3000/0" {
		t.Errorf("with room it ends as %+v %+v", status, status.Error)
	}
}

// A server must start on a full disk, if only to serve reads.
func TestFullDiskKeepsNoManagerFromStarting(t *testing.T) {
	s := newTestSite(t)
	s.close()
	s.freeMin = 1 << 20
	s.open()
	record := &importRecord{ID: 7, Hash: "h", Request: ImportRequest{Inputs: []ImportInput{{URL: s.file("p.ndjson")}}}}
	s.jobs.mu.Lock()
	err := s.jobs.putImport(record)
	s.jobs.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	disk := s.fs.(*vfs.Mem)
	disk.SetCapacity(disk.UsedBytes() + s.freeMin/2)
	running, err := s.jobs.loadImports()
	if err != nil || len(running) != 1 {
		t.Fatalf("%d imports are running, %v", len(running), err)
	}
	s.jobs.mu.Lock()
	id, err := s.jobs.findImport("h")
	s.jobs.mu.Unlock()
	if err != nil || id != 7 {
		t.Errorf("its request is job %d, %v", id, err)
	}
}

func TestEqualRequestsAreOneJob(t *testing.T) {
	s := newTestSite(t)
	url := s.file("p.ndjson", patient("a", ""))
	first, err := s.startFixed(IncrementalLoad, 0, []string{url})
	if err != nil {
		t.Fatal(err)
	}
	s.wait(first)
	second, err := s.startFixed(IncrementalLoad, 0, []string{url})
	if err != nil || second != first {
		t.Errorf("job %d after %d, %v", second, first, err)
	}
	third, err := s.startFixed(IncrementalLoad, 5, []string{url})
	if err != nil || third == first {
		t.Errorf("another request is the same job %d, %v", third, err)
	}
	if err := os.Remove(filepath.Join(s.dir, "p.ndjson")); err != nil {
		t.Fatal(err)
	}
	failed, err := s.startFixed(IncrementalLoad, 6, []string{url})
	if err != nil {
		t.Fatal(err)
	}
	if status := s.wait(failed); status.State != Failed || status.Error.Status != 404 {
		t.Errorf("without its file it ends as %+v %+v", status, status.Error)
	}
	s.file("p.ndjson", patient("b", ""))
	if again, err := s.startFixed(IncrementalLoad, 6, []string{url}); err != nil || again != failed {
		t.Errorf("job %d after %d, %v", again, failed, err)
	}
	if status := s.wait(failed); status.State != Completed || status.Error != nil {
		t.Errorf("with its file it ends as %+v %+v", status, status.Error)
	}
}

// A job number that comes round again because the catalog was lost does not
// take up the progress that another request left in the log.
func TestImportAfterTheCatalogWasLost(t *testing.T) {
	s := newTestSite(t)
	s.close()
	s.rounds = 1 // every unit is a round
	s.open()
	write := func(file, prefix string) string {
		var lines []string
		for i := range 200 {
			lines = append(lines, patient(fmt.Sprintf("%s%03d", prefix, i), ""))
		}
		return s.file(file, lines...)
	}
	rounds := 0
	s.jobs.beforePublish = func() {
		if rounds++; rounds == 2 {
			if err := s.jobs.CancelImport(1); err != nil {
				t.Error(err)
			}
		}
	}
	first := s.start(InitialLoad, 1000, write("1", "a"))
	if status := s.wait(first); status.State != Cancelled || status.Inputs[0].Loaded == 0 {
		t.Fatalf("the first import ends as %+v", status)
	}
	s.close()
	s.open() // with an empty catalog
	second := write("2", "b")
	counts, stored := s.imports(InitialLoad, 1000, second), 0
	for _, v := range s.versions() {
		if strings.HasPrefix(v, "Patient/b") {
			stored++
		}
	}
	if counts != "200/0" || stored != 200 {
		t.Errorf("the second import tells %s and stored %d", counts, stored)
	}
}

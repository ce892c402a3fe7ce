package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	killWriters     = 4    // goroutines that PUT, DELETE and POST
	killIDs         = 25   // ids of each of them
	killMixedIDs    = 20   // ids that imports write too
	killImportLines = 5000 // of one import file
	killsDefault    = 5    // of `make test`; `make crash` sets KILN_KILLS

	// killBaseURL stays the same when the port changes: the address is part of
	// what makes two requests the same import.
	killBaseURL = "http://kiln.test/fhir"
)

// killLoop is the whole state of the test between two lives of the server.
type killLoop struct {
	t       *testing.T
	random  *rand.Rand
	dataDir string
	input   string // import root

	writers    []*killWriter
	parameters []string // search parameters that were added
	mixer      *mixWriter
	jobs       []*killJob
	killing    atomic.Bool
	keys       []string // flags of an encrypted store; every other seed has one
	// keepAll: nothing is taken out for good, since histories tell what there was.
	keepAll bool
}

// TestKillLoop kills the server at random moments during imports and writes.
// After every restart each acknowledged version is there, no other is, and in
// the end the imports have led to what an undisturbed run leads to.
func TestKillLoop(t *testing.T) {
	kills := envInt(t, "KILN_KILLS", killsDefault)
	seed := uint64(envInt(t, "KILN_SEED", int(time.Now().UnixNano()&0x7fffffff)))
	t.Logf("KILN_SEED=%d KILN_KILLS=%d", seed, kills)
	l := newKillLoop(t, seed)
	for range kills {
		l.life()
	}
	l.finish()
	t.Logf("%d kills, %d imports, %d acknowledged writes", kills, len(l.jobs), l.acknowledged())
}

func envInt(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, text, err)
	}
	return value
}

func newKillLoop(t *testing.T, seed uint64) *killLoop {
	dir := t.TempDir()
	l := &killLoop{
		t: t, random: rand.New(rand.NewPCG(seed, 1)),
		dataDir: filepath.Join(dir, "data"), input: filepath.Join(dir, "in"),
	}
	if err := os.Mkdir(l.input, 0o777); err != nil {
		t.Fatal(err)
	}
	for n := range killWriters {
		l.writers = append(l.writers, &killWriter{
			loop: l, name: "w" + strconv.Itoa(n), random: rand.New(rand.NewPCG(seed, uint64(n)+2)),
			resources: map[string]*resource{}, posting: map[string]bool{},
		})
	}
	if seed%2 == 1 {
		l.keys = []string{"--encryption-key-file", keyFile(t, "a")}
	}
	l.mixer = &mixWriter{loop: l, random: rand.New(rand.NewPCG(seed, 100)), resources: map[string]*mixed{}}
	return l
}

// life is one start of the server, its check, some work, and its end by kill -9.
func (l *killLoop) life() {
	l.t.Helper()
	l.killing.Store(false)
	s := spawn(l.t, l.dataDir, append([]string{"--import-root", l.input, "--base-url", killBaseURL}, l.keys...)...)
	if l.random.IntN(5) == 0 {
		// In the middle of recovery.
		time.Sleep(time.Duration(l.random.IntN(60)) * time.Millisecond)
		s.kill()
		return
	}
	s.waitListening()
	l.check(s)
	var working sync.WaitGroup
	for _, w := range l.writers {
		working.Go(func() { w.run(s) })
	}
	working.Go(func() { l.mixer.run(s) })
	working.Go(func() { l.addParameter(s) })
	working.Go(func() { l.importFiles(s) })
	// Half of the kills come while the import is surely running.
	longest := []int{100, 600}[l.random.IntN(2)]
	time.Sleep(time.Duration(l.random.IntN(longest)) * time.Millisecond)
	l.killing.Store(true)
	s.kill()
	working.Wait()
	if l.t.Failed() {
		l.t.Fatalf("the server's log:\n%s", s.log)
	}
}

// broken reports a request without an answer as a failure unless the server
// is being killed. It returns whether the caller must stop.
func (l *killLoop) broken(what string, err error) bool {
	if err != nil && !l.killing.Load() {
		l.t.Errorf("%s: no answer from a server that nobody killed: %v", what, err)
	}
	return err != nil || l.killing.Load()
}

// check compares everything the server has with what was acknowledged.
func (l *killLoop) check(s *server) {
	l.t.Helper()
	found := s.history("/Basic")
	for _, w := range l.writers {
		w.check(found)
	}
	for id := range found {
		l.t.Errorf("Basic/%s: %v was never written", id, tail(found[id]))
	}
	for n := range killMixedIDs {
		id := "mix-" + strconv.Itoa(n)
		states := s.history("/Patient/" + id)[id]
		if err := l.mixer.resource(id).check(states, l.imported); err != nil {
			l.t.Errorf("Patient/%s: %v in %v", id, err, states)
		}
	}
	for _, id := range l.parameters {
		s.must(http.StatusOK, http.MethodGet, "/SearchParameter/"+id, "")
	}
	if l.t.Failed() {
		l.t.Fatalf("wrong after a restart; the server's log:\n%s", s.log)
	}
}

// finish lets the imports end, and compares with an undisturbed run.
func (l *killLoop) finish() {
	l.t.Helper()
	l.killing.Store(false)
	s := serve(l.t, l.dataDir, append([]string{"--import-root", l.input, "--base-url", killBaseURL}, l.keys...)...)
	for _, j := range l.jobs {
		j.follow(l, s, time.Now().Add(startTimeout))
		if !j.done {
			l.t.Fatalf("the import of %s does not end; the server's log:\n%s", j.file, s.log)
		}
	}
	s.stop()
	s = serve(l.t, l.dataDir, l.keys...)
	l.check(s)
	for _, id := range l.parameters { // answered only when every run has its terms
		for end := time.Now().Add(startTimeout); ; time.Sleep(10 * time.Millisecond) {
			got, err := ask(http.MethodGet, s.base+"/Observation?"+id+"=none&_summary=count", "")
			if err == nil && got.status == http.StatusOK {
				break
			}
			if time.Now().After(end) {
				l.t.Fatalf("a search by %s: %v %v", id, err, got)
			}
		}
	}
	l.checkImported(s)
	disturbed := l.exportImported(s)
	s.stop()
	mustKiln(l.t, 0, append([]string{"fsck", "--data-dir", l.dataDir}, l.keys...)...)

	other := filepath.Join(l.t.TempDir(), "undisturbed")
	for _, j := range l.jobs {
		mustKiln(l.t, 0, "load", "--data-dir", other, j.file)
	}
	s = serve(l.t, other)
	compareTexts(l.t, disturbed, l.exportImported(s))
	s.stop()
}

// exportImported gives everything that only imports wrote.
func (l *killLoop) exportImported(s *server) map[string]string {
	l.t.Helper()
	out := filepath.Join(l.t.TempDir(), "out")
	mustKiln(l.t, 0, "export", "--server", s.base, "--type", "Patient,Observation", "--out", out)
	texts := exported(l.t, out)
	for key := range texts {
		if strings.HasPrefix(key, "Patient/mix-") {
			delete(texts, key)
		}
	}
	return texts
}

// checkImported: every import has written each of its lines exactly once.
func (l *killLoop) checkImported(s *server) {
	l.t.Helper()
	versions := int64(len(l.jobs) * killImportLines)
	if total := s.historyTotal("/Observation"); total != versions {
		l.t.Errorf("there are %d versions of Observation instead of %d", total, versions)
	}
	for n := range killMixedIDs {
		id := "mix-" + strconv.Itoa(n)
		seen := map[string]int{}
		for _, version := range s.history("/Patient/" + id)[id] {
			seen[version.marker]++
			versions++
		}
		for _, j := range l.jobs {
			if seen[j.marker] != 1 {
				l.t.Errorf("Patient/%s has %d versions of %s instead of one", id, seen[j.marker], j.marker)
			}
		}
	}
	if total := s.historyTotal("/Patient"); total != versions {
		l.t.Errorf("there are %d versions of Patient instead of %d", total, versions)
	}
}

func (l *killLoop) acknowledged() int {
	sum := 0
	for _, w := range l.writers {
		for _, r := range w.resources {
			sum += len(r.acked)
		}
	}
	for _, r := range l.mixer.resources {
		sum += len(r.acked)
	}
	return sum
}

// killJob is one import of one file.
type killJob struct {
	file, marker, body string
	status             string // its path, once acknowledged
	done               bool
}

func (l *killLoop) imported(marker string) bool {
	for _, j := range l.jobs {
		if j.marker == marker {
			return true
		}
	}
	return false
}

// importFiles starts one import a life, and follows those of former lives
// and this one until they or the server end.
func (l *killLoop) importFiles(s *server) {
	l.jobs = append(l.jobs, l.newJob(len(l.jobs)))
	for _, j := range l.jobs {
		if !j.follow(l, s, time.Now().Add(startTimeout)) {
			return
		}
	}
}

// newJob writes a file and its $import. Its units are small, so that a kill
// finds it at many different points.
func (l *killLoop) newJob(n int) *killJob {
	j := &killJob{file: filepath.Join(l.input, fmt.Sprintf("f%d.ndjson", n)), marker: fmt.Sprintf("import-%d", n)}
	var text strings.Builder
	for i := range killImportLines {
		fmt.Fprintf(&text, `{"resourceType":"Patient","id":"f%d-%d","language":"%s"}`+"\n", n, i, j.marker)
		fmt.Fprintf(&text, `{"resourceType":"Observation","id":"f%d-%d","status":"final","code":{"text":"%x"},"subject":{"reference":"Patient/f%d-%d"},"valueDecimal":%d.50}`+"\n",
			n, i, i*i*7919, n, i, i)
		if i%(killImportLines/killMixedIDs) == 0 {
			fmt.Fprintf(&text, `{"resourceType":"Patient","id":"mix-%d","language":"%s"}`+"\n", i/(killImportLines/killMixedIDs), j.marker)
		}
	}
	if err := os.WriteFile(j.file, []byte(text.String()), 0o666); err != nil {
		l.t.Error(err)
	}
	j.body = fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"},`+
		`{"name":"processingUnitBytesToRead","valueInteger":100000},{"name":"input","part":[{"name":"url","valueUri":"%s"}]}]}`, fileURL(j.file))
	return j
}

// follow registers the import if that was not acknowledged yet (the same body
// is the same job) and asks for its status until its end; false when the
// server is gone.
func (j *killJob) follow(l *killLoop, s *server, deadline time.Time) bool {
	if j.status == "" {
		got, err := ask(http.MethodPost, s.base+"/$import", j.body, "Prefer", "respond-async")
		if l.broken("$import", err) {
			return false
		}
		if got.status != http.StatusAccepted {
			l.t.Errorf("$import: %d %s", got.status, got.body)
			return false
		}
		location := got.header.Get("Content-Location")
		j.status = location[strings.Index(location, "/_operations/"):]
	}
	for !j.done && time.Now().Before(deadline) {
		got, err := ask(http.MethodGet, s.base+j.status, "")
		if l.broken("import status", err) {
			return false
		}
		switch got.status {
		case http.StatusOK:
			j.finished(l, got)
		case http.StatusAccepted:
			time.Sleep(10 * time.Millisecond)
		default:
			l.t.Errorf("the import of %s: %d %s", j.file, got.status, got.body)
			return false
		}
	}
	return true
}

// finished checks the result: every line loaded, nothing counted twice.
func (j *killJob) finished(l *killLoop, got *answer) {
	j.done = true
	result := decode[importResult](l.t, got.body)
	const want = 2*killImportLines + killMixedIDs
	if len(result.Output) != 1 || result.Output[0].Count != want || len(result.Error) != 0 {
		l.t.Errorf("the import of %s ended with %s instead of %d loaded", j.file, got.body, want)
	}
}

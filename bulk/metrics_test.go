package bulk

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
)

func TestMetricsCountEachStage(t *testing.T) {
	s := newTestSite(t)
	first := s.file("p", patient("a", ""), patient("a", ""), "{bad", "", `{"resourceType":"Patient"}`, patient("b", ""))
	file, err := os.Create(s.dir + "/q")
	if err != nil {
		t.Fatal(err)
	}
	packed := gzip.NewWriter(file)
	text := patient("c", "") + "\n"
	for range 1000 {
		if _, err := packed.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	s.wait(s.start(IncrementalLoad, 0, first, s.dir+"/q"))
	plain, _ := os.Stat(first)
	stored, _ := os.Stat(s.dir + "/q")
	m := s.jobs.Metrics()
	want := Metrics{
		StoredBytes: uint64(plain.Size() + stored.Size()), ScannedBytes: uint64(plain.Size()) + uint64(1000*len(text)),
		Lines: 1005, Loaded: 3,
	}
	if m.StoredBytes != want.StoredBytes || m.ScannedBytes != want.ScannedBytes || m.Lines != want.Lines || m.Loaded != want.Loaded {
		t.Errorf("counted %+v, want %+v", m, want)
	}
	// A round may take up the second input before the first one fills it.
	if m.Rounds < 1 || m.Rounds > 2 || m.Runs < m.Rounds || m.Runs > m.Rounds*uint64(s.workers) {
		t.Errorf("%d runs of %d rounds by %d workers", m.Runs, m.Rounds, s.workers)
	}
	if m.Scan <= 0 || m.Resolve <= 0 || m.Seal <= 0 || m.Publish <= 0 {
		t.Errorf("a stage took no time: %+v", m)
	}
	if m.WaitSource <= 0 || m.WaitStore <= 0 {
		t.Errorf("nothing was waited for: %+v", m)
	}
	refused := map[string]uint64{"duplicate": 1 + 999, "not-a-resource": 1, "no-id": 1}
	for _, r := range m.Refused {
		if r.Lines != refused[r.Reason] {
			t.Errorf("%s: %d lines refused, want %d", r.Reason, r.Lines, refused[r.Reason])
		}
		delete(refused, r.Reason)
	}
	if len(refused) > 0 || m.ImportsRunning != 0 || m.ImportsWaiting != 0 {
		t.Errorf("not told: %v; running %d, waiting %d", refused, m.ImportsRunning, m.ImportsWaiting)
	}
}

func TestMetricsTellWhatRuns(t *testing.T) {
	s := newTestSite(t)
	var during Metrics
	s.jobs.beforePublish = func() { during = s.jobs.Metrics() }
	s.wait(s.start(IncrementalLoad, 0, s.file("p", patient("a", ""))))
	if during.ImportsRunning != 1 || during.ImportsWaiting != 0 || during.Rounds != 0 || during.Lines != 1 {
		t.Errorf("in mid-round: %+v", during)
	}
}

// awaitQueue returns when so many wait for a turn.
func (t *turns) awaitQueue(n int) {
	for waiting := 0; waiting < n; runtime.Gosched() {
		t.mu.Lock()
		waiting = len(t.queue)
		t.mu.Unlock()
	}
}

func TestMetricsTellOfWaitingForATurn(t *testing.T) {
	s := newTestSite(t)
	turns := &s.jobs.turns
	for range turns.most {
		if err := turns.take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	id := s.start(IncrementalLoad, 0, s.file("p", patient("a", "")))
	turns.awaitQueue(1)
	if m := s.jobs.Metrics(); m.Lines != 0 || m.WaitTurn != 0 {
		t.Errorf("without a turn: %+v", m)
	}
	for range turns.most {
		turns.give()
	}
	s.wait(id)
	if m := s.jobs.Metrics(); m.Lines != 1 || m.WaitTurn <= 0 {
		t.Errorf("after waiting for a turn: %+v", m)
	}
}

// TestJobsShareTheMachine: with one turn for all workers, no job waits for the
// other's end.
func TestJobsShareTheMachine(t *testing.T) {
	s := newTestSite(t)
	const lines = 3000
	s.jobs.turns.most = 1
	s.jobs.chunkBytes = 4 << 10
	s.jobs.lineBytes = 64 << 10
	input := func(name string) string {
		text := make([]string, lines)
		for i := range text {
			text[i] = patient(name+strconv.Itoa(i), "")
		}
		return s.file(name, text...)
	}
	// Whichever comes to its end first finds the other's lines under way.
	var once sync.Once
	var done [2]int64
	ids := make([]int64, 2)
	s.jobs.beforePublish = func() {
		once.Do(func() {
			for i, id := range ids {
				done[i], _ = s.jobs.ImportBytes(id)
			}
		})
	}
	if err := s.jobs.turns.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids[0] = s.start(IncrementalLoad, 0, input("a"))
	ids[1] = s.start(IncrementalLoad, 0, input("b"))
	s.jobs.turns.awaitQueue(2 * s.workers)
	s.jobs.turns.give()
	for _, id := range ids {
		if status := s.wait(id); status.Inputs[0].Loaded != lines {
			t.Errorf("job %d loaded %d of %d lines", id, status.Inputs[0].Loaded, lines)
		}
	}
	if done[0] == 0 || done[1] == 0 {
		t.Errorf("when the first round was published the jobs had read %v bytes", done)
	}
}

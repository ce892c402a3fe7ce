package bulk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// Until the inputs are known a status says so, whoever takes how long.
func TestStatusTellsThatAJobIsStarting(t *testing.T) {
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-answer
		_, _ = w.Write([]byte(patient("a", "")))
	}))
	defer server.Close()
	s := newTestSite(t)
	s.close()
	s.origins = []string{server.URL}
	s.open()
	id := s.start(IncrementalLoad, 0, server.URL+"/f")
	<-asked
	f := func(when string, want bool) {
		t.Helper()
		status, err := s.jobs.ImportStatus(id)
		if err != nil || status.Starting != want || status.Waiting {
			t.Errorf("%s: starting %t, waiting %t, %v", when, status.Starting, status.Waiting, err)
		}
	}
	f("asking", true)
	s.jobs.beforePublish = func() { f("reading", false) }
	close(answer)
	s.wait(id)
	f("ended", false)
}

// A status that was asked for before is never an old one: it is what the catalog
// and the job say, through rounds, a cancel, a new start and the end.
func TestStatusIsNeverOld(t *testing.T) {
	const lines, unit, cancelled = 400, 300, 3 // the round in which it is
	s := newTestSite(t)
	s.close()
	s.rounds, s.workers = 1, 1 // a round is a few units, whoever is slow
	s.open()
	var input []string
	for i := range lines {
		input = append(input, patient(fmt.Sprint("p", i), ""))
	}
	r := &ImportRequest{Mode: IncrementalLoad, UnitBytes: unit, Inputs: []ImportInput{{URL: s.file("a", input...)}}}
	f := func(when string, id int64, want State) *ImportStatus {
		t.Helper()
		got, err := s.jobs.ImportStatus(id)
		s.jobs.mu.Lock()
		clear(s.jobs.looked)
		s.jobs.mu.Unlock()
		fresh, freshErr := s.jobs.ImportStatus(id)
		if err != nil || freshErr != nil || got.State != want || !reflect.DeepEqual(got, fresh) {
			t.Errorf("%s: the status is %+v, %v; read anew %+v, %v; want state %d", when, got, err, fresh, freshErr, want)
		}
		return got
	}
	rounds, loaded := 0, int64(0)
	s.jobs.beforePublish = func() {
		status := f("in a round", 1, Running)
		// The round that is cancelled below may be published, or done again.
		if rounds++; status.Inputs[0].Loaded < loaded || rounds > 1 && rounds != cancelled+1 && status.Inputs[0].Loaded == loaded {
			t.Errorf("after round %d %d lines are loaded, %d before it", rounds-1, status.Inputs[0].Loaded, loaded)
		}
		loaded = status.Inputs[0].Loaded
		if rounds == cancelled {
			if err := s.jobs.CancelImport(1); err != nil {
				t.Error(err)
			}
			f("cancelled", 1, Cancelled)
		}
	}
	for _, want := range []State{Cancelled, Completed} {
		id, err := s.jobs.StartImport(context.Background(), r)
		if err != nil || id != 1 {
			t.Fatalf("the request is job %d, %v", id, err)
		}
		s.wait(id)
		status := f("ended", id, want)
		if want == Completed && testCounts(status) != fmt.Sprint(lines, "/0") || rounds < cancelled {
			t.Errorf("it ends with %s after %d rounds", testCounts(status), rounds)
		}
		if s.jobs.mu.Lock(); len(s.jobs.looked) > 0 {
			t.Errorf("%d records of ended imports are kept", len(s.jobs.looked))
		}
		s.jobs.mu.Unlock()
	}
}

// BenchmarkStatus is a look at a running import, by its inputs.
func BenchmarkStatus(b *testing.B) {
	for _, inputs := range []int{1, 100} {
		b.Run(fmt.Sprintf("inputs=%d", inputs), func(b *testing.B) {
			dir := b.TempDir()
			store, jobs := benchManager(b, filepath.Join(dir, "data"), func(o *Options) { o.ImportRoots = []string{dir} })
			r := &ImportRequest{Mode: IncrementalLoad}
			for i := range inputs {
				name := filepath.Join(dir, fmt.Sprint(i, ".ndjson"))
				if err := os.WriteFile(name, []byte(patient(fmt.Sprint("p", i), "")), 0o600); err != nil {
					b.Fatal(err)
				}
				r.Inputs = append(r.Inputs, ImportInput{URL: name})
			}
			reached, goOn := make(chan struct{}), make(chan struct{})
			jobs.beforePublish = func() { close(reached); <-goOn }
			id, err := jobs.StartImport(context.Background(), r)
			if err != nil {
				b.Fatal(err)
			}
			<-reached
			for b.Loop() {
				if _, err := jobs.ImportStatus(id); err != nil {
					b.Fatal(err)
				}
			}
			close(goOn)
			if _, err := jobs.WaitImport(context.Background(), id); err != nil {
				b.Fatal(err)
			}
			if err := errors.Join(jobs.Close(), store.Close()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

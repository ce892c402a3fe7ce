package bulk

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// heard are the ends that a listener got.
type heard struct {
	mu  sync.Mutex
	all []string
}

func (h *heard) add(end JobEnd) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kind := "export"
	if end.Import {
		kind = "import"
	}
	h.all = append(h.all, fmt.Sprintf("%s %d %s %s %d", kind, end.ID, end.Owner, end.Ending, end.Status))
}

func (h *heard) want(t *testing.T, want ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.all, want) {
		t.Errorf("heard %q, want %q", h.all, want)
	}
	h.all = nil
}

// Each end of a job is told once, those from before somebody listened too.
func TestEndsOfJobsAreTold(t *testing.T) {
	s := newExpirySite(t) // with an import that is done
	var ends heard
	s.jobs.ListenEnds(ends.add)
	ends.want(t, "import 1  completed 0")
	run := func(owner string) int64 {
		t.Helper()
		id, err := s.jobs.StartExport(t.Context(), exportOf(t, s, owner))
		if err != nil {
			t.Fatal(err)
		}
		s.waitExport(id)
		return id
	}
	run("a")
	ends.want(t, "export 2 a completed 0")
	s.jobs.opts.Quotas.ClientExportBytes = 1
	run("b")
	ends.want(t, "export 3 b failed 507")
	s.wait(s.start(IncrementalLoad, 0, "file:///nowhere"))
	ends.want(t, "import 4  failed 400")
	s.jobs.opts.Quotas.ClientExportBytes = 0

	for range exportsMax { // none of the others may begin
		s.jobs.exporting <- struct{}{}
	}
	id, err := s.jobs.StartExport(t.Context(), exportOf(t, s, "c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.jobs.DeleteExport(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	ends.want(t, "export 5 c cancelled 0")
	waits, err := s.jobs.StartExport(t.Context(), exportOf(t, s, "d"))
	if err != nil {
		t.Fatal(err)
	}
	s.restartJobs() // a stop is no end
	ends.want(t)
	s.waitExport(waits)
	s.jobs.ListenEnds(ends.add)
	ends.want(t, "export 6 d completed 0")

	s.pass(testExpiry + time.Second)
	s.sweepExpired()
	ends.want(t, "export 2 a expired 0", "export 3 b expired 0", "export 6 d expired 0")
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

// jobSite is a store on the real disk, with a catalog, and its backup jobs.
type jobSite struct {
	t     *testing.T
	dir   string
	opts  engine.Options
	store *engine.Store
	jobs  *Jobs
}

func newJobSite(t *testing.T) *jobSite {
	t.Helper()
	s := &jobSite{t: t, dir: t.TempDir()}
	s.opts = storeOptions(vfs.OS(), s.dir+"/data", 1)
	s.opts.CatalogInMem = false
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *jobSite) open() {
	s.t.Helper()
	var err error
	if s.store, err = engine.Open(context.Background(), s.opts); err != nil {
		s.t.Fatal(err)
	}
	s.jobs, err = NewJobs(JobsOptions{Store: s.store, FS: vfs.OS(), Roots: []string{s.dir}, Kiln: "test", Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *jobSite) close() {
	s.jobs.Close()
	if err := s.store.Close(); err != nil {
		s.t.Error(err)
	}
}

// start asks for a backup; rate 1 is one that does not end by itself.
func (s *jobSite) start(rate int) int64 {
	s.t.Helper()
	id, err := s.jobs.Start(fmt.Appendf(nil, `{"resourceType":"Parameters","parameter":[{"name":"target","valueString":"%s/backups"},{"name":"rate","valueInteger":%d}]}`, s.dir, rate))
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *jobSite) status(id int64) *Status {
	s.t.Helper()
	status, err := s.jobs.Status(id)
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// ended waits for a job that ends by itself.
func (s *jobSite) ended(id int64) *Status {
	s.t.Helper()
	s.jobs.work.Wait()
	return s.status(id)
}

func (s *jobSite) wantRefusal(err error, status int, words string) {
	s.t.Helper()
	var refusal *bulk.RequestError
	if !errors.As(err, &refusal) || refusal.Status != status || !strings.Contains(refusal.Text, words) {
		s.t.Errorf("got %v, want %d with %q", err, status, words)
	}
}

// What became of a backup is told after a restart too: its result, why it failed, and
// of one that was cut off to start it again.
func TestBackupJobsOutliveTheServer(t *testing.T) {
	s := newJobSite(t)
	if _, err := s.store.Commit(context.Background(), []engine.Change{patientChange(t, "a", "male", "x")}); err != nil {
		t.Fatal(err)
	}
	made := s.ended(s.start(1e9))
	if made.Running || made.Err != nil || made.Result.Versions != 1 {
		t.Fatalf("%+v", made)
	}
	// At a byte a second what is new holds the next ones up until somebody stops them.
	if _, err := s.store.Commit(context.Background(), []engine.Change{patientChange(t, "b", "male", "x")}); err != nil {
		t.Fatal(err)
	}
	cancelled := s.start(1)
	if err := s.jobs.Cancel(cancelled); err != nil {
		t.Fatal(err)
	}
	s.wantRefusal(s.ended(cancelled).Err, 400, "cancelled")
	cut := s.start(1)
	for _, readOnly := range []bool{false, true, false} {
		s.close()
		s.opts.ReadOnly = readOnly
		s.open()
		if again := s.status(1); !reflect.DeepEqual(again.Result, made.Result) || again.Running || again.Err != nil {
			t.Errorf("after a restart the backup is %+v, was %+v", again.Result, made.Result)
		}
		s.wantRefusal(s.status(cancelled).Err, 400, "cancelled")
		s.wantRefusal(s.status(cut).Err, 500, "start it again")
		s.wantRefusal(s.jobs.Cancel(cut), 409, "has ended")
		_, err := s.jobs.Status(cut + 1)
		s.wantRefusal(err, 404, "not found")
	}
	if status := s.ended(s.start(1e9)); status.Err != nil || s.jobs.last != cut+1 {
		t.Errorf("the next backup is number %d: %+v", s.jobs.last, status)
	}
}

// A catalog that takes nothing keeps nobody from making a backup, and no number is
// given to two of them.
func TestBackupJobsWithoutRoomInTheCatalog(t *testing.T) {
	f := func(change func(*engine.Options)) {
		t.Helper()
		s := newJobSite(t)
		if id := s.start(1e9); id != 1 {
			t.Errorf("the first backup is number %d", id)
		}
		s.jobs.work.Wait()
		s.close()
		usual := s.opts
		change(&s.opts)
		s.open()
		given := map[int64]bool{1: true}
		for range 2 {
			id := s.start(1e9)
			if status := s.ended(id); status.Err != nil || status.Result == nil || given[id] {
				t.Errorf("number %d: %+v", id, status)
			}
			given[id] = true
		}
		s.close()
		s.open()
		for id := range given {
			if id != 1 {
				_, err := s.jobs.Status(id)
				s.wantRefusal(err, 404, "not found")
			}
		}
		if id := s.start(1e9); given[id] {
			t.Errorf("number %d was given before the restart", id)
		}
		s.jobs.work.Wait()
		s.close()
		s.opts = usual
		s.open()
		if id := s.start(1e9); id != 2 {
			t.Errorf("the first backup that the catalog takes again is number %d", id)
		}
	}
	f(func(o *engine.Options) { o.ReadOnly = true })
	f(func(o *engine.Options) { o.FreeBytesMin = 1 << 60 })
}

// The last backups are known, and the catalog does not grow.
func TestBackupJobsOfLongAgoAreForgotten(t *testing.T) {
	s := newJobSite(t)
	s.jobs.mu.Lock()
	for id := range int64(jobsKnownMax) {
		r := record{ID: id + 1, Asked: time.Unix(id, 0), Error: refused(500, "exception", "x")}
		if _, err := s.jobs.put(&r); err != nil {
			t.Fatal(err)
		}
	}
	s.jobs.mu.Unlock()
	s.close()
	s.open()
	if id := s.start(1e9); id != jobsKnownMax+1 {
		t.Errorf("the next number is %d", id)
	}
	s.close()
	s.open()
	_, err := s.jobs.Status(1)
	s.wantRefusal(err, 404, "not found")
	if len(s.jobs.known) != jobsKnownMax {
		t.Errorf("%d are known", len(s.jobs.known))
	}
}

// A record of a newer Kiln is refused as that.
func TestANewerRecordOfABackupIsRefused(t *testing.T) {
	s := newJobSite(t)
	if err := s.store.CatalogPut(recordKey(1), []byte(`{"format":3,"id":1}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := NewJobs(s.jobs.opts); !errors.Is(err, engine.ErrNewerFormat) {
		t.Errorf("jobs of a newer catalog: %v", err)
	}
}

package bulk

import (
	"context"
	"errors"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/engine"
	"kiln/internal/vfs"
)

// gatedFS holds back the files of sections above a number.
type gatedFS struct {
	vfs.FS
	mu   sync.Mutex // guards what follows
	open int
	err  error // for whoever waits; nil: he goes on waiting
	move *sync.Cond
}

func newGatedFS(fs vfs.FS) *gatedFS {
	g := &gatedFS{FS: fs}
	g.move = sync.NewCond(&g.mu)
	return g
}

func (g *gatedFS) set(open int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.err = open, err
	g.move.Broadcast()
}

func (g *gatedFS) Create(name string) (vfs.File, error) {
	g.mu.Lock()
	for sectionOfFile(path.Base(name)) > g.open {
		if g.err != nil {
			defer g.mu.Unlock()
			return nil, g.err
		}
		g.move.Wait()
	}
	g.mu.Unlock()
	return g.FS.Create(name)
}

// pages are the files of a status as its pages name them, those of the last one too.
func pagesOf(status *ExportStatus, pageFiles int) (pages [][]string) {
	at := 0
	for _, end := range append(slices.Clone(status.Ends), len(status.Files)) {
		for ; at < end; at += pageFiles {
			var page []string
			for _, f := range status.Files[at:min(end, at+pageFiles)] {
				page = append(page, f.Name)
			}
			pages = append(pages, page)
		}
		at = end
	}
	return pages
}

// show polls until a job's manifest names files of more than so many sections, or
// the job has ended.
func (s *testSite) show(id int64, sections int) *ExportStatus {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); runtime.Gosched() {
		status, err := s.jobs.ShowExport(id, 3)
		if err != nil {
			s.t.Fatal(err)
		}
		known := map[int]bool{}
		for _, f := range status.Files {
			known[sectionOfFile(f.Name)] = true
		}
		if len(known) > sections || status.State != Running {
			return status
		}
	}
	s.t.Fatalf("export %d shows no more than %d sections", id, sections)
	return nil
}

// A partial manifest grows by pages and changes none that was shown, whatever comes
// in between; the last one has everything.
func TestPartialManifestsOnlyGrow(t *testing.T) {
	s := newTestSite(t)
	s.close()
	gate := newGatedFS(exportDisk(t))
	s.fs, s.sectionRows = gate, 5
	s.open()
	want := s.lines()
	id, err := s.jobs.StartExport(context.Background(), &ExportRequest{Versions: engine.ScanAllOrDeleted, FileLines: 3, Partial: true})
	if err != nil {
		t.Fatal(err)
	}
	var before [][]string
	check := func(status *ExportStatus) {
		t.Helper()
		now := pagesOf(status, 3)
		if status.State == Running && len(before) > 0 && len(now) <= len(before) {
			t.Errorf("%d pages after %d", len(now), len(before))
		}
		for i, page := range before {
			if !reflect.DeepEqual(page, now[i]) {
				t.Errorf("page %d was %v and is %v", i+1, page, now[i])
			}
		}
		before = now
		for _, f := range status.Files {
			if text := s.exportFile(id, f.Name); int64(len(text)) != f.Bytes {
				t.Errorf("%s has %d bytes, not %d", f.Name, len(text), f.Bytes)
			}
		}
	}
	if status, err := s.jobs.ShowExport(id, 3); err != nil || len(status.Files) > 0 || len(status.Ends) > 0 {
		t.Fatalf("before the first section: %+v, %v", status, err)
	}
	for n := 1; n <= 4; n++ {
		gate.set(n, nil)
		check(s.show(id, n-1))
	}
	gate.set(4, context.Canceled) // the server ends
	s.restartJobs()
	gate.set(6, nil)
	check(s.show(id, 5))
	gate.set(1000, nil)
	status := s.waitExport(id)
	if check(status); status.State != Completed || !slices.Equal(s.exported(status), want) {
		t.Errorf("it ends as %+v", status)
	}
}

// A running export whose client does not take partial manifests has none, and what
// it has is shown in the usual order when it ends.
func TestManifestsAreWholeUnlessAskedFor(t *testing.T) {
	s := newTestSite(t)
	s.close()
	s.fs, s.sectionRows = exportDisk(t), 5
	s.open()
	status := s.runAll()
	if !slices.IsSortedFunc(status.Files, func(a, b ExportFile) int { return strings.Compare(a.Type, b.Type) }) || status.Ends != nil || status.Partial {
		t.Errorf("status is %+v", status)
	}
	if _, err := s.jobs.ShowExport(status.ID, 3); err != nil {
		t.Error(err)
	}
	for key := range s.catalog() {
		if key == jobKey(keyExportListing, status.ID) {
			t.Errorf("the catalog has %q", key)
		}
	}
}

// When the export fails, or files that were shown are gone at the next start, the
// status tells that, and nothing of what was shown stays.
func TestAFailedExportHasNoPartialManifest(t *testing.T) {
	f := func(want string, end func(s *testSite, gate *gatedFS, id int64)) {
		t.Helper()
		s := newTestSite(t)
		s.close()
		gate := newGatedFS(exportDisk(t))
		s.fs, s.sectionRows = gate, 5
		s.open()
		id, err := s.jobs.StartExport(context.Background(), &ExportRequest{Partial: true})
		if err != nil {
			t.Fatal(err)
		}
		gate.set(2, nil)
		s.show(id, 1)
		end(s, gate, id)
		status := s.waitExport(id)
		if status.State != Failed || len(status.Files) > 0 || len(status.Ends) > 0 || !strings.Contains(status.Error.Text, want) {
			t.Errorf("it ends as %+v, %v", status, status.Error)
		}
		for key := range s.catalog() {
			if key != jobKey(keyExport, id) && key != keyNextJob {
				t.Errorf("the catalog has %q", key)
			}
		}
	}
	f("bad sector", func(_ *testSite, gate *gatedFS, _ int64) { gate.set(2, errors.New("bad sector")) })
	f(errShownGone.Error(), func(s *testSite, gate *gatedFS, id int64) {
		gate.set(2, context.Canceled)
		options := s.jobs.opts
		if err := errors.Join(s.jobs.Close(), s.fs.RemoveAll(s.jobs.exportDir(id))); err != nil {
			t.Fatal(err)
		}
		gate.set(1000, nil)
		var err error
		if s.jobs, err = NewManager(context.Background(), options); err != nil {
			t.Fatal(err)
		}
	})
}

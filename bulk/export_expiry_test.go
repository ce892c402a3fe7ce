package bulk

import (
	"context"
	"errors"
	"testing"
	"time"

	"kiln/internal/vfs"
)

const testExpiry = time.Hour

// newExpirySite has exports that expire, and a clock that stands still.
func newExpirySite(t *testing.T) *testSite {
	t.Helper()
	s := makeTestSite(t)
	s.exportExpiry, s.frozen = testExpiry, true
	s.open()
	t.Cleanup(func() { s.close() })
	s.wait(s.start(IncrementalLoad, 0, s.file("p", patient("a", ""))))
	return s
}

// checkGone: nothing is told or given out of an export.
func (s *testSite) checkGone(id int64, name string) {
	s.t.Helper()
	_, statusErr := s.jobs.ExportStatus(id)
	_, fileErr := s.jobs.ExportFile(id, name)
	for _, err := range []error{statusErr, fileErr, s.jobs.DeleteExport(context.Background(), id)} {
		var refused *RequestError
		if !errors.As(err, &refused) || refused.Status != 404 {
			s.t.Errorf("of an export that expired: %v", err)
		}
	}
}

func (s *testSite) pass(d time.Duration) { s.clock.Add(d.Milliseconds()) }

func (s *testSite) sweepExpired() {
	s.t.Helper()
	if err := s.jobs.sweepExpired(context.Background()); err != nil {
		s.t.Error(err)
	}
}

func TestExportsExpire(t *testing.T) {
	s := newExpirySite(t)
	status, _ := s.exports(nil)
	if want := s.now().Add(testExpiry); !status.Expires.Equal(want) {
		t.Fatalf("it expires at %s instead of %s", status.Expires, want)
	}
	name, dir := status.Files[0].Name, s.jobs.exportDir(status.ID)
	s.pass(testExpiry - time.Millisecond)
	s.sweepExpired()
	download, err := s.jobs.ExportFile(status.ID, name)
	if err != nil {
		t.Fatalf("before its time: %v", err)
	}
	defer download.Close()
	s.pass(time.Millisecond)
	s.checkGone(status.ID, name)
	if _, err := s.fs.Stat(dir); err != nil {
		t.Error("the files went before anybody removed them")
	}
	s.sweepExpired()
	if _, err := s.fs.Stat(dir); err == nil {
		t.Error("the files are still there")
	}
	s.checkGone(status.ID, name)
	if finished, err := s.jobs.finishedSections(status.ID); err != nil || len(finished) > 0 {
		t.Errorf("left in the catalog are %v, %v", finished, err)
	}
	text, err := readDownload(download)
	if err != nil || int64(len(text)) != status.Files[0].Bytes {
		t.Errorf("who reads the file meanwhile got %d bytes of %d, %v", len(text), status.Files[0].Bytes, err)
	}
	if n := s.jobs.Metrics().ExportsExpired; n != 1 {
		t.Errorf("%d expired", n)
	}
}

// A server that was away at the time removes them when it starts.
func TestExportsExpireWhileTheServerIsAway(t *testing.T) {
	s := newExpirySite(t)
	old, _ := s.exports(nil)
	s.pass(testExpiry / 2)
	young, _ := s.exports(nil)
	s.pass(testExpiry / 2)
	s.restartJobs()
	s.checkGone(old.ID, old.Files[0].Name)
	s.sweepExpired()
	if _, err := s.fs.Stat(s.jobs.exportDir(old.ID)); err == nil {
		t.Error("the files are still there")
	}
	if text := s.exportFile(young.ID, young.Files[0].Name); text == "" {
		t.Error("the younger export has lost its file")
	}
}

func TestFailedExportsExpire(t *testing.T) {
	s := newExpirySite(t)
	s.fs.(*vfs.Mem).SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpMkdirAll {
			return errors.New("no directory today")
		}
		return nil
	})
	r, err := s.jobs.ParseExport(&ExportKickOff{URL: "http://host/$export", Base: "http://host"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.jobs.StartExport(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	status, err := s.jobs.WaitExport(context.Background(), id)
	if err != nil || status.State != Failed || !status.Expires.Equal(s.now().Add(testExpiry)) {
		t.Fatalf("it ended as %+v, %v", status, err)
	}
	s.fs.(*vfs.Mem).SetHook(nil)
	s.pass(testExpiry)
	s.sweepExpired()
	s.checkGone(id, "Patient-1-1.ndjson")
}

func TestExportsStayWithoutExpiry(t *testing.T) {
	s := newTestSite(t)
	status, _ := s.exports(nil)
	if !status.Expires.IsZero() {
		t.Errorf("it expires at %s", status.Expires)
	}
	s.pass(100 * 365 * 24 * time.Hour)
	s.sweepExpired()
	if _, err := s.jobs.ExportStatus(status.ID); err != nil {
		t.Error(err)
	}
}

func TestTooManyUnfinishedExportsAreRefused(t *testing.T) {
	s := newTestSite(t)
	for range exportsMax { // none of the others may begin
		s.jobs.exporting <- struct{}{}
	}
	r, err := s.jobs.ParseExport(&ExportKickOff{URL: "http://host/$export", Base: "http://host"})
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for range exportsUnfinishedMax {
		if last, err = s.jobs.StartExport(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.jobs.StartExport(context.Background(), r)
	var refused *RequestError
	if !errors.As(err, &refused) || refused.Status != 429 || refused.Code != "throttled" {
		t.Errorf("one more than %d: %v", exportsUnfinishedMax, err)
	}
	if err := s.jobs.DeleteExport(context.Background(), last); err != nil {
		t.Fatal(err)
	}
	if _, err := s.jobs.StartExport(context.Background(), r); err != nil {
		t.Errorf("when one is deleted: %v", err)
	}
}

package bulk

import (
	"errors"
	"strings"
	"testing"
)

func wantThrottled(t *testing.T, err error, text string) {
	t.Helper()
	var refused *RequestError
	if !errors.As(err, &refused) || refused.Status != 429 || refused.Code != "throttled" || !strings.Contains(refused.Text, text) {
		t.Errorf("got %v instead of 429 with %q", err, text)
	}
}

func exportOf(t *testing.T, s *testSite, owner string) *ExportRequest {
	t.Helper()
	r, err := s.jobs.ParseExport(&ExportKickOff{URL: "http://host/$export", Base: "http://host"})
	if err != nil {
		t.Fatal(err)
	}
	r.Owner = owner
	return r
}

func TestAClientHasSoManyUnfinishedJobs(t *testing.T) {
	s := newTestSite(t)
	s.jobs.opts.Quotas.Jobs = 2
	for range exportsMax { // none of the others may begin
		s.jobs.exporting <- struct{}{}
	}
	f := func(owner string) error {
		_, err := s.jobs.StartExport(t.Context(), exportOf(t, s, owner))
		return err
	}
	for _, owner := range []string{"a", "a", "b", "", "", ""} {
		if err := f(owner); err != nil {
			t.Errorf("%q: %v", owner, err)
		}
	}
	wantThrottled(t, f("a"), "2 of your jobs")
	if err := f("b"); err != nil {
		t.Error(err)
	}
	if got := s.jobs.QuotaRefusals(); got.Jobs != 1 {
		t.Errorf("got %+v", got)
	}
	for range exportsMax {
		<-s.jobs.exporting
	}
}

func TestExportsKeepSoManyBytes(t *testing.T) {
	s := newTestSite(t)
	done := func(owner string) {
		t.Helper()
		id, err := s.jobs.StartExport(t.Context(), exportOf(t, s, owner))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.jobs.WaitExport(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	s.change("p", "", false)
	done("a")
	all, own, err := s.jobs.keptBytes("a")
	if err != nil || all == 0 || all != own {
		t.Fatalf("got %d %d %v", all, own, err)
	}
	if _, other, err := s.jobs.keptBytes("b"); err != nil || other != 0 {
		t.Errorf("b keeps %d (%v)", other, err)
	}
	s.jobs.opts.Quotas.ClientExportBytes = all
	_, err = s.jobs.StartExport(t.Context(), exportOf(t, s, "a"))
	wantThrottled(t, err, "Your exports keep")
	done("b")
	s.jobs.opts.Quotas.ExportBytes = 2 * all
	_, err = s.jobs.StartExport(t.Context(), exportOf(t, s, ""))
	wantThrottled(t, err, "The exports on this server keep")
	s.jobs.opts.Quotas.ExportBytes++
	done("")
}

// An export that goes beyond its client's quota while it runs fails, tells so, and
// leaves nothing; the room is there again for another one.
func TestAnExportThatGrowsBeyondItsQuotaFails(t *testing.T) {
	s := newTestSite(t)
	s.change("p", "", false)
	run := func(owner string) *ExportStatus {
		t.Helper()
		id, err := s.jobs.StartExport(t.Context(), exportOf(t, s, owner))
		if err != nil {
			t.Fatal(err)
		}
		status, err := s.jobs.WaitExport(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	run("a")
	_, one, err := s.jobs.keptBytes("a")
	if err != nil {
		t.Fatal(err)
	}
	s.jobs.opts.Quotas.ClientExportBytes = 2*one - 1
	failed := run("a")
	if failed.State != Failed || failed.Error == nil || failed.Error.Status != 507 || failed.Error.Code != codeOverQuota || !strings.Contains(failed.Error.Text, "a client may keep") {
		t.Fatalf("got %v %+v", failed.State, failed.Error)
	}
	if _, err := s.store.FS().List(s.jobs.exportDir(failed.ID)); err == nil {
		t.Error("its files are still there")
	}
	if _, own, err := s.jobs.keptBytes("a"); err != nil || own != one {
		t.Errorf("a keeps %d bytes, not %d (%v)", own, one, err)
	}
	if got := s.jobs.QuotaRefusals(); got.ClientExportBytes != 1 {
		t.Errorf("got %+v", got)
	}
	s.jobs.opts.Quotas.ClientExportBytes++
	if again := run("a"); again.State != Completed {
		t.Errorf("to the last byte: %+v", again.Error)
	}
	if other := run("b"); other.State != Completed {
		t.Errorf("another client's: %+v", other.Error)
	}
}

// What a client keeps counts after a restart, that of an export that goes on then too.
func TestQuotasOutliveARestart(t *testing.T) {
	s := newTestSite(t)
	s.change("p", "", false)
	id, err := s.jobs.StartExport(t.Context(), exportOf(t, s, "a"))
	if err != nil {
		t.Fatal(err)
	}
	s.waitExport(id)
	_, one, err := s.jobs.keptBytes("a")
	if err != nil || one == 0 {
		t.Fatalf("a keeps %d bytes (%v)", one, err)
	}
	for range exportsMax { // the next one is still waiting when the server ends
		s.jobs.exporting <- struct{}{}
	}
	s.jobs.opts.Quotas = Quotas{Jobs: 1, ClientExportBytes: 2*one - 1}
	waits, err := s.jobs.StartExport(t.Context(), exportOf(t, s, "a"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.jobs.StartExport(t.Context(), exportOf(t, s, "a"))
	wantThrottled(t, err, "1 of your jobs")
	s.restartJobs()
	if failed := s.waitExport(waits); failed.State != Failed || failed.Error.Status != 507 {
		t.Errorf("it goes on beyond the quota: %v %+v", failed.State, failed.Error)
	}
	if _, own, err := s.jobs.keptBytes("a"); err != nil || own != one {
		t.Errorf("a keeps %d bytes, not %d (%v)", own, one, err)
	}
	s.jobs.opts.Quotas.ClientExportBytes = one
	_, err = s.jobs.StartExport(t.Context(), exportOf(t, s, "a"))
	wantThrottled(t, err, "Your exports keep")
}

// Of two exports that run at once where one has room never both stay, and one that goes
// leaves nothing.
func TestTwoExportsAtTheQuota(t *testing.T) {
	s := newTestSite(t)
	s.change("p", "", false)
	run := func(n int) (stay int, own int64) {
		t.Helper()
		var ids []int64
		for range n {
			id, err := s.jobs.StartExport(t.Context(), exportOf(t, s, "a"))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		for _, id := range ids {
			switch status := s.waitExport(id); {
			case status.State == Completed:
				stay++
			case status.State != Failed || status.Error.Status != 507:
				t.Errorf("export %d: %v %+v", id, status.State, status.Error)
			}
		}
		_, own, err := s.jobs.keptBytes("a")
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if err := s.jobs.DeleteExport(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		return stay, own
	}
	_, one := run(1)
	s.jobs.opts.Quotas.ClientExportBytes = 2*one - 1
	for range 20 {
		if stay, own := run(2); stay > 1 || own > 2*one-1 || own != int64(stay)*one {
			t.Fatalf("%d stay with %d bytes, of %d that are allowed", stay, own, 2*one-1)
		}
	}
}

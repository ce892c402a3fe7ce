package bulk

import (
	"context"
	"testing"
)

// Whose a job is outlasts a restart, and equal imports of two owners are two jobs.
func TestJobsKeepTheirOwners(t *testing.T) {
	s := newTestSite(t)
	input := s.file("p.ndjson", patient("a", ""))
	start := func(owner string) int64 {
		t.Helper()
		r := &ImportRequest{URL: "http://host/$import", Owner: owner, Inputs: []ImportInput{{URL: input}}}
		id, err := s.jobs.StartImport(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		s.wait(id)
		return id
	}
	r, err := s.jobs.ParseExport(&ExportKickOff{URL: "http://host/$export", Base: "http://host"})
	if err != nil {
		t.Fatal(err)
	}
	nobodys, first, second := start(""), start("first"), start("second")
	if nobodys == first || first == second {
		t.Errorf("equal imports are jobs %d, %d and %d", nobodys, first, second)
	}
	r.Owner = "first"
	export, err := s.jobs.StartExport(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.jobs.WaitExport(context.Background(), export); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		f := func(what string, err error, own bool) {
			t.Helper()
			if (err == nil) != own {
				t.Errorf("%s, %s: %v", when, what, err)
			}
		}
		f("an import of its owner", s.jobs.OwnImport(first, "first"), true)
		f("an import of another", s.jobs.OwnImport(first, "second"), false)
		f("an import of nobody", s.jobs.OwnImport(nobodys, "first"), false)
		f("an import for nobody", s.jobs.OwnImport(first, ""), false)
		f("no import", s.jobs.OwnImport(999, "first"), false)
		f("an export of its owner", s.jobs.OwnExport(export, "first", false), true)
		f("an export of another", s.jobs.OwnExport(export, "second", false), false)
		f("a published export of another", s.jobs.OwnExport(export, "second", true), true)
		f("no export", s.jobs.OwnExport(999, "first", true), false)
	}
	check("at first")
	s.restartJobs()
	check("after a restart")
	if again := start("first"); again != first {
		t.Errorf("the same import again is job %d, not %d", again, first)
	}
}

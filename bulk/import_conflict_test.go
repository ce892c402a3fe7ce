package bulk

import (
	"context"
	"strings"
	"testing"

	"kiln/engine"
	"kiln/fhir"
)

// put writes a patient as the API does.
func (s *testSite) put(id, rest string) {
	s.t.Helper()
	resource, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(patient(id, rest)), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	change := engine.Change{Type: resource.Type, ID: resource.ID, IDAt: resource.IDAt, Body: resource.Body, Splice: resource.Splice}
	if _, err := s.store.Commit(context.Background(), []engine.Change{change}); err != nil {
		s.t.Fatal(err)
	}
}

// Resources that are written while a round is on its way are resolved again.
func TestImportMeetsWritesOfTheAPI(t *testing.T) {
	f := func(mode Mode, before, between, lines []string, counts, errorText string, want ...string) {
		t.Helper()
		s := newTestSite(t)
		defer s.close()
		for _, rest := range before {
			s.put("a", rest)
		}
		once := false
		s.jobs.beforePublish = func() {
			if once {
				return
			}
			once = true
			for _, rest := range between {
				s.put("a", rest)
			}
		}
		for i := range lines {
			lines[i] = patient("a", lines[i])
		}
		lines = append(lines, patient("other", ""))
		status := s.wait(s.start(mode, 0, s.file("1", lines...)))
		if got := testCounts(status); got != counts {
			t.Errorf("between %q, lines %q: counts %s, want %s", between, lines, got, counts)
		}
		want = append(want, `Patient/other v000001 {"resourceType":"Patient","id":"other"}`)
		for i, w := range want[:len(want)-1] {
			version, rest, _ := strings.Cut(w, " ")
			want[i] = "Patient/a v00000" + version + ` {"resourceType":"Patient","id":"a"` + rest + "}"
		}
		if got := strings.Join(s.versions(), "\n"); got != strings.Join(want, "\n") {
			t.Errorf("between %q, lines %q:\n%s\nwant\n%s", between, lines, got, strings.Join(want, "\n"))
		}
		if got := strings.Join(s.errorTexts(status, 0), "\n"); !strings.Contains(got, errorText) || (got == "") != (errorText == "") {
			t.Errorf("between %q, lines %q: refused %q", between, lines, got)
		}
	}
	x, y, z := `,"gender":"male"`, `,"gender":"female"`, `,"gender":"other"`
	// A new resource that the API made first.
	f(IncrementalLoad, nil, []string{x}, []string{y}, "2/0", "", "1 "+x, "2 "+y)
	f(IncrementalLoad, nil, []string{x}, []string{x}, "2/0", "", "1 "+x)
	f(InitialLoad, nil, []string{x}, []string{y}, "1/1", "duplicate: Failed to import duplicate resource, resource id: a, line: 1", "1 "+x)
	// An update that the API overtook, once and twice.
	f(IncrementalLoad, []string{x}, []string{y}, []string{z}, "2/0", "", "1 "+x, "2 "+y, "3 "+z)
	f(IncrementalLoad, []string{x}, []string{y, x}, []string{z}, "2/0", "", "1 "+x, "2 "+y, "3 "+x, "4 "+z)
	f(IncrementalLoad, []string{x}, []string{z}, []string{z}, "2/0", "", "1 "+x, "2 "+z)
	// A line that changed nothing comes before the API's write.
	f(IncrementalLoad, []string{x}, []string{y}, []string{x}, "2/0", "", "1 "+x, "2 "+y)
	// A version that is taken now.
	dated := `,"meta":{"versionId":"1","lastUpdated":"2001-01-01T00:00:00Z"}`
	f(IncrementalLoad, nil, []string{x}, []string{dated + y}, "1/1", "conflict: Failed to import resource with version conflict, resource id: a, line: 1", "1 "+x)
}

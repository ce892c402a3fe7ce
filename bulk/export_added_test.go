package bulk

import (
	"context"
	"log/slog"
	"testing"

	"kiln/engine"
	"kiln/fhir"
	"kiln/query"
)

// addParameter stores a SearchParameter as the server does.
func (s *testSite) addParameter(expression string) {
	s.t.Helper()
	body := `{"resourceType":"SearchParameter","id":"p","url":"http://x.org/p","status":"active","code":"race","base":["Patient"],"type":"token","expression":"` + expression + `"}`
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(body), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	changes := []engine.Change{{Type: r.Type, ID: r.ID, IDAt: r.IDAt, Body: r.Body, Splice: r.Splice}}
	end, err := s.parameters.Begin(context.Background(), changes)
	if err != nil {
		s.t.Fatal(err)
	}
	defer end()
	if _, err := s.store.Commit(context.Background(), changes); err != nil {
		s.t.Fatal(err)
	}
}

// _typeFilter takes parameters that were added; what they mean does not change
// while an export waits, and one that is not indexed yet fails it.
func TestExportByAnAddedParameter(t *testing.T) {
	s := makeTestSite(t)
	s.opened = func() {
		var err error
		if s.parameters, err = query.NewRegistry(context.Background(), s.store, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	s.open()
	defer s.close()
	const race, other = `,"extension":[{"url":"race","valueCode":"x"}]`, `,"extension":[{"url":"other","valueCode":"x"}]`
	s.addParameter("Patient.extension('race').value")
	s.imports(IncrementalLoad, 0, s.file("1", patient("a", race), patient("b", other), patient("c", "")))
	filter := map[string][]string{"_type": {"Patient"}, "_typeFilter": {"Patient?race=x"}}
	if _, files := s.exports(filter); len(files["Patient"]) != 1 {
		t.Errorf("exported %q", files["Patient"])
	}
	fails := func(r *ExportRequest, status int) {
		t.Helper()
		id, err := s.jobs.StartExport(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		end, err := s.jobs.WaitExport(context.Background(), id)
		if err != nil || end.State != Failed || end.Error.Status != status {
			t.Errorf("the export ended as %+v, error %v; want %d", end, err, status)
		}
	}
	parsed := func() *ExportRequest {
		t.Helper()
		r, err := s.jobs.ParseExport(&ExportKickOff{URL: "http://host/$export", Base: "http://host", Query: filter})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := parsed()
	s.addParameter("Patient.extension('other').value")
	fails(before, 409)
	fails(parsed(), 503) // nobody indexes in this test
}

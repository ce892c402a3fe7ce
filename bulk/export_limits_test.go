package bulk

import (
	"encoding/json"
	"strings"
	"testing"

	"kiln/engine"
	"kiln/query"
)

// An older Kiln would go on with a limited export as if it was not: the record's format
// keeps it from that. Earlier versions cannot be limited.
func TestLimitsAreOfANewerFormat(t *testing.T) {
	s := newTestSite(t)
	limits := ExportLimits{All: []ExportLimit{{Type: patientType(), Any: []ExportRule{{Query: "active=true", Parameters: []query.Parameter{{Name: "active", Value: "true"}}}}}}}
	f := func(limits ExportLimits, format string) {
		t.Helper()
		r := exportOf(t, s, "a")
		if !s.jobs.Limit(r, limits) {
			t.Fatal("an export of what there is cannot be limited")
		}
		id, err := s.jobs.StartExport(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.jobs.WaitExport(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		raw, err := s.store.CatalogGet(jobKey(keyExport, id))
		if err != nil || !json.Valid(raw) || strings.Contains(string(raw), `"format":2`) != (format == "2") {
			t.Errorf("%s, error %v", raw, err)
		}
	}
	f(ExportLimits{}, "")
	f(limits, "2")
	r := exportOf(t, s, "a")
	r.Versions = engine.ScanAll
	if s.jobs.Limit(r, limits) {
		t.Error("earlier versions are limited")
	}
}

package httpapi

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"kiln/bulk"
	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/shareddata"
	"kiln/internal/vfs"
)

// eachLine reads a gzipped NDJSON file.
func eachLine(t *testing.T, name string, fn func(line []byte)) {
	t.Helper()
	for _, line := range shareddata.Lines(t, "data", name) {
		fn(line)
	}
}

func newMemAPI(t *testing.T) *testServer {
	return newAPI(t, func(store *engine.Options, _ *bulk.Options, _ *Options) {
		store.FS, store.Dir, store.CatalogInMem = vfs.NewMem(1), "data", true
	})
}

func TestRealResourcesComeBackAsTheyWent(t *testing.T) {
	s := newMemAPI(t)
	sent, back := fhir.NewScanner(fhir.ScannerOptions{}), fhir.NewScanner(fhir.ScannerOptions{})
	count := 0
	f := func(line []byte) {
		r, err := sent.Scan(line, nil)
		if err != nil || !fhir.ValidID(r.ID) || r.Type == 0 {
			return // what is refused has its own tests
		}
		path := "/fhir/" + string(r.TypeName) + "/" + string(r.ID)
		if a := s.do(t, "PUT", path, string(line), typeHeader, "Prefer: return=minimal"); a.status != 201 && a.status != 200 {
			t.Fatalf("PUT %s: %d %.300s", path, a.status, a.body)
		}
		got := s.do(t, "GET", path, "").body
		served, err := back.Scan([]byte(got), nil)
		if err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
		version, err := strconv.ParseInt(string(served.VersionID), 10, 64)
		if err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
		updated, err := fhir.ParseInstant(served.LastUpdated)
		if err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
		if want := fhir.AppendResource(nil, r.Body, r.Splice, version, updated); got != string(want) {
			t.Errorf("%s changed:\n%.300s\n%.300s", path, want, got)
		}
		count++
	}
	eachLine(t, "examples-r4.ndjson.gz", f)
	eachLine(t, "huge-r4.ndjson.gz", f)
	if count < 700 {
		t.Errorf("only %d resources were tried", count)
	}
}

func TestMalformedFilesAreRefusedClearly(t *testing.T) {
	s := newMemAPI(t)
	names, err := filepath.Glob(filepath.Join(shareddata.Path(t, "data", "malformed"), "*.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files: %v", err)
	}
	scanner := fhir.NewScanner(fhir.ScannerOptions{})
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		a := s.do(t, "POST", "/fhir/Patient", string(text), typeHeader)
		_, scanErr := scanner.Scan(text, nil)
		if a.status == 201 && scanErr == nil {
			continue // wrong by a profile or an invariant only
		}
		if _, diagnostics := a.outcome(t); a.status != 400 || diagnostics == "" {
			t.Errorf("%s: %d %q", filepath.Base(name), a.status, diagnostics)
		}
	}
}

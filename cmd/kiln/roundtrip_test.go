package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/shareddata"
)

// refusal is what an error file must say about one line.
type refusal struct {
	line   int
	offset int64
	text   string // of details.text, its beginning
}

const (
	textNoResource  = "not a FHIR resource"
	textInvalidID   = "Invalid resource id: '%s'. Id must be any combination of "
	textConditional = "Conditional reference is not supported for $import in InitialLoad."
	textSearchParam = "SearchParameter resources cannot be processed by import."
	textDuplicate   = "Failed to import duplicate resource, resource id: %s, line: %d"
)

// expectation is what an InitialLoad of some files must lead to, worked out
// line by line without the product's code.
type expectation struct {
	kinds    map[string]bool      // the R4 resource types
	texts    map[string]string    // of the loaded resources by Type/id
	refusals map[string][]refusal // by file
}

func expectInitialLoad(t *testing.T, files []string) *expectation {
	t.Helper()
	e := &expectation{kinds: map[string]bool{}, texts: map[string]string{}, refusals: map[string][]refusal{}}
	for _, kind := range lines(t, shareddata.Path(t, "definitions/resource-types-r4.txt")) {
		e.kinds[string(kind)] = true
	}
	for _, file := range files {
		offset := int64(0)
		for i, line := range lines(t, file) {
			p := takeApart(t, line)
			if text := e.refuse(p, i+1); text != "" {
				e.refusals[file] = append(e.refusals[file], refusal{line: i + 1, offset: offset, text: text})
			} else {
				e.texts[p.key()] = p.text
			}
			offset += int64(len(line)) + 1
		}
	}
	return e
}

// refuse is the contract's order of checks; "" when the line is loaded.
func (e *expectation) refuse(p parts, line int) string {
	switch {
	case !e.kinds[p.kind]:
		return textNoResource
	case !p.hasID:
		return fmt.Sprintf(textInvalidID, "null or empty")
	case p.id == "" || len(p.id) > 64 || strings.Trim(p.id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.") != "":
		return fmt.Sprintf(textInvalidID, p.id)
	case p.conditional:
		return textConditional
	case p.kind == "SearchParameter":
		return textSearchParam
	}
	if _, twice := e.texts[p.key()]; twice {
		return fmt.Sprintf(textDuplicate, p.id, line)
	}
	return ""
}

// checkResult compares an import's result object and its error files.
func (e *expectation) checkResult(t *testing.T, result importResult) {
	t.Helper()
	var loaded int64
	for _, in := range result.Output {
		loaded += in.Count
	}
	if loaded != int64(len(e.texts)) {
		t.Errorf("%d loaded instead of %d", loaded, len(e.texts))
	}
	if len(result.Error) != len(e.refusals) {
		t.Errorf("%d files with refused lines instead of %d: %v", len(result.Error), len(e.refusals), result.Error)
	}
	for _, in := range result.Error {
		want := e.refusals[strings.TrimPrefix(in.InputURL, "file://")]
		if in.Count != int64(len(want)) {
			t.Errorf("%s: %d refused instead of %d", in.InputURL, in.Count, len(want))
		}
		checkErrorFile(t, in.URL, want)
	}
}

// checkErrorFile fetches an error file and compares it line by line.
func checkErrorFile(t *testing.T, address string, want []refusal) {
	t.Helper()
	got, err := ask(http.MethodGet, address, "")
	if err != nil || got.status != http.StatusOK {
		t.Errorf("cannot fetch error file %s: %v %v", address, err, got)
		return
	}
	list := strings.Split(strings.TrimSuffix(string(got.body), "\n"), "\n")
	if len(list) != len(want) {
		t.Errorf("%s: %d lines instead of %d", address, len(list), len(want))
		return
	}
	for i, text := range list {
		issue := decode[outcome](t, []byte(text)).Issue[0]
		where := fmt.Sprintf("line: %d with stream start offset: %d", want[i].line, want[i].offset)
		if !strings.HasPrefix(issue.Details.Text, want[i].text) || !strings.HasSuffix(issue.Diagnostics, where) {
			t.Errorf("%s: got %s\nwant %q at %s", address, text, want[i].text, where)
		}
	}
}

// exported reads what `kiln export` wrote, by Type/id.
func exported(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range files {
		for _, line := range lines(t, file) {
			p := takeApart(t, line)
			if _, twice := texts[p.key()]; twice {
				t.Errorf("%s was exported twice", p.key())
			}
			texts[p.key()] = p.text
			checkServerMeta(t, line)
		}
	}
	return texts
}

// checkServerMeta: an exported line has a version and an instant.
func checkServerMeta(t *testing.T, line []byte) {
	t.Helper()
	var resource struct {
		Meta struct{ VersionID, LastUpdated string }
	}
	if err := json.Unmarshal(line, &resource); err != nil || resource.Meta.VersionID == "" || resource.Meta.LastUpdated == "" {
		t.Errorf("an exported line has no version or instant (%v): %.300s", err, line)
	}
}

// compareTexts reports the first few differences of two sets of resources.
func compareTexts(t *testing.T, got, want map[string]string) {
	t.Helper()
	const shown = 5
	differences := 0
	report := func(format string, args ...any) {
		if differences++; differences <= shown {
			t.Errorf(format, args...)
		}
	}
	for key, text := range want {
		switch back, ok := got[key]; {
		case !ok:
			report("%s is missing", key)
		case back != text:
			report("%s came back as\n%.2000s\ninstead of\n%.2000s", key, back, text)
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			report("%s was invented", key)
		}
	}
	if differences > shown {
		t.Errorf("... and %d more differences", differences-shown)
	}
}

// roundTrip loads files in a fresh store, exports it, and compares.
func roundTrip(t *testing.T, path string, wantLoaded, wantRefused int) {
	t.Helper()
	files, err := expandPath(path)
	if err != nil {
		t.Fatal(err)
	}
	want := expectInitialLoad(t, files)
	refused := 0
	for _, list := range want.refusals {
		refused += len(list)
	}
	if len(want.texts) != wantLoaded || refused != wantRefused {
		t.Fatalf("the data has %d good and %d bad lines instead of %d and %d: the test is wrong", len(want.texts), refused, wantLoaded, wantRefused)
	}
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--import-root", filepath.Dir(files[0]))
	code := 0
	if refused > 0 {
		code = exitRefused
	}
	done := mustKiln(t, code, "import", "--server", s.base, "--mode", "initial", "--json", path)
	want.checkResult(t, decode[importResult](t, []byte(done.out)))

	out := filepath.Join(t.TempDir(), "out")
	mustKiln(t, 0, "export", "--server", s.base, "--out", out)
	compareTexts(t, exported(t, out), want.texts)
	s.stop()
}

func TestRoundTripIsByteFaithful(t *testing.T) {
	f := func(name string, loaded, refused int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roundTrip(t, shareddata.Path(t, "data/"+name), loaded, refused)
		})
	}
	f("examples-r4.ndjson.gz", 756, 5)
	f("odd-r4.ndjson.gz", 253, 55)
	if raceEnabled {
		// The detector makes the test's own parser take minutes for the others;
		// `make check` runs this test without it too.
		f("public-mini", 2_339, 0)
		return
	}
	f("public", 60_250, 0)
	f("huge-r4.ndjson.gz", 13, 0)
}

func TestMalformedFilesAreRefusedClearly(t *testing.T) {
	dir := shareddata.Path(t, "data/malformed")
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--import-root", dir)
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 20 {
		t.Fatalf("%d files (%v) instead of 20", len(files), err)
	}
	for _, file := range files {
		done := mustKiln(t, exitRefused, "import", "--server", s.base, "--json", file)
		result := decode[importResult](t, []byte(done.out))
		if len(result.Error) != 1 || result.Error[0].Count == 0 {
			t.Errorf("%s: no refused line: %s", filepath.Base(file), done.out)
			continue
		}
		got, err := ask(http.MethodGet, result.Error[0].URL, "")
		if err != nil || !strings.Contains(string(got.body), "line: 1 with stream start offset: 0") {
			t.Errorf("%s: the error file does not say where: %v %s", filepath.Base(file), err, got.body)
		}
		checkPostRefused(t, s, file)
	}
	s.stop()
}

// checkPostRefused sends the file as the body of a create.
func checkPostRefused(t *testing.T, s *server, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := s.must(http.StatusBadRequest, http.MethodPost, "/Patient", string(text))
	refusal := decode[outcome](t, got.body)
	if len(refusal.Issue) == 0 || refusal.Issue[0].Details.Text+refusal.Issue[0].Diagnostics == "" {
		t.Errorf("%s: no clear refusal: %s", filepath.Base(file), got.body)
	}
}

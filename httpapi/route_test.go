package httpapi

import (
	"bytes"
	"net/url"
	"testing"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
)

func TestAddressesLeadToTheirPlaces(t *testing.T) {
	f := func(path string, want place, typeName, id, name string) {
		t.Helper()
		a := parseAddress([]byte(path))
		if a.place != want || want != placeNone && (string(a.typeName) != typeName || string(a.id) != id || string(a.name) != name) {
			t.Errorf("%s: got place %d, type %q, id %q, name %q", path, a.place, a.typeName, a.id, a.name)
		}
		if a.place != placeNone && a.typ != fhir.TypeByName(a.typeName) {
			t.Errorf("%s: type %v is not %q", path, a.typ, a.typeName)
		}
	}
	f("/", placeNone, "", "", "")
	f("/fhirs", placeNone, "", "", "")
	f("/healthz", placeHealth, "", "", "")
	f("/readyz", placeReady, "", "", "")
	f("/metrics", placeMetrics, "", "", "")
	f("/fhir", placeBase, "", "", "")
	f("/fhir/", placeBase, "", "", "")
	f("/fhir/metadata", placeMetadata, "", "", "")
	f("/fhir/.well-known/smart-configuration", placeSMART, "", "", "")
	f("/fhir/.well-known/other", placeNone, "", "", "")
	f("/fhir/.well-known", placeNone, "", "", "")
	f("/fhir/oauth/token", placeToken, "", "", "")
	f("/fhir/oauth/token/x", placeNone, "", "", "")
	f("/fhir/_history", placeSystemHistory, "", "", "")
	f("/fhir/_search", placeSystemSearch, "", "", "")
	f("/fhir/_other", placeNone, "", "", "")
	f("/fhir/$import", placeImport, "", "", "")
	f("/fhir/$import/x", placeNone, "", "", "")
	f("/fhir/$export", placeExport, "", "", "")
	f("/fhir/$other", placeSystemOperation, "", "", "$other")
	f("/fhir/_operations", placeNone, "", "", "")
	f("/fhir/_operations/import/5", placeImportJob, "", "5", "")
	f("/fhir/_operations/import/5/a.ndjson", placeImportFile, "", "5", "a.ndjson")
	f("/fhir/_operations/import/5/a/b", placeNone, "", "", "")
	f("/fhir/_operations/export/5", placeExportJob, "", "5", "")
	f("/fhir/$backup", placeBackup, "", "", "")
	f("/fhir/_operations/backup/5", placeBackupJob, "", "5", "")
	f("/fhir/_operations/backup/5/a", placeNone, "", "5", "")
	f("/fhir/_operations/export/5/a.ndjson", placeExportFile, "", "5", "a.ndjson")
	f("/fhir/_operations/other/5", placeNone, "", "", "")
	f("/fhir/Patient", placeType, "Patient", "", "")
	f("/fhir/Patient/", placeType, "Patient", "", "")
	f("/fhir/Nonsense", placeType, "Nonsense", "", "")
	f("/fhir/Patient/_history", placeTypeHistory, "Patient", "", "")
	f("/fhir/Patient/_history/1", placeNone, "", "", "")
	f("/fhir/Patient/_search", placeTypeSearch, "Patient", "", "")
	f("/fhir/Patient/$export", placeTypeExport, "Patient", "", "")
	f("/fhir/Patient/$other", placeTypeOperation, "Patient", "", "$other")
	f("/fhir/Group/a/$export", placeGroupExport, "Group", "a", "$export")
	f("/fhir/Patient/a/$export", placeInstanceOperation, "Patient", "a", "$export")
	f("/fhir/Patient/a", placeInstance, "Patient", "a", "")
	f("/fhir/Patient/a/", placeInstance, "Patient", "a", "")
	f("/fhir/Patient/a/_history", placeInstanceHistory, "Patient", "a", "_history")
	f("/fhir/Patient/a/_history/3", placeVersion, "Patient", "a", "3")
	f("/fhir/Patient/a/_history/3/4", placeNone, "", "", "")
	f("/fhir/Patient/a/$everything", placeEverything, "Patient", "a", "$everything")
	f("/fhir/Patient/a/Observation", placeCompartment, "Patient", "a", "Observation")
	f("/fhir/Patient/a/*", placeCompartment, "Patient", "a", "*")
	f("/fhir/Patient/a/b", placeNone, "", "", "")
	f("/fhir//Patient", placeNone, "", "", "")
	f("/fhir/Patient//a", placeNone, "", "", "")
}

func TestAmbiguousPathsAreFound(t *testing.T) {
	f := func(path string, want bool) {
		t.Helper()
		if got := isAmbiguousPath([]byte(path)); got != want {
			t.Errorf("%q: got %v", path, got)
		}
	}
	f("/fhir/Patient/a", false)
	f("/fhir/%24import", false)
	f("/fhir/Patient/a.b", false)
	f("/fhir/Patient/..a", false)
	f("/", false)
	f("/fhir/", false)
	f("", true)
	f("fhir", true)
	f("//fhir", true)
	f("/fhir//Patient", true)
	f("/fhir//", true)
	f("/fhir/./Patient", true)
	f("/fhir/../x", true)
	f("/fhir/..", true)
	f("/fhir/Patient%2fa", true)
	f("/fhir/Patient%2Fa", true)
	f("/fhir/%2e%2e/x", true)
	f("/fhir/Patient/a%00", true)
	f("/fhir/Patient/a%5c", true)
	f("/fhir/Patient/a%0a", true)
	f("/fhir/Patient/%252e", true)
	f("/fhir/Patient/a%", true)
	f("/fhir/Patient/a%2", true)
	f("/fhir/Patient/a%zz", true)
	f("/fhir/Patient\\a", true)
}

// FuzzRouter checks that a path that is let through means the same to the
// library, which decodes and normalises, as to a reader that splits it.
func FuzzRouter(f *testing.F) {
	for _, seed := range []string{"/fhir/Patient/a", "/fhir/%24import", "/fhir/a%2fb", "/fhir/../x", "//", "/fhir/Patient/a/_history/1", "/fhir/_operations/import/1/x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, path []byte) {
		if isAmbiguousPath(path) || bytes.ContainsAny(path, "?#") {
			return
		}
		var u fasthttp.URI
		if u.Parse([]byte("host"), path) != nil {
			return
		}
		if bytes.Count(u.Path(), []byte("/")) != bytes.Count(path, []byte("/")) {
			t.Fatalf("%q was normalised to %q", path, u.Path())
		}
		if decoded, err := url.PathUnescape(string(path)); err != nil || decoded != string(u.Path()) {
			t.Fatalf("%q is read as %q, and by others as %q (%v)", path, u.Path(), decoded, err)
		}
		a := parseAddress(u.Path())
		if a.place >= placeCount {
			t.Fatalf("%q leads to place %d", path, a.place)
		}
		at := u.Path() // what was read stands in the path, in this order
		for _, part := range [][]byte{a.typeName, a.id, a.name} {
			if i := bytes.Index(at, append([]byte("/"), part...)); len(part) > 0 && i < 0 || bytes.Contains(part, []byte("/")) {
				t.Fatalf("%q leads to %q %q %q", path, a.typeName, a.id, a.name)
			} else if len(part) > 0 {
				at = at[i+1+len(part):]
			}
		}
		if (a.typ != 0) != (fhir.TypeByName(a.typeName) != 0) {
			t.Fatalf("%q leads to type %d, %q", path, a.typ, a.typeName)
		}
	})
}

func TestTableServesHeadWhereGetOnlyReads(t *testing.T) {
	table := newTable()
	f := func(p place, want string) {
		t.Helper()
		if got := table.allowed(p); got != want {
			t.Errorf("place %d allows %q, want %q", p, got, want)
		}
	}
	f(placeInstance, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")
	f(placeVersion, "GET, HEAD, OPTIONS")
	f(placeExport, "GET, POST, OPTIONS")
	f(placeImport, "POST, OPTIONS")
	f(placeExportJob, "GET, HEAD, DELETE, OPTIONS")
}

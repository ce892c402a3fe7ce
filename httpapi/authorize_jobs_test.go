package httpapi

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/bulk"
	"kiln/engine"
)

// ended polls a job of a client until it runs no longer.
func (s *testServer) ended(t *testing.T, client, url string) *answer {
	t.Helper()
	for range 100_000 {
		if a := s.as(t, client, "GET", url, ""); a.status != 202 && a.status != 429 {
			return a
		}
	}
	t.Fatalf("%s does not end", url)
	return nil
}

// exported starts an export and gives its status address and its manifest.
func (s *testServer) exported(t *testing.T, client, query string) (url string, m *jobResult) {
	t.Helper()
	a := s.as(t, client, "GET", "/fhir/"+query, "", asyncHeader, acceptHeader)
	if a.status != 202 {
		t.Fatalf("%s, %s: %d %s", client, query, a.status, a.body)
	}
	url = a.header.Get("Content-Location")
	return url, s.ended(t, client, url).result(t)
}

func types(m *jobResult) string {
	var all []string
	for _, f := range m.Output {
		all = append(all, f.Type)
	}
	return strings.Join(all, " ")
}

// An export has what its client may have, and is its client's.
func TestExportsAreTheirClients(t *testing.T) {
	s := newGuarded(t)
	f := func(client, query string, status int) {
		t.Helper()
		if a := s.as(t, client, "GET", "/fhir/"+query, "", asyncHeader, acceptHeader); a.status != status {
			t.Errorf("%s, %s: %d %s, want %d", client, query, a.status, a.body, status)
		}
	}
	f("reader", "$export", 403)
	f("admin", "Patient/$export", 202)
	f("sys-obs", "$export?_type=Patient", 403)
	f("sys-obs", "$export?_type=Observation,Patient", 403)
	f("sys-obs", "$export?_typeFilter=Patient%3Fname=a", 403)
	f("sys-obs", "$export?_typeFilter=Observation%3Fsubject:Patient.name=a", 403)
	f("sys-obs", "$export?_typeFilter=Observation%3F_has:Patient:link:name=a", 400)
	f("sys-obs", "$export?_typeFilter=Observation%3F_list=other", 403)
	f("sys-obs", "$export?includeAssociatedData=LatestProvenanceResources", 403)
	f("sys-obs", "Patient/$export", 403)
	f("sys-obs", "Group/g/$export", 403)
	f("sys-obs", "Group/missing/$export", 403)
	f("sys-filter", "$export", 202)
	f("sys-filter", "$export?_type=Patient", 403)
	f("sys-filter", "Patient/$export", 403)
	f("sys-filter", "$export?_typeFilter=Observation%3Fhas-member.status=final", 403)
	f("sys-filter", "$export?includeAssociatedData=_history", 403)
	f("pat-rs", "$export", 403)
	f("user-all", "$export", 403)

	url, m := s.exported(t, "sys-obs", "$export")
	if types(m) != "Observation" || m.RequiresAccessToken == nil || !*m.RequiresAccessToken {
		t.Fatalf("an export of who may see Observations has %+v", m)
	}
	file := m.Output[0].URL
	missing := strings.Replace(url, "/export/", "/export/9", 1)
	g := func(client, method, url string, status int) {
		t.Helper()
		a := s.as(t, client, method, url, "")
		if a.status != status {
			t.Errorf("%s, %s %s: %d %s, want %d", client, method, url, a.status, a.body, status)
		}
	}
	for _, client := range []string{"exporter", "sys-rs"} {
		for _, method := range []string{"GET", "HEAD", "DELETE"} {
			g(client, method, url, 404)
			g(client, method, missing, 404)
		}
		g(client, "GET", file, 404)
	}
	g("", "GET", file, 401)
	g("reader", "GET", file, 403)
	g("sys-obs", "GET", file, 200)
	g("admin", "GET", file, 200)
	g("admin", "GET", url, 200)
	narrow := *s.opts.Auth.(testAuth)["sys-obs"]
	narrow.Subject = "exporter"
	s.opts.Auth.(testAuth)["narrow"] = &narrow
	_, all := s.exported(t, "exporter", "$export?_type=Patient,Observation")
	for _, f := range all.Output {
		g("narrow", "GET", f.URL, map[string]int{"Observation": 200, "Patient": 403}[f.Type])
	}
	g("sys-obs", "DELETE", url, 202)
	g("sys-obs", "GET", url, 404)
}

// What is published is for all who may have all of it.
func TestWhatIsPublishedIsForWhoMayHaveAll(t *testing.T) {
	s := newGuarded(t)
	_, m := s.exported(t, "exporter", "$export")
	f := func(client, url string, status int) {
		t.Helper()
		if a := s.as(t, client, "GET", url, ""); a.status != status {
			t.Errorf("%s, %s: %d %s, want %d", client, url, a.status, a.body, status)
		}
	}
	for client, status := range map[string]int{"exporter": 200, "sys-rs": 200, "admin": 200, "sys-obs": 403, "reader": 403, "pat-rs": 403} {
		f(client, "/fhir/$bulk-publish", status)
	}
	f("sys-rs", m.Output[0].URL, 200)
	f("sys-obs", m.Output[0].URL, 404)
}

// An import is its client's; an equal one of another client is another job.
func TestImportsAreTheirClients(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.ndjson"), []byte(`{"resourceType":"Patient","id":"imported"}`+"\nnot JSON\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newAPI(t, func(_ *engine.Options, b *bulk.Options, h *Options) {
		b.ImportRoots, h.Auth = []string{root}, clients(t)
	})
	clients := s.opts.Auth.(testAuth)
	second := *clients["importer"]
	second.Subject = "second"
	clients["second"] = &second
	start := func(client string, status int) string {
		t.Helper()
		a := s.as(t, client, "POST", "/fhir/$import", importBody(root, "a.ndjson"), asyncHeader)
		if a.status != status {
			t.Fatalf("%s: %d %s, want %d", client, a.status, a.body, status)
		}
		return a.header.Get("Content-Location")
	}
	start("contributor", 403)
	start("sys-rs", 403)
	start("", 401)
	url := start("importer", 202)
	done := s.ended(t, "importer", url)
	if again := start("importer", 202); again != url {
		t.Errorf("the same import again is %s, not %s", again, url)
	}
	other := start("second", 202)
	if other == url {
		t.Errorf("two clients' imports are one job")
	}
	s.ended(t, "second", other)
	start("sys-cud", 202)
	var result struct{ Error []struct{ URL string } }
	if err := json.Unmarshal([]byte(done.body), &result); err != nil || len(result.Error) != 1 {
		t.Fatalf("no error file: %s", done.body)
	}
	f := func(client, method, url string, status int) {
		t.Helper()
		if a := s.as(t, client, method, url, ""); a.status != status {
			t.Errorf("%s, %s %s: %d %s, want %d", client, method, url, a.status, a.body, status)
		}
	}
	for _, method := range []string{"GET", "HEAD", "DELETE"} {
		f("second", method, url, 404)
		f("second", method, url+"9", 404)
	}
	f("second", "GET", result.Error[0].URL, 404)
	f("importer", "GET", result.Error[0].URL, 200)
	f("admin", "GET", result.Error[0].URL, 200)
	f("admin", "GET", url, 200)
	f("importer", "DELETE", url, 409)
}

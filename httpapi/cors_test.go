package httpapi

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
)

func TestOptionsNameTheMethodsOfEveryAddress(t *testing.T) {
	s := newBareServer(t, nil)
	f := func(path, allow string) {
		t.Helper()
		a := s.do(t, "OPTIONS", path, "")
		if a.status != 204 || a.body != "" || a.header.Get("Allow") != allow {
			t.Errorf("%s: got %d, Allow %q", path, a.status, a.header.Get("Allow"))
		}
		if a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: CORS is not off", path)
		}
	}
	f("/fhir/metadata", "GET, HEAD, OPTIONS")
	f("/fhir/Patient/a", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")
	f("/fhir/Patient/a/_history", "GET, HEAD, OPTIONS")
	f("/fhir/$import", "POST, OPTIONS")
	f("/healthz", "GET, HEAD, OPTIONS")
	for p := placeNone + 1; p < placeCount; p++ {
		if allowed := s.table.allowed(p); allowed == "OPTIONS" {
			t.Errorf("place %d has no method", p)
		}
	}
	a := s.do(t, "OPTIONS", "/fhir/nowhere/at/all/x", "")
	if a.status != 404 {
		t.Errorf("nowhere: got %d", a.status)
	}
	if a := s.do(t, "OPTIONS", "/fhir/Dog/a", ""); a.status != 404 {
		t.Errorf("no type: got %d", a.status)
	}
	refused := s.do(t, "DELETE", "/fhir/metadata", "")
	if refused.status != 405 || refused.header.Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("405: got %d, Allow %q", refused.status, refused.header.Get("Allow"))
	}
}

func TestCORSIsForNamedOriginsOnly(t *testing.T) {
	const app = "https://app.example.org"
	s := newBareServer(t, func(o *Options) { o.CORSOrigins = []string{app, "http://localhost:3000"} })
	f := func(origin string, allowed bool) {
		t.Helper()
		for _, path := range []string{"/fhir/metadata", "/fhir/Dog/a"} { // errors too
			a := s.do(t, "GET", path, "", "Origin: "+origin)
			got := a.header.Get("Access-Control-Allow-Origin")
			if allowed != (got == origin) || !allowed && got != "" || allowed != strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "ETag") {
				t.Errorf("%s from %s: got %q", path, origin, got)
			}
			if !slices.Contains(a.header.Values("Vary"), "Origin") {
				t.Errorf("%s from %s: Vary is %q", path, origin, a.header.Values("Vary"))
			}
		}
	}
	f(app, true)
	f("http://localhost:3000", true)
	f("http://app.example.org", false)
	f("https://app.example.org.evil.org", false)
	f("null", false)
	preflight := s.do(t, "OPTIONS", "/fhir/Patient/a", "", "Origin: "+app, "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: if-match")
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": app, "Access-Control-Allow-Methods": "GET, HEAD, PUT, PATCH, DELETE, OPTIONS",
		"Access-Control-Allow-Headers": corsRequestHeaders, "Access-Control-Max-Age": "600", "Access-Control-Allow-Credentials": "",
	} {
		if got := preflight.header.Get(name); preflight.status != 204 || got != want {
			t.Errorf("preflight %d: %s is %q", preflight.status, name, got)
		}
	}
	other := s.do(t, "OPTIONS", "/fhir/Patient/a", "", "Origin: https://x", "Access-Control-Request-Method: PUT")
	if other.header.Get("Access-Control-Allow-Methods") != "" {
		t.Error("a preflight from another origin was answered")
	}
}

func TestCORSForEveryOrigin(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.CORSOrigins = []string{"*"} })
	a := s.do(t, "GET", "/fhir/metadata", "", "Origin: https://x")
	if a.header.Get("Access-Control-Allow-Origin") != "*" || slices.Contains(a.header.Values("Vary"), "Origin") {
		t.Errorf("got %v", a.header)
	}
	for _, bad := range []string{"", "example.org", "https://x/", "https://x?y", "ftp://x", "HTTPS://x", "https://u@x", "%"} {
		if _, err := New(Options{Store: &engine.Store{}, Jobs: &bulk.Manager{}, Now: time.Now, NewID: func() string { return "" }, CORSOrigins: []string{bad}}); err == nil {
			t.Errorf("origin %q was accepted", bad)
		}
	}
}

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// postImport registers an import of files, and returns the path of its status.
func (s *server) postImport(files ...string) string {
	s.t.Helper()
	body := `{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"}`
	for _, file := range files {
		body += `,{"name":"input","part":[{"name":"url","valueUri":"` + fileURL(file) + `"}]}`
	}
	got := s.must(http.StatusAccepted, http.MethodPost, "/$import", body+`]}`, "Prefer", "respond-async")
	_, job, _ := strings.Cut(got.header.Get("Content-Location"), "/_operations/")
	return "/_operations/" + job
}

// ended polls a job to its end.
func (s *server) ended(path string) *answer {
	s.t.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		got, err := ask(http.MethodGet, s.base+path, "")
		if err != nil {
			s.t.Fatalf("%v\n%s", err, s.log)
		}
		if got.status != http.StatusAccepted {
			return got
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("job %s does not end: %s", path, got.header.Get("X-Progress"))
		}
	}
}

// Registrations outlive the process, killed or stopped: the same body is the
// same job, which runs again only if it had not completed.
func TestRegistrationsOutliveTheProcess(t *testing.T) {
	input, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	whole := write(t, input, "whole.ndjson", patients(200, "x"))
	missing := filepath.Join(input, "missing.ndjson")
	big := write(t, input, "big.ndjson", patients(60_000, "y"))
	// The address is a part of the registration, and a restart takes another port.
	start := func() *server {
		return serve(t, data, "--import-root", input, "--base-url", "http://kiln.example/fhir")
	}
	s := start()
	completed, failed := s.postImport(whole), s.postImport(missing)
	if got := s.ended(completed); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := s.ended(failed); got.status != http.StatusNotFound {
		t.Fatalf("%d %s", got.status, got.body)
	}
	cancelled := s.postImport(big)
	stop, err := ask(http.MethodDelete, s.base+cancelled, "")
	if err != nil || stop.status != http.StatusAccepted && stop.status != http.StatusConflict {
		t.Fatalf("%+v, %v", stop, err)
	}
	ends := s.ended(cancelled).status
	result := s.ended(completed)
	for _, restart := range []func(){func() { s.kill() }, func() { s.stop() }} {
		restart()
		s = start()
		for path, want := range map[string]int{completed: http.StatusOK, failed: http.StatusNotFound, cancelled: ends} {
			if got := s.must(want, http.MethodGet, path, ""); path == completed &&
				strings.Split(string(got.body), `"output"`)[1] != strings.Split(string(result.body), `"output"`)[1] {
				t.Errorf("the completed import tells %s, told %s", got.body, result.body)
			}
		}
	}
	write(t, input, "missing.ndjson", `{"resourceType":"Basic","id":"b"}`)
	if err := os.Remove(whole); err != nil { // it is not read again
		t.Fatal(err)
	}
	f := func(path, file, counted string) {
		t.Helper()
		if again := s.postImport(file); again != path {
			t.Errorf("%s is %s, was %s", file, again, path)
		}
		if got := s.ended(path); got.status != http.StatusOK || !strings.Contains(string(got.body), `"count":`+counted+`,`) {
			t.Errorf("%s ends with %d %s", file, got.status, got.body)
		}
	}
	f(completed, whole, "200")
	f(failed, missing, "1")
	f(cancelled, big, "60000")
	s.must(http.StatusOK, http.MethodGet, "/Basic/b", "")
	if total := s.historyTotal("/Patient"); total != 60_000+200 {
		t.Errorf("%d versions", total)
	}
	s.stop()
}

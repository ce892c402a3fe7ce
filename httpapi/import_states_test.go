package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
)

// gatedServer serves patients under any name; reads of names with "gated" wait
// until it is opened.
func gatedServer(t *testing.T, lines int) (address string, asked *atomic.Int64, open func()) {
	t.Helper()
	gate := make(chan struct{})
	asked = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var text bytes.Buffer
		for i := range lines {
			fmt.Fprintf(&text, `{"resourceType":"Patient","id":"%s-%d"}`+"\n", strings.Trim(r.URL.Path, "/"), i)
		}
		if strings.Contains(r.URL.Path, "gated") && r.Header.Get("Range") != "bytes=0-0" {
			select {
			case <-gate:
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("Etag", `"1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text.Bytes()))
	}))
	t.Cleanup(server.Close)
	return server.URL, asked, func() { close(gate) }
}

// importOf asks for addresses.
func importOf(addresses ...string) string {
	body := `{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"}`
	for _, address := range addresses {
		body += `,{"name":"input","part":[{"name":"url","valueUri":"` + address + `"}]}`
	}
	return body + `]}`
}

// One registration through its states: running, cancelled, running again,
// completed. It is one job all the time, and what is completed does not run again.
func TestOneRegistrationIsOneJob(t *testing.T) {
	source, asked, open := gatedServer(t, 100)
	s := newAPI(t, func(_ *engine.Options, jobs *bulk.Options, _ *Options) {
		jobs.ImportOrigins, jobs.RoundBytes = []string{source}, 1
	})
	body := strings.Replace(importOf(source+"/first", source+"/gated"), `"parameter":[`, `"parameter":[{"name":"processingUnitBytesToRead","valueInteger":1000},`, 1)
	url := s.startImport(t, body)
	same := func(when string) {
		t.Helper()
		if again := s.startImport(t, body); again != url {
			t.Errorf("%s the same body is %s, was %s", when, again, url)
		}
	}
	same("while it runs")
	s.waitForPartialResult(t, url, source)
	if stop := s.do(t, "DELETE", url, ""); stop.status != 202 {
		t.Fatalf("cancel: %d %s", stop.status, stop.body)
	}
	if a := s.finish(t, url); a.status != 400 || !strings.Contains(a.body, "resources were loaded, which stay") || strings.Contains(a.body, "Until then 0 ") {
		t.Errorf("cancelled: %d %s", a.status, a.body)
	}
	same("after a cancel")
	open()
	if r := s.finish(t, url).result(t); len(r.Output) != 2 || r.Output[0].Count != 100 || r.Output[1].Count != 100 || len(r.Error) != 0 {
		t.Errorf("it ends with %+v", r)
	}
	before := asked.Load()
	same("when it is completed")
	if r := s.finish(t, url).result(t); r.Output[0].Count != 100 || asked.Load() != before {
		t.Errorf("it ran again: %+v", r)
	}
}

// waitForPartialResult polls until units of the first input are in the result
// that is told while the job runs, and none of the second.
func (s *testServer) waitForPartialResult(t *testing.T, url, source string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		a := s.do(t, "GET", url+"?_details=true", "")
		if a.status != 202 || a.header.Get("Retry-After") != "1" || a.header.Get("X-Progress") == "" {
			t.Fatalf("running: %d %v %s", a.status, a.header, a.body)
		}
		var r jobResult
		if a.body != "" && (json.Unmarshal([]byte(a.body), &r) != nil || a.header.Get("Content-Type") != contentTypeResults || len(r.Output) != 2 || r.Output[1].Count != 0) {
			t.Fatalf("running: %s", a.body)
		}
		if len(r.Output) == 2 && r.Output[0].Count > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing of %s/first is published: %s", source, a.body)
		}
	}
}

// A failed registration goes on when it is made again, and says before why it
// failed.
func TestFailedRegistrationGoesOn(t *testing.T) {
	s, root := newImportAPI(t, nil)
	body := importBody(root, "p.ndjson")
	url := s.startImport(t, body)
	a := s.finish(t, url)
	want := "import operation failed for reason: file://" + root + "/p.ndjson does not exist"
	if code, text := a.outcome(t); a.status != 404 || code != "processing" || text != want {
		t.Errorf("a missing file: %d %s %q", a.status, code, text)
	}
	if stop := s.do(t, "DELETE", url, ""); stop.status != 409 {
		t.Errorf("cancel of a failed job: %d %s", stop.status, stop.body)
	}
	if err := os.WriteFile(filepath.Join(root, "p.ndjson"), []byte(`{"resourceType":"Patient","id":"a"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := s.do(t, "GET", url, ""); a.status != 404 {
		t.Errorf("before it is made again: %d %s", a.status, a.body)
	}
	if again := s.startImport(t, body); again != url {
		t.Errorf("made again it is %s, was %s", again, url)
	}
	if r := s.finish(t, url).result(t); r.Output[0].Count != 1 {
		t.Errorf("it ends with %+v", r)
	}
}

// A job that cannot read an input on names it.
func TestFailedImportNamesItsInput(t *testing.T) {
	var refuse atomic.Int64
	hang := make(chan struct{})
	defer close(hang)
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch status := int(refuse.Load()); {
		case r.Header.Get("Range") == "bytes=0-0" && strings.HasPrefix(r.URL.Path, "/read"):
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(`{"resourceType":"Patient","id":"a"}`))
		case status != 0:
			w.WriteHeader(status)
		default:
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}
	}))
	defer source.Close()
	s := newAPI(t, func(_ *engine.Options, jobs *bulk.Options, _ *Options) {
		jobs.ImportOrigins, jobs.RetryWait, jobs.SilenceMax = []string{source.URL}, time.Millisecond, 20*time.Millisecond
	})
	f := func(path string, answers, status int, want string) {
		t.Helper()
		refuse.Store(int64(answers))
		a := s.finish(t, s.startImport(t, importOf(source.URL+path)))
		want = "import operation failed for reason: " + strings.ReplaceAll(want, "%s", source.URL+path)
		if code, text := a.outcome(t); a.status != status || code != "processing" || text != want {
			t.Errorf("%s: %d %s %q, want %q", path, a.status, code, text, want)
		}
	}
	f("/probe1", 403, 403, "%s: the server answered 403 Forbidden")
	f("/probe2", 404, 404, "%s: the server answered 404 Not Found")
	f("/read1", 403, 400, "Due to unauthorized request, import processing operation failed. ErrorFile: %s")
	f("/read2", 404, 400, "Input file deleted, renamed, or moved during job. Import processing operation failed. ErrorFile: %s")
	f("/probe3", 0, 500, "%s: the server sent nothing for too long, 6 times in a row")
	f("/read3", 0, 500, "%s: the server sent nothing for too long, 6 times in a row")
}

// What was refused before a job failed can be found from its status.
func TestFailedImportTellsItsErrorFiles(t *testing.T) {
	var gone atomic.Bool
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/bad") {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(strings.Repeat("nothing\n", 1000)))
			return
		}
		if gone.Swap(true) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(`{"resourceType":"Patient","id":"a"}`))
	}))
	defer source.Close()
	s := newAPI(t, func(_ *engine.Options, jobs *bulk.Options, _ *Options) {
		jobs.ImportOrigins, jobs.RoundBytes = []string{source.URL}, 1
	})
	body := strings.Replace(importOf(source.URL+"/bad", source.URL+"/gone"), `"parameter":[`, `"parameter":[{"name":"processingUnitBytesToRead","valueInteger":1000},`, 1)
	url := s.startImport(t, body)
	a := s.finish(t, url)
	_, name, found := strings.Cut(a.body, "refused lines are explained in "+url+"/")
	if a.status != 400 || !found {
		t.Fatalf("failed: %d %s", a.status, a.body)
	}
	name, _, _ = strings.Cut(name, ". ")
	name, _, _ = strings.Cut(name, `."`)
	if file := s.do(t, "GET", url+"/"+name, ""); file.status != 200 || !strings.Contains(file.body, "line: 1 with") {
		t.Errorf("%s: %d %.300s", name, file.status, file.body)
	}
}

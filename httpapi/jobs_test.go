package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
)

const (
	asyncHeader  = "Prefer: respond-async"
	acceptHeader = "Accept: application/fhir+json"
)

// jobResult is the result of an import or the manifest of an export.
type jobResult struct {
	TransactionTime        string
	Request                string
	RequiresAccessToken    *bool
	Output, Deleted, Error []struct {
		Type, URL, InputURL string
		Count               int
	}
}

// finish polls a job as its answers ask for, without waiting between.
func (s *testServer) finish(t *testing.T, statusURL string) *answer {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		a := s.do(t, "GET", statusURL, "")
		if a.status == 429 && time.Now().Before(deadline) {
			continue // the job is a long one
		}
		if a.status != 202 {
			return a
		}
		if a.header.Get("Retry-After") != "1" || a.header.Get("X-Progress") == "" || len(a.header.Get("X-Progress")) >= 100 {
			t.Fatalf("running: Retry-After %q, X-Progress %q", a.header.Get("Retry-After"), a.header.Get("X-Progress"))
		}
		if time.Now().After(deadline) {
			t.Fatalf("job %s does not end: %s", statusURL, a.header.Get("X-Progress"))
		}
	}
}

func (a *answer) result(t *testing.T) *jobResult {
	t.Helper()
	var r jobResult
	if err := json.Unmarshal([]byte(a.body), &r); err != nil || a.status != 200 || a.header.Get("Content-Type") != contentTypeResults {
		t.Fatalf("no result: %d %s %.500s (%v)", a.status, a.header.Get("Content-Type"), a.body, err)
	}
	if _, err := time.Parse(time.RFC3339, r.TransactionTime); err != nil {
		t.Errorf("transactionTime %q: %v", r.TransactionTime, err)
	}
	return &r
}

// importBody asks for the files, each "name" or "Type name".
func importBody(root string, files ...string) string {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"}`)
	for _, file := range files {
		typeName, name, typed := strings.Cut(file, " ")
		if !typed {
			typeName, name = "", file
		}
		b.WriteString(`,{"name":"input","part":[{"name":"url","valueUri":"file://` + filepath.Join(root, name) + `"}`)
		if typed {
			b.WriteString(`,{"name":"type","valueString":"` + typeName + `"}`)
		}
		b.WriteString(`]}`)
	}
	return b.String() + `]}`
}

// newImportAPI starts a server that may import from a directory with files.
func newImportAPI(t *testing.T, files map[string]string) (s *testServer, root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return newAPI(t, func(_ *engine.Options, jobs *bulk.Options, _ *Options) { jobs.ImportRoots = []string{root} }), root
}

func (s *testServer) startImport(t *testing.T, body string) string {
	t.Helper()
	a := s.do(t, "POST", "/fhir/$import", body, asyncHeader, typeHeader)
	url := a.header.Get("Content-Location")
	if a.status != 202 || a.body != "" || !strings.HasPrefix(url, "http://"+s.addr+"/fhir/_operations/import/") {
		t.Fatalf("kick-off: %d %q %s", a.status, url, a.body)
	}
	return url
}

func TestImportTellsWhatWasLoadedAndRefused(t *testing.T) {
	s, root := newImportAPI(t, map[string]string{
		"p.ndjson":    `{"resourceType":"Patient","id":"a"}` + "\n" + `{"resourceType":"Patient","id":"a"}` + "\n{bad}\n",
		"all.ndjson":  `{"resourceType":"Observation","id":"o"}` + "\n" + `{"resourceType":"Patient","id":"b"}` + "\n",
		"none.ndjson": "",
	})
	body := importBody(root, "Patient p.ndjson", "all.ndjson", "none.ndjson")
	url := s.startImport(t, body)
	a := s.finish(t, url)
	r := a.result(t)
	if r.Request != "http://"+s.addr+"/fhir/$import" || len(r.Output) != 3 || len(r.Error) != 1 {
		t.Fatalf("got %s", a.body)
	}
	f := func(i int, typeName, file string, count int) {
		t.Helper()
		o := r.Output[i]
		if o.Type != typeName || o.InputURL != "file://"+filepath.Join(root, file) || o.Count != count {
			t.Errorf("output %d is %+v", i, o)
		}
	}
	f(0, "Patient", "p.ndjson", 1)
	f(1, "", "all.ndjson", 2)
	f(2, "", "none.ndjson", 0)
	if !strings.Contains(a.body, `"type":null`) || !strings.HasPrefix(r.Error[0].URL, url+"/") || r.Error[0].Count != 2 {
		t.Errorf("got %s", a.body)
	}
	metrics := s.do(t, "GET", "/metrics", "").body
	for _, want := range []string{
		"kiln_import_scanned_lines_total 5", "kiln_import_loaded_lines_total 3", "kiln_import_rounds_total 1",
		`kiln_import_refused_lines_total{reason="duplicate"} 1`, `kiln_import_refused_lines_total{reason="not-a-resource"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s in the metrics", want)
		}
	}
	file := s.do(t, "GET", r.Error[0].URL, "")
	lines := strings.Split(strings.TrimSuffix(file.body, "\n"), "\n")
	if file.status != 200 || file.header.Get("Content-Type") != contentTypeNDJSON || len(lines) != 2 ||
		!strings.Contains(lines[0], "Failed to import duplicate resource, resource id: a, line: 2") || !strings.Contains(lines[1], "line: 3") {
		t.Errorf("error file: %d %s %s", file.status, file.header.Get("Content-Type"), file.body)
	}
	s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "imported", 200, `W/"1"`)
	if again := s.startImport(t, body); again != url {
		t.Errorf("the same body is job %s, was %s", again, url)
	}
	for range 2 {
		stop := s.do(t, "DELETE", url, "")
		if code, text := stop.outcome(t); stop.status != 409 || code != "processing" || text != "Import operation has already completed" {
			t.Errorf("cancel of a finished job: %d %s %q", stop.status, code, text)
		}
	}
	s.finish(t, url).result(t)
	for _, name := range []string{"other.ndjson", "..", "%2e%2e", "a%5cb"} {
		if status := s.do(t, "GET", url+"/"+name, "").status; status != 404 && status != 400 {
			t.Errorf("file %s: %d", name, status)
		}
	}
}

func TestRefusedImportsSayWhy(t *testing.T) {
	s, root := newImportAPI(t, map[string]string{"p.ndjson": ""})
	f := func(body, text string) {
		t.Helper()
		a := s.do(t, "POST", "/fhir/$import", body, asyncHeader, typeHeader)
		if _, got := a.outcome(t); a.status != 400 || !strings.Contains(got, text) {
			t.Errorf("%s: %d %q", body, a.status, got)
		}
	}
	f(`{"resourceType":"Patient"}`, "Import request must be specified as a Paramters.")
	f(`{`, "Import request must be specified as a Paramters.")
	f(importBody(root), "Value of the following parameter input is invalid.")
	f(importBody(root, "p.ndjson", "p.ndjson"), "Import request cannot have duplicate files.")
	f(importBody(root, "Dog p.ndjson"), "Requested operation does not support resource type: Dog.")
	f(importBody("/etc", "passwd"), "")
}

func TestCancelledImportTellsWhatStays(t *testing.T) {
	s, root := newImportAPI(t, nil)
	line := `{"resourceType":"Patient","id":"p-%d","text":{"div":"` + strings.Repeat("x", 4000) + `"}}` + "\n"
	var text strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, line, i)
	}
	if err := os.WriteFile(filepath.Join(root, "p.ndjson"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	url := s.startImport(t, importBody(root, "p.ndjson"))
	stop := s.do(t, "DELETE", url, "")
	if stop.status == 409 {
		t.Skip("the import was over before it could be cancelled")
	}
	if stop.status != 202 || stop.body != "" {
		t.Fatalf("cancel: %d %s", stop.status, stop.body)
	}
	a := s.finish(t, url)
	if code, got := a.outcome(t); a.status != 400 || code != "processing" || got != "User requested cancellation of operation." {
		t.Errorf("status: %d %s %q", a.status, code, got)
	}
	if !strings.Contains(a.body, "resources were loaded, which stay") {
		t.Errorf("status: %s", a.body)
	}
	if again := s.do(t, "DELETE", url, ""); again.status != 202 {
		t.Errorf("cancel again: %d %s", again.status, again.body)
	}
}

func TestExportServesItsFilesUntilDeleted(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", `,"active":true`).expect(t, "a", 201, "-")
	s.put(t, "b", "").expect(t, "b", 201, "-")
	s.put(t, "c", "").expect(t, "c", 201, "-")
	s.do(t, "DELETE", "/fhir/Patient/c", "").expect(t, "c", 204, "-")
	s.do(t, "PUT", "/fhir/Observation/o", `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"}}`, typeHeader).expect(t, "o", 201, "-")
	kick := s.do(t, "GET", "/fhir/$export?_type=Patient&_since=2001-01-01T00:00:00+02:00", "", asyncHeader, acceptHeader)
	url := kick.header.Get("Content-Location")
	if kick.status != 202 || kick.body != "" || !strings.HasPrefix(url, "http://"+s.addr+"/fhir/_operations/export/") {
		t.Fatalf("kick-off: %d %q %s", kick.status, url, kick.body)
	}
	a := s.finish(t, url)
	r := a.result(t)
	if r.Request != "http://"+s.addr+"/fhir/$export?_type=Patient&_since=2001-01-01T00:00:00+02:00" || r.RequiresAccessToken == nil || *r.RequiresAccessToken || r.Error == nil {
		t.Errorf("manifest: %s", a.body)
	}
	var lines []string
	for _, o := range r.Output {
		file := s.do(t, "GET", o.URL, "")
		got := strings.SplitAfter(strings.TrimSuffix(file.body, "\n"), "\n")
		if o.Type != "Patient" || len(got) != o.Count || file.header.Get("Content-Type") != contentTypeNDJSON {
			t.Errorf("%+v has %d lines", o, len(got))
		}
		for _, line := range got {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	want := []string{s.do(t, "GET", "/fhir/Patient/a", "").body, s.do(t, "GET", "/fhir/Patient/b", "").body}
	slices.Sort(want)
	if !slices.Equal(lines, want) {
		t.Errorf("exported %q, served %q", lines, want)
	}
	s.checkRanges(t, r.Output[0].URL)
	if gone := s.do(t, "DELETE", url, ""); gone.status != 202 || gone.body != "" {
		t.Errorf("delete: %d %s", gone.status, gone.body)
	}
	for _, path := range []string{url, r.Output[0].URL} {
		if gone := s.do(t, "GET", path, ""); gone.status != 404 {
			t.Errorf("%s after delete: %d", path, gone.status)
		}
	}
	if gone := s.do(t, "DELETE", url, ""); gone.status != 404 {
		t.Errorf("delete again: %d", gone.status)
	}
}

// checkRanges compares parts of a file with the whole.
func (s *testServer) checkRanges(t *testing.T, url string) {
	t.Helper()
	whole := s.do(t, "GET", url, "")
	size, tag := len(whole.body), whole.header.Get("ETag")
	f := func(want string, status int, contentRange string, headers ...string) {
		t.Helper()
		a := s.do(t, "GET", url, "", headers...)
		if a.status != status || a.header.Get("Content-Range") != contentRange || status != 416 && a.body != want {
			t.Errorf("%q: %d %q %q", headers, a.status, a.header.Get("Content-Range"), a.body)
		}
	}
	f(whole.body[5:10], 206, fmt.Sprintf("bytes 5-9/%d", size), "Range: bytes=5-9")
	f(whole.body[5:], 206, fmt.Sprintf("bytes 5-%d/%d", size-1, size), "Range: bytes=5-", "If-Range: "+tag)
	f(whole.body, 200, "", "Range: bytes=5-", `If-Range: "other"`)
	f("", 416, fmt.Sprintf("bytes */%d", size), fmt.Sprintf("Range: bytes=%d-", size))
	head := s.do(t, "HEAD", url, "", "Range: bytes=0-1")
	if head.status != 200 || head.body != "" || head.header.Get("Content-Length") != fmt.Sprint(size) || head.header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %d %q %v", head.status, head.body, head.header)
	}
}

func TestRefusedExportsSayWhy(t *testing.T) {
	s := newAPI(t, nil)
	f := func(query, text string, headers ...string) {
		t.Helper()
		a := s.do(t, "GET", "/fhir/$export?"+query, "", append(headers, acceptHeader)...)
		if _, got := a.outcome(t); a.status != 400 || got != text {
			t.Errorf("%s: %d %q", query, a.status, got)
		}
	}
	f("_odd=1", `The "_odd" parameter is not supported.`, asyncHeader)
	f("_outputFormat=csv", `The output format 'csv' is not supported.`, asyncHeader)
	f("_type=Dog", `Requested operation does not support resource type: Dog.`, asyncHeader)
	f("_anonymizationConfig=x", `The "_anonymizationConfig" parameter is not supported.`, "Prefer: respond-async, handling=lenient")
	if a := s.do(t, "HEAD", "/fhir/Patient", ""); a.status != 200 || a.body != "" {
		t.Errorf("HEAD of a search: %d", a.status)
	}
	if a := s.do(t, "HEAD", "/fhir/$export", "", asyncHeader, acceptHeader); a.status != 405 {
		t.Errorf("HEAD $export: %d", a.status)
	}
	if a := s.do(t, "GET", "/fhir/$export?_odd=1", "", "Prefer: respond-async, handling=lenient", acceptHeader); a.status != 202 {
		t.Errorf("lenient: %d %s", a.status, a.body)
	}
}

// breakingReader gives some bytes and then fails.
type breakingReader struct{ left int }

func (r *breakingReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, errors.New("the disk is gone")
	}
	n := min(len(p), r.left)
	r.left -= n
	return n, nil
}

func (r *breakingReader) Close() error { return nil }

func TestFailedReadNeverLooksLikeAWholeFile(t *testing.T) {
	s := newBareServer(t, nil)
	broken := &breakingReader{left: 50_000}
	s.table.rows[s.table.find(placeExportFile, methodGet)].run = func(x *exchange) error {
		x.ctx.SetStatusCode(fasthttp.StatusOK)
		x.ctx.Response.SetBodyStream(&fileBody{server: x.server, part: broken, file: broken, conn: x.ctx.Conn()}, 100_000)
		return nil
	}
	response, err := http.Get("http://" + s.addr + "/fhir/_operations/export/1/Patient-1.ndjson")
	if err != nil {
		var network net.Error
		if errors.As(err, &network) {
			return // cut before the head: just as clear
		}
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) > 50_000 {
		t.Errorf("read %d bytes, error %v", len(got), err)
	}
}

// The SMART draft's manifest starts the same job as the Parameters form.
func TestImportTakesAPlainJSONManifest(t *testing.T) {
	s, root := newImportAPI(t, map[string]string{"p.ndjson": `{"resourceType":"Patient","id":"a"}` + "\n"})
	post := func(body, contentType string) *answer {
		return s.do(t, "POST", "/fhir/$import", body, asyncHeader, "Content-Type: "+contentType)
	}
	manifest := `{"inputFormat":"application/fhir+ndjson","storageDetail":{"type":"https"},"input":[{"type":"Patient","url":"file://` + filepath.Join(root, "p.ndjson") + `"}]}`
	a := post(manifest, "Application/JSON; charset=utf-8")
	url := a.header.Get("Content-Location")
	if a.status != 202 || url == "" {
		t.Fatalf("kick-off: %d %s", a.status, a.body)
	}
	if r := s.finish(t, url).result(t); len(r.Output) != 1 || r.Output[0].Count != 1 || r.Output[0].Type != "Patient" {
		t.Errorf("the result is %+v", r)
	}
	if again := s.startImport(t, importBody(root, "Patient p.ndjson")); again != url {
		t.Errorf("the same request as Parameters is %s, was %s", again, url)
	}
	a = post(`{"input":"x"}`, "application/json")
	if code, text := a.outcome(t); a.status != 400 || code != "invalid" || !strings.HasSuffix(text, ": input is not an array.") {
		t.Errorf("got %d %s %q", a.status, code, text)
	}
}

func TestImportProgressTellsWhatGoesOn(t *testing.T) {
	f := func(want string, status bulk.ImportStatus) {
		t.Helper()
		if got := importProgress(&status); got != want {
			t.Errorf("%+v is %q, want %q", status, got, want)
		}
	}
	inputs := make([]bulk.InputResult, 3)
	f("starting: waiting for its turn", bulk.ImportStatus{Waiting: true, Inputs: inputs})
	f("starting: asking for 3 inputs", bulk.ImportStatus{Starting: true, Inputs: inputs})
	f("0 bytes read", bulk.ImportStatus{Inputs: inputs})
	f("25.0% (1 of 4 bytes)", bulk.ImportStatus{BytesDone: 1, BytesTotal: 4})
}

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// exportSite is a server with patients, observations, a deleted patient and a group.
func exportSite(t *testing.T) *server {
	t.Helper()
	input := t.TempDir()
	write(t, input, "p.ndjson", patients(2000, "x")+
		`{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"c"},"subject":{"reference":"Patient/p1"}}`+"\n"+
		`{"resourceType":"Observation","id":"o2","status":"amended","code":{"text":"c"},"subject":{"reference":"Patient/p2"}}`+"\n"+
		`{"resourceType":"Device","id":"d"}`+"\n"+
		`{"resourceType":"Group","id":"G.1","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p1"}},{"entity":{"reference":"Patient/p7"}}]}`)
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--import-root", input)
	mustKiln(t, 0, "import", "--server", s.base, input)
	s.must(http.StatusNoContent, http.MethodDelete, "/Patient/p7", "")
	return s
}

func TestExportTakesLevelsAndFilters(t *testing.T) {
	t.Parallel()
	s := exportSite(t)
	f := func(want []string, args ...string) {
		t.Helper()
		out := filepath.Join(t.TempDir(), "out")
		mustKiln(t, 0, append([]string{"export", "--server", s.base, "--out", out}, args...)...)
		var got []string
		for key := range exported(t, out) {
			got = append(got, key)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%v: %v", args, got)
		}
	}
	f([]string{"Observation/o1", "Observation/o2"}, "--level", "patient", "--type", "Observation")
	f([]string{"Observation/o1", "Patient/p1"}, "--level", "group/G.1", "--type", "Patient,Observation")
	f([]string{"Observation/o2"}, "--type", "Observation", "--type-filter", "Observation?status=amended,entered-in-error")
	f([]string{"Observation/o1", "Observation/o2"}, "--type", "Observation", "--type-filter", "Observation?status=amended", "--type-filter", "Observation?status=final")
	f(nil, "--until", "2001-01-01")
	out := filepath.Join(t.TempDir(), "out")
	told := mustKiln(t, 0, "export", "--server", s.base, "--out", out, "--level", "group/G.1", "--type", "Patient,Observation", "--organize-by", "patient")
	files, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(files) != 1 || !strings.HasPrefix(told.out, "exported 3 resources and headers of patients ") {
		t.Fatalf("by patient: %v, %v: %s", files, err, told.out)
	}
	text, err := os.ReadFile(files[0])
	for i, want := range []string{`"header","valueReference":{"reference":"Patient/p1"}`, `"resourceType":"Patient","id":"p1"`, `"resourceType":"Observation","id":"o1"`} {
		if list := strings.Split(string(text), "\n"); err != nil || len(list) != 4 || !strings.Contains(list[i], want) {
			t.Errorf("line %d of %s: %v", i+1, text, err)
		}
	}
	mustKiln(t, exitFailed, "export", "--server", s.base, "--out", filepath.Join(t.TempDir(), "out"), "--level", "group/none")
	s.stop()
}

// What was deleted comes beside the resources, where an import of them does not take it.
func TestExportFetchesDeletionsToo(t *testing.T) {
	t.Parallel()
	s := exportSite(t)
	out := filepath.Join(t.TempDir(), "out")
	got := mustKiln(t, 0, "export", "--server", s.base, "--out", out, "--type", "Patient", "--since", "2001-01-01", "--json")
	list := decode[manifest](t, []byte(got.out))
	if len(list.Output) != 1 || *list.Output[0].Count != 1999 || list.Output[0].Bytes == 0 || len(list.Deleted) != 1 || len(exported(t, out)) != 1999 {
		t.Errorf("the manifest is %s", got.out)
	}
	files, err := filepath.Glob(filepath.Join(out, deletedDir, "*.ndjson"))
	if err != nil || len(files) != 1 {
		t.Fatalf("deleted: %v %v", files, err)
	}
	if text, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(text), `"Patient/p7"`) {
		t.Errorf("deleted: %s %v", text, err)
	}
	out = filepath.Join(t.TempDir(), "parquet")
	got = mustKiln(t, 0, "export", "--server", s.base, "--out", out, "--type", "Patient", "--format", "parquet")
	files, err = filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(files) != 1 || !strings.HasSuffix(files[0], ".parquet") || !strings.HasPrefix(got.out, "exported 1999 resources") {
		t.Errorf("as Parquet: %v %v %s", files, err, got.out)
	}
	s.stop()
}

// stalling stands before a server and lets the first look at a file hang in its
// middle.
type stalling struct {
	t       *testing.T
	to      *httputil.ReverseProxy
	stalled chan struct{} // closed when a file hangs
	once    sync.Once

	mu     sync.Mutex // guards what follows
	ranges []string   // that were asked for
	starts int        // of exports
}

func newStalling(t *testing.T, base string) (*stalling, *httptest.Server) {
	t.Helper()
	address, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	address.Path = ""
	p := &stalling{t: t, to: httputil.NewSingleHostReverseProxy(address), stalled: make(chan struct{})}
	web := httptest.NewServer(p)
	t.Cleanup(web.Close)
	return p, web
}

func (p *stalling) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	if strings.HasSuffix(r.URL.Path, "/$export") {
		p.starts++
	}
	if asked := r.Header.Get("Range"); asked != "" {
		p.ranges = append(p.ranges, asked)
	}
	p.mu.Unlock()
	hangs := false
	if strings.HasSuffix(r.URL.Path, ".ndjson") {
		p.once.Do(func() { hangs = true })
	}
	if !hangs {
		p.to.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	r.Header.Set("Accept-Encoding", "identity")
	p.to.ServeHTTP(answer, r)
	whole := answer.Body.Bytes()
	w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
	w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
	if _, err := w.Write(whole[:len(whole)/2]); err != nil {
		p.t.Error(err)
	}
	w.(http.Flusher).Flush()
	close(p.stalled)
	<-r.Context().Done()
}

// A command that was killed goes on with its export, and with the file that it had
// half.
func TestAKilledExportGoesOn(t *testing.T) {
	t.Parallel()
	s := exportSite(t)
	p, web := newStalling(t, s.base)
	out := filepath.Join(t.TempDir(), "out")
	args := []string{"export", "--server", web.URL, "--out", out, "--type", "Patient"}
	cmd := exec.Command(binary, args...)
	cmd.Stderr = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-p.stalled
	part := filepath.Join(out, "*.ndjson.part")
	for begun := false; !begun; { // until the half is in its file
		files, err := filepath.Glob(part)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 1 {
			info, err := os.Stat(files[0])
			begun = err == nil && info.Size() > 10_000
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if files, err := filepath.Glob(filepath.Join(out, "*.ndjson")); err != nil || len(files) > 0 {
		t.Errorf("half a file has its final name: %v %v", files, err)
	}
	mustKiln(t, exitUsage, "export", "--server", web.URL, "--out", out)
	mustKiln(t, 0, args...)
	if got := exported(t, out); len(got) != 1999 {
		t.Errorf("%d resources", len(got))
	}
	if p.starts != 1 || len(p.ranges) != 1 || p.ranges[0] == "bytes=0-" {
		t.Errorf("%d exports, ranges %q", p.starts, p.ranges)
	}
	if left, err := filepath.Glob(filepath.Join(out, "*")); err != nil || len(left) != 1 {
		t.Errorf("left are %v %v", left, err)
	}
	mustKiln(t, exitUsage, args...) // the directory is full
	s.stop()
}

// An export that is gone at the server is not followed for ever.
func TestAnExportThatIsGoneIsBegunAnew(t *testing.T) {
	t.Parallel()
	s := exportSite(t)
	out := t.TempDir()
	address := s.base + "/$export?_type=Device"
	write(t, out, "kiln-export.json", `{"request":"`+address+`","status":"`+s.base+`/_operations/export/77"}`)
	args := []string{"export", "--server", s.base, "--out", out, "--type", "Device"}
	if got := mustKiln(t, exitFailed, args...); !strings.Contains(got.err, "not found") {
		t.Errorf("told: %s", got.err)
	}
	mustKiln(t, 0, args...)
	if got := exported(t, out); len(got) != 1 {
		t.Errorf("%v", got)
	}
	s.stop()
}

// Other servers tell what they could not export.
func TestExportErrorsAreFetchedAndToldByTheExitCode(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := "http://" + r.Host
		switch r.URL.Path {
		case "/fhir/$export":
			w.Header().Set("Content-Location", own+"/job")
			w.WriteHeader(http.StatusAccepted)
		case "/job":
			_, _ = io.WriteString(w, `{"output":[{"type":"Patient","url":"`+own+`/a.ndjson","count":1}],"link":[{"relation":"next","url":"`+own+`/job2"}]}`)
		case "/job2":
			_, _ = io.WriteString(w, `{"output":[{"type":"Patient","url":"`+own+`/b.ndjson"}],"error":[{"type":"OperationOutcome","url":"`+own+`/e.ndjson","count":1}]}`)
		default:
			_, _ = io.WriteString(w, `{"resourceType":"Patient","id":"`+r.URL.Path[1:2]+`"}`+"\n")
		}
	}))
	defer web.Close()
	out := filepath.Join(t.TempDir(), "out")
	got := mustKiln(t, exitRefused, "export", "--server", web.URL, "--out", out)
	if !strings.Contains(got.out, "exported 2 resources") || !strings.Contains(got.err, filepath.Join(out, errorDir)) {
		t.Errorf("%s %s", got.out, got.err)
	}
	for _, name := range []string{"a.ndjson", "b.ndjson", "error/e.ndjson"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
}

// The README's script completes an export with curl alone.
func TestTheReadmesScriptExports(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"sh", "curl", "tr", "grep", "cut", "xargs"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("skipped: %v", err)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const base = "http://127.0.0.1:8080/fhir"
	_, script, found := strings.Cut(string(readme), "\nBASE="+base+"\n")
	script, _, closed := strings.Cut(script, "\n```\n")
	if !found || !closed {
		t.Fatal("the README has no script for exports")
	}
	s := exportSite(t)
	cmd := exec.Command("sh", "-eu", "-c", "BASE="+s.base+"\n"+script)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := exported(t, cmd.Dir); len(got) != 2001 {
		t.Errorf("%d resources", len(got))
	}
	s.stop()
}

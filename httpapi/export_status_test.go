package httpapi

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

func (s *testServer) startExport(t *testing.T, query string, headers ...string) string {
	t.Helper()
	a := s.do(t, "GET", "/fhir/$export"+query, "", append(headers, asyncHeader, acceptHeader)...)
	if a.status != 202 {
		t.Fatalf("kick-off: %d %s", a.status, a.body)
	}
	return a.header.Get("Content-Location")
}

func TestPollsOfAnExportAreHeldBack(t *testing.T) {
	at := time.Now()
	s := newAPI(t, func(_ *engine.Options, _ *bulk.Options, o *Options) { o.Now = func() time.Time { return at } })
	url := s.startExport(t, "")
	s.finish(t, url)
	for n := 0; ; n++ {
		a := s.do(t, "GET", url, "")
		if a.status == 200 && n <= pollsAhead {
			continue
		}
		code, text := a.outcome(t)
		wait, err := strconv.Atoi(a.header.Get("Retry-After"))
		if a.status != 429 || code != "throttled" || text == "" || err != nil || wait < 1 {
			t.Fatalf("poll %d: %d %q %s", n, a.status, a.header.Get("Retry-After"), a.body)
		}
		return
	}
}

// A manifest of many files is a list of pages that together name each file once.
func TestLongManifestsAreContinued(t *testing.T) {
	s := newAPI(t, nil)
	s.manifestFiles = 4
	for i := range 10 {
		s.put(t, "p"+strconv.Itoa(i), "")
	}
	url := s.startExport(t, "?_maxCount=1&nonsense=1", "Prefer: handling=lenient")
	s.finish(t, url)
	names, pages := map[string]bool{}, 0
	for next := url; next != ""; pages++ {
		a := s.do(t, "GET", next, "")
		var m struct {
			Output, Error []struct{ URL string }
			Link          []struct{ Relation, URL string }
			Request       string
		}
		if err := json.Unmarshal([]byte(a.body), &m); err != nil || a.status != 200 || m.Request == "" || len(m.Output) > 4 {
			t.Fatalf("%s: %d %s (%v)", next, a.status, a.body, err)
		}
		for _, file := range m.Output {
			names[file.URL] = true
			if text := s.do(t, "GET", file.URL, ""); text.status != 200 || strings.Count(text.body, "\n") != 1 {
				t.Errorf("%s: %d %s", file.URL, text.status, text.body)
			}
		}
		if told := len(m.Error); (pages == 0) != (told == 1) {
			t.Errorf("page %d names %d error files", pages+1, told)
		}
		if next = ""; len(m.Link) > 0 && m.Link[0].Relation == "next" {
			next = m.Link[0].URL
		}
	}
	if pages != 3 || len(names) != 10 {
		t.Errorf("%d pages name %d files", pages, len(names))
	}
}

// With separate-export-status an answer's status is about the question alone.
func TestSeparateStatusTellsTheExportInAHeader(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", "")
	url := s.startExport(t, "", "Prefer: separate-export-status")
	for end := time.Now().Add(30 * time.Second); ; {
		a := s.do(t, "GET", url, "")
		told := a.header.Get("X-Export-Status")
		if told == "202 Accepted" && a.status == 200 && a.header.Get("X-Progress") != "" && a.body == "" && time.Now().Before(end) {
			continue
		}
		if told != "200 OK" || a.status != 200 || !strings.Contains(a.body, `"type":"Patient"`) {
			t.Errorf("%d, %q: %s", a.status, told, a.body)
		}
		break
	}
	for range 2 {
		s.do(t, "DELETE", url, "")
	}
	if a := s.do(t, "GET", url, ""); a.status != 404 || a.header.Get("X-Export-Status") != "" {
		t.Errorf("of no export: %d %q", a.status, a.header.Get("X-Export-Status"))
	}
}

func TestAFailedExportIsToldAsItsClientWants(t *testing.T) {
	disk := vfs.NewMem(1)
	s := newAPI(t, func(store *engine.Options, jobs *bulk.Options, _ *Options) {
		store.FS, store.Dir, store.CatalogInMem, store.FreeBytesMin = disk, "data", true, -1
		jobs.ExportExpiry = time.Hour
	})
	s.put(t, "a", "")
	disk.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpMkdirAll {
			return syscall.ENOSPC
		}
		return nil
	})
	f := func(status int, told string, headers ...string) {
		t.Helper()
		url := s.startExport(t, "", headers...)
		var a *answer
		for a = s.do(t, "GET", url, ""); a.status == 202 || a.header.Get("X-Export-Status") == "202 Accepted"; {
			a = s.do(t, "GET", url, "")
		}
		if _, text := a.outcome(t); a.status != status || a.header.Get("X-Export-Status") != told || !strings.Contains(text, "no space left") || a.header.Get("Expires") == "" {
			t.Errorf("%d, %q: %v %s", a.status, told, a.header, a.body)
		}
	}
	f(507, "")
	f(200, "507 Insufficient Storage", "Prefer: separate-export-status")
}

// gatedDisk holds back the export files of sections above a number.
type gatedDisk struct {
	vfs.FS
	open atomic.Int64
	move chan struct{} // receives once for each section that may follow
}

func (d *gatedDisk) Create(name string) (vfs.File, error) {
	parts := strings.Split(name[strings.LastIndexByte(name, '/')+1:], "-")
	if len(parts) == 3 && strings.HasSuffix(name, ".ndjson.tmp") {
		for section, _ := strconv.ParseInt(parts[1], 10, 64); section > d.open.Load(); {
			<-d.move
			d.open.Add(1)
		}
	}
	return d.FS.Create(name)
}

// partialManifest is what an answer says of a manifest.
type partialManifest struct {
	TransactionTime string
	Output          []struct{ URL string }
	Link            []struct{ Relation, URL string }
}

func readPartial(t *testing.T, a *answer) (m partialManifest) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || m.TransactionTime == "" || a.header.Get("Content-Type") != contentTypeResults {
		t.Fatalf("%d %v %s: %v", a.status, a.header, a.body, err)
	}
	return m
}

// A client that takes partial manifests reads what is there page by page while the
// export goes on: 202 with a manifest that only gets a link, 404 for a page that is
// not there yet, and in the end the same pages with 200.
func TestPartialManifestsOverHTTP(t *testing.T) {
	disk := &gatedDisk{FS: vfs.NewMem(1), move: make(chan struct{})}
	s := newAPI(t, func(store *engine.Options, jobs *bulk.Options, _ *Options) {
		store.FS, store.Dir, store.CatalogInMem, store.FreeBytesMin = disk, "data", true, -1
		jobs.SectionRows, jobs.Workers = 1, 1
	})
	for i := range 5 {
		s.put(t, "p"+strconv.Itoa(i), "")
		if err := s.opts.Store.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	url := s.startExport(t, "?allowPartialManifests=true")
	var whole sync.Once
	end := func() { whole.Do(func() { close(disk.move) }) }
	t.Cleanup(end)
	if a := s.do(t, "GET", url, ""); a.status != 202 || a.body != "" {
		t.Fatalf("before the first section is whole: %d %s", a.status, a.body)
	}
	// When a section may follow, those before it are recorded; itself may be soon.
	disk.move <- struct{}{}
	disk.move <- struct{}{}
	alone := s.do(t, "GET", url, "")
	if m := readPartial(t, alone); alone.status != 202 || len(m.Output) == 0 || len(m.Link) != 0 {
		t.Fatalf("with the first section: %d %s", alone.status, alone.body)
	}
	if a := s.do(t, "GET", url, ""); a.body != alone.body {
		t.Errorf("the first page was %s and is %s", alone.body, a.body)
	}
	disk.move <- struct{}{}
	disk.move <- struct{}{}
	first := s.do(t, "GET", url, "")
	if !strings.HasPrefix(first.body, strings.TrimSuffix(alone.body, "}")) {
		t.Errorf("the first page was %s and is %s", alone.body, first.body)
	}
	if first.status != 202 || first.header.Get("X-Progress") == "" || first.header.Get("Retry-After") == "" {
		t.Errorf("%d %v", first.status, first.header)
	}
	m := readPartial(t, first)
	second := s.do(t, "GET", m.Link[0].URL, "")
	if m.Link[0].Relation != "next" || second.status != 202 || len(readPartial(t, second).Output) == 0 {
		t.Errorf("%s leads to %d %s", first.body, second.status, second.body)
	}
	if a := s.do(t, "GET", m.Output[0].URL, ""); a.status != 200 || !strings.HasSuffix(a.body, "\n") {
		t.Errorf("its file: %d %s", a.status, a.body)
	}
	if a := s.do(t, "GET", url+"?page=100", ""); a.status != 404 {
		t.Errorf("a page that is not there: %d %s", a.status, a.body)
	}
	end()
	s.finish(t, url)
	if a := s.do(t, "GET", url, ""); a.status != 200 || a.body != first.body {
		t.Errorf("the first page was %s and is %s", first.body, a.body)
	}
	if files := s.walkManifest(t, url); len(files) != 5 {
		t.Errorf("%v", files)
	}
}

// walkManifest gives the addresses of all files of a finished export.
func (s *testServer) walkManifest(t *testing.T, url string) (files []string) {
	t.Helper()
	for next := url; next != ""; {
		m := readPartial(t, s.do(t, "GET", next, ""))
		for _, f := range m.Output {
			files = append(files, f.URL)
		}
		if next = ""; len(m.Link) > 0 {
			next = m.Link[0].URL
		}
	}
	return files
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kiln/internal/certtest"
)

// auditLine is what the tests look at of an event.
type auditLine struct {
	ID     string
	Entity []struct{ What struct{ Reference string } }
}

// auditFiles are the files of a directory, oldest first.
func auditFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "audit-*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// readAudit gives the whole events of all files, in their order.
func readAudit(t *testing.T, dir string) (events []auditLine) {
	t.Helper()
	for _, name := range auditFiles(t, dir) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		whole := text[:bytes.LastIndexByte(text, '\n')+1]
		if len(whole) < len(text) {
			t.Logf("%s ends in %d bytes of a line", name, len(text)-len(whole))
		}
		for line := range bytes.Lines(whole) {
			var e auditLine
			if err := json.Unmarshal(line, &e); err != nil {
				t.Errorf("%s has a torn line: %q", name, line)
			}
			events = append(events, e)
		}
	}
	return events
}

// auditedReads are the references of all events.
func auditedReads(events []auditLine) map[string]bool {
	all := map[string]bool{}
	for i := range events {
		all[events[i].Entity[0].What.Reference] = true
	}
	return all
}

// metric reads a gauge or a counter.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	got, err := ask(http.MethodGet, s.root+"/metrics", "")
	if err != nil {
		s.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(got.body)
	if found == nil {
		s.t.Fatalf("there is no metric %s", name)
	}
	value, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return value
}

// awaitMetric waits until a metric has a value.
func (s *server) awaitMetric(name string, value float64) {
	s.t.Helper()
	for end := time.Now().Add(startTimeout); s.metric(name) != value; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s is %v and does not become %v\n%s", name, s.metric(name), value, s.log)
		}
	}
}

// auditReaders read resources that are not there, each another one, until they are
// stopped or the server is gone, and note what was answered.
type auditReaders struct {
	mu      sync.Mutex
	stopped atomic.Bool
	working sync.WaitGroup
	answers map[string]bool // references
	refused atomic.Bool     // 503, which ends a reader
}

func readAudited(t *testing.T, s *server, name string, most int) *auditReaders {
	r := &auditReaders{answers: map[string]bool{}}
	for n := range 4 {
		r.working.Go(func() {
			for i := 0; i < most && !r.stopped.Load(); i++ {
				reference := fmt.Sprintf("Patient/%s-%d-%d", name, n, i)
				got, err := ask(http.MethodGet, s.base+"/"+reference, "")
				if err != nil {
					return // killed
				}
				if got.status == http.StatusServiceUnavailable {
					r.refused.Store(true)
					return
				}
				if got.status != http.StatusNotFound {
					t.Errorf("%s: %d %s", reference, got.status, got.body)
				}
				r.mu.Lock()
				r.answers[reference] = true
				r.mu.Unlock()
			}
		})
	}
	return r
}

// TestAuditOutlivesKills kills a server that records. What was answered before the queue
// was empty is in the files; of what came later a stretch at the end may be missing, and
// nothing within. The store has each event once, whatever was not kept in time.
func TestAuditOutlivesKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, record := filepath.Join(dir, "data"), filepath.Join(dir, "audit")
	flags := []string{"--audit-dir", record, "--audit-store", "--audit-file-size", "64KiB"}
	promised, answered := map[string]bool{}, map[string]bool{}
	kills := envInt(t, "KILN_KILLS", 3)
	for life := range kills {
		s := serve(t, data, flags...)
		first := readAudited(t, s, fmt.Sprintf("a%d", life), 50)
		first.working.Wait()
		s.awaitMetric("kiln_audit_queued_bytes", 0)
		second := readAudited(t, s, fmt.Sprintf("b%d", life), 1<<20)
		time.Sleep(time.Duration(100+life*200%500) * time.Millisecond)
		s.kill()
		second.working.Wait()
		if first.refused.Load() || second.refused.Load() {
			t.Error("reads were refused while there was room for events")
		}
		for reference := range first.answers {
			promised[reference], answered[reference] = true, true
		}
		for reference := range second.answers {
			answered[reference] = true
		}
	}
	checkKilledAudit(t, readAudit(t, record), promised, kills)
	s := serve(t, data, flags...)
	s.awaitMetric("kiln_audit_store_behind_bytes", 0)
	events := len(readAudit(t, record))
	for _, path := range []string{"/AuditEvent?_summary=count&_total=accurate", "/AuditEvent/_history?_count=1"} {
		s.awaitMetric("kiln_audit_queued_bytes", 0)
		s.awaitMetric("kiln_audit_store_behind_bytes", 0)
		want := len(readAudit(t, record))
		if total := decode[struct{ Total int }](t, s.must(http.StatusOK, http.MethodGet, path, "").body).Total; total != want {
			t.Errorf("%s: the store has %d, the files have %d", path, total, want)
		}
	}
	s.stop()
	t.Logf("%d events of %d answered reads in %d files", events, len(answered), len(auditFiles(t, record)))
	takeIn(t, record, events+2)
}

// checkKilledAudit looks for what was promised, and that numbers have no gaps.
func checkKilledAudit(t *testing.T, events []auditLine, promised map[string]bool, lives int) {
	t.Helper()
	read := auditedReads(events)
	for reference := range promised {
		if !read[reference] {
			t.Errorf("the read of %s was answered before a sync, and is not recorded", reference)
		}
	}
	newest := map[string]int{}
	for i := range events {
		at := strings.LastIndexByte(events[i].ID, '-')
		number, err := strconv.Atoi(events[i].ID[at+1:])
		if instance := events[i].ID[:at]; err != nil || number != newest[instance]+1 {
			t.Errorf("%s comes behind %d", events[i].ID, newest[instance])
		}
		newest[events[i].ID[:at]] = number
	}
	if len(newest) != lives {
		t.Errorf("%d lives wrote, not %d", len(newest), lives)
	}
}

// takeIn reads a rotated set of files as an operator may: into a store of its own.
func takeIn(t *testing.T, record string, events int) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	files := auditFiles(t, record)
	if len(files) < 4 {
		t.Errorf("%d files are no rotated set", len(files))
	}
	exit := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 && text[len(text)-1] != '\n' { // a kill cut its last line short
			exit = exitRefused
		}
	}
	mustKiln(t, exit, append([]string{"load", "--data-dir", data}, files...)...)
	s := serve(t, data, "--import-root", record)
	count := func() int {
		return decode[struct{ Total int }](t, s.must(http.StatusOK, http.MethodGet, "/AuditEvent?_summary=count&_total=accurate", "").body).Total
	}
	if got := count(); got != events {
		t.Errorf("loaded %d events of %d", got, events)
	}
	mustKiln(t, exit, append([]string{"import", "--server", s.base}, files...)...)
	if got := count(); got != events {
		t.Errorf("after an import there are %d events, not %d", got, events)
	}
	s.stop()
}

// TestAStopLosesNoAudit stops the server right behind its answers.
func TestAStopLosesNoAudit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	record := filepath.Join(dir, "audit")
	s := serve(t, filepath.Join(dir, "data"), "--audit-dir", record, "--audit-file-age", "300ms")
	var names []string
	for i := range 300 {
		names = append(names, fmt.Sprintf("Patient/p%d", i))
		s.must(http.StatusNotFound, http.MethodGet, "/"+names[i], "")
		if i%100 == 0 {
			s.awaitMetric("kiln_audit_queued_bytes", 0)
			time.Sleep(310 * time.Millisecond)
		}
	}
	s.stop()
	events := readAudit(t, record)
	for i := range events {
		if got := events[i].Entity[0].What.Reference; len(events) != len(names) || got != names[i] {
			t.Fatalf("%d events, number %d is %s", len(events), i, got)
		}
	}
	if files := len(auditFiles(t, record)); files < 4 {
		t.Errorf("%d files, although they end with age", files)
	}
}

// TestWithoutAnAuditDirectoryNothingIsDone takes the directory away under the server, and
// puts a file in its place; another server may not have the directory.
func TestWithoutAnAuditDirectoryNothingIsDone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	record := filepath.Join(dir, "audit")
	s := serve(t, filepath.Join(dir, "data"), "--audit-dir", record)
	s.must(http.StatusCreated, http.MethodPut, "/Patient/before", `{"resourceType":"Patient","id":"before"}`)
	if other := mustKiln(t, 1, "serve", "--data-dir", filepath.Join(dir, "other"), "--listen", "127.0.0.1:0", "--audit-dir", record); !strings.Contains(other.err, "another server has the directory") {
		t.Errorf("a second server says %s", other.err)
	}
	s.awaitMetric("kiln_audit_queued_bytes", 0)
	if err := os.Rename(record, record+".away"); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "audit", "")
	s.must(http.StatusNotFound, http.MethodGet, "/Patient/noticed", "")
	s.refusesUnaudited()
	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	s.recordsAgain()
	s.stop()
	read := auditedReads(append(readAudit(t, record+".away"), readAudit(t, record)...))
	for _, reference := range []string{"Patient/before/_history/1", "Patient/noticed", "Patient/after/_history/1"} {
		if !read[reference] {
			t.Errorf("there is no event of %s", reference)
		}
	}
}

// refusesUnaudited waits until the server notices, by an event, that it cannot record,
// and tries to write.
func (s *server) refusesUnaudited() {
	s.t.Helper()
	s.awaitMetric("kiln_audit_failing", 1)
	for range 3 {
		got := s.must(http.StatusServiceUnavailable, http.MethodPut, "/Patient/unaudited", `{"resourceType":"Patient","id":"unaudited"}`)
		if !strings.Contains(string(got.body), "OperationOutcome") || !strings.Contains(string(got.body), "nothing was done") || got.header.Get("Retry-After") == "" {
			s.t.Errorf("it is told %s", got.body)
		}
	}
	s.must(http.StatusServiceUnavailable, http.MethodGet, "/Patient/before", "")
	if got, err := ask(http.MethodGet, s.root+"/readyz", ""); err != nil || got.status != http.StatusServiceUnavailable {
		s.t.Errorf("it is ready: %v %v", got, err)
	}
	if got, err := ask(http.MethodGet, s.root+"/healthz", ""); err != nil || got.status != http.StatusOK {
		s.t.Errorf("its health: %v %v", got, err)
	}
}

// recordsAgain waits until it can, and looks at what was refused.
func (s *server) recordsAgain() {
	s.t.Helper()
	s.awaitMetric("kiln_audit_failing", 0)
	s.must(http.StatusCreated, http.MethodPut, "/Patient/after", `{"resourceType":"Patient","id":"after"}`)
	s.must(http.StatusNotFound, http.MethodGet, "/Patient/unaudited", "")
}

// TestAuditNamesCertificates asks a server that demands certificates and has no --auth.
func TestAuditNamesCertificates(t *testing.T) {
	t.Parallel()
	record := filepath.Join(t.TempDir(), "audit")
	s, _, connect := secureServe(t, certtest.New(t, "root"), "--audit-dir", record)
	mustKiln(t, 0, append([]string{"export", "--out", t.TempDir()}, connect...)...)
	s.stop()
	text, err := os.ReadFile(auditFiles(t, record)[0])
	// The end of the job is an event too, of nobody: without --auth jobs have no owner.
	if lines := bytes.Count(text, []byte(`"code":"rest"`)); err != nil || lines == 0 || bytes.Count(text, []byte(`"identifier":{"system":"mtls","value":"subject:CN=`)) != lines {
		t.Errorf("%v: %s", err, text)
	}
}

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	agingWriters = 8
	agingIDs     = 400 // resources of a writer, written again and again
	agingLines   = 200 // of a small import
	agingTypes   = 2000
)

// agingWriter writes resources of its own and reads them.
type agingWriter struct {
	s      *server
	number int
	random *rand.Rand
	last   map[string]string // content marker by id; "": deleted or purged

	mu    sync.Mutex
	reads []time.Duration // since they were last asked for
}

// TestAging lets a server grow old: writes, deletions, both purges, small imports
// and searches for KILN_AGING (make aging), which tells at the beginning and at the
// end how many runs, files, goroutines and how much memory there are, and how long
// reads take; then it purges half of everything and waits for the room.
func TestAging(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("KILN_AGING"))
	if err != nil {
		t.Skip("KILN_AGING says for how long")
	}
	imports := t.TempDir()
	s := serve(t, t.TempDir(), "--import-root", imports)
	end := time.Now().Add(length)
	var writers []*agingWriter
	var running sync.WaitGroup
	for i := range agingWriters {
		w := &agingWriter{s: s, number: i, random: rand.New(rand.NewPCG(uint64(i), 5)), last: map[string]string{}}
		writers = append(writers, w)
		running.Go(func() { w.run(end) })
	}
	running.Go(func() { s.agingImports(imports, end) })
	ticker := time.NewTicker(max(length/10, time.Second))
	defer ticker.Stop()
	for now := range ticker.C {
		agingReport(t, s, writers)
		if now.After(end) {
			break
		}
	}
	running.Wait()
	for _, w := range writers {
		w.check()
	}
	s.agingPurge(t, writers)
	s.stop()
}

func (w *agingWriter) run(end time.Time) {
	for n := 0; time.Now().Before(end); n++ {
		id := fmt.Sprintf("age-%d-%d", w.number, w.random.IntN(agingIDs))
		path, marker := "/Basic/"+id, fmt.Sprint(w.number, "-", n)
		switch p := w.random.IntN(40); {
		case p < 2:
			w.ask(http.MethodDelete, path, "")
			w.last[id] = ""
		case p < 3:
			w.ask(http.MethodDelete, path+"?_hardDelete=true", "")
			w.last[id] = ""
		case p < 5:
			w.ask(http.MethodDelete, path+"/$purge-history", "")
		case p < 7:
			w.ask(http.MethodGet, "/Patient?family=old"+strconv.Itoa(w.random.IntN(20))+"&_summary=count", "")
		case p < 22:
			w.ask(http.MethodPut, path, fmt.Sprintf(`{"resourceType":"Basic","id":%q,"code":{"text":%q},"language":"%0600d"}`, id, marker, w.random.Uint64()))
			w.last[id] = marker
		default:
			began := time.Now()
			w.ask(http.MethodGet, path, "")
			w.mu.Lock()
			w.reads = append(w.reads, time.Since(began))
			w.mu.Unlock()
		}
	}
}

func (w *agingWriter) ask(method, path, body string) *answer {
	got, err := ask(method, w.s.base+path, body)
	if err != nil || got.status >= http.StatusInternalServerError {
		w.s.t.Errorf("%s %s: %+v, %v", method, path, got, err)
	}
	return got
}

// check reads what the writer wrote last.
func (w *agingWriter) check() {
	for id, marker := range w.last {
		got := w.ask(http.MethodGet, "/Basic/"+id, "")
		if got == nil || (marker == "") != (got.status != http.StatusOK) || marker != "" && !strings.Contains(string(got.body), strconv.Quote(marker)) {
			w.s.t.Errorf("Basic/%s was written as %q and is %+v", id, marker, got)
		}
	}
}

// agingImports imports small files of patients, mostly new versions, one by one.
func (s *server) agingImports(dir string, end time.Time) {
	for n := 0; time.Now().Before(end); n++ {
		var lines strings.Builder
		for i := range agingLines {
			fmt.Fprintf(&lines, "{\"resourceType\":\"Patient\",\"id\":\"old-%d\",\"name\":[{\"family\":\"old%d\"}],\"multipleBirthInteger\":%d}\n", (n*agingLines/2+i)%agingTypes, i%20, n)
		}
		path := filepath.Join(dir, fmt.Sprint(n, ".ndjson"))
		if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
			s.t.Error(err)
			return
		}
		s.ended(s.postImport(path))
		if err := os.Remove(path); err != nil {
			s.t.Error(err)
		}
	}
}

var agingGauge = regexp.MustCompile(`(?m)^(go_goroutines|process_open_fds|process_resident_memory_bytes|kiln_store_(?:runs|run_bytes|log_bytes|versions|merges_total|import_stalls_total|stalls_total)) (\S+)$`)

func (s *server) agingGauges() map[string]float64 {
	found := map[string]float64{}
	if got, err := ask(http.MethodGet, s.root+"/metrics", ""); err != nil {
		s.t.Error(err)
	} else {
		for _, line := range agingGauge.FindAllStringSubmatch(string(got.body), -1) {
			found[line[1]], _ = strconv.ParseFloat(line[2], 64)
		}
	}
	return found
}

func agingReport(t *testing.T, s *server, writers []*agingWriter) {
	var reads []time.Duration
	for _, w := range writers {
		w.mu.Lock()
		reads, w.reads = append(reads, w.reads...), nil
		w.mu.Unlock()
	}
	slices.Sort(reads)
	if len(reads) == 0 {
		return
	}
	g := s.agingGauges()
	t.Logf("%.0f runs, %.1f MB, log %.1f MB, %.0f versions, %.0f files, %.0f goroutines, %.0f MB of memory, %.0f merges, stalls %.0f and %.0f of imports; %d reads: half in %s, 99 of 100 in %s",
		g["kiln_store_runs"], g["kiln_store_run_bytes"]/1e6, g["kiln_store_log_bytes"]/1e6, g["kiln_store_versions"], g["process_open_fds"], g["go_goroutines"],
		g["process_resident_memory_bytes"]/1e6, g["kiln_store_merges_total"], g["kiln_store_stalls_total"], g["kiln_store_import_stalls_total"], len(reads), reads[len(reads)/2], reads[len(reads)*99/100])
}

// agingPurge purges every patient and tells what room that gives back.
func (s *server) agingPurge(t *testing.T, writers []*agingWriter) {
	before := s.agingGauges()
	for i := range agingTypes {
		writers[0].ask(http.MethodDelete, fmt.Sprintf("/Patient/old-%d?_hardDelete=true", i), "")
	}
	ticker := time.NewTicker(settleLook)
	defer ticker.Stop()
	after := s.agingGauges()
	for began := time.Now(); after["kiln_store_run_bytes"] > before["kiln_store_run_bytes"]/2 && time.Since(began) < settleTime; <-ticker.C {
		after = s.agingGauges()
	}
	t.Logf("after the purge of all patients: %.1f MB in %.0f runs, %.1f MB in %.0f before", after["kiln_store_run_bytes"]/1e6, after["kiln_store_runs"], before["kiln_store_run_bytes"]/1e6, before["kiln_store_runs"])
}

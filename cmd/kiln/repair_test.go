package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/engine"
)

// TestRepairOfADamagedRun damages a block of bodies: the store is repaired, the report
// names what is lost, and a server says so instead of showing anything else.
func TestRepairOfADamagedRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	mustKiln(t, 0, "load", "--data-dir", dir, write(t, t.TempDir(), "p.ndjson", patients(3, "x")))
	s := serve(t, dir)
	s.must(http.StatusCreated, http.MethodPut, "/Patient/whole", `{"resourceType":"Patient","id":"whole"}`)
	s.stop()
	if got := mustKiln(t, 0, "repair", "--data-dir", dir); !strings.Contains(got.out, "nothing to repair") {
		t.Errorf("repair of a sound store: %s", got.out)
	}
	runs, err := filepath.Glob(filepath.Join(dir, "runs", "*.run"))
	if err != nil || len(runs) != 1 {
		t.Fatalf("runs: %v, %v", runs, err)
	}
	flipByte(t, runs[0], 100)
	mustKiln(t, exitDamage, "fsck", "--data-dir", dir)
	if got := mustKiln(t, exitDamage, "repair", "--data-dir", dir, "--dry-run"); !strings.Contains(got.out, "would leave") {
		t.Errorf("dry run: %s", got.out)
	}
	if got := mustKiln(t, exitDamage, "fsck", "--data-dir", dir, "--json"); !strings.Contains(got.out, `"offset":32`) {
		t.Errorf("fsck after a dry run: %s", got.out)
	}
	got := mustKiln(t, exitDamage, "repair", "--data-dir", dir, "--json")
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	var summary struct {
		Lost     int    `json:"lost"`
		Versions int    `json:"versions"`
		SetAside string `json:"setAside"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &summary); err != nil || summary.Lost != 3 || summary.Versions != 1 {
		t.Fatalf("repair: %v\n%s", err, got.out)
	}
	report, err := os.ReadFile(filepath.Join(summary.SetAside, "report.ndjson"))
	if err != nil || strings.Count(string(report), `"kind":"lost"`) != 3 {
		t.Errorf("the report is %s, %v", report, err)
	}
	if _, err := os.Stat(filepath.Join(summary.SetAside, "runs", filepath.Base(runs[0]))); err != nil {
		t.Errorf("the damaged run is not set aside: %v", err)
	}
	mustKiln(t, 0, "fsck", "--data-dir", dir)
	checkLostOverHTTP(t, dir, report)
}

// checkLostOverHTTP reads, searches and writes a resource whose only version is lost.
func checkLostOverHTTP(t *testing.T, dir string, report []byte) {
	t.Helper()
	var lost foundLine
	for _, line := range strings.Split(string(report), "\n") {
		if strings.Contains(line, `"kind":"lost"`) {
			if err := json.Unmarshal([]byte(line), &lost); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := serve(t, dir)
	s.must(http.StatusOK, http.MethodGet, "/Patient/whole", "")
	name := "/Patient/" + lost.ID
	for _, address := range []string{name, name + "/_history/1"} {
		if text := s.must(http.StatusInternalServerError, http.MethodGet, address, ""); !strings.Contains(string(text.body), "was lost") {
			t.Errorf("GET %s: %s", address, text.body)
		}
	}
	if text := s.must(http.StatusOK, http.MethodGet, name+"/_history", ""); !strings.Contains(string(text.body), `"code":"no-store"`) || !strings.Contains(string(text.body), `"total":1`) {
		t.Errorf("history: %s", text.body)
	}
	if text := s.must(http.StatusOK, http.MethodGet, "/Patient?_summary=count", ""); !strings.Contains(string(text.body), `"total":1`) {
		t.Errorf("a search counts %s", text.body)
	}
	s.must(http.StatusCreated, http.MethodPut, name, `{"resourceType":"Patient","id":"`+lost.ID+`"}`)
	if text := s.must(http.StatusOK, http.MethodGet, name, ""); !strings.Contains(string(text.body), `"versionId":"2"`) {
		t.Errorf("after an update: %s", text.body)
	}
	s.stop()
	mustKiln(t, 0, "fsck", "--data-dir", dir)
}

// A repair that loses nothing says so by its exit code.
func TestRepairWithoutLosses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	mustKiln(t, 0, "load", "--data-dir", dir, write(t, t.TempDir(), "p.ndjson", patients(3, "x")))
	runs, err := filepath.Glob(filepath.Join(dir, "runs", "*.run"))
	if err != nil || len(runs) != 1 {
		t.Fatalf("runs: %v, %v", runs, err)
	}
	info, err := os.Stat(runs[0])
	if err != nil {
		t.Fatal(err)
	}
	flipByte(t, runs[0], int(info.Size())-1) // in the footer, which can be made anew
	mustKiln(t, exitDamage, "fsck", "--data-dir", dir)
	if got := mustKiln(t, 0, "repair", "--data-dir", dir); !strings.Contains(got.out, " 0 versions known to be lost") {
		t.Errorf("repair: %s", got.out)
	}
}

// What a repair that was interrupted has lost counts for the run that ends it.
func TestLossesOfAnEndedRepair(t *testing.T) {
	dir := t.TempDir()
	report := `{"kind":"damage","what":"a"}` + "\n" + `{"kind":"lost","what":"b"}` + "\n" + `{"kind":"set-aside","what":"c"}` + "\n" + `{"kind":"doubt","what":"d"}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, engine.RepairReportName), []byte(report), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(s engine.RepairSummary, want int) {
		t.Helper()
		if n, err := losses(&s); n != want || err != nil {
			t.Errorf("%+v: %d losses, %v", s, n, err)
		}
	}
	f(engine.RepairSummary{Sound: true}, 0)
	f(engine.RepairSummary{Damages: 3}, 0)
	f(engine.RepairSummary{Lost: 1, LostRecords: 2, Doubts: 3}, 6)
	f(engine.RepairSummary{Resumed: true, Sound: true, Ended: dir}, 2)
	f(engine.RepairSummary{Resumed: true, Sound: true, Ended: filepath.Join(dir, "gone")}, 0)
}

func flipByte(t *testing.T, name string, at int) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text[at] ^= 1
	if err := os.WriteFile(name, text, 0o666); err != nil {
		t.Fatal(err)
	}
}

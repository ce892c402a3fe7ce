package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exportDiskBytes is a little more than what the server leaves free of any disk: some
// of an export's files fit, all of them do not.
const exportDiskBytes = 256<<20 + 6<<20

// An export that fills its disk fails, says so and takes its files away; the store and
// smaller exports work on.
func TestAFullExportDiskFailsTheJobAlone(t *testing.T) {
	t.Parallel()
	disk, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", exportDiskBytes)); err != nil {
		t.Skipf("skipped: a disk of a known size cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	input := t.TempDir()
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, `{"resourceType":"Patient","id":"p%d","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">%s</div>"}}`+"\n", i, strings.Repeat("x", 2000))
	}
	text.WriteString(`{"resourceType":"Device","id":"d"}` + "\n")
	mustKiln(t, 0, "load", "--data-dir", data, write(t, input, "p.ndjson", text.String()))
	s := serve(t, data, "--export-dir", disk)
	kickOff := []string{"Accept", "application/fhir+json", "Prefer", "respond-async"}
	follow := func(path string) *answer {
		t.Helper()
		address := s.must(http.StatusAccepted, http.MethodGet, path, "", kickOff...).header.Get("Content-Location")
		for end := time.Now().Add(startTimeout); ; time.Sleep(10 * time.Millisecond) {
			got, err := ask(http.MethodGet, address, "")
			if err != nil {
				t.Fatal(err)
			}
			if got.status != http.StatusAccepted || time.Now().After(end) {
				return got
			}
		}
	}
	got := follow("/$export")
	if got.status != http.StatusInsufficientStorage || !strings.Contains(string(got.body), "no space left for the export's files") {
		t.Errorf("it ends as %d %s", got.status, got.body)
	}
	// The files go after the end is told.
	for end := time.Now().Add(startTimeout); ; time.Sleep(10 * time.Millisecond) {
		left, err := os.ReadDir(disk)
		if len(left) == 0 && err == nil {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("it leaves %v (%v)", left, err)
		}
	}
	s.must(http.StatusCreated, http.MethodPut, "/Device/e", `{"resourceType":"Device","id":"e"}`)
	got = follow("/$export?_type=Device")
	devices := int64(0)
	for _, f := range decode[struct{ Output []manifestFile }](t, got.body).Output {
		devices += *f.Count
	}
	if got.status != http.StatusOK || devices != 2 {
		t.Errorf("a small one ends as %d %s", got.status, got.body)
	}
	s.stop()
}

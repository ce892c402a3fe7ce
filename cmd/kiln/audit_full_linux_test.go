package main

import (
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAFullAuditDiskStopsEverything fills the disk of the audit, and makes room again.
func TestAFullAuditDiskStopsEverything(t *testing.T) {
	t.Parallel()
	disk, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("skipped: a disk of a known size cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	s := serve(t, data, "--audit-dir", filepath.Join(disk, "audit"), "--audit-store", "--audit-file-size", "16KiB")
	s.must(http.StatusCreated, http.MethodPut, "/Patient/before", `{"resourceType":"Patient","id":"before"}`)
	s.awaitMetric("kiln_audit_queued_bytes", 0)
	filler := filepath.Join(disk, "filler")
	file, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil { // the last write ends it
		_, err = file.Write(make([]byte, 4096))
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	filling := readAudited(t, s, "filling", 40) // until it is noticed
	filling.working.Wait()
	s.refusesUnaudited()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.recordsAgain()
	s.awaitMetric("kiln_audit_store_behind_bytes", 0)
	s.stop()
	read := auditedReads(readAudit(t, filepath.Join(disk, "audit")))
	filling.answers["Patient/before/_history/1"], filling.answers["Patient/after/_history/1"] = true, true
	for reference := range filling.answers {
		if !read[reference] {
			t.Errorf("there is no event of %s", reference)
		}
	}
}

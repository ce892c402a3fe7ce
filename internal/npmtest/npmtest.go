// Package npmtest is for tests that run programs from npm.
package npmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/gofrs/flock"
)

// Install installs what dir's package-lock.json says into dir, unless it is
// there. Without npm the test is skipped.
func Install(t *testing.T, dir string) {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skipf("npm is not there, and what %s names comes with it", dir)
	}
	defer exclusive(t, dir)()
	lock, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	// npm writes this file when everything is in place.
	done, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json"))
	if err == nil && !done.ModTime().Before(lock.ModTime()) {
		return
	}
	cmd := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// exclusive keeps tests of other packages, which run at the same time, from
// installing into the same directory.
func exclusive(t *testing.T, dir string) (release func()) {
	t.Helper()
	full, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock := flock.New(filepath.Join(os.TempDir(), fmt.Sprintf("kiln-npm-%016x.lock", xxhash.Sum64String(full))))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogGivesAddressAndIsKept(t *testing.T) {
	f := func(log, want string) {
		t.Helper()
		path, addr := filepath.Join(t.TempDir(), "log"), make(chan string, 1)
		if err := copyLog(path, strings.NewReader(log), addr); err != nil {
			t.Fatal(err)
		}
		if got := <-addr; got != want {
			t.Errorf("address %q, want %q", got, want)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != log {
			t.Errorf("kept %q (%v), want %q", kept, err, log)
		}
	}
	f("time=x level=INFO msg=starting\ntime=x level=INFO msg=listening addr=127.0.0.1:4711 base=y\nmore\n", "127.0.0.1:4711")
	f("time=x level=ERROR msg=\"cannot open\"\n", "")
}

func TestDiskBytesSumsFolders(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "runs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"FORMAT", "runs/1"} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 100_000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sizes, err := diskBytes(dir)
	if err != nil {
		t.Fatal(err)
	}
	if sizes["runs"] != sizes["FORMAT"] || sizes["runs"] < 100_000 || sizes["runs"] > 200_000 || sizes[""] != 2*sizes["runs"] {
		t.Errorf("sizes %v, want about 100,000 in runs and twice that in all", sizes)
	}
}

func TestPeakMemoryOfThisProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc here")
	}
	if peak := peakMemory(os.Getpid()); peak < 1<<20 {
		t.Errorf("peak memory %d bytes", peak)
	}
}

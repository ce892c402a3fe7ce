package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUsageErrorsExit2(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		got := mustKiln(t, exitUsage, args...)
		if !strings.Contains(got.err, want) || got.out != "" {
			t.Errorf("kiln %v: stderr %q has no %q, stdout %q", args, got.err, want, got.out)
		}
	}
	f("expected one of")
	f("unexpected argument", "bogus")
	f("unknown flag --bogus", "serve", "--bogus")
	f("--data-dir", "serve")
	f("--mode", "import", "--mode", "sideways", "x.ndjson")
	f("--validate must be one of", "load", "--data-dir", t.TempDir(), "--validate", "profiles", "x.ndjson")
	f("--validate-writes must be one of", "serve", "--data-dir", t.TempDir(), "--validate-writes", "no")
	f("not an http(s) address", "import", "--server", "localhost", ".")
	f("--insecure-no-auth", "serve", "--data-dir", t.TempDir(), "--listen", ":0")
	f("--insecure-no-auth", "serve", "--data-dir", t.TempDir(), "--listen", "0.0.0.0:0")
	f("--insecure-no-auth", "serve", "--data-dir", t.TempDir(), "--listen", "192.0.2.1:8080")
	f("HOST:PORT", "serve", "--data-dir", t.TempDir(), "--listen", "8080")
	f("what to back up", "backup", "/backups")
	f("exclude each other", "backup", "--list", "--verify", "/backups")
	f("--rate", "backup", "--data-dir", t.TempDir(), "--rate", "fast", "/backups")
	f("exclude each other", "restore", "--data-dir", t.TempDir(), "--lsn", "3", "--time", "2026-01-01T00:00:00Z", "/backups")
	f("is no instant", "restore", "--data-dir", t.TempDir(), "--time", "yesterday", "/backups")
	f("--data-dir", "restore", "/backups")
	f("is none of system", "export", "--level", "everything")
	f("is none of system", "export", "--level", "group/")
	f("--format", "export", "--format", "csv")
	f("--out and --container", "export", "--out", t.TempDir(), "--container", "c")
	f("--container and --delete", "export", "--delete", "--container", "c")
	f("--export-expiry -1h0m0s is negative", "serve", "--data-dir", t.TempDir(), "--export-expiry=-1h")
}

func TestHelpExplainsEveryCommand(t *testing.T) {
	f := func(command string, flags ...string) {
		t.Helper()
		got := mustKiln(t, 0, command, "--help")
		for _, flag := range flags {
			if !strings.Contains(got.out, "--"+flag) {
				t.Errorf("kiln %s --help does not explain --%s:\n%s", command, flag, got.out)
			}
		}
	}
	f("serve", "data-dir", "listen", "import-root", "import-origin", "azure-connection-string", "azure-account-url", "azure-account-key", "azure-sas",
		"export-dir", "export-expiry", "initial-import-mode", "base-url", "cors-origin", "validate", "validate-writes", "ucum-essence")
	f("import", "server", "mode", "allow-negative-versions", "type", "json")
	f("load", "data-dir", "mode", "validate", "json")
	f("export", "server", "out", "level", "type", "since", "until", "type-filter", "format", "container", "json")
	f("fsck", "data-dir", "export-dir", "json")
	f("repair", "data-dir", "dry-run", "json")
	f("version")
}

func TestVersionNamesGo(t *testing.T) {
	if got := mustKiln(t, 0, "version"); !strings.Contains(got.out, "kiln "+version) || !strings.Contains(got.out, "go1.") {
		t.Errorf("got %q", got.out)
	}
}

func TestCommandsFailOnWhatIsNotThere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	f := func(args ...string) {
		t.Helper()
		if got := mustKiln(t, exitFailed, args...); got.err == "" {
			t.Errorf("kiln %v says nothing", args)
		}
		if _, err := os.Stat(missing); err == nil {
			t.Errorf("kiln %v made %s", args, missing)
		}
	}
	f("fsck", "--data-dir", missing)
	f("repair", "--data-dir", missing)
	f("load", "--data-dir", missing, filepath.Join(missing, "x.ndjson"))
	f("import", missing)
	f("import", t.TempDir()) // has no NDJSON files
}

// A wrong setting ends the start before the server says that it listens.
func TestServeRefusesWrongSettings(t *testing.T) {
	file := write(t, t.TempDir(), "file", "")
	f := func(want string, args ...string) {
		t.Helper()
		data := filepath.Join(t.TempDir(), "data")
		got := mustKiln(t, exitFailed, append([]string{"serve", "--data-dir", data, "--listen", "127.0.0.1:0"}, args...)...)
		if !strings.Contains(got.err, want) || strings.Contains(got.err, "msg=listening") {
			t.Errorf("%v: %s", args, got.err)
		}
	}
	f("base URL", "--base-url", "nowhere")
	f("import root", "--import-root", file)
	f("import root", "--import-root", file+"-missing")
	f("import origin", "--import-origin", "nowhere")
	f("export directory", "--export-dir", file)
	f("origin", "--cors-origin", "nowhere")
}

func TestASecondOpenerFailsAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir)
	input := write(t, t.TempDir(), "p.ndjson", `{"resourceType":"Patient","id":"a"}`+"\n")
	f := func(args ...string) {
		t.Helper()
		if got := mustKiln(t, exitFailed, args...); !strings.Contains(got.err, "in use by another process") {
			t.Errorf("kiln %v: %s", args, got.err)
		}
	}
	f("serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	f("load", "--data-dir", dir, input)
	f("fsck", "--data-dir", dir)
	f("repair", "--data-dir", dir)
	s.must(http.StatusOK, http.MethodGet, "/metadata", "")
	s.stop()
}

func TestAForeignDirectoryIsRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "holiday.txt", "sun")
	got := mustKiln(t, exitFailed, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if !strings.Contains(got.err, "not a Kiln data directory") {
		t.Errorf("got %s", got.err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory was touched: %v %v", entries, err)
	}
}

func TestANewerFormatIsRefusedUntouched(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	serve(t, dir).stop()
	path := filepath.Join(dir, "FORMAT")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(text), "kiln-data 1\n", "kiln-data 999\n", 1)
	write(t, dir, "FORMAT", newer)
	got := mustKiln(t, exitFailed, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if !strings.Contains(got.err, "newer") {
		t.Errorf("got %s", got.err)
	}
}

func TestConfigurationComesFromFlagEnvironmentAndFile(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	f := func(text, want string, code int, args ...string) {
		t.Helper()
		config := write(t, dir, "kiln.yaml", text)
		got := mustKiln(t, code, append(args, "--config", config)...)
		if !strings.Contains(got.err, want) {
			t.Errorf("%q: stderr %q has no %q", text, got.err, want)
		}
	}
	f("data-dri: x\n", `"data-dri", which is no flag`, exitUsage, "fsck")
	f("fsck:\n  listen: x\n", `"listen" below "fsck"`, exitUsage, "fsck")
	f("frobnicate:\n  listen: x\n", `"frobnicate", which is no command`, exitUsage, "fsck")
	f("data-dir: [[x]]\n", "neither a text nor a list", exitUsage, "fsck")
	f("data-dir: {{\n", "cannot read the configuration", exitUsage, "fsck")
	f("data-dir: "+data+"\n", data, exitFailed, "fsck")
	f("fsck:\n  data-dir: "+data+"\n", data, exitFailed, "fsck")
	f("fsck:\n  data-dir: wrong\n", data, exitFailed, "fsck", "--data-dir", data)
	t.Setenv("KILN_DATA_DIR", data+"-env")
	f("data-dir: wrong\n", data+"-env", exitFailed, "fsck")
	f("data-dir: wrong\n", data+"-flag", exitFailed, "fsck", "--data-dir", data+"-flag")
	t.Setenv("KILN_CONFIG", write(t, dir, "other.yaml", "bogus: 1\n"))
	mustKiln(t, exitUsage, "fsck")
}

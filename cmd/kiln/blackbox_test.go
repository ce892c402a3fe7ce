package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the kiln that the black-box tests run; TestMain builds it.
var binary string

// testSettings are for the tests themselves.
var testSettings = []string{"KILN_SHARED", "KILN_KILLS", "KILN_SEED", "KILN_SOAK", "KILN_INCREMENTS", "KILN_AGING"}

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kiln-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "kiln")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "kiln/cmd/kiln")...)
	if text, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build kiln: %v\n%s", err, text)
		return 1
	}
	for _, setting := range os.Environ() {
		// A developer's own settings must not reach the binary under test.
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "KILN_") {
			if !slices.Contains(testSettings, name) {
				os.Unsetenv(name)
			}
		}
	}
	return m.Run()
}

// startTimeout bounds how long a server may take to listen, recovery
// included, on a slow and busy machine with the race detector.
const startTimeout = 60 * time.Second

// logBuffer collects a process's stderr and announces the listening address.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	addr chan string // gets the address once
	seen bool
}

var listening = regexp.MustCompile(`msg=listening .*\baddr=(\S+)`)

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Write(p)
	if !b.seen {
		if found := listening.FindSubmatch(b.text.Bytes()); found != nil {
			b.seen = true
			b.addr <- string(found[1])
		}
	}
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// server is a running `kiln serve`.
type server struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *logBuffer
	exited chan struct{} // closed when the process has ended
	base   string        // FHIR base, once it listens
	root   string        // http://HOST:PORT
}

// spawn starts a server and does not wait for it.
func spawn(t *testing.T, dataDir string, flags ...string) *server {
	t.Helper()
	return spawnWith(t, nil, dataDir, flags...)
}

// spawnWith is spawn with settings in the server's environment.
func spawnWith(t *testing.T, environment []string, dataDir string, flags ...string) *server {
	t.Helper()
	s := &server{t: t, log: &logBuffer{addr: make(chan string, 1)}, exited: make(chan struct{})}
	s.cmd = exec.Command(binary, append([]string{"serve", "--data-dir", dataDir, "--listen", "127.0.0.1:0"}, flags...)...)
	s.cmd.Stderr, s.cmd.Env = s.log, append(os.Environ(), environment...)
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("cannot start the server: %v", err)
	}
	go func() {
		_ = s.cmd.Wait() // the tests look at ProcessState
		close(s.exited)
	}()
	t.Cleanup(s.kill)
	return s
}

// serve starts a server and waits until it listens.
func serve(t *testing.T, dataDir string, flags ...string) *server {
	t.Helper()
	s := spawn(t, dataDir, flags...)
	s.waitListening()
	return s
}

func (s *server) waitListening() {
	s.t.Helper()
	select {
	case addr := <-s.log.addr:
		s.root = "http://" + addr
		s.base = s.root + "/fhir"
	case <-s.exited:
		s.t.Fatalf("the server ended (%v) before it listened:\n%s", s.cmd.ProcessState, s.log)
	case <-time.After(startTimeout):
		s.t.Fatalf("the server does not listen:\n%s", s.log)
	}
}

// kill is kill -9; it returns when the process is gone.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may be gone already
	<-s.exited
}

// stop asks for an orderly end and expects exit 0.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatalf("cannot signal the server: %v\n%s", err, s.log)
	}
	select {
	case <-s.exited:
	case <-time.After(startTimeout):
		s.t.Fatalf("the server does not stop:\n%s", s.log)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Fatalf("the server ended with %d after SIGTERM:\n%s", code, s.log)
	}
}

// answer is one HTTP answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

var webClient = &http.Client{Timeout: 60 * time.Second}

// ask sends one request; an error means that no answer came.
func ask(method, address, body string, header ...string) (*answer, error) {
	return askWith(webClient, method, address, body, header...)
}

func askWith(client *http.Client, method, address, body string, header ...string) (*answer, error) {
	request, err := http.NewRequestWithContext(context.Background(), method, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/fhir+json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	got, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		return nil, err
	}
	return &answer{status: got.StatusCode, header: got.Header, body: text}, nil
}

// must is ask with an expected status.
func (s *server) must(status int, method, path, body string, header ...string) *answer {
	s.t.Helper()
	got, err := ask(method, s.base+path, body, header...)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", method, path, err, s.log)
	}
	if got.status != status {
		s.t.Fatalf("%s %s: status %d instead of %d: %s", method, path, got.status, status, got.body)
	}
	return got
}

// ran is what a command left behind.
type ran struct {
	out, err string
	code     int
}

// kiln runs one command to its end.
func kiln(t *testing.T, args ...string) ran {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run kiln %v: %v", args, err)
	}
	return ran{out: out.String(), err: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// mustKiln is kiln with an expected exit code.
func mustKiln(t *testing.T, code int, args ...string) ran {
	t.Helper()
	got := kiln(t, args...)
	if got.code != code {
		t.Fatalf("kiln %s: exit %d instead of %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got.code, code, got.out, got.err)
	}
	return got
}

// decode reads JSON that must be readable.
func decode[T any](t *testing.T, text []byte) T {
	t.Helper()
	var value T
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("cannot read %.300s: %v", text, err)
	}
	return value
}

// write makes a file below dir.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

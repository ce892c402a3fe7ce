package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// begin opens a connection and sends the beginning of a request; the server
// has read it when it answers somebody else.
func (s *server) begin(text string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.root, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatal(err)
	}
	s.must(http.StatusOK, http.MethodGet, "/metadata", "")
	return conn
}

// signal sends SIGTERM and waits until the server says that it stops.
func (s *server) signal() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	for !strings.Contains(s.log.String(), "msg=stopping") {
		select {
		case <-s.exited:
			s.t.Fatalf("the server did not wait:\n%s", s.log)
		default:
		}
	}
}

// exitCode waits for the process and returns its exit code; -1: a signal ended it.
func (s *server) exitCode() int {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(startTimeout):
		s.t.Fatalf("the server does not stop:\n%s", s.log)
	}
	return s.cmd.ProcessState.ExitCode()
}

const halfAPut = "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\nContent-Length: 35\r\n\r\n" + `{"resource`

// TestSigtermTellsKeptConnectionsToClose sends the rest of a request after the
// signal, on a connection that would be kept; new ones are refused meanwhile, and one
// that has asked nothing holds nothing up.
func TestSigtermTellsKeptConnectionsToClose(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	silent, busy := s.begin(""), s.begin(halfAPut)
	s.signal()
	if rest, _ := io.ReadAll(silent); strings.Contains(string(rest), " 200 ") { // or it is reset
		t.Errorf("silent: got %q", rest)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(s.root, "http://")); err == nil {
		conn.Close()
		t.Error("a new connection is taken")
	}
	if _, err := io.WriteString(busy, `Type":"Patient","id":"a"}`); err != nil {
		t.Fatalf("the connection was cut: %v", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusCreated || !response.Close {
		t.Errorf("got %s, close %v", response.Status, response.Close)
	}
	if code := s.exitCode(); code != 0 {
		t.Errorf("the server ended with %d:\n%s", code, s.log)
	}
}

func TestDrainTimeEndsTheWait(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--drain-time", "50ms")
	s.begin(halfAPut)
	s.signal()
	if code := s.exitCode(); code != exitFailed || !strings.Contains(s.log.String(), "cannot finish the requests in flight") {
		t.Errorf("the server ended with %d:\n%s", code, s.log)
	}
}

func TestSecondSigtermEndsTheWait(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir, "--drain-time", "1h")
	s.must(http.StatusCreated, http.MethodPut, "/Patient/kept", `{"resourceType":"Patient","id":"kept"}`)
	s.begin(halfAPut)
	s.signal()
	for again := true; again; {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
		select {
		case <-s.exited:
			again = false
		default:
		}
	}
	if code := s.exitCode(); code != -1 {
		t.Errorf("the server ended with %d:\n%s", code, s.log)
	}
	s = serve(t, dir)
	s.must(http.StatusOK, http.MethodGet, "/Patient/kept", "")
	s.must(http.StatusNotFound, http.MethodGet, "/Patient/a", "")
	s.stop()
}

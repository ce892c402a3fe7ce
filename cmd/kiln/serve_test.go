package main

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func TestServeAnswersHealthMetricsAndMetadata(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--block-cache", "3MiB")
	f := func(address, want string) {
		t.Helper()
		got, err := ask(http.MethodGet, address, "")
		if err != nil || got.status != http.StatusOK || !strings.Contains(string(got.body), want) {
			t.Errorf("%s: %v %+v has no %q", address, err, got, want)
		}
	}
	f(s.root+"/healthz", "")
	f(s.root+"/readyz", "")
	f(s.root+"/metrics", "kiln_info{version=")
	f(s.root+"/metrics", "kiln_store_block_cache_max_bytes 3145728\n")
	f(s.base+"/metadata", `"CapabilityStatement"`)
	s.stop()
}

// TestAResourceLivesThroughARestart walks one resource through its life, with
// a restart after every step.
func TestAResourceLivesThroughARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	step := func(fn func(s *server)) {
		t.Helper()
		s := serve(t, dir)
		fn(s)
		s.stop()
	}
	const body = `{"resourceType":"Patient","id":"a","extension":[{"url":"u","valueDecimal":1.0}],"language":"é\u00e9\/"}`
	step(func(s *server) {
		got := s.must(http.StatusCreated, http.MethodPut, "/Patient/a", body)
		if got.header.Get("ETag") != `W/"1"` {
			t.Errorf("ETag %q", got.header.Get("ETag"))
		}
	})
	step(func(s *server) {
		got := s.must(http.StatusOK, http.MethodGet, "/Patient/a", "")
		if p, want := takeApart(t, got.body), takeApart(t, []byte(body)); p.text != want.text {
			t.Errorf("got %s", p.text)
		}
		s.must(http.StatusOK, http.MethodPut, "/Patient/a", strings.Replace(body, "1.0", "1.00", 1))
	})
	step(func(s *server) {
		if got := s.must(http.StatusNoContent, http.MethodDelete, "/Patient/a", ""); got.header.Get("ETag") != `W/"3"` {
			t.Errorf("ETag %q", got.header.Get("ETag"))
		}
	})
	step(func(s *server) {
		s.must(http.StatusGone, http.MethodGet, "/Patient/a", "")
		s.must(http.StatusGone, http.MethodGet, "/Patient/a/_history/3", "")
		s.must(http.StatusNotFound, http.MethodGet, "/Patient/a/_history/4", "")
		s.must(http.StatusNotFound, http.MethodGet, "/Patient/b", "")
		if got := s.must(http.StatusOK, http.MethodGet, "/Patient/a/_history/2", ""); !strings.Contains(string(got.body), `"valueDecimal":1.00}`) {
			t.Errorf("version 2 is %s", got.body)
		}
		versions := s.history("/Patient/a")["a"]
		if len(versions) != 3 || !versions[2].deleted || versions[0].version != 1 {
			t.Errorf("the history is %v", versions)
		}
	})
}

// TestSigtermFinishesTheRequestInFlight sends half a request, the signal, and
// the other half: the answer comes, and the server ends with 0.
func TestSigtermFinishesTheRequestInFlight(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.root, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	const body = `{"resourceType":"Patient","id":"a"}`
	head := "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/fhir+json\r\nContent-Length: 35\r\n\r\n"
	if _, err := io.WriteString(connection, head+body[:10]); err != nil {
		t.Fatal(err)
	}
	// The server has read the head when it answers somebody else.
	s.must(http.StatusOK, http.MethodGet, "/metadata", "")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.stop()
	}()
	for !strings.Contains(s.log.String(), "msg=stopping") {
		select {
		case <-s.exited:
			t.Fatalf("the server did not wait:\n%s", s.log)
		default:
		}
	}
	if _, err := io.WriteString(connection, body[10:]); err != nil {
		t.Fatalf("the connection was cut: %v", err)
	}
	got, err := io.ReadAll(connection)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 201") {
		t.Errorf("got %q %v", got, err)
	}
	<-stopped
}

func TestServeRefusesATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	got := mustKiln(t, exitFailed, "serve", "--data-dir", filepath.Join(t.TempDir(), "data"), "--listen", taken.Addr().String())
	if !strings.Contains(got.err, "cannot listen") {
		t.Errorf("got %s", got.err)
	}
}

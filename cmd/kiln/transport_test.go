package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kiln/internal/certtest"
)

// secureServe starts a server with TLS that asks for clients' certificates, and
// gives the flags that commands need for it.
func secureServe(t *testing.T, ca *certtest.CA, flags ...string) (s *server, files string, connect []string) {
	t.Helper()
	files = t.TempDir()
	cert, key := ca.Server(t).Write(t, files, "server")
	clientCert, clientKey := ca.Client(t, "importer").Write(t, files, "client")
	roots := certtest.Write(t, files, "ca.pem", ca.PEM)
	s = serve(t, filepath.Join(t.TempDir(), "data"), append([]string{"--tls-cert", cert, "--tls-key", key, "--tls-client-ca", roots}, flags...)...)
	s.root = strings.Replace(s.root, "http://", "https://", 1)
	s.base = s.root + "/fhir"
	return s, files, []string{"--server", s.base, "--ca-file", roots, "--client-cert", clientCert, "--client-key", clientKey}
}

func TestImportExportAndBackupOverMutualTLS(t *testing.T) {
	in, out, backups := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "Patient.ndjson"), []byte(`{"resourceType":"Patient","id":"a"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, files, connect := secureServe(t, certtest.New(t, "root"), "--import-root", in, "--backup-root", backups)
	token := certtest.Write(t, files, "token", []byte("abc.def\n")) // an open server does not look at it
	mustKiln(t, 0, append([]string{"import", "--token-file", token, in}, connect...)...)
	mustKiln(t, 0, append([]string{"export", "--out", out}, connect...)...)
	mustKiln(t, 0, append([]string{"backup", filepath.Join(backups, "main")}, connect...)...)
	if found, err := filepath.Glob(filepath.Join(out, "Patient*.ndjson")); err != nil || len(found) != 1 {
		t.Errorf("got %v %v", found, err)
	}
	f := func(want string, args ...string) {
		t.Helper()
		if got := kiln(t, append([]string{"export", "--out", t.TempDir(), "--server", s.base}, args...)...); got.code != exitFailed || !strings.Contains(got.err, want) {
			t.Errorf("%v: %d %s", args, got.code, got.err)
		}
	}
	f("certificate", "--ca-file", filepath.Join(files, "client.crt"))
	s.stop()
}

// TestASignalBringsTheNewCertificate does what renewal does: it replaces the files
// and sends SIGHUP. No connection is lost, no restart is needed.
func TestASignalBringsTheNewCertificate(t *testing.T) {
	ca := certtest.New(t, "root")
	s, files, _ := secureServe(t, ca)
	addr, client := strings.TrimPrefix(s.root, "https://"), ca.Client(t, "x").TLS(t)
	shown := func() string {
		t.Helper()
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{client}})
		if err != nil {
			t.Fatalf("%v\n%s", err, s.log)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	signal := func(want string) {
		t.Helper()
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(startTimeout); !strings.Contains(s.log.String(), want); {
			if shown(); time.Now().After(deadline) {
				t.Fatalf("the log has no %q:\n%s", want, s.log)
			}
		}
	}
	first := shown()
	certtest.Write(t, files, "server.key", []byte("nonsense"))
	signal("the new TLS files are not used")
	if shown() != first {
		t.Error("a bad pair changed what is shown")
	}
	ca.Server(t).Write(t, files, "server")
	signal("using the new TLS certificate")
	if shown() == first {
		t.Error("the new certificate is not shown")
	}
	s.stop()
}

func TestListeningInClearTextMustBeAskedFor(t *testing.T) {
	pair := certtest.New(t, "root").Server(t)
	cert, key := pair.Write(t, t.TempDir(), "server")
	f := func(want string, args ...string) {
		t.Helper()
		got := mustKiln(t, exitUsage, append([]string{"serve", "--data-dir", filepath.Join(t.TempDir(), "data")}, args...)...)
		if !strings.Contains(got.err, want) {
			t.Errorf("%v: %q has no %q", args, got.err, want)
		}
	}
	f("--allow-plain-http", "--listen", "0.0.0.0:0")
	f("--allow-plain-http", "--listen", "0.0.0.0:0", "--insecure-no-auth")
	f("--insecure-no-auth", "--listen", "0.0.0.0:0", "--allow-plain-http")
	f("--insecure-no-auth", "--listen", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key)
	f("--insecure-no-auth", "--listen", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", cert, "--tls-client-auth", "optional")
	f("belong together", "--tls-cert", cert)
	f("--tls-client-ca needs", "--tls-client-ca", cert)
	works := func(args ...string) {
		t.Helper()
		s := spawn(t, filepath.Join(t.TempDir(), "data"), append([]string{"--listen", "0.0.0.0:0"}, args...)...)
		s.waitListening()
		s.stop()
	}
	works("--insecure-no-auth", "--allow-plain-http")
	works("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", cert)
}

// TestATokenGoesToItsServerOnly has a server that sends the client elsewhere.
func TestATokenGoesToItsServerOnly(t *testing.T) {
	var elsewhere, here []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		elsewhere = append(elsewhere, r.Header.Get("Authorization"))
	}))
	defer other.Close()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		here = append(here, r.Header.Get("Authorization"))
		if r.URL.Path == "/fhir/away" {
			http.Redirect(w, r, other.URL, http.StatusFound)
		}
	}))
	defer web.Close()
	file := certtest.Write(t, t.TempDir(), "token", []byte("one"))
	c, err := (&connectFlags{TokenFile: file}).client(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	get := func(address string) error {
		answer, err := c.do(t.Context(), http.MethodGet, address, nil, nil)
		if err == nil {
			answer.Body.Close()
		}
		return err
	}
	for i, address := range []string{web.URL + "/fhir/a", web.URL + "/fhir/away", other.URL} {
		if i == 1 { // renewed meanwhile
			certtest.Write(t, filepath.Dir(file), "token", []byte(" two\n"))
		}
		if err := get(address); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(here, ","); got != "Bearer one,Bearer two" {
		t.Errorf("the server got %q", got)
	}
	if got := strings.Join(elsewhere, ","); got != "," {
		t.Errorf("another server got %q", got)
	}
	certtest.Write(t, filepath.Dir(file), "token", []byte("secret and more"))
	if err := get(web.URL); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "one token") {
		t.Errorf("got %v", err)
	}
}

func TestATokenIsNotSentInClearText(t *testing.T) {
	file := certtest.Write(t, t.TempDir(), "token", []byte("one"))
	f := func(server string, works bool) {
		t.Helper()
		if _, err := (&connectFlags{TokenFile: file}).client(server); (err == nil) != works {
			t.Errorf("%s: %v", server, err)
		}
	}
	f("http://fhir.example.org", false)
	f("https://fhir.example.org", true)
	f("http://127.0.0.1:8080", true)
	f("http://localhost:8080", true)
}

package httpapi

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"kiln/internal/certtest"
	"kiln/internal/vfs"
)

// secured is a server with TLS and what a client needs.
type secured struct {
	*testServer
	ca                    *certtest.CA
	certificates          *Certificates
	dir, cert, key, roots string
}

func newSecured(t *testing.T, options CertificateOptions, change func(*Options)) *secured {
	t.Helper()
	s := &secured{ca: certtest.New(t, "root"), dir: t.TempDir()}
	s.cert, s.key = s.ca.Server(t).Write(t, s.dir, "server")
	s.roots = certtest.Write(t, s.dir, "clients.pem", certtest.New(t, "clients").PEM)
	options.FS, options.CertFile, options.KeyFile, options.Now = vfs.OS(), s.cert, s.key, time.Now
	options.Logger = slog.New(slog.DiscardHandler)
	var err error
	if s.certificates, err = NewCertificates(options); err != nil {
		t.Fatal(err)
	}
	s.testServer = newBareServer(t, func(o *Options) {
		o.Certificates = s.certificates
		if change != nil {
			change(o)
		}
	})
	return s
}

// get asks over TLS, on a connection of its own.
func (s *secured) get(t *testing.T, path string, config *tls.Config) (*http.Response, string, error) {
	t.Helper()
	config.RootCAs = s.ca.Pool()
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, DisableCompression: true}
	request, err := http.NewRequest(http.MethodGet, "https://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response, string(text), err
}

func (s *secured) mustGet(t *testing.T, path string, config *tls.Config) (*http.Response, string) {
	t.Helper()
	response, text, err := s.get(t, path, config)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return response, text
}

func TestAnswersOverTLSHaveTheHeadersOfSecureOnes(t *testing.T) {
	s := newSecured(t, CertificateOptions{}, nil)
	for _, path := range []string{"/readyz", "/fhir/metadata", "/nowhere"} {
		response, text := s.mustGet(t, path, &tls.Config{})
		for name, want := range map[string]string{
			"Strict-Transport-Security": strictTransport, "Content-Security-Policy": contentPolicy, "Referrer-Policy": referrerPolicy,
			"X-Content-Type-Options": contentTypeOptions, "Cache-Control": cacheControl,
		} {
			if got := response.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if path == "/fhir/metadata" && !strings.Contains(text, `"https://`+s.addr+`/fhir"`) {
			t.Errorf("links do not begin with https:// in %.300s", text)
		}
	}
	if got := newBareServer(t, nil).do(t, "GET", "/readyz", "").header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("clear text promises %q", got)
	}
}

func TestOldProtocolsAndSuitesAreRefused(t *testing.T) {
	s := newSecured(t, CertificateOptions{}, nil)
	f := func(what string, works bool, config *tls.Config) {
		t.Helper()
		if _, _, err := s.get(t, "/readyz", config); (err == nil) != works {
			t.Errorf("%s: %v", what, err)
		}
	}
	f("TLS 1.3", true, &tls.Config{MinVersion: tls.VersionTLS13})
	f("TLS 1.2", true, &tls.Config{MaxVersion: tls.VersionTLS12})
	f("TLS 1.1", false, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	f("a suite without authenticated encryption", false, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}})
}

// A client that comes again saves the server a signature, unless certificates of clients
// are asked for: a resumed session would go by the authorities of its first handshake.
func TestSessionsAreResumed(t *testing.T) {
	f := func(what string, s *secured, again, after bool) {
		t.Helper()
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := &tls.Config{MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
			resumed := func() bool {
				t.Helper()
				response, _ := s.mustGet(t, "/readyz", config)
				if got := response.TLS.NegotiatedProtocol; got != "http/1.1" && got != "" || response.TLS.Version != version {
					t.Errorf("%s: speaks %q, TLS version %x", what, got, response.TLS.Version)
				}
				return response.TLS.DidResume
			}
			if resumed() || resumed() != again {
				t.Errorf("%s, TLS version %x: the session was not resumed as it should be: want %v", what, version, again)
			}
			s.ca.Server(t).Write(t, s.dir, "server")
			s.certificates.Look()
			if resumed() != after {
				t.Errorf("%s, TLS version %x: a session of the pair before: want %v", what, version, after)
			}
		}
	}
	f("TLS", newSecured(t, CertificateOptions{}, nil), true, false)
	dir := t.TempDir()
	roots := certtest.Write(t, dir, "clients.pem", certtest.New(t, "clients").PEM)
	f("TLS that takes certificates", newSecured(t, CertificateOptions{ClientCAFile: roots, ClientsMay: true}, nil), false, false)
}

func TestANewPairIsUsedAndABadOneIsNot(t *testing.T) {
	s := newSecured(t, CertificateOptions{}, nil)
	shown := func() string {
		t.Helper()
		response, _ := s.mustGet(t, "/readyz", &tls.Config{})
		return response.TLS.PeerCertificates[0].SerialNumber.String()
	}
	first := shown()
	s.certificates.Look() // nothing new
	next := s.ca.Server(t)
	certtest.Write(t, s.dir, "server.crt", next.Cert) // and not yet the key
	s.certificates.Look()
	s.certificates.Look()
	if got := shown(); got != first {
		t.Errorf("half a pair is used: %s", got)
	}
	certtest.Write(t, s.dir, "server.key", []byte("nonsense"))
	s.certificates.Look()
	next.Write(t, s.dir, "server")
	s.certificates.Look()
	second := shown()
	if second == first {
		t.Error("the new pair is not used")
	}
	s.ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "old"}, NotAfter: time.Now().Add(-time.Minute)}).Write(t, s.dir, "server")
	s.certificates.Look()
	if got := shown(); got != second {
		t.Error("a certificate that has ended is used")
	}
	_, text := s.mustGet(t, "/metrics", &tls.Config{})
	for _, want := range []string{"kiln_tls_reloads_total 1\n", "kiln_tls_reload_failures_total 3\n", "kiln_tls_certificate_not_after_seconds ", "kiln_tls_handshake_failures_total 0\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %q", want)
		}
	}
}

func TestFilesThatVanishAreToldOnce(t *testing.T) {
	s := newSecured(t, CertificateOptions{}, nil)
	s.certificates.opts.CertFile += ".gone"
	s.certificates.Look()
	s.certificates.Look()
	if got := s.certificates.failures.Load(); got != 1 {
		t.Errorf("%d failures are counted", got)
	}
	s.certificates.opts.CertFile = s.cert
	s.certificates.Look()
	if got := s.certificates.reloads.Load(); got != 1 {
		t.Errorf("%d reloads are counted", got)
	}
}

func TestClientsShowCertificatesOfTheirAuthority(t *testing.T) {
	clients, strangers := certtest.New(t, "clients"), certtest.New(t, "strangers")
	roots := certtest.Write(t, t.TempDir(), "clients.pem", clients.PEM)
	f := func(mayBeUnknown bool, pair *certtest.Pair, works bool) {
		t.Helper()
		s := newSecured(t, CertificateOptions{ClientCAFile: roots, ClientsMay: mayBeUnknown}, nil)
		config := &tls.Config{}
		if pair != nil {
			shown := pair.TLS(t)
			// Shown whatever the server asks for: the library would hold it back.
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
		}
		_, _, err := s.get(t, "/readyz", config)
		if (err == nil) != works {
			t.Errorf("optional %t, shown %t: %v", mayBeUnknown, pair != nil, err)
		}
		want := uint64(oneIf(!works))
		// The client may hear of its failure first.
		for end := time.Now().Add(10 * time.Second); s.shakes.failures.Load() < want && time.Now().Before(end); {
			runtime.Gosched()
		}
		if s.shakes.failures.Load() != want {
			t.Errorf("%d handshakes are counted as failed", s.shakes.failures.Load())
		}
	}
	good, stranger := clients.Client(t, "importer"), strangers.Client(t, "importer")
	server := clients.Server(t) // is for servers
	f(false, &good, true)
	f(false, nil, false)
	f(false, &stranger, false)
	f(false, &server, false)
	f(true, nil, true)
	f(true, &good, true)
	f(true, &stranger, false)
}

func TestWhoSpeaksPlainHTTPIsToldToUseTLS(t *testing.T) {
	s := newSecured(t, CertificateOptions{}, nil)
	answers := s.raw(t, "GET /fhir/Patient/a HTTP/1.1\r\nHost: x\r\n\r\n")
	if len(answers) != 1 || answers[0].status != 400 || !strings.Contains(answers[0].body, "https://") {
		t.Fatalf("got %+v", answers)
	}
	if got := s.raw(t, "\x00\x01\x02\x03\x04\x05\x06"); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestOneConnectionTooManyIsToldSoOverTLS(t *testing.T) {
	s := newSecured(t, CertificateOptions{}, func(o *Options) { o.ConnectionsMax = 1 })
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	response, text := s.mustGet(t, "/readyz", &tls.Config{})
	var outcome struct{ ResourceType string }
	if err := json.Unmarshal([]byte(text), &outcome); err != nil || response.StatusCode != 503 || outcome.ResourceType != "OperationOutcome" {
		t.Errorf("got %d %s", response.StatusCode, text)
	}
}

// TestSilentConnectionsMakeRoom opens more connections than may be in their
// handshake and says nothing: the oldest go, and one that goes on is served.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	s := newSecured(t, CertificateOptions{}, nil)
	s.shakes.mu.Lock()
	s.shakes.max = 4
	s.shakes.mu.Unlock()
	var silent []net.Conn
	for range 6 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	for i := range 2 { // closed by the server, without a word
		if err := silent[i].SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := silent[i].Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
			t.Errorf("connection %d: %v", i, err)
		} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Errorf("connection %d is still open", i)
		}
	}
	if response, _ := s.mustGet(t, "/readyz", &tls.Config{}); response.StatusCode != 200 {
		t.Errorf("got %d", response.StatusCode)
	}
}

// TestAStoppingServerDoesNotWaitForSilentTLSConnections has one that is secure and
// asks nothing: the cleanup of the test shuts the server down, and fails if it waits.
func TestAStoppingServerDoesNotWaitForSilentTLSConnections(t *testing.T) {
	s := newSecured(t, CertificateOptions{}, func(o *Options) { o.Timeouts.Fresh = time.Millisecond })
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
}

func TestRequestsShareASecureConnection(t *testing.T) {
	s := newSecured(t, CertificateOptions{}, nil)
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for range 3 {
		if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil || response.StatusCode != 200 {
			t.Fatalf("got %v %v", response, err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTLSFilesThatCannotWorkAreRefused(t *testing.T) {
	ca, dir := certtest.New(t, "root"), t.TempDir()
	cert, key := ca.Server(t).Write(t, dir, "a")
	_, otherKey := ca.Server(t).Write(t, dir, "b")
	ended, endedKey := ca.Issue(t, &x509.Certificate{NotAfter: time.Now().Add(-time.Minute)}).Write(t, dir, "c")
	f := func(want string, o CertificateOptions) {
		t.Helper()
		o.FS, o.Now = vfs.OS(), time.Now
		if _, err := NewCertificates(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v has no %q", err, want)
		}
	}
	f("private key does not match", CertificateOptions{CertFile: cert, KeyFile: otherKey})
	f("it ended on", CertificateOptions{CertFile: ended, KeyFile: endedKey})
	f("cannot read a TLS file", CertificateOptions{CertFile: filepath.Join(dir, "none"), KeyFile: key})
	f("no certificate in PEM form", CertificateOptions{CertFile: cert, KeyFile: key, ClientCAFile: key})
}

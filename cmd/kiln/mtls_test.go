package main

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kiln/internal/certtest"
)

// certificateRules grant something to three of an authority's clients.
const certificateRules = `certificates:
- {subject: CN=importer, roles: [Importer, Contributor]}
- {subject: CN=exporter, roles: Exporter}
- {dns: reader.example.org, roles: Reader}
`

// mutual is a server that asks for certificates, by --auth too.
type mutual struct {
	*server
	ca      *certtest.CA
	files   string
	connect []string // flags of commands, for the importer
	in      string
}

func newMutual(t *testing.T, auth string, flags ...string) *mutual {
	t.Helper()
	m := &mutual{ca: certtest.New(t, "root"), in: t.TempDir()}
	write(t, m.in, "Patient.ndjson", patients(3, "x"))
	m.server, m.files, m.connect = secureServe(t, m.ca, append([]string{"--auth", auth, "--import-root", m.in}, flags...)...)
	return m
}

// client shows pairs when it is asked for a certificate; one of its connections is
// kept and used again.
func (m *mutual) client(pairs ...certtest.Pair) *http.Client {
	m.t.Helper()
	config := &tls.Config{RootCAs: m.ca.Pool()}
	for _, pair := range pairs {
		// Whatever the server says it would take.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			shown := pair.TLS(m.t)
			return &shown, nil
		}
	}
	transport := &http.Transport{TLSClientConfig: config}
	m.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: startTimeout}
}

// gets asks for one patient, and wants a status; 0: that no connection comes about.
func (m *mutual) gets(what string, client *http.Client, status int, header ...string) *answer {
	m.t.Helper()
	got, err := askWith(client, http.MethodGet, m.base+"/Patient/p1", "", header...)
	switch {
	case status == 0 && err == nil:
		m.t.Errorf("%s: there is an answer: %d", what, got.status)
	case status == 0 && !strings.Contains(err.Error(), "tls: "):
		m.t.Errorf("%s: %v", what, err)
	case status != 0 && err != nil:
		m.t.Errorf("%s: %v", what, err)
	case status != 0 && got.status != status:
		m.t.Errorf("%s: status %d instead of %d: %s", what, got.status, status, got.body)
	}
	return got
}

// reader is a certificate of somebody who may read, until then.
func (m *mutual) reader(ca *certtest.CA, until time.Time) certtest.Pair {
	m.t.Helper()
	return ca.Issue(m.t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "someone"}, DNSNames: []string{"reader.example.org"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	})
}

// TestCertificatesGrantRoles has commands and requests show certificates to a server
// with --auth: each does what its rule grants, and nothing else.
func TestCertificatesGrantRoles(t *testing.T) {
	t.Parallel()
	m := newMutual(t, write(t, t.TempDir(), "auth.yaml", certificateRules))
	mustKiln(t, 0, append([]string{"import", m.in}, m.connect...)...)
	if got := kiln(t, append([]string{"export", "--out", t.TempDir()}, m.connect...)...); got.code != exitFailed || !strings.Contains(got.err, "403") {
		t.Errorf("an importer exports: %d, %s", got.code, got.err)
	}
	m.ca.Client(t, "exporter").Write(t, m.files, "client") // the flags name these files
	mustKiln(t, 0, append([]string{"export", "--out", t.TempDir()}, m.connect...)...)
	if got := kiln(t, append([]string{"import", m.in}, m.connect...)...); got.code != exitFailed || !strings.Contains(got.err, "403") {
		t.Errorf("an exporter imports: %d, %s", got.code, got.err)
	}
	in := time.Now().Add(time.Hour)
	reader := m.client(m.reader(m.ca, in))
	m.gets("a reader", reader, http.StatusOK)
	if got, err := askWith(reader, http.MethodDelete, m.base+"/Patient/p1", ""); err != nil || got.status != http.StatusForbidden {
		t.Errorf("a reader deletes: %+v, %v", got, err)
	}
	m.gets("an exporter reads", m.client(m.ca.Client(t, "exporter")), http.StatusForbidden)
	unknown := m.gets("one that no rule knows", m.client(m.ca.Client(t, "nobody")), http.StatusUnauthorized)
	if unknown != nil && !strings.HasPrefix(unknown.header.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("the challenge is %q", unknown.header.Get("WWW-Authenticate"))
	}
	m.gets("an expired one", m.client(m.reader(m.ca, time.Now().Add(-time.Minute))), 0)
	m.gets("one of another authority of that name", m.client(m.reader(certtest.New(t, "root"), in)), 0)
	m.gets("a server's", m.client(m.ca.Issue(t, &x509.Certificate{
		DNSNames: []string{"reader.example.org"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})), 0)
	m.gets("none", m.client(), 0)
	m.stop()
}

// TestATokenCountsBeforeACertificate: who shows both is who the token says, also when
// that is less, or nothing.
func TestATokenCountsBeforeACertificate(t *testing.T) {
	t.Parallel()
	issuer := newIssuer(t, httptest.NewServer, "a")
	m := newMutual(t, issuer.file(certificateRules), "--tls-client-auth", "optional")
	mustKiln(t, 0, append([]string{"import", m.in}, m.connect...)...)
	certified, plain := m.client(m.reader(m.ca, time.Now().Add(time.Hour))), m.client()
	unknown := m.client(m.ca.Client(t, "nobody"))
	reads, exports := issuer.token("a", roles("Reader")), issuer.token("a", roles("Exporter"))
	m.gets("neither", plain, http.StatusUnauthorized)
	m.gets("a token", plain, http.StatusOK, reads...)
	m.gets("a certificate", certified, http.StatusOK)
	m.gets("both", certified, http.StatusOK, reads...)
	m.gets("a certificate with a token for less", certified, http.StatusForbidden, exports...)
	m.gets("a certificate with a token that is none", certified, http.StatusUnauthorized, "Authorization", "Bearer a.b.c")
	m.gets("a certificate with another scheme", certified, http.StatusUnauthorized, "Authorization", "Basic YTpi")
	m.gets("an unknown certificate with a token", unknown, http.StatusOK, reads...)
	m.gets("an unknown certificate", unknown, http.StatusUnauthorized)
	m.gets("an expired certificate with a token", m.client(m.reader(m.ca, time.Now().Add(-time.Minute))), 0, reads...)
	m.stop()
}

// TestAnAuthorityThatIsTakenOutIsOut: what a client has proven counts as long as its
// authority does, on connections that are open too.
func TestAnAuthorityThatIsTakenOutIsOut(t *testing.T) {
	t.Parallel()
	m := newMutual(t, write(t, t.TempDir(), "auth.yaml", certificateRules))
	mustKiln(t, 0, append([]string{"import", m.in}, m.connect...)...)
	in := time.Now().Add(time.Hour)
	old := m.client(m.reader(m.ca, in))
	m.gets("before", old, http.StatusOK)
	next := certtest.New(t, "next")
	replace := func(text []byte, times int) {
		t.Helper()
		certtest.Write(t, m.files, "ca.pem", text)
		if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(startTimeout); strings.Count(m.log.String(), "using the new TLS certificate") < times; {
			if m.gets("meanwhile", old, http.StatusOK); time.Now().After(end) {
				t.Fatalf("the files are not used:\n%s", m.log)
			}
		}
	}
	replace(append(append([]byte{}, m.ca.PEM...), next.PEM...), 1)
	m.gets("both authorities", old, http.StatusOK)
	m.gets("the new one", m.client(m.reader(next, in)), http.StatusOK)
	certtest.Write(t, m.files, "ca.pem", next.PEM)
	if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	var last *answer
	for end := time.Now().Add(startTimeout); last == nil || last.status == http.StatusOK; {
		var err error
		if last, err = askWith(old, http.MethodGet, m.base+"/Patient/p1", ""); err != nil || time.Now().After(end) {
			t.Fatalf("%v\n%s", err, m.log)
		}
	}
	if last.status != http.StatusUnauthorized {
		t.Errorf("on the open connection: %d: %s", last.status, last.body)
	}
	m.gets("a new connection", old, 0)
	m.gets("the new one goes on", m.client(m.reader(next, in)), http.StatusOK)
	if got := kiln(t, append([]string{"export", "--out", filepath.Join(t.TempDir(), "out")}, m.connect...)...); got.code != exitFailed {
		t.Errorf("the old authority's client exports: %d", got.code)
	}
	m.stop()
}

package httpapi

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"kiln/internal/certtest"
)

// TestACertificateEndsOnAnOpenConnection: what the handshake proved is good for as long
// as the certificate, and after new files as long as its authority.
func TestACertificateEndsOnAnOpenConnection(t *testing.T) {
	clients, others := certtest.New(t, "clients"), certtest.New(t, "others")
	dir := t.TempDir()
	roots := certtest.Write(t, dir, "clients.pem", clients.PEM)
	var passed atomic.Int64
	s := newSecured(t, CertificateOptions{ClientCAFile: roots}, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
	})
	connect := func(ca *certtest.CA) func(what string, status int) {
		t.Helper()
		conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.ca.Pool(), Certificates: []tls.Certificate{ca.Client(t, "x").TLS(t)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		reader := bufio.NewReader(conn)
		return func(what string, status int) {
			t.Helper()
			if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(reader, nil)
			if err != nil || response.StatusCode != status || response.Close != (status != http.StatusOK) {
				t.Fatalf("%s: got %v %v", what, response, err)
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				t.Fatal(err)
			}
		}
	}
	renewed := func(text []byte) {
		certtest.Write(t, dir, "clients.pem", text)
		s.certificates.Look()
	}
	f, idle := connect(clients), connect(clients)
	f("good", http.StatusOK)
	renewed(append(append([]byte{}, others.PEM...), clients.PEM...))
	f("its authority has company", http.StatusOK)
	g := connect(others)
	g("of the other authority", http.StatusOK)
	renewed(others.PEM)
	f("its authority is gone", http.StatusUnauthorized)
	idle("the same, without a request before", http.StatusUnauthorized)
	g("of the other authority still", http.StatusOK)
	passed.Store(int64(2 * time.Hour))
	g("ended", http.StatusUnauthorized)
}

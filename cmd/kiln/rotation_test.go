package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/internal/certtest"
)

// largeKeySet is beyond what is read of a key set (1 MiB).
const largeKeySet = 2 << 20

// issuers are what a server with --auth takes tokens from: all of them by HTTPS, as
// their discovery documents say.
type issuers struct {
	*server
	t   *testing.T
	all map[string]*testIssuer
}

func newIssuers(t *testing.T, names ...string) *issuers {
	t.Helper()
	ca := certtest.New(t, "root")
	secure := func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server(t).TLS(t)}}
		s.StartTLS()
		return s
	}
	i, text := &issuers{t: t, all: map[string]*testIssuer{}}, "issuers:\n"
	for _, name := range names {
		i.all[name] = newIssuer(t, secure, "a")
		text += fmt.Sprintf("- {url: %q, audiences: [kiln]}\n", i.all[name].server.URL)
	}
	dir := t.TempDir()
	// The server asks for keys as a client that trusts what its system does.
	trusts := []string{"SSL_CERT_FILE=" + certtest.Write(t, dir, "ca.pem", ca.PEM), "SSL_CERT_DIR=" + dir}
	i.server = spawnWith(t, trusts, filepath.Join(dir, "data"), "--auth", write(t, dir, "auth.yaml", text))
	i.waitListening()
	return i
}

// asks reads as somebody with an issuer's token.
func (i *issuers) asks(name, kid string) int {
	i.t.Helper()
	got, err := ask(http.MethodGet, i.base+"/Patient", "", i.all[name].token(kid, roles("Reader"))...)
	if err != nil {
		i.t.Fatalf("%s, %s: %v\n%s", name, kid, err, i.log)
	}
	return got.status
}

func (i *issuers) must(what, name, kid string, status int) {
	i.t.Helper()
	if got := i.asks(name, kid); got != status {
		i.t.Errorf("%s: %d instead of %d\n%s", what, got, status, i.log)
	}
}

// await asks again and again, as seldom as an address may fail.
func (i *issuers) await(what, name, kid string, status int) {
	i.t.Helper()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(startTimeout); i.asks(name, kid) != status; <-ticker.C {
		if time.Now().After(end) {
			i.t.Fatalf("%s: still not %d\n%s", what, status, i.log)
		}
	}
}

// TestTheKeysOfIssuersChange: a running server learns of new keys, forgets those that
// are gone, asks again after an outage, and believes nobody but its issuers. An issuer
// is asked once in ten seconds at most.
func TestTheKeysOfIssuersChange(t *testing.T) {
	t.Parallel()
	thief := newIssuer(t, httptest.NewServer, "a")
	i := newIssuers(t, "rotates", "recovers", "down", "large", "leads away")
	i.all["recovers"].answers(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `<html>"keys":[`) })
	i.all["down"].server.Close()
	i.all["large"].answers(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"keys":[`, strings.Repeat(" ", largeKeySet), `]}`)
	})
	i.all["leads away"].answers(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.server.URL+"/keys", http.StatusFound)
	})
	i.must("the first key", "rotates", "a", http.StatusOK)
	for _, name := range []string{"recovers", "down", "large", "leads away"} {
		i.must(name, name, "a", http.StatusServiceUnavailable)
	}
	i.all["rotates"].show("b")
	i.all["recovers"].show("a")
	i.await("a key that was added", "rotates", "b", http.StatusOK)
	i.must("the one that was taken out", "rotates", "a", http.StatusUnauthorized)
	i.await("the issuer is well again", "recovers", "a", http.StatusOK)
	for _, name := range []string{"down", "large", "leads away"} {
		i.must(name+" still", name, "a", http.StatusServiceUnavailable)
	}
	thief.mu.Lock()
	if thief.asked != 0 {
		t.Errorf("a redirect to another host was followed %d times", thief.asked)
	}
	thief.mu.Unlock()
	i.stop()
}

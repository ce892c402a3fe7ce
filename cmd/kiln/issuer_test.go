package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// testIssuer signs tokens, and serves its discovery document and its keys.
type testIssuer struct {
	t      *testing.T
	server *httptest.Server

	mu     sync.Mutex // guards what follows
	keys   map[string]*ecdsa.PrivateKey
	shown  []string // the ids of keys that the set has
	asked  int      // how often the set was asked for
	answer http.HandlerFunc
}

// newIssuer starts an issuer that shows the keys kids; start is httptest.NewServer, or
// does what it does.
func newIssuer(t *testing.T, start func(http.Handler) *httptest.Server, kids ...string) *testIssuer {
	t.Helper()
	i := &testIssuer{t: t, keys: map[string]*ecdsa.PrivateKey{}}
	i.show(kids...)
	i.server = start(i)
	t.Cleanup(i.server.Close)
	return i
}

// show has the key set show these keys, made when they are new, and nothing else.
func (i *testIssuer) show(kids ...string) {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.shown, i.answer = kids, nil
	for _, kid := range kids {
		if i.keys[kid] != nil {
			continue
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			i.t.Fatal(err)
		}
		i.keys[kid] = key
	}
}

// answers has something else answer for the key set.
func (i *testIssuer) answers(with http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = with
}

// ServeHTTP answers what the server under test asks.
func (i *testIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.server.URL, i.server.URL+"/keys")
	case "/keys":
		i.asked++
		if i.answer != nil {
			i.answer(w, r)
			return
		}
		var set jose.JSONWebKeySet
		for _, kid := range i.shown {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: &i.keys[kid].PublicKey, KeyID: kid, Algorithm: "ES256", Use: "sig"})
		}
		w.Header().Set("Cache-Control", "no-cache")
		if err := json.NewEncoder(w).Encode(set); err != nil {
			i.t.Error(err)
		}
	default:
		http.NotFound(w, r)
	}
}

// file is a file for --auth that takes this issuer's tokens, and what more it has.
func (i *testIssuer) file(more string) string {
	i.t.Helper()
	return write(i.t, i.t.TempDir(), "auth.yaml", fmt.Sprintf("issuers:\n- {url: %q, audiences: [kiln]}\n%s", i.server.URL, more))
}

// token is a header with a token of an hour that a key signs. Claims that are given
// take the place of the others, or are added.
func (i *testIssuer) token(kid string, claims map[string]any) []string {
	i.t.Helper()
	i.mu.Lock()
	key := i.keys[kid]
	i.mu.Unlock()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	all := map[string]any{"iss": i.server.URL, "aud": "kiln", "sub": "someone", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	text, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return []string{"Authorization", "Bearer " + text}
}

// roles are claims with roles as Azure's FHIR service calls them.
func roles(names ...string) map[string]any {
	for n := range names {
		names[n] = "FHIR Data " + names[n]
	}
	return map[string]any{"roles": names}
}

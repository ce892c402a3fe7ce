package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"kiln/engine"
	"kiln/httpapi/access"
	"kiln/internal/vfs"
)

const testBase = "https://fhir.example/fhir"

func openStore(t testing.TB) *engine.Store {
	t.Helper()
	return openStoreAt(t, vfs.NewMem(1))
}

func openStoreAt(t testing.TB, fs vfs.FS) *engine.Store {
	t.Helper()
	store, err := engine.Open(context.Background(), engine.Options{FS: fs, Dir: "data", CatalogInMem: true, Now: time.Now, NewID: mathrand.Uint64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// backend is a server with registered clients: "ec" has its keys in the file, "url"
// behind a URL, "rsa" may write.
type backend struct {
	*Authenticator
	t     testing.TB
	clock *testClock
	file  string
	store *engine.Store
	ec    *ecdsa.PrivateKey
	rsa   *rsa.PrivateKey
	url   *keyServer
	jtis  int
}

func newBackend(t testing.TB, url *keyServer) *backend {
	t.Helper()
	b := &backend{t: t, clock: newTestClock(), file: filepath.Join(t.TempDir(), "auth.yaml"), store: openStore(t), url: url}
	var err error
	if b.ec, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if b.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	set := func(keys ...jose.JSONWebKey) string {
		text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	text := "clients:\n" +
		"- {id: ec, name: Tool, scopes: system/*.rs, roles: Exporter, keys: " + set(jose.JSONWebKey{Key: &b.ec.PublicKey, KeyID: "k"}) + "}\n" +
		"- {id: rsa, scopes: 'system/Patient.cruds system/Observation.rs?code=lab', keys: " + set(jose.JSONWebKey{Key: &b.rsa.PublicKey, KeyID: "r", Algorithm: "RS384"}) + "}\n" +
		"- {id: twice, scopes: system/*.rs, keys: " + set(jose.JSONWebKey{Key: &b.ec.PublicKey, KeyID: "k"}, jose.JSONWebKey{Key: &b.ec.PublicKey, KeyID: "k"}) + "}\n"
	if url != nil {
		text += "- {id: url, scopes: system/*.rs, keys-url: '" + url.URL + "'}\n"
	}
	b.write(text)
	b.start()
	return b
}

func (b *backend) write(text string) {
	b.t.Helper()
	if err := vfs.WriteFileAtomic(vfs.OS(), b.file, []byte(text)); err != nil {
		b.t.Fatal(err)
	}
}

// start is a start of the server over the store.
func (b *backend) start() {
	b.t.Helper()
	var err error
	b.Authenticator, err = New(Options{FS: vfs.OS(), File: b.file, Store: b.store, BaseURL: testBase, Now: b.clock.now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.t.Fatal(err)
	}
}

// assertion is that of a client, with changed claims (nil takes one out) and header.
func (b *backend) assertion(key any, alg jose.SignatureAlgorithm, kid string, header, changes map[string]any) string {
	b.t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range header {
		options = options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, options)
	if err != nil {
		b.t.Fatal(err)
	}
	b.jtis++
	claims := map[string]any{"iss": "ec", "sub": "ec", "aud": testBase + TokenPath, "exp": b.clock.now().Add(4 * time.Minute).Unix(), "jti": fmt.Sprint(b.jtis)}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *backend) good(changes map[string]any) string {
	return b.assertion(b.ec, jose.ES384, "k", nil, changes)
}

// ask posts a form; fields with a value of "-" are left out.
func (b *backend) ask(assertion, scope string, changes map[string]string) (int, map[string]any) {
	b.t.Helper()
	fields := map[string]string{"grant_type": "client_credentials", "client_assertion_type": assertionType, "client_assertion": assertion, "scope": scope}
	maps.Copy(fields, changes)
	form := url.Values{}
	for name, value := range fields {
		if value != "-" {
			form.Set(name, value)
		}
	}
	return b.post("application/x-www-form-urlencoded", form.Encode())
}

func (b *backend) post(contentType, body string) (int, map[string]any) {
	b.t.Helper()
	_, status, text := b.Token(context.Background(), testBase, contentType, []byte(body))
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil {
		b.t.Fatal(err)
	}
	return status, answer
}

func TestAClientGetsATokenAndUsesIt(t *testing.T) {
	b := newBackend(t, nil)
	status, answer := b.ask(b.good(nil), "system/*.rs", nil)
	if status != 200 || answer["token_type"] != "bearer" || answer["expires_in"] != 300.0 || answer["scope"] != "system/*.rs" || answer["refresh_token"] != nil {
		t.Fatalf("%d %v", status, answer)
	}
	token := answer["access_token"].(string)
	use := func() (*access.Principal, error) {
		return b.prove(context.Background(), b.current(), proofs{headers: []string{"Bearer " + token}, base: testBase})
	}
	who, err := use()
	if err != nil || who.Issuer != "kiln" || who.Subject != "ec" || who.Name != "Tool" || who.Roles != access.RoleExporter || !who.HasScopes || len(who.Scopes) != 1 {
		t.Fatalf("%+v %v", who, err)
	}
	b.start()
	if _, err := use(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := b.prove(context.Background(), b.current(), proofs{headers: []string{"Bearer " + token}, base: "https://other.example/fhir"}); err == nil {
		t.Error("another server took the token")
	}
	b.clock.pass(signingKeyAge)
	if _, err := b.signing.signer(); err != nil {
		t.Fatal(err)
	}
	if set, err := b.signing.keysFor(context.Background(), ""); err != nil || len(set.keys) != 2 {
		t.Errorf("after a rotation there are %v keys, %v", set, err)
	}
	b.clock.pass(signingKeyKept + time.Second)
	if set, err := b.signing.keysFor(context.Background(), ""); err != nil || len(set.keys) != 1 {
		t.Errorf("the old key is kept: %v, %v", set, err)
	}
	if _, err := use(); err == nil {
		t.Error("an expired token was taken")
	}
}

func TestATokenOfAClientThatIsGone(t *testing.T) {
	b := newBackend(t, nil)
	_, answer := b.ask(b.good(nil), "system/*.rs", nil)
	b.write("issuers: [{url: 'https://i.example', audiences: [x]}]\nclients: [{id: other, scopes: system/*.rs, keys-url: 'https://o.example/keys'}]")
	b.clock.pass(fileLookInterval)
	if _, err := b.prove(context.Background(), b.current(), proofs{headers: []string{"Bearer " + answer["access_token"].(string)}, base: testBase}); err == nil || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("%v", err)
	}
}

func TestScopesAreNarrowed(t *testing.T) {
	b := newBackend(t, nil)
	f := func(client, scope, want string) {
		t.Helper()
		assertion := b.good(nil)
		if client == "rsa" {
			assertion = b.assertion(b.rsa, jose.RS384, "r", nil, map[string]any{"iss": "rsa", "sub": "rsa"})
		}
		status, answer := b.ask(assertion, scope, nil)
		if want == "" && (status != 400 || answer["error"] != "invalid_scope") || want != "" && (status != 200 || answer["scope"] != want) {
			t.Errorf("%s, %q: %d %v; want %q", client, scope, status, answer, want)
		}
	}
	f("ec", "system/*.read", "system/*.rs")
	f("ec", "system/Patient.read system/Patient.rs", "system/Patient.rs")
	f("ec", "system/*.*", "system/*.rs")
	f("ec", "system/*.cruds", "system/*.rs")
	f("ec", "system/Patient.write system/Observation.rs", "system/Observation.rs")
	f("ec", "system/Patient.r", "system/Patient.r")
	f("ec", "system/Observation.rs?code=lab", "system/Observation.rs?code=lab")
	f("rsa", "system/*.rs", "system/Patient.rs system/Observation.rs?code=lab")
	f("rsa", "system/Patient.write", "system/Patient.cud")
	f("rsa", "system/Observation.rs?status=final", "system/Observation.rs?code=lab&status=final")
	f("rsa", "system/Encounter.rs", "")
	f("ec", strings.Repeat("system/Patient.r ", 500), "system/Patient.r")
	f("ec", distinct("system/Observation.rs?code=lab%d-"+strings.Repeat("x", 10), 230), "")
	f("ec", "system/Observation.rs?a"+strings.Repeat("&", 7000), "")
	for _, scope := range []string{"", "-", "system/*.write", "system/Nothing.read", "system/Patient.x", "system/Patient.sr", "launch fhirUser", "system/*.rs launch", "patient/*.rs", "user/*.read", "openid system/*.rs", "system/*.rs \x00"} {
		f("ec", scope, "")
	}
}

// distinct are n scopes.
func distinct(format string, n int) string {
	var words []string
	for i := range n {
		words = append(words, fmt.Sprintf(format, i))
	}
	return strings.Join(words, " ")
}

// However many scopes are granted, the token is one that this server takes.
func TestATokenWithManyScopesIsTaken(t *testing.T) {
	b := newBackend(t, nil)
	status, answer := b.ask(b.good(nil), distinct("system/Observation.rs?code=a&date=%d", 200), nil)
	if status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	who, err := b.prove(context.Background(), b.current(), bearing(answer["access_token"].(string)))
	if err != nil || len(who.Scopes) != 200 {
		t.Errorf("%v", err)
	}
}

// An array of one audience is that audience (RFC 7519 section 4.1.3).
func TestAnAudienceMayBeAList(t *testing.T) {
	b := newBackend(t, nil)
	if status, answer := b.ask(b.good(map[string]any{"aud": []string{testBase + TokenPath}}), "system/*.rs", nil); status != 200 {
		t.Errorf("%d %v", status, answer)
	}
}

// Who comes after many assertions expired deletes some of them, not all.
func TestExpiredAssertionsAreDeletedBitByBit(t *testing.T) {
	b := newBackend(t, nil)
	now := b.clock.now()
	for i := range 3 * replaysDeletedMax {
		if err := b.replays.use("c", fmt.Sprint(i), now, now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	f := func(pass time.Duration, want int) {
		t.Helper()
		b.clock.pass(pass)
		if err := b.replays.note("d", b.clock.now().String(), b.clock.now(), b.clock.now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		left := 0
		if err := b.store.CatalogList(replaysPrefix, func(string, []byte) error { left++; return nil }); err != nil || left != want {
			t.Errorf("%d are left, %v; want %d", left, err, want)
		}
	}
	f(time.Minute, 3*replaysDeletedMax)
	f(2*time.Second, 2*replaysDeletedMax)
	f(1, replaysDeletedMax)
	f(1, 0)
	f(1, 0)
	if n := len(b.replays.used); n > 2 {
		t.Errorf("%d clients are remembered", n)
	}
}

func TestBadTokenRequests(t *testing.T) {
	b := newBackend(t, nil)
	f := func(what string, changes map[string]string, wantStatus int, want string) {
		t.Helper()
		if status, answer := b.ask(b.good(nil), "system/*.rs", changes); status != wantStatus || answer["error"] != want || answer["error_description"] == "" {
			t.Errorf("%s: %d %v; want %d %s", what, status, answer, wantStatus, want)
		}
	}
	f("no grant", map[string]string{"grant_type": "-"}, 400, "invalid_request")
	f("another grant", map[string]string{"grant_type": "password"}, 400, "unsupported_grant_type")
	f("no assertion type", map[string]string{"client_assertion_type": "-"}, 400, "invalid_request")
	f("another assertion type", map[string]string{"client_assertion_type": "not_an_assertion_type"}, 400, "invalid_request")
	f("no assertion", map[string]string{"client_assertion": "-"}, 400, "invalid_request")
	f("no JWT", map[string]string{"client_assertion": "not_a_jwt"}, 401, "invalid_client")
	f("another client", map[string]string{"client_id": "rsa"}, 401, "invalid_client")
	f("the same client", map[string]string{"client_id": "ec", "scope": ""}, 400, "invalid_scope")
	raw := func(what, contentType, body string) {
		t.Helper()
		if status, answer := b.post(contentType, body); status != 400 || answer["error"] != "invalid_request" {
			t.Errorf("%s: %d %v", what, status, answer)
		}
	}
	raw("JSON", "application/json", `{"grant_type":"client_credentials"}`)
	raw("no type", "", "grant_type=client_credentials")
	raw("twice", "application/x-www-form-urlencoded", "grant_type=client_credentials&grant_type=client_credentials")
	raw("no form", "application/x-www-form-urlencoded", "a=%zz")
	raw("large", "application/x-www-form-urlencoded", "a="+strings.Repeat("x", formBytesMax))
}

func TestBadAssertions(t *testing.T) {
	s := newKeyServer(t, "k")
	b := newBackend(t, s)
	now := b.clock.now()
	f := func(what, assertion, want string) {
		t.Helper()
		status, answer := b.ask(assertion, "system/*.rs", nil)
		if text, _ := answer["error_description"].(string); status != 401 || answer["error"] != "invalid_client" || !strings.Contains(text, want) {
			t.Errorf("%s: %d %v; want %q", what, status, answer, want)
		}
	}
	said := "client_assertion: " + errNotTheirs.Text // one text: it does not tell which clients there are
	claims := func(what string, changes map[string]any, want string) {
		t.Helper()
		f(what, b.good(changes), want)
	}
	claims("another aud", map[string]any{"aud": testBase}, "aud")
	claims("for another server too", map[string]any{"aud": []string{testBase + TokenPath, "https://other.example/token"}}, "nothing else")
	claims("aud with a slash behind", map[string]any{"aud": testBase + TokenPath + "/"}, "aud")
	claims("aud by another scheme", map[string]any{"aud": "http" + strings.TrimPrefix(testBase, "https") + TokenPath}, "aud")
	claims("no aud", map[string]any{"aud": nil}, "aud")
	claims("an empty aud", map[string]any{"aud": []string{}}, "aud")
	claims("a jti with control characters", map[string]any{"jti": "a\x00b"}, "jti")
	claims("sub is not iss", map[string]any{"sub": "rsa"}, "iss and sub")
	claims("nobody's", map[string]any{"iss": "x", "sub": "x"}, said)
	claims("no exp", map[string]any{"exp": nil}, "(exp)")
	claims("expired", map[string]any{"exp": now.Add(-2 * time.Minute).Unix()}, "expired")
	claims("exp too far ahead", map[string]any{"exp": now.Add(7 * time.Minute).Unix()}, "5 minutes")
	claims("no jti", map[string]any{"jti": nil}, "jti")
	claims("a long jti", map[string]any{"jti": strings.Repeat("x", 1000)}, "jti")
	claims("another client's key", map[string]any{"iss": "rsa", "sub": "rsa"}, said)
	claims("two keys fit", map[string]any{"iss": "twice", "sub": "twice"}, said)
	f("no kid", b.assertion(b.ec, jose.ES384, "", nil, nil), "kid")
	f("an access token", b.assertion(b.ec, jose.ES384, "k", map[string]any{"typ": "at+jwt"}, nil), "typ")
	f("another kid", b.assertion(b.ec, jose.ES384, "x", nil, nil), said)
	f("RS256", b.assertion(b.rsa, jose.RS256, "r", nil, map[string]any{"iss": "rsa", "sub": "rsa"}), "(alg)")
	f("HS384 with the public key", b.assertion(hsKey(t, b.ec), jose.HS384, "k", map[string]any{"kid": "k"}, nil), "(alg)")
	f("foreign JWKS URL", b.assertion(b.ec, jose.ES384, "k", map[string]any{"jku": "https://evil.example/keys"}, nil), said)
	f("jku of a client without one", b.assertion(b.ec, jose.ES384, "k", map[string]any{"jku": s.URL}, nil), said)
	one, other := b.good(nil), b.good(nil)
	f("another's signature", one[:strings.LastIndexByte(one, '.')]+other[strings.LastIndexByte(other, '.'):], said)
	f("oversized", b.good(map[string]any{"x": strings.Repeat("x", tokenBytesMax)}), "JWT")
	if s.asked.Load() != 0 {
		t.Error("keys were asked for on behalf of another client")
	}
	f("the wrong key of a URL", b.assertion(b.ec, jose.ES384, "k", map[string]any{"jku": s.URL}, map[string]any{"iss": "url", "sub": "url"}), said)
	if s.asked.Load() != 1 {
		t.Errorf("keys were asked for %d times", s.asked.Load())
	}
}

func hsKey(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	public := jose.JSONWebKey{Key: &key.PublicKey}
	text, err := public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAnAssertionCountsOnce(t *testing.T) {
	b := newBackend(t, nil)
	once := b.good(nil)
	f := func(what, assertion string, want int) {
		t.Helper()
		if status, answer := b.ask(assertion, "system/*.rs", nil); status != want {
			t.Errorf("%s: %d %v", what, status, answer)
		}
	}
	f("first", once, 200)
	f("again", once, 401)
	b.start()
	f("after a restart", once, 401)
	f("another one", b.good(nil), 200)
	b.clock.pass(10 * time.Minute)
	f("when it has expired", once, 401)
	f("the same jti later", b.good(map[string]any{"jti": "1"}), 200)
	for i := range replaysMax {
		if err := b.replays.note("full", fmt.Sprint(i), b.clock.now(), b.clock.now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.replays.note("full", "one more", b.clock.now(), b.clock.now().Add(time.Minute)); err != errReplaysFull {
		t.Errorf("one more than there is room for: %v", err)
	}
	f("other clients go on", b.good(nil), 200)
	b.clock.pass(10 * time.Minute)
	f("later", b.good(nil), 200)
}

// isQuotable checks the characters of an error_description (RFC 6749 section 5.2).
func isQuotable(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
}

// FuzzToken posts any form: nobody gets a token by it, nothing panics.
func FuzzToken(f *testing.F) {
	b := newBackend(f, nil)
	f.Add("application/x-www-form-urlencoded", []byte("grant_type=client_credentials&client_assertion_type="+url.QueryEscape(assertionType)+"&client_assertion=a.b.c&scope=system/*.rs"))
	f.Add("application/x-www-form-urlencoded; charset=utf-8", []byte("grant_type=client_credentials&client_assertion="+b.good(map[string]any{"exp": 1})+"&client_assertion_type="+url.QueryEscape(assertionType)))
	f.Add("multipart/form-data; boundary=x", []byte("--x--"))
	f.Add("application/json", []byte("{}"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		client, status, answer := b.Token(context.Background(), testBase, contentType, body)
		if client != "" || status != 400 && status != 401 {
			t.Errorf("%q %q: %q, %d %s", contentType, body, client, status, answer)
		}
		var refusal struct {
			Error string `json:"error"`
			Text  string `json:"error_description"`
		}
		if err := json.Unmarshal(answer, &refusal); err != nil || (status == 401) != (refusal.Error == "invalid_client") || !isQuotable(refusal.Text) {
			t.Errorf("%q %q: %d %s", contentType, body, status, answer)
		}
	})
}

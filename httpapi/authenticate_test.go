package httpapi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
	"kiln/httpapi/access"
	"kiln/httpapi/auth"
	"kiln/internal/vfs"
)

// tokenIssuer is an issuer with a discovery document and two keys.
type tokenIssuer struct {
	*httptest.Server
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
}

func newTokenIssuer(t *testing.T) *tokenIssuer {
	t.Helper()
	i := &tokenIssuer{}
	var err error
	if i.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if i.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"token_endpoint":%q,"authorization_endpoint":%q}`, i.URL, i.URL+"/keys", i.URL+"/token", i.URL+"/authorize")
		case "/keys":
			set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
				{Key: &i.rsa.PublicKey, KeyID: "r"}, {Key: &i.ec.PublicKey, KeyID: "e", Algorithm: "ES256", Use: "sig"},
			}}
			if err := json.NewEncoder(w).Encode(set); err != nil {
				t.Error(err)
			}
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(i.Close)
	return i
}

// newIssuerAPI starts a server that takes the issuer's tokens.
func newIssuerAPI(t *testing.T, i *tokenIssuer, change func(*engine.Options, *bulk.Options, *Options)) *testServer {
	t.Helper()
	return newAuthAPI(t, "issuers:\n- url: "+i.URL+"\n  audiences: [kiln]\n  roles: {FHIR Data Contributor: Contributor, boss: Admin}\n", change)
}

// newAuthAPI starts a server with an --auth file.
func newAuthAPI(t *testing.T, text string, change func(*engine.Options, *bulk.Options, *Options)) *testServer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return newAPI(t, func(store *engine.Options, jobs *bulk.Options, o *Options) {
		if change != nil {
			change(store, jobs, o)
		}
		o.Auth = withStore(func(o *Options) {
			who, err := auth.New(auth.Options{FS: vfs.OS(), File: file, Store: o.Store, Now: time.Now, Logger: o.Logger})
			if err != nil {
				t.Fatal(err)
			}
			o.Auth, o.OAuth = who, who
		})
	})
}

// withStore stands for what can only be made when the store is open.
type withStore func(*Options)

func (withStore) Authenticate(*fasthttp.RequestCtx) (*access.Principal, error) {
	panic("BUG: the store is open")
}

// claims are those of a good token, changed; nil takes a claim out.
func (i *tokenIssuer) claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": i.URL, "aud": "kiln", "sub": "ann", "iat": now, "nbf": now, "exp": now + 300, "roles": []string{"boss"}}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, value any) bool { return value == nil })
	return c
}

func segment(t *testing.T, value any) string {
	t.Helper()
	text, isText := value.(string)
	if !isText {
		marshalled, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		text = string(marshalled)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// sign makes a token of any header and claims, which may be texts, with the
// signature that alg says; key is a *rsa.PrivateKey, an *ecdsa.PrivateKey or a
// secret.
func sign(t *testing.T, key any, alg string, header, claims any) string {
	t.Helper()
	input := segment(t, header) + "." + segment(t, claims)
	sum := sha256.Sum256([]byte(input))
	var signature []byte
	var err error
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if alg == "PS256" {
			signature, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], nil)
		} else {
			signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		}
	case *ecdsa.PrivateKey:
		r, s, signErr := ecdsa.Sign(rand.Reader, key, sum[:])
		if err = signErr; err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		signature = mac.Sum(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// token is a good one, with changed claims.
func (i *tokenIssuer) token(t *testing.T, changes map[string]any) string {
	t.Helper()
	return sign(t, i.ec, "ES256", map[string]any{"alg": "ES256", "kid": "e", "typ": "at+jwt"}, i.claims(changes))
}

func bearer(token string) string { return "Authorization: Bearer " + token }

func TestTokensOfAnIssuerAreTaken(t *testing.T) {
	i := newTokenIssuer(t)
	s := newIssuerAPI(t, i, nil)
	ok := func(what, token string) {
		t.Helper()
		if a := s.do(t, "GET", "/fhir/Patient", "", bearer(token)); a.status != 200 {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	ok("ES256", i.token(t, nil))
	ok("RS256", sign(t, i.rsa, "RS256", map[string]any{"alg": "RS256", "kid": "r", "typ": "JWT"}, i.claims(nil)))
	ok("PS256", sign(t, i.rsa, "PS256", map[string]any{"alg": "PS256", "kid": "r"}, i.claims(nil)))
	ok("several audiences", i.token(t, map[string]any{"aud": []string{"other", "kiln"}}))
	ok("within the skew", i.token(t, map[string]any{"exp": time.Now().Unix() - 30, "nbf": time.Now().Unix() + 30, "iat": time.Now().Unix() + 30}))
	if a := s.do(t, "GET", "/fhir/Patient", "", "authorization: bEARER "+i.token(t, nil)); a.status != 200 {
		t.Errorf("the scheme in other letters: %d %s", a.status, a.body)
	}
}

// attacks are a server, and a check that a token is refused wherever it is sent.
type attacks struct {
	*testServer
	t      *testing.T
	issuer *tokenIssuer
}

// Parts of what attackers, and honest clients, are told.
const (
	saysAlg       = "algorithm (alg)"
	saysKey       = "kid and alg"
	saysSignature = "signature is wrong"
	saysHeader    = "header member"
	saysClaims    = "claims cannot be read"
	saysNotJWT    = "not a signed JWT"
)

func newAttacks(t *testing.T) *attacks {
	i := newTokenIssuer(t)
	s := newIssuerAPI(t, i, nil)
	s.do(t, "PUT", "/fhir/Patient/a", `{"resourceType":"Patient","id":"a"}`, typeHeader, bearer(i.token(t, nil))).expect(t, "put", 201, `W/"1"`)
	return &attacks{s, t, i}
}

func (s *attacks) refused(what, token, want string) {
	s.t.Helper()
	for _, path := range []string{"/fhir/Patient/a", "/fhir/Patient/missing", "/fhir/Nothing/a", "/nowhere"} {
		a := s.do(s.t, "GET", path, "", bearer(token))
		challenge := a.header.Get("WWW-Authenticate")
		code, text := a.outcome(s.t)
		if a.status != 401 || code != "unknown" || !strings.Contains(text, want) ||
			!strings.HasPrefix(challenge, `Bearer realm="kiln", error="invalid_token", error_description="`) || !strings.Contains(challenge, want) {
			s.t.Errorf("%s, %s: %d %s %q, %s; want %q", what, path, a.status, code, text, challenge, want)
		}
	}
	if len(token) > 60 && strings.Contains(s.log.String(), token[:60]) {
		s.t.Errorf("%s: the log has the token", what)
	}
}

// es is a token with a changed header.
func (s *attacks) es(changes map[string]any) string {
	header := map[string]any{"alg": "ES256", "kid": "e", "typ": "at+jwt"}
	maps.Copy(header, changes)
	return sign(s.t, s.issuer.ec, "ES256", header, s.issuer.claims(nil))
}

// TestAttacksByHeader and those below send what the documents on attacks with JWTs
// list (RFC 8725, RFC 6750 section 5); each is refused, with words that help an
// honest client.
func TestAttacksByHeader(t *testing.T) {
	s := newAttacks(t)
	i := s.issuer
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&i.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	head := func(alg, kid string) map[string]any { return map[string]any{"alg": alg, "kid": kid} }
	claims := i.claims(nil)

	s.refused("none", segment(t, head("none", "e"))+"."+segment(t, claims)+".", saysAlg)
	s.refused("none in other letters", segment(t, head("nOnE", "e"))+"."+segment(t, claims)+".", saysAlg)
	s.refused("no alg", s.es(map[string]any{"alg": nil}), saysHeader)
	s.refused("HS256 with the public key as secret", sign(t, public, "HS256", head("HS256", "r"), claims), saysAlg)
	s.refused("HS256 with the key's DER", sign(t, der, "HS256", head("HS256", "r"), claims), saysAlg)
	s.refused("RS512 is not configured", sign(t, i.rsa, "RS512", head("RS512", "r"), claims), saysAlg)
	s.refused("alg of the other key type", s.es(map[string]any{"kid": "r"}), saysKey)
	s.refused("RS256 with the EC key's kid", sign(t, i.rsa, "RS256", head("RS256", "e"), claims), saysKey)
	s.refused("ES384 with a P-256 key", s.es(map[string]any{"alg": "ES384"}), saysKey)
	s.refused("unknown kid", s.es(map[string]any{"kid": "x"}), saysKey)
	s.refused("no kid among two keys", sign(t, i.ec, "ES256", map[string]any{"alg": "ES256"}, claims), saysKey)
	s.refused("a stranger's key", sign(t, stranger, "ES256", head("ES256", "e"), claims), saysSignature)
	s.refused("embedded jwk", sign(t, stranger, "ES256", map[string]any{"alg": "ES256", "jwk": jose.JSONWebKey{Key: &stranger.PublicKey}}, claims), saysHeader)
	s.refused("x5c", s.es(map[string]any{"x5c": []string{"AA=="}}), saysHeader)
	s.refused("x5u", s.es(map[string]any{"x5u": i.URL}), saysHeader)
	s.refused("foreign JWKS URL", s.es(map[string]any{"jku": "http://127.0.0.1:1/keys"}), "(jku)")
	s.refused("crit", s.es(map[string]any{"crit": []string{"exp"}}), saysHeader)
	s.refused("unencoded payload", s.es(map[string]any{"b64": false}), saysHeader)
	s.refused("a JWT within the token", s.es(map[string]any{"cty": "JWT"}), saysHeader)
	s.refused("another kind of token", s.es(map[string]any{"typ": "dpop+jwt"}), "(typ)")
	s.refused("kid is no text", s.es(map[string]any{"kid": 1}), saysHeader)
	s.refused("a member twice", sign(t, i.ec, "ES256", `{"alg":"ES256","kid":"e","kid":"e"}`, claims), "header cannot be read")
}

func TestAttacksByForm(t *testing.T) {
	s := newAttacks(t)
	i := s.issuer
	good := i.token(t, nil)
	parts := strings.Split(good, ".")
	signed := parts[0] + "." + parts[1]
	raw, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(signed))
	der, err := ecdsa.SignASN1(rand.Reader, i.ec, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	with := func(signature []byte) string { return signed + "." + base64.RawURLEncoding.EncodeToString(signature) }
	s.refused("a short ES signature", with(raw[:63]), saysSignature)
	s.refused("a long ES signature", with(append([]byte{0}, raw...)), saysSignature)
	s.refused("an ES signature of zeros", with(make([]byte, 64)), saysSignature)
	s.refused("an ES signature in DER", with(der), saysSignature)
	s.refused("no signature", with(nil), saysSignature)
	s.refused("other claims under the signature", parts[0]+"."+segment(t, i.claims(map[string]any{"sub": "root"}))+"."+parts[2], saysSignature)
	s.refused("five parts", good+".a.b", saysNotJWT)
	s.refused("two parts", signed, saysNotJWT)
	s.refused("a letter that no token has", "a.b!.c", "characters")
	s.refused("padding", good+"=", saysNotJWT)
	s.refused("a password", "hunter2", saysNotJWT)
	s.refused("oversized", i.token(t, map[string]any{"groups": strings.Repeat("x", 13000)}), "more than 16384 bytes")
}

func TestAttacksByClaims(t *testing.T) {
	s := newAttacks(t)
	i := s.issuer
	now := time.Now().Unix()
	f := func(what string, changes map[string]any, want string) {
		t.Helper()
		s.refused(what, i.token(t, changes), want)
	}
	f("expired", map[string]any{"exp": now - 61}, "expired")
	f("no exp", map[string]any{"exp": nil}, "(exp)")
	f("exp is a text", map[string]any{"exp": "tomorrow"}, saysClaims)
	f("exp beyond all time", map[string]any{"exp": json.Number("1e300")}, saysClaims)
	f("not yet", map[string]any{"nbf": now + 120}, "(nbf)")
	f("issued in the future", map[string]any{"iat": now + 120}, "(iat)")
	f("another audience", map[string]any{"aud": "other"}, "(aud)")
	f("no audience", map[string]any{"aud": nil}, "(aud)")
	f("audience is an object", map[string]any{"aud": map[string]any{"kiln": 1}}, saysClaims)
	f("another issuer", map[string]any{"iss": "https://evil.example"}, "(iss)")
	f("the issuer with a slash", map[string]any{"iss": i.URL + "/"}, "(iss)")
	f("no issuer", map[string]any{"iss": nil}, "(iss)")
	f("nobody", map[string]any{"sub": nil}, "(sub)")
	f("a name with a line end", map[string]any{"sub": "a\nb"}, "control characters")
	f("a long name", map[string]any{"sub": strings.Repeat("a", 600)}, "longer")
	f("a patient that is no id", map[string]any{"patient": "a/b"}, "patient")
	f("bound to a certificate", map[string]any{"cnf": map[string]any{"x5t#S256": "x"}}, "certificate")
	f("bound to a key that it would have to show", map[string]any{"cnf": map[string]any{"jkt": "x"}}, "(cnf)")
	raw := func(what, claims string) {
		t.Helper()
		s.refused(what, sign(t, i.ec, "ES256", map[string]any{"alg": "ES256", "kid": "e"}, claims), saysClaims)
	}
	raw("a claim twice", `{"iss":"`+i.URL+`","aud":"kiln","sub":"a","sub":"b","exp":9999999999}`)
	raw("nested too deeply", `{"iss":"x","a":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`}`)
	raw("no object", `["x"]`)
}

func TestRequestsWithoutAToken(t *testing.T) {
	i := newTokenIssuer(t)
	s := newIssuerAPI(t, i, nil)
	f := func(what string, status int, code, challenge string, headers ...string) {
		t.Helper()
		a := s.do(t, "GET", "/fhir/Patient/a", "", headers...)
		got, _ := a.outcome(t)
		if a.status != status || got != code || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), challenge) {
			t.Errorf("%s: %d %s %s", what, a.status, got, a.header.Get("WWW-Authenticate"))
		}
	}
	const plain, invalid = `Bearer realm="kiln"`, `Bearer realm="kiln", error="invalid_token"`
	f("no header", 401, "login", plain)
	f("another scheme", 401, "unknown", plain, "Authorization: Basic YTpi")
	f("an empty bearer", 401, "unknown", invalid, "Authorization: Bearer ")
	f("the scheme alone", 401, "unknown", invalid, "Authorization: Bearer")
	f("white space", 401, "unknown", invalid, "Authorization: Bearer    \t ")
	f("two headers", 400, "invalid", `Bearer realm="kiln", error="invalid_request"`, bearer(i.token(t, nil)), bearer(i.token(t, nil)))
	f("a good one beside an empty one", 400, "invalid", `Bearer realm="kiln", error="invalid_request"`, bearer(i.token(t, nil)), "Authorization: ")
	f("two tokens in one", 401, "unknown", invalid, bearer(i.token(t, nil)+" "+i.token(t, nil)))
	f("a list", 401, "unknown", invalid, bearer(i.token(t, nil)+", Bearer "+i.token(t, nil)))
	if a := s.do(t, "GET", "/fhir/Patient/a?access_token="+i.token(t, nil), ""); a.status != 401 {
		t.Errorf("a token in the address: %d", a.status)
	}
	for _, path := range []string{"/healthz", "/readyz", "/fhir/metadata"} {
		if a := s.do(t, "GET", path, "", "Authorization: Bearer "); a.status != 200 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := s.do(t, "OPTIONS", "/fhir/Patient/a", ""); a.status != 204 {
		t.Errorf("OPTIONS: %d", a.status)
	}
	for _, path := range []string{"/metrics", "/", "/fhir", "/fhir/_operations/export/1", "/fhir/$export"} {
		if a := s.do(t, "GET", path, ""); a.status != 401 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

func TestEntriesOfABundleAreTheSenders(t *testing.T) {
	i := newTokenIssuer(t)
	s := newIssuerAPI(t, i, nil)
	bundle := `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"PUT","url":"Patient/b"},"resource":{"resourceType":"Patient","id":"b"}}]}`
	s.do(t, "POST", "/fhir", bundle, typeHeader).expect(t, "no token", 401, "")
	a := s.do(t, "POST", "/fhir", bundle, typeHeader, bearer(i.token(t, nil))).expect(t, "token", 200, "")
	if !strings.Contains(a.body, `"status":"201`) {
		t.Errorf("batch: %s", a.body)
	}
}

func TestOpenServersIgnoreStrayHeaders(t *testing.T) {
	s := newAPI(t, nil)
	for _, header := range []string{"Authorization: Bearer ", "Authorization: Basic YTpi", "Authorization: ", bearer("x.y.z")} {
		s.do(t, "GET", "/fhir/Patient", "", header).expect(t, header, 200, "")
	}
}

func TestMetricsCanBeOpen(t *testing.T) {
	i := newTokenIssuer(t)
	s := newIssuerAPI(t, i, func(_ *engine.Options, _ *bulk.Options, o *Options) { o.OpenMetrics = true })
	if a := s.do(t, "GET", "/metrics", ""); a.status != 200 || !strings.Contains(a.body, "kiln_") {
		t.Errorf("metrics: %d", a.status)
	}
}

// TestAnIssuerThatIsAway: nobody comes in, and it is not the client's fault.
func TestAnIssuerThatIsAway(t *testing.T) {
	i := newTokenIssuer(t)
	var log bytes.Buffer
	s := newIssuerAPI(t, i, func(_ *engine.Options, _ *bulk.Options, o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	token := i.token(t, nil)
	i.Close()
	a := s.do(t, "GET", "/fhir/Patient/a", "", bearer(token))
	if code, _ := a.outcome(t); a.status != 503 || code != "transient" || a.header.Get("Retry-After") == "" || a.header.Get("WWW-Authenticate") != "" {
		t.Errorf("%d %s %v", a.status, code, a.header)
	}
}

package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"kiln/httpapi/access"
	"kiln/internal/vfs"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := vfs.WriteFileAtomic(vfs.OS(), path, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// newTestAuthenticator takes tokens of one issuer, which has one key.
func newTestAuthenticator(t testing.TB, clock *testClock) (*Authenticator, func(claims map[string]any) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(`
issuers:
- url: https://i.example
  audiences: [kiln]
  role-claims: [roles, realm_access.roles, "https://x.example/roles"]
  roles: {r: Reader, w: Writer, x: [Importer, Exporter]}
`)
	c, err := parseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	mem := vfs.NewMem(1)
	if err := vfs.WriteFileAtomic(mem, "auth.yaml", text); err != nil {
		t.Fatal(err)
	}
	c.issuers["https://i.example"].keys = &keySet{keys: []jose.JSONWebKey{{Key: &key.PublicKey}}}
	a := &Authenticator{opts: Options{FS: mem, File: "auth.yaml", Now: clock.now, Logger: slog.New(slog.DiscardHandler)}}
	a.looked, a.sum = clock.now(), sha256.Sum256(text)
	a.config.Store(c)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a, func(claims map[string]any) string {
		t.Helper()
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

func TestClaimsBecomeAPrincipal(t *testing.T) {
	clock := newTestClock()
	a, token := newTestAuthenticator(t, clock)
	exp := clock.now().Add(time.Minute)
	f := func(what, claims string, want access.Principal) {
		t.Helper()
		all := map[string]any{"iss": "https://i.example", "aud": "kiln", "sub": "s", "exp": exp.Unix()}
		if err := json.Unmarshal([]byte(claims), &all); err != nil {
			t.Fatal(err)
		}
		got, err := a.prove(context.Background(), a.current(), proofs{headers: []string{"Bearer " + token(all)}})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		want.Issuer, want.Expires = "https://i.example", exp
		if want.Subject == "" {
			want.Subject = "s"
		}
		got.Scopes = nil
		if !got.Expires.Equal(exp) {
			t.Errorf("%s: expires %s", what, got.Expires)
		}
		got.Expires = exp
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: got %+v, want %+v", what, *got, want)
		}
	}
	f("nothing else", `{}`, access.Principal{})
	f("roles", `{"roles":["r","w","other"]}`, access.Principal{Roles: access.RoleContributor})
	f("one role", `{"roles":"x"}`, access.Principal{Roles: access.RoleImporter | access.RoleExporter})
	f("nested roles", `{"realm_access":{"roles":["w"]}}`, access.Principal{Roles: access.RoleWriter})
	f("roles under a URL", `{"https://x.example/roles":["r"]}`, access.Principal{Roles: access.RoleReader})
	f("roles that are none", `{"roles":[1,null,{"r":1}],"realm_access":"r"}`, access.Principal{})
	f("scopes", `{"scope":"system/*.rs patient/*.rs"}`, access.Principal{HasScopes: true})
	f("scp", `{"scp":"user_impersonation"}`, access.Principal{})
	f("what an issuer always sends", `{"scope":"openid profile email"}`, access.Principal{})
	f("scopes that grant nothing", `{"scope":"system/Nothing.rs"}`, access.Principal{HasScopes: true})
	f("a launch", `{"scope":"openid launch/patient"}`, access.Principal{HasScopes: true})
	f("a list of scopes", `{"scp":["system/*.rs"]}`, access.Principal{HasScopes: true})
	f("no scopes", `{"scope":""}`, access.Principal{})
	f("patient", `{"patient":"p1"}`, access.Principal{Patient: "p1"})
	f("a reference", `{"patient":"Patient/p1"}`, access.Principal{Patient: "p1"})
	f("launch response", `{"launch_response":{"patient":"p2"}}`, access.Principal{Patient: "p2"})
	f("the user's resource", `{"fhirUser":"Practitioner/1","name":"Ann"}`, access.Principal{FHIRUser: "Practitioner/1", Name: "Ann"})
	f("client_id", `{"client_id":"c","azp":"d"}`, access.Principal{Client: "c"})
	f("azp", `{"azp":"d","appid":"e"}`, access.Principal{Client: "d"})
	f("appid alone", `{"sub":"","appid":"e"}`, access.Principal{Client: "e", Subject: "e"})
}

func TestKeySetsHaveSignatureKeysOnly(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := func(keys ...jose.JSONWebKey) []byte {
		out, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	f := func(what string, set []byte, own bool, want int) {
		t.Helper()
		got, err := parseKeySet(set, own)
		if want < 0 && err == nil || want >= 0 && (err != nil || len(got.keys) != want) {
			t.Errorf("%s: %+v, %v; want %d keys", what, got, err, want)
		}
	}
	f("a good one", text(jose.JSONWebKey{Key: &good.PublicKey}), true, 1)
	f("for encryption", text(jose.JSONWebKey{Key: &good.PublicKey, Use: "enc"}), true, 0)
	f("of another algorithm", text(jose.JSONWebKey{Key: &good.PublicKey, Algorithm: "ES256"}), true, 0)
	f("a short one", text(jose.JSONWebKey{Key: &weak.PublicKey}), true, 0)
	f("a secret of ours", text(jose.JSONWebKey{Key: []byte("secret")}), true, -1)
	f("a private one of ours", text(jose.JSONWebKey{Key: good}), true, -1)
	f("a private one of an issuer", text(jose.JSONWebKey{Key: good}, jose.JSONWebKey{Key: &good.PublicKey}), false, 1)
	f("a broken one of an issuer", []byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`), false, 0)
	f("a broken one of ours", []byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`), true, -1)
	f("another curve", []byte(`{"keys":[{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}]}`), true, 0)
	f("no keys", []byte(`{}`), false, -1)
	f("the same member twice", []byte(`{"keys":[],"keys":[]}`), false, -1)
}

func TestChangesOfTheFileCount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.yaml")
	clock := newTestClock()
	issuer := func(url string) string { return "issuers: [{url: '" + url + "', audiences: [x]}]" }
	writeFile(t, path, issuer("https://a.example"))
	a, err := New(Options{FS: vfs.OS(), File: path, Store: openStore(t), Now: clock.now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f := func(what, want string) {
		t.Helper()
		if c := a.current(); c.issuers[want] == nil || len(c.issuers) != 1 {
			t.Errorf("%s: %v", what, c.issuers)
		}
	}
	keys := a.current().issuers["https://a.example"].keys
	writeFile(t, path, "# the same\n"+issuer("https://a.example"))
	f("within the interval", "https://a.example")
	clock.pass(fileLookInterval)
	if f("read again", "https://a.example"); a.current().issuers["https://a.example"].keys != keys {
		t.Error("keys were forgotten")
	}
	writeFile(t, path, issuer("https://b.example"))
	clock.pass(fileLookInterval)
	f("another issuer", "https://b.example")
	writeFile(t, path, "issuers: [")
	clock.pass(fileLookInterval)
	f("a broken file", "https://b.example")
	if err := vfs.OS().Remove(path); err != nil {
		t.Fatal(err)
	}
	clock.pass(fileLookInterval)
	f("no file", "https://b.example")
	writeFile(t, path, issuer("https://c.example"))
	clock.pass(fileLookInterval)
	f("a good one", "https://c.example")
}

// FuzzProve sends any Authorization header: nobody comes in by it, nothing panics.
func FuzzProve(f *testing.F) {
	clock := newTestClock()
	a, token := newTestAuthenticator(f, clock)
	good := token(map[string]any{"iss": "https://i.example", "aud": "kiln", "sub": "s", "exp": clock.now().Add(-time.Hour).Unix()})
	for _, seed := range []string{"", "Bearer", "Bearer ", "bearer x", "Basic YTpi", "Bearer a.b.c", "Bearer " + good, "Bearer " + good + "=", "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer eyJhbGciOiJFUzI1NiIsImNyaXQiOltdfQ.eyJpc3MiOiJodHRwczovL2kuZXhhbXBsZSJ9.AA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if who, err := a.prove(context.Background(), a.current(), proofs{headers: []string{header}}); err == nil {
			t.Errorf("%q: %+v", header, who)
		}
		text, err := bearerToken([]string{header})
		if err == nil && (!strings.EqualFold(header[:min(len(header), 7)], "bearer ") || strings.Trim(header[7:], " ") != text || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == ',' })) {
			t.Errorf("%q: the token %q", header, text)
		}
		if _, err := bearerToken([]string{header, "Bearer " + good}); err == nil {
			t.Errorf("%q beside another header is taken", header)
		}
	})
}

// FuzzTakeApart reads any header and claims as the parts of a token.
func FuzzTakeApart(f *testing.F) {
	f.Add([]byte(`{"alg":"ES256","kid":"a","typ":"JWT"}`), []byte(`{"iss":"https://i.example"}`))
	f.Add([]byte(`{"alg":"none","crit":["b64"]}`), []byte(`{"iss":"x","iss":"y"}`))
	f.Add([]byte(`{"alg":1}`), []byte(`[[[[[[[[[[[[[[[[[[[[`))
	f.Fuzz(func(t *testing.T, header, claims []byte) {
		u, err := takeApart(encode(header) + "." + encode(claims) + ".AA")
		if err != nil {
			return
		}
		var head, body map[string]any // as another reader has them
		if json.Unmarshal(header, &head) != nil || json.Unmarshal(claims, &body) != nil {
			t.Fatalf("%q %q is taken, and no JSON", header, claims)
		}
		for _, name := range []string{"crit", "b64", "jwk", "x5c", "x5u", "cty", "enc", "zip"} {
			if _, has := head[name]; has {
				t.Errorf("%q has %s", header, name)
			}
		}
		alg, _ := head["alg"].(string)
		kid, _ := head["kid"].(string)
		if u.issuer == "" || body["iss"] != u.issuer || alg != string(u.algorithm) || kid != u.kid {
			t.Errorf("%q %q: %+v", header, claims, u)
		}
	})
}

func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"oct","k":"AA"}]}`))
	f.Add([]byte(`{"keys":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := parseKeySet(text, false)
		for i := 0; err == nil && i < len(set.keys); i++ {
			if !set.keys[i].IsPublic() || len(algorithmsOf(&set.keys[i])) == 0 {
				t.Errorf("%q: a key that checks nothing", text)
			}
		}
	})
}

func encode(text []byte) string { return base64.RawURLEncoding.EncodeToString(text) }

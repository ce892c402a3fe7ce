package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// mustBeQuiet looks for secrets in what an operator sees.
func mustBeQuiet(t *testing.T, seen map[string]string, secrets ...string) {
	t.Helper()
	for what, text := range seen {
		for _, secret := range secrets {
			for line := range strings.Lines(text) {
				if strings.Contains(line, secret) {
					t.Errorf("%s: %.600s", what, line)
				}
			}
		}
	}
}

// quietKey is a client's key, and its set as the file for --auth has it.
func quietKey(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := jose.JSONWebKey{Key: &key.PublicKey, KeyID: "k", Algorithm: "ES384"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return key, `{"keys":[` + string(set) + `]}`
}

// assertion is a client's, for the token endpoint of s.
func assertion(t *testing.T, s *server, key *ecdsa.PrivateKey, change map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES384, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"iss": "tool", "sub": "tool", "aud": s.base + "/oauth/token", "exp": time.Now().Add(time.Minute).Unix(), "jti": quietMarker + rand.Text()}
	for name, value := range change {
		claims[name] = value
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// askForTokens sends good and bad forms, and gives what is secret in them and in the
// answers: signatures and tokens.
func askForTokens(t *testing.T, s *server, key *ecdsa.PrivateKey) (secrets []string) {
	t.Helper()
	good := assertion(t, s, key, nil)
	form := func(change map[string]string) string {
		values := url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {good}}
		for name, value := range change {
			values.Set(name, value)
		}
		return values.Encode()
	}
	send := func(status int, body string, header ...string) *answer {
		t.Helper()
		return s.must(status, http.MethodPost, "/oauth/token", body, append(header, "Content-Type", "application/x-www-form-urlencoded")...)
	}
	answered := send(http.StatusOK, form(nil))
	token := decode[struct {
		AccessToken string `json:"access_token"`
	}](t, answered.body).AccessToken
	s.must(http.StatusOK, http.MethodGet, "/Patient", "", "Authorization", "Bearer "+token)
	for _, secret := range []string{good, token} {
		signature := secret[strings.LastIndexByte(secret, '.')+1:]
		if len(signature) < 40 {
			t.Fatalf("no token: %s", answered.body)
		}
		secrets = append(secrets, signature)
	}
	send(http.StatusUnauthorized, form(nil)) // used already
	for _, change := range []map[string]string{
		{"client_assertion": quietMarker}, {"client_assertion": "a." + quietMarker + ".b"}, {"client_assertion_type": quietMarker}, {"grant_type": quietMarker},
		{"client_secret": quietMarker, "client_assertion": ""}, {"client_id": quietMarker}, {"scope": quietMarker}, {"scope": "system/" + quietMarker + ".rs"},
		{"client_assertion": assertion(t, s, key, map[string]any{"iss": quietMarker, "sub": quietMarker})},
		{"client_assertion": assertion(t, s, key, map[string]any{"aud": quietMarker})}, {"client_assertion": assertion(t, s, key, map[string]any{"exp": 1})},
	} {
		got, err := ask(http.MethodPost, s.base+"/oauth/token", form(change), "Content-Type", "application/x-www-form-urlencoded")
		if err != nil || got.status == http.StatusOK && change["client_id"] == "" {
			t.Errorf("%v: %+v, %v", change, got, err)
		}
	}
	send(http.StatusBadRequest, "grant_type="+quietMarker+"&grant_type=%zz"+quietMarker)
	_, err := ask(http.MethodPost, s.base+"/oauth/token", form(nil), "Content-Type", "application/x-www-form-urlencoded", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("tool:"+quietMarker)))
	if err != nil {
		t.Error(err)
	}
	return secrets
}

// showCredentials sends tokens that have the marker wherever one can have it.
func showCredentials(t *testing.T, s *server, issuer *testIssuer) (secrets []string) {
	t.Helper()
	send := func(header ...string) {
		t.Helper()
		for _, path := range []string{"/Patient", "/$import", "/Patient/a/_history/x", "/metadata", "/_operations/export/1"} {
			if _, err := ask(http.MethodGet, s.base+path, "", header...); err != nil {
				t.Error(err)
			}
		}
		value := header[1]
		if at := strings.LastIndexByte(value, '.'); at > 0 && len(value)-at > 40 {
			secrets = append(secrets, value[at+1:])
		}
	}
	reader := []any{"FHIR Data Reader", quietMarker}
	for _, claims := range []map[string]any{
		{"roles": reader, "name": quietMarker, "email": quietMarker, "sub": quietMarker, "client_id": quietMarker, "fhirUser": "Practitioner/" + quietMarker, "sid": quietMarker},
		{"scope": "patient/*.rs launch/" + quietMarker + " " + quietMarker, "patient": quietMarker}, {"scope": "system/" + quietMarker + ".rs"}, {"scope": "system/Patient.rs?name=" + quietMarker},
		{"scope": map[string]any{quietMarker: 1}}, {"scp": []any{quietMarker, 1}}, {"iss": "https://" + quietMarker}, {"aud": quietMarker}, {"exp": 1, "sub": quietMarker},
		{"exp": quietMarker}, {"roles": reader, "patient": quietMarker + "/../x"}, {"sub": quietMarker + "\n"}, {"roles": reader, "cnf": map[string]any{"x5t#S256": quietMarker}}, {"nbf": 9e9, "sub": quietMarker},
	} {
		send(issuer.token("a", claims)...)
	}
	head := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	for _, token := range []string{
		quietMarker, "a." + quietMarker + ".b", head(`{"alg":"none","kid":"`+quietMarker+`"}`) + "." + head(`{"iss":"`+quietMarker+`"}`) + ".", head(`{"alg":"ES256","jku":"https://`+quietMarker+`"}`) + "." + head(`{"iss":"`+issuer.server.URL+`"}`) + ".AAAA",
		head(`{"alg":"`+quietMarker+`"}`) + "." + head(quietMarker) + ".AAAA", quietMarker + ", Bearer " + quietMarker, quietMarker + " \t" + quietMarker,
	} {
		send("Authorization", "Bearer "+token)
	}
	send("Authorization", "Basic "+quietMarker)
	send("Authorization", quietMarker)
	return secrets
}

// quietFiles are files for --auth that do not work, with what may be a secret. A running
// server gets the first one: a private key where public ones belong.
var quietFiles = []string{
	"clients:\n- {id: tool, scopes: system/*.rs, keys: {keys: [{kty: EC, crv: P-384, kid: k, x: AA, y: AA, d: " + quietMarker + "}]}}\n",
	"clients:\n- {id: tool, scopes: system/*.rs, keys: {keys: [{kty: oct, k: " + quietMarker + "}]}}\n",
	"clients:\n- {id: tool, secret: " + quietMarker + "}\n",
	"clients:\n- {id: tool, scopes: system/*.rs, keys: " + quietMarker + "}\n",
	"clients: " + quietMarker + "\n", "\t" + quietMarker,
	"issuers:\n- {url: \"https://x:" + quietMarker + "@y.example\", audiences: [k]}\n",
	"issuers:\n- {url: \"https://x:" + quietMarker + "@y.example/%zz\", audiences: [k]}\n",
}

// TestNoCredentialIsInLogsOrMetrics runs a server with --auth through tokens, claims,
// assertions and forms, good and bad, and through changes of its file that do not work.
func TestNoCredentialIsInLogsOrMetrics(t *testing.T) {
	t.Parallel()
	issuer := newIssuer(t, httptest.NewServer, "a")
	key, set := quietKey(t)
	clients := "clients:\n- {id: tool, scopes: system/*.rs, keys: " + set + "}\n"
	file := issuer.file(clients)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--auth", file, "--open-metrics")
	secrets := append(askForTokens(t, s, key), showCredentials(t, s, issuer)...)
	told := false
	for _, bad := range quietFiles {
		write(t, filepath.Dir(file), "auth.yaml", bad)
		for end := time.Now().Add(startTimeout); !told; told = strings.Contains(s.log.String(), "could not be read again") {
			if _, err := ask(http.MethodGet, s.base+"/Patient", ""); err != nil || time.Now().After(end) {
				t.Fatalf("%s is not noticed, %v", bad, err)
			}
		}
		start := kiln(t, "serve", "--data-dir", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--auth", file)
		if start.code != exitFailed {
			t.Errorf("%s: exit %d", bad, start.code)
		}
		mustBeQuiet(t, map[string]string{"a start with " + bad: start.err + start.out}, quietMarker)
	}
	write(t, filepath.Dir(file), "auth.yaml", string(good))
	metrics, err := ask(http.MethodGet, s.root+"/metrics", "")
	if err != nil || metrics.status != http.StatusOK {
		t.Fatalf("%+v, %v", metrics, err)
	}
	s.stop()
	mustBeQuiet(t, map[string]string{"the log": s.log.String(), "the metrics": string(metrics.body)}, append(secrets, quietMarker)...)
}

// damagedStore is a data directory with the marker in runs, the log, an error file and
// the catalog, each of which has wrong bytes.
func damagedStore(t *testing.T) (data, in string) {
	t.Helper()
	data, in = filepath.Join(t.TempDir(), "data"), t.TempDir()
	var lines strings.Builder
	for i := range 200 {
		fmt.Fprintf(&lines, `{"resourceType":"Patient","id":"p%d","name":[{"family":"%s","given":["%s%d"]}],"birthDate":"1990-01-31","extension":[{"url":"http://x/%s","valueString":"%s"}]}`+"\n", i, quietMarker, quietMarker, i, quietMarker, quietMarker)
	}
	write(t, in, "Patient.ndjson", lines.String()+`{"resourceType":"Patient","id":"no id","name":[{"family":"`+quietMarker+`"}]}`+"\n")
	s := serve(t, data, "--import-root", in)
	mustKiln(t, exitRefused, "import", "--server", s.base, in)
	for i := range 20 {
		s.must(http.StatusOK, http.MethodPut, fmt.Sprintf("/Patient/p%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","name":[{"text":"%s"}]}`, i, quietMarker))
	}
	mustKiln(t, 0, "export", "--server", s.base, "--type", "Patient", "--type-filter", "Patient?name="+quietMarker, "--out", t.TempDir())
	s.kill()
	return data, in
}

// damageAll changes a byte in all files of a pattern: a few behind
// the first marker, or if there is none, at a third.
func damageAll(t *testing.T, pattern string) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(text, []byte(quietMarker))
		if at < 0 {
			at = len(text) / 3
		}
		flipByte(t, name, min(at+len(quietMarker)+3, len(text)-1))
	}
}

// TestDamageIsToldWithoutContents damages bodies, and reads what the commands print, what
// a server logs, and what a repair reports: ids and places, and nothing of bodies.
func TestDamageIsToldWithoutContents(t *testing.T) {
	t.Parallel()
	data, in := damagedStore(t)
	seen := map[string]string{}
	run := func(name string, args ...string) {
		t.Helper()
		got := kiln(t, append(args, "--data-dir", data)...)
		seen[name] = got.out + got.err
	}
	for _, pattern := range []string{"errors/*/*", "exports/*/*.ndjson", "runs/*.run", "log/*.log"} {
		damageAll(t, filepath.Join(data, pattern))
		run("fsck with "+pattern, "fsck")
		run("fsck --json with "+pattern, "fsck", "--json")
		if !strings.Contains(seen["fsck with "+pattern], "offset") && !strings.Contains(seen["fsck with "+pattern], "note") {
			t.Errorf("%s: no damage: %s", pattern, seen["fsck with "+pattern])
		}
	}
	run("load", "load", in)
	run("a dry repair", "repair", "--dry-run")
	run("the log's dump", "dump", "--log")
	run("a backup", "backup", t.TempDir())
	run("repair", "repair", "--json")
	reports, err := filepath.Glob(filepath.Join(data, "*", "report.ndjson"))
	if err != nil || len(reports) == 0 {
		nested, _ := filepath.Glob(filepath.Join(data, "*", "*", "report.ndjson"))
		reports = append(reports, nested...)
	}
	if len(reports) == 0 {
		t.Fatalf("no report: %s", seen["repair"])
	}
	for _, name := range reports {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		seen["the report "+name] = string(text)
	}
	run("fsck after it", "fsck")
	mustBeQuiet(t, seen, quietMarker)
}

// TestAServerOnDamageLogsNoContents reads, searches, exports and scrubs a store whose
// bodies are damaged.
func TestAServerOnDamageLogsNoContents(t *testing.T) {
	t.Parallel()
	data, in := damagedStore(t)
	for _, pattern := range []string{"errors/*/*", "exports/*/*.ndjson"} {
		damageAll(t, filepath.Join(data, pattern))
	}
	runs, err := filepath.Glob(filepath.Join(data, "runs", "*.run"))
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range runs { // one of them may be what a merge made of the others
		flipByte(t, run, 100) // in a block of bodies
	}
	s := serve(t, data, "--import-root", in, "--scrub-interval", "1s", "--scrub-rate", "1GiB")
	failed := 0
	for _, path := range []string{"/Patient/p1", "/Patient/p150", "/Patient/p150/_history", "/Patient/p150/_history/1", "/Patient?name=" + quietMarker, "/Patient?name:exact=" + quietMarker + "&_sort=name", "/Patient?family=" + quietMarker + "&_total=accurate", "/_history", "/Patient/p150/$everything"} {
		got, err := ask(http.MethodGet, s.base+path, "")
		if err != nil {
			t.Fatal(err)
		}
		if got.status == http.StatusInternalServerError {
			failed++
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch} {
		if _, err := ask(method, s.base+"/Patient/p151", `{"resourceType":"Patient","id":"p151","name":[{"family":"`+quietMarker+`"}]}`); err != nil {
			t.Fatal(err)
		}
	}
	if failed == 0 {
		t.Error("nothing fails: the damage is not where the test thinks")
	}
	exported := kiln(t, "export", "--server", s.base, "--out", t.TempDir())
	imported := kiln(t, "import", "--server", s.base, in)
	for end := time.Now().Add(startTimeout); !strings.Contains(s.log.String(), "damage found"); {
		if _, err := ask(http.MethodGet, s.root+"/healthz", ""); err != nil || time.Now().After(end) {
			t.Fatalf("no damage is told, %v\n%s", err, s.log)
		}
	}
	metrics, err := ask(http.MethodGet, s.root+"/metrics", "")
	if err != nil {
		t.Fatal(err)
	}
	health, err := ask(http.MethodGet, s.root+"/healthz", "")
	if err != nil {
		t.Fatal(err)
	}
	s.kill()
	mustBeQuiet(t, map[string]string{
		"the log": s.log.String(), "the metrics": string(metrics.body), "health": string(health.body), "export": exported.out + exported.err, "import": imported.out + imported.err,
	}, quietMarker)
}

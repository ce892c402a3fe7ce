package auth

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kiln/httpapi/access"
)

const wholeFile = `
clock-skew: 30s
issuers:
  - url: https://login.example.org
    audiences: [https://fhir.example.org/fhir]
    algorithms: [RS256, ES384]
    keys-url: https://login.example.org/keys
    role-claims: [roles, realm_access.roles]
    roles:
      FHIR Data Importer: Importer
      globalAdmin: [Admin, Reader]
clients:
  - id: tool
    scopes: system/*.rs
    keys-url: https://tool.example/keys
certificates:
  - subject: CN=loader
    roles: Importer
`

func TestTheFileIsRead(t *testing.T) {
	c, err := parseConfig([]byte(wholeFile))
	if err != nil {
		t.Fatal(err)
	}
	i := c.issuers["https://login.example.org"]
	if c.skew != 30*time.Second || i == nil || len(i.algorithms) != 2 || i.keysURL != "https://login.example.org/keys" || len(i.roleClaims) != 2 {
		t.Errorf("read %+v %+v", c, i)
	}
	if i.roles["globalAdmin"] != access.RoleAdmin|access.RoleReader || i.roles["FHIR Data Importer"] != access.RoleImporter || i.roles["FHIR Data Reader"] != 0 {
		t.Errorf("roles %v", i.roles)
	}
}

func TestErrorsOfTheFileNameTheirPlace(t *testing.T) {
	const head = "issuers:\n- url: https://a.example\n  audiences: [x]\n"
	f := func(text string, want ...string) {
		t.Helper()
		_, err := parseConfig([]byte(text))
		for _, one := range want {
			if err == nil || !strings.Contains(err.Error(), one) {
				t.Errorf("%q: error %v; want %q in it", text, err, one)
			}
		}
	}
	f("", "empty")
	f("clock-skew: 10s", "nobody")
	f("issuer: x", "line 1", "issuer")
	f(head+"  audience: y", "line 4", "audience", "no such key")
	f(head+"  algorithms: [HS256]", "line 4: issuers[0].algorithms[0]", "HS256")
	f(head+"  algorithms: [none]", "none")
	f(head+"  roles: {x: Root}", "line 4", "Root")
	f(head+"  keys-url: http://a.example/keys", "line 4: issuers[0].keys-url", "https")
	f(head+"- url: https://a.example\n  audiences: [y]", "line 4: issuers[1].url", "twice")
	f("issuers:\n- url: https://a.example\n", "line 2: issuers[0].audiences", "aud")
	f("issuers:\n- url: http://a.example\n  audiences: [x]", "line 2: issuers[0].url", "https")
	f("clock-skew: 1h\n"+head, "line 1: clock-skew", "5m")
	f("clock-skew: fast\n"+head, "line 1")
	f(head+"---\n"+head, "more than one document")
	f("issuers: [", "line 1")
	const client = "clients:\n- id: a\n  scopes: system/*.rs\n"
	f(client, "line 2: clients[0]", "keys-url")
	f(client+"  keys: {keys: []}", "line 4: clients[0].keys", "none of the keys")
	f(client+"  keys: {keys: [{kty: oct, k: AA}]}", "clients[0].keys", "secret")
	f(client+"  keys-url: ftp://x", "line 4", "https")
	f("clients:\n- id: a\n  keys-url: https://x\n", "line 2: clients[0].scopes")
	f("clients:\n- id: a\n  keys-url: https://x\n  scopes: system/Nothing.rs", "line 4", "system/Nothing.rs")
	f("clients:\n- keys-url: https://x", "line 2: clients[0].id")
	f("certificates:\n- roles: Reader", "line 2: certificates[0]", "subject")
	f("certificates:\n- {subject: CN=x, dns: y}", "line 2: certificates[0]", "one of")
	f("- x", "line 1")
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(wholeFile))
	f.Add([]byte("issuers: [{url: 'https://a', audiences: [x]}]"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("---\n---"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig(text)
		if err != nil {
			return
		}
		if c.skew > skewMax || c.skew < 0 {
			t.Errorf("a skew of %s", c.skew)
		}
		for url, i := range c.issuers {
			if url == "" || len(i.audiences) == 0 || len(i.algorithms) == 0 || slices.ContainsFunc(i.algorithms, func(a jose.SignatureAlgorithm) bool { return !slices.Contains(knownAlgorithms, a) }) {
				t.Errorf("the issuer %q with audiences %q and algorithms %q", url, i.audiences, i.algorithms)
			}
		}
		for id, one := range c.clients {
			if id == "" || len(one.scopes) == 0 || (one.keys == nil) == (one.keysURL == "") {
				t.Errorf("the client %q: %+v", id, one)
			}
		}
		for _, rule := range c.certificates {
			if rule.kind == "" || rule.value == "" {
				t.Errorf("a rule for every certificate: %+v", rule)
			}
		}
	})
}

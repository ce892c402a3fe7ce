package httpapi

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const tokenForm = "Content-Type: application/x-www-form-urlencoded"

// newTokenAPI is a server with one registered client, and a form that asks for a
// token with scopes.
func newTokenAPI(t *testing.T) (s *testServer, form func(scope string) string) {
	t.Helper()
	i := newTokenIssuer(t)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &i.rsa.PublicKey, KeyID: "r"}}})
	if err != nil {
		t.Fatal(err)
	}
	s = newAuthAPI(t, "clients: [{id: tool, scopes: 'system/Patient.rs system/Observation.rs', keys: "+string(set)+"}]", nil)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS384, Key: jose.JSONWebKey{Key: i.rsa, KeyID: "r"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	return s, func(scope string) string {
		n++
		assertion, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: "tool", Subject: "tool", Audience: jwt.Audience{"http://" + s.addr + "/fhir/oauth/token"},
			ID: strings.Repeat("j", n), Expiry: jwt.NewNumericDate(time.Now().Add(time.Minute)),
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return url.Values{
			"grant_type": {"client_credentials"}, "scope": {scope}, "client_assertion": {assertion},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		}.Encode()
	}
}

func TestTheTokenEndpoint(t *testing.T) {
	s, form := newTokenAPI(t)
	good := form("system/*.read")
	a := s.do(t, "POST", "/fhir/oauth/token", good, tokenForm, "Authorization: Bearer ")
	var granted struct {
		Token string `json:"access_token"`
		Scope string `json:"scope"`
	}
	if err := json.Unmarshal([]byte(a.body), &granted); err != nil || a.status != 200 || granted.Scope != "system/Patient.rs system/Observation.rs" ||
		a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	s.do(t, "GET", "/fhir/Patient", "", bearer(granted.Token)).expect(t, "within the scopes", 200, "")
	s.do(t, "GET", "/fhir/Encounter", "", bearer(granted.Token)).expect(t, "beyond the scopes", 403, "")
	s.do(t, "PUT", "/fhir/Patient/a", `{"resourceType":"Patient","id":"a"}`, typeHeader, bearer(granted.Token)).expect(t, "write", 403, "")
	if a := s.do(t, "POST", "/fhir/oauth/token", good, tokenForm); a.status != 401 || !strings.Contains(a.body, `"invalid_client"`) || a.header.Get("WWW-Authenticate") == "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the same assertion again: %d %s", a.status, a.body)
	}
	if a := s.do(t, "POST", "/fhir/oauth/token", `{"grant_type":"client_credentials"}`, "Content-Type: application/json"); a.status != 400 || !strings.Contains(a.body, `"invalid_request"`) {
		t.Errorf("JSON: %d %s", a.status, a.body)
	}
	s.do(t, "POST", "/fhir/oauth/token", form("launch"), tokenForm).expect(t, "a bad scope", 400, "")
	if a := s.do(t, "POST", "/fhir/oauth/token", form("system/*.rs"), tokenForm, "Host: evil.example"); a.status != 200 {
		t.Errorf("the address of the connection counts, not the Host: %d %s", a.status, a.body)
	}
}

// discoveryOf reads what clients find out, without a token.
func discoveryOf(t *testing.T, s *testServer) (smart map[string]any, security string) {
	t.Helper()
	a := s.do(t, "GET", "/fhir/.well-known/smart-configuration", "", "Accept: text/html")
	if a.status == 200 {
		if err := json.Unmarshal([]byte(a.body), &smart); err != nil || a.header.Get("Content-Type") != "application/json" {
			t.Fatalf("%v %s", err, a.body)
		}
	}
	var c struct {
		Rest []struct{ Security json.RawMessage }
	}
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/fhir/metadata", "").body), &c); err != nil {
		t.Fatal(err)
	}
	return smart, string(c.Rest[0].Security)
}

func TestClientsFindOutHowTheyComeIn(t *testing.T) {
	const uris = `"url":"http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"`
	s, _ := newTokenAPI(t)
	endpoint := "http://" + s.addr + "/fhir/oauth/token"
	smart, security := discoveryOf(t, s)
	if smart["token_endpoint"] != endpoint || !strings.Contains(security, uris) || !strings.Contains(security, endpoint) || !strings.Contains(security, "SMART-on-FHIR") {
		t.Errorf("%v\n%s", smart, security)
	}
	i := newTokenIssuer(t)
	smart, security = discoveryOf(t, newIssuerAPI(t, i, nil))
	if smart["token_endpoint"] != i.URL+"/token" || smart["authorization_endpoint"] != i.URL+"/authorize" || !strings.Contains(security, i.URL+"/authorize") {
		t.Errorf("of an issuer: %v\n%s", smart, security)
	}
	guarded := newIssuerAPI(t, i, nil)
	if a := guarded.do(t, "POST", "/fhir/oauth/token", "", tokenForm); a.status != 404 {
		t.Errorf("a server without clients: %d %s", a.status, a.body)
	}
	smart, security = discoveryOf(t, newAPI(t, nil))
	if smart != nil || security != "" {
		t.Errorf("an open server: %v %s", smart, security)
	}
}

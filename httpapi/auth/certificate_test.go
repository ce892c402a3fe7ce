package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"net/url"
	"testing"
	"time"

	"kiln/httpapi/access"
)

func TestCertificatesBecomePrincipals(t *testing.T) {
	c, err := parseConfig([]byte(`
certificates:
- {subject: "CN=loader,O=Example", name: Loader, roles: [Importer, Contributor]}
- {dns: reader.example.org, roles: Reader}
- {uri: "spiffe://example.org/export", scopes: system/*.rs}
- {email: ann@example.org, roles: Admin}
`))
	if err != nil {
		t.Fatal(err)
	}
	a := &Authenticator{opts: Options{Now: newTestClock().now}}
	a.looked = a.opts.Now()
	a.config.Store(c)
	f := func(what string, certificate *x509.Certificate, subject string, roles access.Roles) {
		t.Helper()
		_, _ = a.prove(context.Background(), a.current(), proofs{certificate: certificate}) // once more is the same
		who, err := a.prove(context.Background(), a.current(), proofs{certificate: certificate})
		if subject == "" && err == nil || subject != "" && (err != nil || who.Issuer != "mtls" || who.Subject != subject || who.Roles != roles) {
			t.Errorf("%s: %+v, %v", what, who, err)
		}
	}
	uri, err := url.Parse("spiffe://example.org/export")
	if err != nil {
		t.Fatal(err)
	}
	named := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}}}
	}
	f("subject", named("loader"), "subject:CN=loader,O=Example", access.RoleImporter|access.RoleContributor)
	f("another subject", named("loader2"), "", 0)
	f("a name that looks like the subject", &x509.Certificate{Subject: pkix.Name{CommonName: "loader,O=Example"}}, "", 0)
	f("DNS name", &x509.Certificate{DNSNames: []string{"x", "reader.example.org"}}, "dns:reader.example.org", access.RoleReader)
	f("a subject that is a DNS name", named("reader.example.org"), "", 0)
	f("URI", &x509.Certificate{URIs: []*url.URL{uri}}, "uri:spiffe://example.org/export", 0)
	for i := range 3 * knownCertificatesMax { // they push each other out
		one := &x509.Certificate{DNSNames: []string{"reader.example.org"}, Signature: []byte{byte(i)}}
		if i%2 == 1 {
			one.DNSNames = nil
			f("none of the names", one, "", 0)
			continue
		}
		f("one of many", one, "dns:reader.example.org", access.RoleReader)
	}
	f("email", &x509.Certificate{EmailAddresses: []string{"ann@example.org"}}, "email:ann@example.org", access.RoleAdmin)
	if who, err := a.prove(context.Background(), a.current(), proofs{}); who != nil || err != nil {
		t.Errorf("nothing: %+v, %v", who, err)
	}
}

func TestBoundTokensNeedTheirCertificate(t *testing.T) {
	clock := newTestClock()
	a, token := newTestAuthenticator(t, clock)
	certificate := &x509.Certificate{Raw: []byte("one")}
	sum := sha256.Sum256(certificate.Raw)
	header := []string{"Bearer " + token(map[string]any{
		"iss": "https://i.example", "aud": "kiln", "sub": "s", "exp": clock.now().Add(time.Minute).Unix(),
		"cnf": map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])},
	})}
	f := func(what string, with *x509.Certificate, ok bool) {
		t.Helper()
		if _, err := a.prove(context.Background(), a.current(), proofs{headers: header, certificate: with}); (err == nil) != ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	f("its certificate", certificate, true)
	f("another", &x509.Certificate{Raw: []byte("two")}, false)
	f("none", nil, false)
}

// FuzzCertificate holds that a rule knows who has exactly its name, whatever else stands
// in a certificate: an authority lets its clients choose some of it.
func FuzzCertificate(f *testing.F) {
	c, err := parseConfig([]byte(`
certificates:
- {subject: "CN=loader,O=Example", roles: Importer}
- {dns: reader.example.org, roles: Reader}
- {uri: "spiffe://example.org/export", roles: Exporter}
- {email: ann@example.org, roles: Admin}
`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("loader", "Example", "", "", "", "")
	f.Add("loader,O=Example", "", "", "reader.example.org", "spiffe://example.org/export", "ann@example.org")
	f.Add("loader+O=Example", "Example,O=Example", "x", "READER.example.org", "spiffe://example.org/./export", "ann@example.org ")
	f.Fuzz(func(t *testing.T, name, organization, unit, dns, uri, email string) {
		certificate := &x509.Certificate{DNSNames: []string{"other.example", dns}, EmailAddresses: []string{email}, Subject: pkix.Name{CommonName: name}}
		if organization != "" {
			certificate.Subject.Organization = []string{organization}
		}
		if unit != "" {
			certificate.Subject.OrganizationalUnit = []string{unit}
		}
		location, err := url.Parse(uri)
		if err == nil {
			certificate.URIs = []*url.URL{location}
		}
		var want access.Roles // of the first rule that fits
		switch {
		case name == "loader" && organization == "Example" && unit == "":
			want = access.RoleImporter
		case dns == "reader.example.org":
			want = access.RoleReader
		case err == nil && location.String() == "spiffe://example.org/export":
			want = access.RoleExporter
		case email == "ann@example.org":
			want = access.RoleAdmin
		}
		who, err := c.proveCertificate(certificate)
		if (err == nil) != (want != 0) || err == nil && who.Roles != want {
			t.Errorf("%q %q %q %q %q %q: %+v, error %v, want the roles %v", name, organization, unit, dns, uri, email, who, err, want)
		}
	})
}

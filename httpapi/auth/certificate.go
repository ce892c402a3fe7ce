package auth

import (
	"crypto/x509"
	"slices"
	"sync/atomic"

	"kiln/httpapi/access"
)

// certificateRule says who the holder of a client certificate is.
type certificateRule struct {
	kind, value string // "subject", "dns", "uri" or "email", and what it has to be
	name        string
	roles       access.Roles
	scopes      []access.Scope
}

type certificateConfig struct {
	Subject string   `yaml:"subject"`
	DNS     string   `yaml:"dns"`
	URI     string   `yaml:"uri"`
	Email   string   `yaml:"email"`
	Name    string   `yaml:"name"`
	Scopes  string   `yaml:"scopes"`
	Roles   roleList `yaml:"roles"`
}

func (c *config) addCertificate(at place, from *certificateConfig) error {
	rule := certificateRule{name: from.Name, roles: access.Roles(from.Roles)}
	for kind, value := range map[string]string{"subject": from.Subject, "dns": from.DNS, "uri": from.URI, "email": from.Email} {
		if value == "" {
			continue
		}
		if rule.kind != "" {
			return at.errorf("give one of subject, dns, uri and email")
		}
		rule.kind, rule.value = kind, value
	}
	if rule.kind == "" {
		return at.errorf("give one of subject, dns, uri and email")
	}
	if !isName(rule.value) || !isName(rule.name) {
		return at.errorf("a name has more than %d bytes or control characters", nameBytesMax)
	}
	var err error
	if rule.scopes, err = registeredScopes(from.Scopes); err != nil {
		return at.key("scopes").errorf("%w", err)
	}
	c.certificates = append(c.certificates, rule)
	return nil
}

// matches compares whole names, as they are written: the subject in the form of RFC
// 2253, such as CN=loader,O=Example.
func (r *certificateRule) matches(certificate *x509.Certificate) bool {
	switch r.kind {
	case "subject":
		return certificate.Subject.String() == r.value
	case "dns":
		return slices.Contains(certificate.DNSNames, r.value)
	case "email":
		return slices.Contains(certificate.EmailAddresses, r.value)
	default:
		for _, uri := range certificate.URIs {
			if uri.String() == r.value {
				return true
			}
		}
		return false
	}
}

// knownCertificates are those that a rule knew a moment ago, as writing out a name to
// compare it takes longer than the rest. A certificate stays the same one in memory for
// all requests of its connection, and is not another one while it is here. The zero value
// is ready.
type knownCertificates struct {
	places [knownCertificatesMax]atomic.Pointer[knownCertificate]
}

type knownCertificate struct {
	certificate *x509.Certificate
	who         *access.Principal // shared by requests, so nobody changes it
}

func (k *knownCertificates) place(certificate *x509.Certificate) *atomic.Pointer[knownCertificate] {
	sum := uint64(0)
	for _, b := range certificate.Signature[max(0, len(certificate.Signature)-8):] {
		sum = sum<<8 | uint64(b)
	}
	return &k.places[sum%knownCertificatesMax]
}

// proveCertificate finds the first rule that knows the certificate, which the TLS
// layer has verified. nil without an error: there are no rules, so it proves nothing.
func (c *config) proveCertificate(certificate *x509.Certificate) (*access.Principal, error) {
	place := c.known.place(certificate)
	if known := place.Load(); known != nil && known.certificate == certificate {
		return known.who, nil
	}
	who, err := c.ruleFor(certificate)
	if who != nil {
		place.Store(&knownCertificate{certificate, who})
	}
	return who, err
}

// ruleFor looks at the rules in their order.
func (c *config) ruleFor(certificate *x509.Certificate) (*access.Principal, error) {
	for i := range c.certificates {
		if rule := &c.certificates[i]; rule.matches(certificate) {
			return &access.Principal{
				Issuer: "mtls", Subject: rule.kind + ":" + rule.value, Name: rule.name,
				Roles: rule.roles, Scopes: rule.scopes, HasScopes: len(rule.scopes) > 0,
			}, nil
		}
	}
	if len(c.certificates) > 0 {
		return nil, errCertificate
	}
	return nil, nil
}

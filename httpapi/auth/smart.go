package auth

import (
	"context"
	"encoding/json"
)

// smartConfiguration is /.well-known/smart-configuration (SMART App Launch 2.2,
// conformance).
type smartConfiguration struct {
	Issuer                string   `json:"issuer,omitempty"`
	JWKSURI               string   `json:"jwks_uri,omitempty"`
	AuthorizationEndpoint string   `json:"authorization_endpoint,omitempty"`
	TokenEndpoint         string   `json:"token_endpoint"`
	AuthMethods           []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	AuthAlgorithms        []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	GrantTypes            []string `json:"grant_types_supported,omitempty"`
	Scopes                []string `json:"scopes_supported,omitempty"`
	CodeChallengeMethods  []string `json:"code_challenge_methods_supported"`
	Capabilities          []string `json:"capabilities"`
}

// SMART is how clients get tokens, as JSON, and the endpoints that they need for it:
// this server's own when it has clients, or else those of its only issuer that has a
// discovery document. ok is false when there are none, or the issuer is away.
func (a *Authenticator) SMART(ctx context.Context, base string) (text []byte, token, authorize string, ok bool) {
	c := a.current()
	s := &smartConfiguration{CodeChallengeMethods: []string{"S256"}, Capabilities: []string{"permission-v1", "permission-v2"}}
	if len(c.clients) > 0 {
		s.TokenEndpoint = base + TokenPath
		s.AuthMethods, s.AuthAlgorithms = []string{"private_key_jwt"}, []string{"RS384", "ES384"}
		s.GrantTypes, s.Scopes = []string{"client_credentials"}, []string{"system/*.rs", "system/*.read"}
		s.Capabilities = append(s.Capabilities, "client-confidential-asymmetric")
	} else if found := c.onlyDiscovery(ctx); found != nil {
		s.Issuer, s.JWKSURI = found.Issuer, found.JWKSURI
		s.TokenEndpoint, s.AuthorizationEndpoint = found.TokenEndpoint, found.AuthorizationEndpoint
		s.AuthMethods, s.GrantTypes, s.Scopes = found.AuthMethods, found.GrantTypes, found.Scopes
	}
	if s.TokenEndpoint == "" {
		return nil, "", "", false
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return text, s.TokenEndpoint, s.AuthorizationEndpoint, true
}

// onlyDiscovery is the metadata of the only issuer; nil: there are several, it has
// none, or it is away.
func (c *config) onlyDiscovery(ctx context.Context) *discovery {
	if len(c.issuers) != 1 {
		return nil
	}
	for _, i := range c.issuers {
		if _, err := i.keys.keysFor(ctx, ""); err == nil && i.found != nil {
			return i.found.Load()
		}
	}
	return nil
}

package auth

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kiln/httpapi/access"
)

// issuer is who tokens are taken from.
type issuer struct {
	url        string // as iss has it, to the byte
	audiences  []string
	algorithms []jose.SignatureAlgorithm
	keysURL    string // "": the discovery document says
	keys       keySource
	found      *atomic.Pointer[discovery] // what keys came by last; nil in it: not yet, or not needed
	roleClaims []string
	roles      map[string]access.Roles // by the claims' values
}

// discovery is what of an issuer's metadata is used (OpenID Connect Discovery
// 1.0 section 3).
type discovery struct {
	Issuer                string   `json:"issuer"`
	JWKSURI               string   `json:"jwks_uri"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	GrantTypes            []string `json:"grant_types_supported"`
	CodeChallengeMethods  []string `json:"code_challenge_methods_supported"`
	AuthMethods           []string `json:"token_endpoint_auth_methods_supported"`
	Scopes                []string `json:"scopes_supported"`
}

// discover reads the issuer's metadata.
func discover(ctx context.Context, from *fetcher, url string) (*discovery, error) {
	address := strings.TrimSuffix(url, "/") + "/.well-known/openid-configuration"
	text, _, err := from.get(ctx, address)
	if err != nil {
		return nil, err
	}
	found := new(discovery)
	if err := readObject(text, found); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", address, err)
	}
	if found.Issuer != url {
		return nil, fmt.Errorf("cannot trust %s: it is that of the issuer %q, not of %q", address, found.Issuer, url)
	}
	return found, nil
}

// loadKeys gets the issuer's key set.
func (i *issuer) loadKeys(from *fetcher) func(context.Context) (*keySet, time.Duration, error) {
	return func(ctx context.Context) (*keySet, time.Duration, error) {
		address := i.keysURL
		if address == "" {
			found, err := discover(ctx, from, i.url)
			if err != nil {
				return nil, 0, err
			}
			i.found.Store(found)
			address = found.JWKSURI
		}
		return loadKeySet(ctx, from, address)
	}
}

func loadKeySet(ctx context.Context, from *fetcher, address string) (*keySet, time.Duration, error) {
	if err := checkURL(address); err != nil {
		return nil, 0, fmt.Errorf("cannot ask for keys: %w", err)
	}
	text, age, err := from.get(ctx, address)
	if err != nil {
		return nil, 0, err
	}
	set, err := parseKeySet(text, false)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", address, err)
	}
	return set, age, nil
}

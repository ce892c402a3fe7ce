package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Signature algorithms that tokens may have. Those with a shared secret (HS256)
// and "none" are not among them and cannot be configured.
var (
	rsaAlgorithms     = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	knownAlgorithms   = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.PS256, jose.PS384}
	defaultAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.ES256, jose.ES384, jose.PS256, jose.PS384}
)

// keySet is a JSON Web Key Set as far as signatures are made with it.
type keySet struct{ keys []jose.JSONWebKey }

// parseKeySet reads a key set (RFC 7517). Keys that no signature is checked with
// are left out, as the RFC says: other types, other uses, ones too short. In a set
// of the operator's own a broken or secret key is an error; in that of an issuer
// it is left out too, as the others may be good.
func parseKeySet(text []byte, own bool) (*keySet, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := readObject(text, &raw); err != nil {
		return nil, fmt.Errorf("cannot read a key set: %w", err)
	}
	if raw.Keys == nil {
		return nil, errors.New(`cannot read a key set: it has no "keys"`)
	}
	if len(raw.Keys) > keysMax {
		return nil, fmt.Errorf("cannot read a key set: it has more than %d keys", keysMax)
	}
	set := &keySet{}
	for i, one := range raw.Keys {
		key, err := parseKey(one)
		if err != nil && own {
			return nil, fmt.Errorf("cannot read key %d of a key set: %w", i, err)
		}
		if err == nil && key != nil {
			set.keys = append(set.keys, *key)
		}
	}
	return set, nil
}

// parseKey reads one key; nil: it is none that signatures are checked with.
func parseKey(text []byte) (*jose.JSONWebKey, error) {
	var head struct {
		Kty        string   `json:"kty"`
		Crv        string   `json:"crv"`
		Use        string   `json:"use"`
		Operations []string `json:"key_ops"`
		K          any      `json:"k"`
		D          any      `json:"d"`
	}
	if err := readObject(text, &head); err != nil {
		return nil, err
	}
	switch {
	case head.Kty == "oct" || head.K != nil || head.D != nil:
		return nil, errors.New("it is secret, and belongs to its owner only")
	case head.Kty != "RSA" && head.Kty != "EC",
		head.Kty == "EC" && head.Crv != "P-256" && head.Crv != "P-384",
		head.Use != "" && head.Use != "sig",
		head.Operations != nil && !slices.Contains(head.Operations, "verify"):
		return nil, nil
	}
	key := new(jose.JSONWebKey)
	if err := key.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	if len(algorithmsOf(key)) == 0 {
		return nil, nil
	}
	return key, nil
}

// algorithmsOf are those that a key can check, whatever a token says.
func algorithmsOf(key *jose.JSONWebKey) []jose.SignatureAlgorithm {
	var fit []jose.SignatureAlgorithm
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() >= rsaBitsMin {
			fit = rsaAlgorithms
		}
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			fit = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			fit = []jose.SignatureAlgorithm{jose.ES384}
		}
	}
	if key.Algorithm == "" {
		return fit
	}
	if named := jose.SignatureAlgorithm(key.Algorithm); slices.Contains(fit, named) {
		return []jose.SignatureAlgorithm{named}
	}
	return nil
}

// find is the one key of the set that a token with this kid and algorithm was signed
// with; nil: there is none, or more than one. A token may leave the kid out only
// where the set has one key.
func (s *keySet) find(kid string, alg jose.SignatureAlgorithm) *jose.JSONWebKey {
	if kid == "" && len(s.keys) != 1 {
		return nil
	}
	var found *jose.JSONWebKey
	for i := range s.keys {
		key := &s.keys[i]
		if kid != "" && key.KeyID != kid || !slices.Contains(algorithmsOf(key), alg) {
			continue
		}
		if found != nil {
			return nil
		}
		found = key
	}
	return found
}

// has says whether the set has a key of that id.
func (s *keySet) has(kid string) bool {
	return slices.ContainsFunc(s.keys, func(key jose.JSONWebKey) bool { return key.KeyID == kid })
}

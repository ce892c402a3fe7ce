package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// unverified is a token that was taken apart, of which nothing is proven yet.
type unverified struct {
	text      string
	algorithm jose.SignatureAlgorithm
	kid       string
	typ       string
	jku       string
	issuer    string
}

// takeApart reads a token's header, and which issuer it claims to be from.
func takeApart(text string) (*unverified, error) {
	parts := strings.Split(text, ".") // tokenBytesMax bounds them
	if len(parts) != 3 {
		return nil, errNotJWT
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return nil, errNotJWT
		}
	}
	u := &unverified{text: text}
	if err := u.readHeader(decoded[0]); err != nil {
		return nil, err
	}
	var claims map[string]json.RawMessage
	if err := readObject(decoded[1], &claims); err != nil {
		return nil, invalidToken("The token's claims cannot be read, or one comes twice.")
	}
	if json.Unmarshal(claims["iss"], &u.issuer) != nil || u.issuer == "" {
		return nil, invalidToken("The token does not name its issuer (iss).")
	}
	return u, nil
}

// readHeader refuses what would have the token say itself how it is to be
// checked: keys that it brings along, extensions that it calls critical, a token
// within the token.
func (u *unverified) readHeader(text []byte) error {
	var header map[string]json.RawMessage
	if err := readObject(text, &header); err != nil {
		return invalidToken("The token's header cannot be read, or a member comes twice.")
	}
	for _, name := range []string{"crit", "b64", "jwk", "x5c", "x5u", "cty", "enc", "zip"} {
		if _, has := header[name]; has {
			return invalidToken("Tokens with the header member '%s' are not taken.", name)
		}
	}
	var algorithm string
	for name, to := range map[string]*string{"alg": &algorithm, "kid": &u.kid, "typ": &u.typ, "jku": &u.jku} {
		value, has := header[name]
		if !has {
			continue
		}
		if json.Unmarshal(value, to) != nil || *to == "" {
			return invalidToken("The token's header member '%s' is not a text.", name)
		}
	}
	u.algorithm = jose.SignatureAlgorithm(algorithm)
	switch strings.ToLower(strings.TrimPrefix(strings.ToLower(u.typ), "application/")) {
	case "", "jwt", "at+jwt":
		return nil
	default:
		return invalidToken("Tokens of this type (typ) are not taken: it must be at+jwt or JWT.")
	}
}

// keysIn gives the set that the token's key is looked for in. Nobody is asked for keys
// for the sake of an algorithm that is not taken.
func (u *unverified) keysIn(ctx context.Context, keys keySource, allowed []jose.SignatureAlgorithm) (*keySet, error) {
	if !slices.Contains(allowed, u.algorithm) {
		return nil, errAlgorithm
	}
	return keys.keysFor(ctx, u.kid)
}

// verifyBy checks the signature, and reads the claims that it covers into each of dst.
func (u *unverified) verifyBy(set *keySet, dst ...any) error {
	key := set.find(u.kid, u.algorithm)
	if key == nil {
		return invalidToken("No key of the issuer fits the token's kid and alg, or several do.")
	}
	token, err := jwt.ParseSigned(u.text, []jose.SignatureAlgorithm{u.algorithm})
	if err != nil {
		return errNotJWT
	}
	err = token.Claims(key.Key, dst...)
	switch {
	case errors.Is(err, jose.ErrCryptoFailure):
		return invalidToken("The token's signature is wrong.")
	case err != nil:
		return invalidToken("The token's claims cannot be read.")
	}
	return nil
}

// checkTimes compares the registered claims with the clock (RFC 7519 section 4.1).
func checkTimes(claims *jwt.Claims, now time.Time, skew time.Duration) error {
	switch {
	case claims.Expiry == nil:
		return invalidToken("The token does not say when it expires (exp).")
	case !now.Before(claims.Expiry.Time().Add(skew)):
		return invalidToken("The token has expired.")
	case claims.NotBefore != nil && now.Add(skew).Before(claims.NotBefore.Time()):
		return invalidToken("The token does not count yet (nbf).")
	case claims.IssuedAt != nil && now.Add(skew).Before(claims.IssuedAt.Time()):
		return invalidToken("The token was issued in the future (iat).")
	}
	return nil
}

// checkAudience looks for one of ours in the token's.
func checkAudience(claims *jwt.Claims, ours []string) error {
	for _, one := range ours {
		if claims.Audience.Contains(one) {
			return nil
		}
	}
	return invalidToken("The token is not for this server (aud).")
}

// confirmation is what a token is bound to (RFC 8705); the zero value: nothing.
type confirmation struct {
	isBound     bool
	certificate string // its SHA-256 as x5t#S256 has it; "": it is bound to something else
}

// confirmation reads cnf. A token that is bound to something else must not pass for a
// plain one.
func (c *tokenClaims) confirmation() confirmation {
	to := confirmation{isBound: c.Confirmation != nil}
	if len(c.Confirmation) != 1 || json.Unmarshal(c.Confirmation["x5t#S256"], &to.certificate) != nil {
		to.certificate = ""
	}
	return to
}

// check holds the token to the certificate of its connection; nil: that has none.
func (c confirmation) check(certificate *x509.Certificate) error {
	switch {
	case !c.isBound:
		return nil
	case c.certificate == "":
		return invalidToken("The token is bound in a way that this server cannot check (cnf).")
	case certificate == nil:
		return invalidToken("The token is bound to a client certificate (cnf), and the connection has none.")
	}
	sum := sha256.Sum256(certificate.Raw)
	if base64.RawURLEncoding.EncodeToString(sum[:]) != c.certificate {
		return invalidToken("The token is bound to another client certificate (cnf).")
	}
	return nil
}

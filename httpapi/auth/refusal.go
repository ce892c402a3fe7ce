package auth

import (
	"errors"
	"fmt"

	"kiln/httpapi/access"
)

// Codes of refusals (RFC 6750 section 3.1). What is no bearer token at all has none.
const (
	codeInvalidRequest = "invalid_request"
	codeInvalidToken   = "invalid_token"
)

// invalidToken refuses what a token says. Nothing of the token goes into the text.
func invalidToken(format string, args ...any) error {
	return &access.CredentialsError{Code: codeInvalidToken, Text: fmt.Sprintf(format, args...)}
}

var (
	errOtherScheme = &access.CredentialsError{Text: "This server takes bearer tokens only: Authorization: Bearer TOKEN."}
	errCertificate = &access.CredentialsError{Text: "No rule of this server knows the client certificate."}
	errTwoHeaders  = &access.CredentialsError{Code: codeInvalidRequest, Text: "The request has more than one Authorization header."}
	errAlgorithm   = &access.CredentialsError{Code: codeInvalidToken, Text: "The token's signature algorithm (alg) is not taken."}
	errNotJWT      = &access.CredentialsError{Code: codeInvalidToken, Text: "The token is not a signed JWT."}
)

// ErrKeysAway: the keys that a token is to be checked with cannot be had, and the
// last ones are too old.
var ErrKeysAway = errors.New("the keys of the token's issuer cannot be had at the moment")

package auth

import "strings"

// bearerToken takes the token out of the request's Authorization headers (RFC
// 6750 section 2.1). "" without an error: there is none.
func bearerToken(headers []string) (string, error) {
	switch len(headers) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", errTwoHeaders
	}
	scheme, rest, spaced := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", errOtherScheme
	}
	token := strings.Trim(rest, " ")
	switch {
	case !spaced || token == "":
		return "", invalidToken("The bearer token is empty.")
	case len(token) > tokenBytesMax:
		return "", invalidToken("The token has more than %d bytes.", tokenBytesMax)
	case !isToken68(token):
		return "", invalidToken("The token has characters that no bearer token has.")
	}
	return token, nil
}

// isToken68 checks the characters of RFC 6750's b64token.
func isToken68(text string) bool {
	for i := range len(text) {
		c := text[i]
		switch {
		case '0' <= c && c <= '9', 'a' <= c|0x20 && c|0x20 <= 'z':
		case strings.IndexByte("-._~+/=", c) >= 0:
		default:
			return false
		}
	}
	return true
}

package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"kiln/httpapi/access"
)

// TokenPath is the token endpoint below the FHIR base.
const TokenPath = "/oauth/token"

// OwnIssuer is what principals of this server's tokens have for an issuer.
const OwnIssuer = "kiln"

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// assertionAlgorithms are those of SMART Backend Services.
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.RS384, jose.ES384}

// oauthError is a refusal of the token endpoint (RFC 6749 section 5.2).
type oauthError struct {
	status int
	code   string
	text   string
}

func (e *oauthError) Error() string { return e.text }

func invalidRequest(text string) error {
	return &oauthError{http.StatusBadRequest, "invalid_request", text}
}

func invalidClient(text string) error {
	return &oauthError{http.StatusUnauthorized, "invalid_client", text}
}

// Token answers a request for an access token (SMART Backend Services): a form and
// its content type in, a status and a JSON text out. base is the FHIR base that
// clients know.
func (a *Authenticator) Token(ctx context.Context, base, contentType string, body []byte) (client string, status int, answer []byte) {
	granted, err := a.grant(ctx, base, contentType, body)
	var refused *oauthError
	switch {
	case err == nil:
		return granted.client, http.StatusOK, marshal(granted)
	case errors.As(err, &refused):
	case errors.Is(err, ErrKeysAway):
		refused = &oauthError{http.StatusServiceUnavailable, "temporarily_unavailable", "The client's keys (JWKS) cannot be had at the moment."}
	default:
		a.opts.Logger.Error("an access token could not be made", "error", err)
		refused = &oauthError{http.StatusServiceUnavailable, "temporarily_unavailable", "The server cannot make tokens at the moment; its log says more."}
	}
	return "", refused.status, marshal(map[string]string{"error": refused.code, "error_description": refused.text})
}

func marshal(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return text
}

// tokenAnswer is a granted token (RFC 6749 section 5.1).
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
	Scope       string `json:"scope"`
	client      string
}

func (a *Authenticator) grant(ctx context.Context, base, contentType string, body []byte) (*tokenAnswer, error) {
	form, err := readForm(contentType, body)
	if err != nil {
		return nil, err
	}
	switch {
	case form["grant_type"] == "":
		return nil, invalidRequest("grant_type is missing.")
	case form["grant_type"] != "client_credentials":
		return nil, &oauthError{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be client_credentials."}
	case form["client_assertion_type"] != assertionType:
		return nil, invalidRequest("client_assertion_type must be " + assertionType + ".")
	case form["client_assertion"] == "":
		return nil, invalidRequest("client_assertion is missing.")
	}
	who, err := a.proveClient(ctx, form["client_assertion"], base+TokenPath)
	if err != nil {
		return nil, err
	}
	if id := form["client_id"]; id != "" && id != who.id {
		return nil, invalidClient("client_id is not that of the assertion.")
	}
	scope, ok := grantScopes(form["scope"], who.scopes)
	if !ok {
		return nil, &oauthError{http.StatusBadRequest, "invalid_scope", "scope must be some of the system/ scopes that the client is registered for, and not too many."}
	}
	token, err := a.issue(base, who, scope)
	if err != nil {
		return nil, err
	}
	if len(token) > tokenBytesMax { // "&" in filters takes six bytes there
		return nil, &oauthError{http.StatusBadRequest, "invalid_scope", "scope must be less: the access token would be too long to be sent."}
	}
	return &tokenAnswer{token, "bearer", int(tokenLife / time.Second), scope, who.id}, nil
}

// readForm reads the fields of a form; one that comes twice is an error (RFC 6749
// section 3.2).
func readForm(contentType string, body []byte) (map[string]string, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("The body must be application/x-www-form-urlencoded.")
	}
	if len(body) > formBytesMax {
		return nil, invalidRequest("The body is too large.")
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalidRequest("The body is no form.")
	}
	form := make(map[string]string, len(values))
	for name, value := range values {
		if len(value) > 1 {
			return nil, invalidRequest("A field of the form comes twice.")
		}
		form[name] = value[0]
	}
	return form, nil
}

// proveClient checks a client's assertion (SMART App Launch, client authentication
// with asymmetric keys).
func (a *Authenticator) proveClient(ctx context.Context, text, tokenURL string) (*client, error) {
	c := a.current()
	who, registered, err := c.readAssertion(ctx, text)
	var refused *access.CredentialsError
	if errors.As(err, &refused) {
		return nil, invalidClient("client_assertion: " + refused.Text)
	}
	if err != nil {
		return nil, err
	}
	now := a.opts.Now()
	if err := checkTimes(registered, now, c.skew); err != nil {
		return nil, invalidClient("client_assertion: " + err.Error())
	}
	switch {
	case registered.Subject != who.id:
		return nil, invalidClient("client_assertion: iss and sub must both be the client's id.")
	case len(registered.Audience) != 1 || registered.Audience[0] != tokenURL:
		// Another server that it is for too could bring it here.
		return nil, invalidClient("client_assertion: aud must be " + tokenURL + ", and nothing else.")
	case registered.Expiry.Time().After(now.Add(assertionLifeMax + c.skew)):
		return nil, invalidClient("client_assertion: exp must be 5 minutes ahead at most.")
	case registered.ID == "" || !isName(registered.ID):
		return nil, invalidClient("client_assertion: jti is missing or too long.")
	}
	switch err := a.replays.use(who.id, registered.ID, now, registered.Expiry.Time().Add(c.skew)); {
	case errors.Is(err, errReplayed):
		return nil, invalidClient("client_assertion: it was used before (jti).")
	case errors.Is(err, errReplaysFull):
		return nil, &oauthError{http.StatusServiceUnavailable, "temporarily_unavailable", "The client asks for too many tokens; use each until it expires."}
	default:
		return who, err
	}
}

// errNotTheirs is for all that only the holder of a client's key gets beyond: which
// clients there are, and how they are registered, is nobody else's.
var errNotTheirs = &access.CredentialsError{Code: codeInvalidToken, Text: "No client that is registered here has signed it: the client (iss), the JWKS URL (jku), the key's id (kid) or the signature is wrong."}

// readAssertion finds out whose an assertion is, and checks its signature.
func (c *config) readAssertion(ctx context.Context, text string) (*client, *jwt.Claims, error) {
	if len(text) > tokenBytesMax || !isToken68(text) {
		return nil, nil, errNotJWT
	}
	token, err := takeApart(text)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case strings.Contains(strings.ToLower(token.typ), "at+jwt"):
		return nil, nil, invalidToken("It is an access token (typ).")
	case token.kid == "":
		return nil, nil, invalidToken("The key's id (kid) is missing in the header.")
	case !slices.Contains(assertionAlgorithms, token.algorithm):
		return nil, nil, errAlgorithm
	}
	who := c.clients[token.issuer]
	if who == nil || token.jku != "" && token.jku != who.keysURL {
		return nil, nil, errNotTheirs
	}
	set, err := token.keysIn(ctx, who.keys, assertionAlgorithms)
	if err != nil {
		return nil, nil, err
	}
	registered := new(jwt.Claims)
	if token.verifyBy(set, registered) != nil {
		return nil, nil, errNotTheirs
	}
	return who, registered, nil
}

// ownClaims are those of access tokens that this server issues (RFC 9068).
type ownClaims struct {
	jwt.Claims
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
}

func (a *Authenticator) issue(base string, who *client, scope string) (string, error) {
	key, err := a.signing.signer()
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return "", err
	}
	now := a.opts.Now()
	return jwt.Signed(signer).Claims(ownClaims{
		Claims: jwt.Claims{
			Issuer: base, Subject: who.id, Audience: jwt.Audience{base}, ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(tokenLife)),
		},
		ClientID: who.id, Scope: scope,
	}).Serialize()
}

// own is this server as an issuer.
func (a *Authenticator) own(base string) *issuer {
	return &issuer{url: base, audiences: []string{base}, algorithms: []jose.SignatureAlgorithm{jose.ES256}, keys: a.signing}
}

// asClient makes the principal of one of this server's tokens that of the client: its
// name and roles are those that it has now, and one that is registered no more has none.
func (c *config) asClient(p *access.Principal) (*access.Principal, error) {
	who := c.clients[p.Subject]
	if who == nil {
		return nil, invalidToken("The token's client is not registered any more.")
	}
	p.Issuer, p.Name, p.Roles, p.HasScopes = OwnIssuer, who.name, who.roles, true
	return p, nil
}

// HasClients says whether there is anybody to give tokens to.
func (a *Authenticator) HasClients() bool { return len(a.current().clients) > 0 }

package auth

import (
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"kiln/fhir"
	"kiln/httpapi/access"
)

// tokenClaims are what a principal is made of, besides the registered claims.
type tokenClaims struct {
	Scope        json.RawMessage            `json:"scope"`
	Scp          json.RawMessage            `json:"scp"`
	Patient      string                     `json:"patient"`
	Launch       launchClaims               `json:"launch_response"`
	FHIRUser     string                     `json:"fhirUser"`
	ClientID     string                     `json:"client_id"`
	AuthorizedBy string                     `json:"azp"`
	AppID        string                     `json:"appid"`
	Name         string                     `json:"name"`
	Confirmation map[string]json.RawMessage `json:"cnf"`
}

type launchClaims struct {
	Patient string `json:"patient"`
}

// principal is who a verified token of the issuer is for.
func (i *issuer) principal(registered *jwt.Claims, claims *tokenClaims, all map[string]any) (*access.Principal, error) {
	p := &access.Principal{
		Issuer: i.url, Subject: registered.Subject, Name: claims.Name, FHIRUser: claims.FHIRUser,
		Client:  firstOf(claims.ClientID, claims.AuthorizedBy, claims.AppID),
		Patient: strings.TrimPrefix(firstOf(claims.Patient, claims.Launch.Patient), "Patient/"),
		Expires: registered.Expiry.Time(),
	}
	if p.Subject == "" {
		p.Subject = p.Client
	}
	for _, name := range []string{p.Subject, p.Client, p.Name, p.FHIRUser} {
		if !isName(name) {
			return nil, invalidToken("A name in the token's claims is longer than %d bytes or has control characters.", nameBytesMax)
		}
	}
	switch {
	case p.Subject == "":
		return nil, invalidToken("The token does not say whom it is for (sub).")
	case p.Patient != "" && !fhir.ValidID([]byte(p.Patient)):
		return nil, invalidToken("The token's patient is not the id of a Patient.")
	}
	text, err := claims.scopeText()
	if err != nil {
		return nil, err
	}
	scopes, err := access.ParseScopes(text)
	if err != nil {
		return nil, invalidToken("The token's scopes are too many, or have characters that scopes do not have.")
	}
	p.HasScopes, p.Scopes = speaksSMART(scopes), scopes.Known
	for _, claim := range i.roleClaims {
		for _, value := range textsAt(all, claim) {
			p.Roles |= i.roles[value]
		}
	}
	return p, nil
}

// speaksSMART tells tokens that SMART scopes bound from those of issuers that put
// their own into every token (profile, email, user_impersonation), whose roles decide.
func speaksSMART(scopes access.Scopes) bool {
	return len(scopes.Known)+len(scopes.Malformed) > 0 ||
		slices.ContainsFunc(scopes.Other, func(one string) bool { return strings.HasPrefix(one, "launch") })
}

// scopeText is the token's scopes, separated by spaces; "": it has none.
func (c *tokenClaims) scopeText() (string, error) {
	for _, raw := range []json.RawMessage{c.Scope, c.Scp} {
		if len(raw) == 0 {
			continue
		}
		var text string
		if json.Unmarshal(raw, &text) == nil {
			return text, nil
		}
		var list []string
		if json.Unmarshal(raw, &list) != nil {
			return "", invalidToken("The token's scopes are neither a text nor a list of texts.")
		}
		return strings.Join(list, " "), nil
	}
	return "", nil
}

// textsAt are the texts of a claim: a text or a list of them. A path such as
// realm_access.roles leads into objects, unless a claim has that very name.
func textsAt(claims map[string]any, path string) []string {
	value, has := claims[path]
	if !has {
		first, rest, more := strings.Cut(path, ".")
		inner, isObject := claims[first].(map[string]any)
		if !more || !isObject {
			return nil
		}
		return textsAt(inner, rest)
	}
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		var texts []string
		for _, one := range value {
			if text, isText := one.(string); isText {
				texts = append(texts, text)
			}
		}
		return texts
	default:
		return nil
	}
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// isName bounds what principals are called.
func isName(text string) bool {
	if len(text) > nameBytesMax {
		return false
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			return false
		}
	}
	return true
}

package httpapi

import (
	"github.com/valyala/fasthttp"
)

// Clients that know only the FHIR base find out here how they get tokens: from the
// smart-configuration (SMART App Launch 2.2, conformance), the CapabilityStatement,
// and, for clients of the --auth file, the token endpoint itself (SMART Backend
// Services). All of it is for everybody.

// smartConfiguration answers GET .well-known/smart-configuration.
func (x *exchange) smartConfiguration() error {
	if x.server.opts.OAuth == nil {
		return notSupported(fasthttp.StatusNotFound, "This server hands out no tokens and knows nobody who does.")
	}
	text, _, _, ok := x.server.opts.OAuth.SMART(x.ctx, x.server.opts.OAuth.Base(x.ctx))
	if !ok {
		return notSupported(fasthttp.StatusNotFound, "This server hands out no tokens, and does not know one issuer who does.")
	}
	x.body(fasthttp.StatusOK, contentTypeJSON, append(x.buffer(), text...))
	return nil
}

// token answers POST oauth/token. Its errors are those of OAuth, as its clients know
// nothing of FHIR.
func (x *exchange) token() error {
	oauth := x.server.opts.OAuth
	if oauth == nil || !oauth.HasClients() {
		return notSupported(fasthttp.StatusNotFound, "This server hands out no tokens.")
	}
	address := addressKey(x.origin().addr)
	if err := x.server.clients.mayTry(address, x.now()); err != nil {
		return err
	}
	request := &x.ctx.Request
	client, status, answer := oauth.Token(x.ctx, oauth.Base(x.ctx), string(request.Header.ContentType()), request.Body())
	x.grantedTo = client
	header := &x.ctx.Response.Header
	header.Set("Cache-Control", "no-store")
	header.Set("Pragma", "no-cache")
	switch status {
	case fasthttp.StatusUnauthorized:
		x.server.clients.failed(address, x.now())
		header.Set("WWW-Authenticate", authRealm)
	case fasthttp.StatusServiceUnavailable:
		header.Set("Retry-After", "1")
	}
	x.body(status, contentTypeJSON, append(x.buffer(), answer...))
	return nil
}

type capabilitySecurity struct {
	Extension   []capabilityExtension `json:"extension,omitempty"`
	CORS        bool                  `json:"cors"`
	Service     []capabilityService   `json:"service"`
	Description string                `json:"description"`
}

type capabilityService struct {
	Coding []capabilityCoding `json:"coding"`
}

type capabilityCoding struct {
	System string `json:"system"`
	Code   string `json:"code"`
}

type capabilityExtension struct {
	URL       string                `json:"url"`
	ValueURI  string                `json:"valueUri,omitempty"`
	Extension []capabilityExtension `json:"extension,omitempty"`
}

// security is the CapabilityStatement's part on who may come in; nil: everybody may.
func (x *exchange) security() *capabilitySecurity {
	if x.server.opts.Auth == nil {
		return nil
	}
	s := &capabilitySecurity{
		CORS:        len(x.server.opts.CORSOrigins) > 0,
		Service:     []capabilityService{{[]capabilityCoding{{"http://terminology.hl7.org/CodeSystem/restful-security-service", "SMART-on-FHIR"}}}},
		Description: "Every request but metadata, and for a token, needs a bearer token of an issuer that the server trusts, or a client certificate that it knows.",
	}
	if x.server.opts.OAuth == nil {
		return s
	}
	if _, token, authorize, ok := x.server.opts.OAuth.SMART(x.ctx, x.server.opts.OAuth.Base(x.ctx)); ok {
		uris := capabilityExtension{URL: "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris", Extension: []capabilityExtension{{URL: "token", ValueURI: token}}}
		if authorize != "" {
			uris.Extension = append(uris.Extension, capabilityExtension{URL: "authorize", ValueURI: authorize})
		}
		s.Extension = append(s.Extension, uris)
	}
	return s
}

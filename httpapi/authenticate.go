package httpapi

import (
	"errors"

	"github.com/valyala/fasthttp"

	"kiln/httpapi/access"
)

// Authenticator says who a request is made by.
type Authenticator interface {
	// Authenticate looks at the request's head and connection, before its body is
	// unpacked. nil without an error: the request has no credentials. Credentials that
	// prove nothing are an *access.CredentialsError, 401 for the client; any other
	// error (keys that cannot be fetched) is the server's, 503.
	Authenticate(ctx *fasthttp.RequestCtx) (*access.Principal, error)
}

// codeLogin and codeUnknown are the issue codes of 401.
const (
	codeLogin   = "login"
	codeUnknown = "unknown"
)

// authenticate finds out who asks. An open server does not look: stray credentials
// are nobody's business there.
func (x *exchange) authenticate() error {
	if x.server.opts.Auth == nil {
		return nil
	}
	who, err := x.server.opts.Auth.Authenticate(x.ctx)
	var refused *access.CredentialsError
	switch {
	case errors.As(err, &refused):
		x.ctx.Response.Header.Set("WWW-Authenticate", `Bearer error="`+refused.Code+`"`)
		return &problem{fasthttp.StatusUnauthorized, codeUnknown, refused.Text}
	case err != nil:
		x.server.opts.Logger.Warn("cannot find out who a request is made by", "request", x.requestID(), "error", err)
		return &problem{fasthttp.StatusServiceUnavailable, codeTransient, "It cannot be found out at the moment who makes this request; try again later."}
	case who == nil:
		x.ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
		return &problem{fasthttp.StatusUnauthorized, codeLogin, "This server has to know who makes a request: send a token as Authorization: Bearer."}
	}
	x.who = who
	return nil
}

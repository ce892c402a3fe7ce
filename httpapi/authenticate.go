package httpapi

import (
	"errors"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/httpapi/access"
)

// Authenticator says who a request is made by.
type Authenticator interface {
	// Authenticate looks at the request's head and connection, before its body is
	// unpacked. nil without an error: the request has no credentials. Credentials that
	// prove nothing are an *access.CredentialsError, 401 for the client, or 400 when
	// its code is invalid_request; any other error (keys that cannot be fetched) is
	// the server's, 503.
	Authenticate(ctx *fasthttp.RequestCtx) (*access.Principal, error)
}

// authRealm is what challenges call this server's space.
const authRealm = `Bearer realm="kiln"`

// authenticate finds out who asks, before anything is said about what is there. An
// open server does not look: stray credentials are nobody's business there.
func (x *exchange) authenticate(m method) error {
	if x.server.opts.Auth == nil || x.isPublic(m) {
		return nil
	}
	address := addressKey(x.origin().addr)
	if err := x.server.clients.mayTry(address, x.now()); err != nil {
		return err
	}
	who, err := x.server.opts.Auth.Authenticate(x.ctx)
	var refused *access.CredentialsError
	switch {
	case errors.As(err, &refused):
		x.server.clients.failed(address, x.now())
		return x.refuseCredentials(refused)
	case err != nil:
		if ok, skipped := x.server.logLimit.take(fasthttp.StatusServiceUnavailable, x.now()); ok {
			x.server.opts.Logger.Warn("cannot find out who a request is made by", "request", x.requestID(), "error", err, "left_out", skipped)
		}
		return &problem{fasthttp.StatusServiceUnavailable, codeTransient, "It cannot be found out at the moment who makes this request; try again later."}
	case who == nil:
		x.ctx.Response.Header.Set("WWW-Authenticate", authRealm)
		return &problem{fasthttp.StatusUnauthorized, codeLogin, "This server has to know who makes a request: send a token as Authorization: Bearer."}
	}
	if x.server.opts.AuditsApart {
		apart := *who // others may have it
		apart.AuditsApart = true
		who = &apart
	}
	x.who = who
	return nil
}

// isPublic says what is answered to everybody: how to come in, whether the server
// is up, and what methods an address knows (browsers ask without a token).
func (x *exchange) isPublic(m method) bool {
	if x.addr.place == placeMetrics && x.server.opts.OpenMetrics {
		return true
	}
	row := x.server.table.find(x.addr.place, m)
	return m == methodOptions || row != rowNone && x.server.table.rows[row].needs&access.Public != 0
}

// refuseCredentials answers as RFC 6750 section 3 says.
func (x *exchange) refuseCredentials(refused *access.CredentialsError) error {
	challenge := authRealm
	if refused.Code != "" {
		challenge += `, error="` + refused.Code + `", error_description="` + quotable(refused.Text) + `"`
	}
	x.ctx.Response.Header.Set("WWW-Authenticate", challenge)
	if refused.Code == "invalid_request" {
		return &problem{fasthttp.StatusBadRequest, codeInvalid, refused.Text}
	}
	return &problem{fasthttp.StatusUnauthorized, codeUnknown, refused.Text}
}

// quotable keeps what an error_description may have.
func quotable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < ' ' || r > '~':
			return -1
		default:
			return r
		}
	}, text)
}

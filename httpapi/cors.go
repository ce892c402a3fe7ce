package httpapi

import (
	"net/url"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// CORS lets scripts of other sites' pages use the server from a browser (Fetch
// standard). It is off unless origins are named. Credentials are not allowed:
// tokens come in the Authorization header, which scripts set themselves.

const (
	corsAnyOrigin = "*"
	// corsMaxAge is how long a browser may keep a preflight's answer, in seconds.
	corsMaxAge = "600"
	// corsRequestHeaders are those that any interaction reads.
	corsRequestHeaders = "Accept, Authorization, Content-Encoding, Content-Type, If-Match, If-Modified-Since, If-None-Exist, If-None-Match, Prefer, Range, X-Request-Id"
	// corsAnswerHeaders are those that scripts may read besides the plain ones.
	corsAnswerHeaders = "Allow, Accept-Patch, Content-Location, Content-Range, ETag, Expires, Last-Modified, Location, Preference-Applied, Retry-After, X-Export-Status, X-Progress, X-Request-Id, WWW-Authenticate"
)

// checkOrigin takes "*" and scheme://host[:port].
func checkOrigin(text string) error {
	if text == corsAnyOrigin {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || text != u.Scheme+"://"+u.Host || text != strings.ToLower(text) {
		return badRequest("the origin %q is not of the form scheme://host[:port] in lower case", text)
	}
	return nil
}

// cors sets the headers for the request's origin, if it is allowed.
func (x *exchange) cors() {
	origins := x.server.opts.CORSOrigins
	if len(origins) == 0 {
		return
	}
	header := &x.ctx.Response.Header
	any := slices.Contains(origins, corsAnyOrigin)
	if !any {
		// Also for requests that have no origin: a cache must not give their
		// answers to those that have.
		header.Add("Vary", "Origin")
	}
	origin := x.ctx.Request.Header.Peek("Origin")
	switch {
	case len(origin) == 0:
		return
	case any:
		header.Set("Access-Control-Allow-Origin", corsAnyOrigin)
	case slices.Contains(origins, string(origin)):
		header.SetBytesV("Access-Control-Allow-Origin", origin)
	default:
		return
	}
	header.Set("Access-Control-Expose-Headers", corsAnswerHeaders)
}

// options answers OPTIONS of an address, a preflight included.
func (x *exchange) options() error {
	header := &x.ctx.Response.Header
	allowed := x.server.table.allowed(x.addr.place)
	header.Set("Allow", allowed)
	if x.server.table.find(x.addr.place, methodPatch) != rowNone {
		header.Set("Accept-Patch", acceptedPatches)
	}
	if len(header.Peek("Access-Control-Allow-Origin")) > 0 && len(x.ctx.Request.Header.Peek("Access-Control-Request-Method")) > 0 {
		header.Set("Access-Control-Allow-Methods", allowed)
		header.Set("Access-Control-Allow-Headers", corsRequestHeaders)
		header.Set("Access-Control-Max-Age", corsMaxAge)
		header.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	}
	x.empty(fasthttp.StatusNoContent)
	return nil
}

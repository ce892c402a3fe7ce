package httpapi

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
)

// entryExchange serves the entries of a Bundle, one after another, each as an
// exchange of its own that never was on the wire.
type entryExchange struct {
	outer *exchange
	work  context.Context // of the Bundle
	inner exchange
}

func (x *exchange) entries(work context.Context) *entryExchange {
	t := &entryExchange{outer: x, work: work, inner: exchange{server: x.server}}
	t.inner.ctx = &fasthttp.RequestCtx{}
	t.inner.ctx.Init(&fasthttp.Request{}, x.ctx.RemoteAddr(), libraryLogger{x.server.opts.Logger})
	return t
}

func (t *entryExchange) release() { t.inner.release() }

// begin makes the inner exchange that of an entry, and finds its row. resource is
// the entry's, perhaps with rewritten references.
func (t *entryExchange) begin(e *bundleEntry, resource []byte) error {
	x, ctx, scanner := t.outer, t.inner.ctx, t.inner.scanner
	ctx.Request.Reset()
	ctx.Response.Reset()
	t.inner = exchange{
		server: x.server, ctx: ctx, who: x.who, row: rowNone, id: x.requestID(), base: x.baseURL(),
		scanner: scanner, snap: x.snap, work: t.work, prefer: x.prefer, watched: x.watched,
	}
	target, err := x.entryTarget(e.url)
	if err != nil {
		return err
	}
	request := &ctx.Request
	request.Header.SetMethod(e.method)
	request.SetRequestURI(fhirPath + "/" + target)
	request.Header.SetHostBytes(x.ctx.Host())
	if t.inner.prefer.lenient {
		request.Header.Set("Prefer", "handling=lenient")
	}
	if p := t.inner.prefer.returns; p != returnDefault {
		request.Header.Add("Prefer", "return="+returnNames[p])
	}
	for i, value := range e.headers {
		if value != "" {
			request.Header.Set(entryHeaders[i].header, value)
		}
	}
	request.Header.SetContentType(contentTypeFHIR)
	if len(resource) > 0 {
		contentType, body, err := entryBody(e, resource)
		if err != nil {
			return err
		}
		request.Header.SetContentType(contentType)
		request.SetBodyRaw(body)
	}
	return t.inner.routeEntry()
}

// entryTarget is an entry's url below the base.
func (x *exchange) entryTarget(url string) (string, error) {
	if rest, ok := strings.CutPrefix(url, x.baseURL()+"/"); ok {
		return rest, nil
	}
	for i := range len(url) {
		if url[i] <= ' ' || url[i] == 0x7f {
			return "", badRequest("Its url has white space or control characters; escape them.")
		}
	}
	if strings.Contains(url[:strings.IndexAny(url+"?", "?#")], ":") {
		return "", badRequest("Its url is neither relative nor below this server's base '%s'.", x.baseURL())
	}
	return strings.TrimPrefix(url, "/"), nil
}

// entryBody is what an entry sends. A patch that is no FHIR resource comes in a
// Binary (FHIR R4 http.html#patch).
func entryBody(e *bundleEntry, resource []byte) (contentType string, body []byte, err error) {
	if e.method != methodNames[methodPatch] {
		return contentTypeFHIR, resource, nil
	}
	var members objectMembers
	if err := members.read(resource, 0, "Its resource", "resourceType", "contentType", "data"); err != nil {
		return "", nil, err
	}
	if members.text(resource, "resourceType") != "Binary" {
		return contentTypeFHIR, resource, nil
	}
	data := strings.Map(func(r rune) rune {
		if r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, members.text(resource, "data"))
	body, err = base64.StdEncoding.DecodeString(data)
	if err != nil {
		return "", nil, badRequest("The data of its Binary is not base64.")
	}
	return members.text(resource, "contentType"), body, nil
}

// routeEntry finds the row of an entry's request, which must be an interaction
// with resources.
func (x *exchange) routeEntry() error {
	if isAmbiguousPath(x.ctx.URI().PathOriginal()) {
		return badRequest("The path has empty or dot segments, or encoded characters that are not allowed.")
	}
	x.addr = parseAddress(x.ctx.Path())
	switch x.addr.place {
	case placeNone, placeHealth, placeReady, placeMetrics, placeImport, placeExport,
		placeImportJob, placeImportFile, placeExportJob, placeExportFile:
		return notSupported(fasthttp.StatusBadRequest, "That address cannot be used in a Bundle.")
	}
	m := parseMethod(x.ctx.Method())
	if m == methodOptions || m == methodOther {
		return badRequest("The method is none of GET, HEAD, POST, PUT, PATCH and DELETE.")
	}
	if x.addr.place == placeBase && m == methodPost {
		return notSupported(fasthttp.StatusBadRequest, "A Bundle cannot be sent inside a Bundle.")
	}
	if err := x.route(m); err != nil {
		return err
	}
	return x.authorize()
}

// answer appends the response entry of what the inner exchange has answered.
func (t *entryExchange) appendAnswer(dst []byte) []byte {
	response := &t.inner.ctx.Response
	body := response.Body()
	isOutcome := t.inner.isOutcome
	if t.inner.ctx.Request.Header.IsHead() {
		body = nil
	}
	dst = append(dst, '{')
	if len(body) > 0 && !isOutcome {
		dst = append(dst, `"resource":`...)
		dst = append(dst, body...)
		dst = append(dst, ',')
	}
	r := entryResponse{status: response.StatusCode(), location: string(response.Header.Peek("Location")), etag: string(response.Header.Peek("ETag"))}
	if modified, ok := parseHTTPDate(response.Header.Peek("Last-Modified")); ok {
		r.lastModified = fhir.Instant{Milli: modified.UnixMilli()}
		r.dated = true
	}
	if isOutcome {
		r.outcome = body
	}
	return append(r.appendTo(dst), '}')
}

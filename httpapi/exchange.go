package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/access"
)

// exchange is one request and the answer being made for it. It lives no longer
// than its handler.
type exchange struct {
	server *Server
	ctx    *fasthttp.RequestCtx
	addr   address
	row    int // of the table, or rowNone
	prefer preferences
	// who asks; nil: an open server, which does not want to know.
	who *access.Principal
	// from is where the request came from, once that is known.
	from      origin
	fromKnown bool
	pretty    bool
	id        string // X-Request-Id, made when first needed
	base      string // FHIR base as the client sees it, made when first needed
	// snap is what reads show; nil: the newest. Whoever sets it releases it.
	snap *engine.Snapshot
	// work bounds an entry of a Bundle with the Bundle; nil: nothing does.
	work context.Context
	// isOutcome: the answer is an OperationOutcome.
	isOutcome bool
	// scanner is taken when first needed and given back by release.
	scanner *fhir.Scanner
	// unpackedBytes is what the unpacked body has of the budget.
	unpackedBytes int64
	// computed: the change's precondition is the version it was made from, and
	// the client asked for none.
	computed bool
	// unrecorded: the audit gets no event, as it takes none.
	unrecorded    bool
	admitted      bool // by the audit
	isTransaction bool
	// limitedAs is the client that the request counts for; nil: nobody. retryAfter is when
	// a refused one may come again; "": in a moment.
	limitedAs  *clientUse
	retryAfter string
	// watched has the time by which the request is answered; nil: it has none.
	watched *watched
	// removed are the ids of what was deleted by criteria; grantedTo is the client that
	// was given a token. The audit tells.
	removed   []string
	grantedTo string
	// selected is what a transaction has found by the criteria of a conditional
	// write; nil: nobody has searched.
	selected *selected
}

// release gives back what the exchange took.
func (x *exchange) release() {
	x.server.bodies.shrink(&x.unpackedBytes)
	if x.scanner != nil {
		x.server.scanners.Put(x.scanner)
		x.scanner = nil
	}
}

// serve checks what holds for every interaction, and runs the one asked for.
func (x *exchange) serve() error {
	x.echoRequestID()
	x.standingHeaders()
	if err := x.checkProtocol(); err != nil {
		return err
	}
	if err := x.checkFraming(); err != nil {
		return err
	}
	if string(x.ctx.Request.Header.RequestURI()) == "*" {
		return x.asterisk()
	}
	if isAmbiguousPath(x.ctx.URI().PathOriginal()) {
		return badRequest("The path has empty or dot segments, or encoded characters that are not allowed.")
	}
	path := x.ctx.Path()
	m := parseMethod(x.ctx.Method())
	x.addr = parseAddress(path)
	if err := x.admitAudited(); err != nil {
		return err
	}
	if err := x.checkCertificate(); err != nil {
		return err
	}
	if err := x.authenticate(m); err != nil {
		return err
	}
	if err := x.limit(); err != nil {
		return err
	}
	if x.server.opts.InitialImportMode && isLocked(path, m, x.addr.place) {
		return &problem{fasthttp.StatusLocked, codeLockError, "import operation failed for reason: Service is locked for initial import mode."}
	}
	if x.addr.place == placeNone {
		return &problem{fasthttp.StatusNotFound, codeNotFound, "This server has nothing at that address."}
	}
	x.prefer = parsePrefer(x.ctx.Request.Header.PeekAll("Prefer"))
	if err := x.route(m); err != nil {
		return err
	}
	x.dueWork()
	if err := x.authorize(); err != nil {
		return err
	}
	if err := x.unpack(); err != nil {
		return err
	}
	return x.run()
}

// route finds the row of the table for the exchange's address, and checks what
// holds for all rows.
func (x *exchange) route(m method) error {
	if len(x.addr.typeName) > 0 && x.addr.typ == 0 {
		return notSupported(fasthttp.StatusNotFound, "Resource type '%s' is not supported.", x.addr.typeName)
	}
	if m == methodOptions {
		return nil // run answers it
	}
	x.row = x.server.table.find(x.addr.place, m)
	if x.row == rowNone {
		x.ctx.Response.Header.Set("Allow", x.server.table.allowed(x.addr.place))
		return notSupported(fasthttp.StatusMethodNotAllowed, "The method is not allowed here.")
	}
	if p := x.addr.place; p >= placeType || p == placeSystemHistory || p == placeSystemSearch {
		now := x.server.opts.Now()
		x.server.opts.Jobs.MakeWay(now)
		x.server.opts.Store.MakeWay(now)
	}
	row := &x.server.table.rows[x.row]
	if err := x.checkQuery(row); err != nil {
		return err
	}
	return x.checkAccept(row)
}

// run serves the row that was found.
func (x *exchange) run() error {
	if x.row == rowNone {
		return x.options()
	}
	return x.server.table.rows[x.row].run(x)
}

// snapshot is what a read shows, and what to call when it is done.
func (x *exchange) snapshot() (*engine.Snapshot, func(), error) {
	if x.snap != nil {
		return x.snap, func() {}, nil
	}
	snap, err := x.server.opts.Store.Snapshot()
	if err != nil {
		return nil, nil, err
	}
	return snap, snap.Release, nil
}

// Headers of all answers. These are patient data, and a cache would guess how
// long a resource, its absence or its end stays true.
const (
	cacheControl       = "private, no-cache"
	contentTypeOptions = "nosniff"
	// An answer that a browser shows loads nothing, is in no frame, and its address,
	// which may have patients' ids in it, is told to nobody.
	contentPolicy  = "default-src 'none'; frame-ancestors 'none'"
	referrerPolicy = "no-referrer"
	// strictTransport is for a year (RFC 6797); browsers then never ask in clear text.
	strictTransport = "max-age=31536000"
)

func (x *exchange) standingHeaders() {
	x.cors()
	header := &x.ctx.Response.Header
	// The names are as they are sent: the library need not look at them.
	header.SetCanonical([]byte("Cache-Control"), []byte(cacheControl))
	header.SetCanonical([]byte("X-Content-Type-Options"), []byte(contentTypeOptions))
	header.SetCanonical([]byte("Content-Security-Policy"), []byte(contentPolicy))
	header.SetCanonical([]byte("Referrer-Policy"), []byte(referrerPolicy))
	if x.isSecure() {
		header.SetCanonical([]byte("Strict-Transport-Security"), []byte(strictTransport))
	}
}

// checkProtocol refuses other major versions than 1 (RFC 9110 section 15.6.6),
// the preface of HTTP/2 among them.
func (x *exchange) checkProtocol() error {
	if bytes.HasPrefix(x.ctx.Request.Header.Protocol(), []byte("HTTP/1.")) {
		return nil
	}
	x.ctx.SetConnectionClose()
	if conn := x.ctx.Conn(); conn != nil {
		drain(conn)
	}
	return notSupported(fasthttp.StatusHTTPVersionNotSupported, "This server speaks HTTP/1.1.")
}

// asterisk answers requests about the server itself.
func (x *exchange) asterisk() error {
	if parseMethod(x.ctx.Method()) != methodOptions {
		return badRequest("Only OPTIONS may ask for '*'.")
	}
	x.ctx.Response.Header.Set("Allow", strings.Join(methodNames[methodGet:], ", "))
	x.empty(fasthttp.StatusNoContent)
	return nil
}

// checkFraming refuses a request with both lengths: servers and proxies
// disagree about where such a request ends (RFC 9112 section 6.1). It looks at
// the headers as they came: the library forgets a length beside a coding, and
// the coding of an empty body.
func (x *exchange) checkFraming() error {
	raw := x.ctx.Request.Header.RawHeaders()
	if !hasHeader(raw, "transfer-encoding") || !hasHeader(raw, "content-length") {
		return nil
	}
	x.ctx.SetConnectionClose()
	return badRequest("The request has both Content-Length and Transfer-Encoding.")
}

func hasHeader(raw []byte, name string) bool {
	for len(raw) > len(name) {
		if raw[len(name)] == ':' && strings.EqualFold(string(raw[:len(name)]), name) {
			return true
		}
		end := bytes.IndexByte(raw, '\n')
		if end < 0 {
			return false
		}
		raw = raw[end+1:]
	}
	return false
}

// isLocked says what initial import mode refuses: everything below the FHIR
// base but reads, $import, backups, and the end of jobs.
func isLocked(path []byte, m method, p place) bool {
	if outsidePlace(path) != placeNone || !bytes.HasPrefix(path, []byte(fhirPath)) {
		return false
	}
	switch m {
	case methodGet, methodHead:
		return bytes.HasSuffix(path, []byte("/$reindex"))
	case methodPost:
		return p != placeImport && p != placeBackup && p != placeToken
	case methodDelete:
		return p != placeImportJob && p != placeExportJob && p != placeBackupJob
	default:
		return true
	}
}

// checkAccept refuses answers in other formats than JSON.
func (x *exchange) checkAccept(row *interaction) error {
	if !row.json {
		return nil
	}
	format := x.ctx.QueryArgs().Peek("_format")
	if len(format) > 0 {
		if formatIsJSON(string(format)) {
			return nil
		}
	} else if acceptsJSON(x.ctx.Request.Header.PeekAll("Accept")) {
		return nil
	}
	return notSupported(fasthttp.StatusNotAcceptable, "Only the format %s is supported.", contentTypeFHIR)
}

// echoRequestID sends a client's request id back, when it is a plain one.
func (x *exchange) echoRequestID() {
	id := x.ctx.Request.Header.Peek("X-Request-Id")
	if len(id) <= requestIDBytesMax && fhir.ValidID(id) {
		x.id = string(id)
		x.ctx.Response.Header.SetBytesV("X-Request-Id", id)
	}
}

func (x *exchange) requestID() string {
	if x.id == "" {
		x.id = x.server.opts.NewID()
		x.ctx.Response.Header.Set("X-Request-Id", x.id)
	}
	return x.id
}

// baseURL is the FHIR base as the client sees it, without a slash at the end.
func (x *exchange) baseURL() string {
	if x.base == "" {
		x.base = x.server.base
	}
	if x.base == "" {
		host := x.origin().host
		if host == "" {
			host = string(x.ctx.Host())
		}
		if host == "" { // HTTP/1.0
			host = x.ctx.LocalAddr().String()
		}
		scheme := "http://"
		if told := x.origin().scheme; told == "https" || told == "" && x.ctx.IsTLS() {
			scheme = "https://"
		}
		x.base = scheme + host + fhirPath
	}
	return x.base
}

// parseBaseURL checks Options.BaseURL.
func parseBaseURL(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", badRequest("the base URL %q is not an absolute http or https URL without query", text)
	}
	return strings.TrimSuffix(text, "/"), nil
}

func (x *exchange) now() time.Time { return x.server.opts.Now() }

// ---- answers ----

// fail makes the answer an OperationOutcome for err. Headers that the handler
// has set, such as an ETag, stay.
func (x *exchange) fail(err error) {
	p, known := asProblem(err)
	if !known {
		x.server.opts.Store.NoteDamage(err)
	}
	if !known || p.status >= fasthttp.StatusInternalServerError && p.status != fasthttp.StatusNotImplemented {
		if ok, skipped := x.server.logLimit.take(p.status, x.now()); ok {
			x.server.opts.Logger.Error("request failed", "interaction", x.server.table.name(x.row), "status", p.status, "request", x.requestID(), "error", err, "left_out", skipped)
		}
	}
	switch p.status {
	case fasthttp.StatusServiceUnavailable, fasthttp.StatusTooManyRequests:
		x.ctx.Response.Header.Set("Retry-After", cmp.Or(x.retryAfter, strconv.Itoa(retryAfterSeconds)))
	}
	var misbuilt *structureError
	if errors.As(err, &misbuilt) {
		x.outcome(p.status, structureOutcome(misbuilt.issues)...)
		return
	}
	x.outcome(p.status, issue{severity: "error", code: p.code, text: p.text})
}

// outcome answers with an OperationOutcome.
func (x *exchange) outcome(status int, issues ...issue) {
	x.isOutcome = true
	x.body(status, contentTypeAnswer, appendOutcome(x.buffer(), x.requestID(), x.now(), issues...))
}

// buffer is the response's own memory, to append a body to.
func (x *exchange) buffer() []byte {
	x.ctx.Response.ResetBody()
	return x.ctx.Response.SwapBody(nil)[:0]
}

// body sets an answer whose body was appended to buffer().
func (x *exchange) body(status int, contentType string, body []byte) {
	if x.pretty {
		body = indented(body)
	}
	x.ctx.SetStatusCode(status)
	x.ctx.Response.Header.SetContentType(contentType)
	x.ctx.Response.SwapBody(body)
}

// indented lays out JSON for people; numbers keep their text.
func indented(body []byte) []byte {
	var out bytes.Buffer
	if json.Indent(&out, body, "", "  ") != nil {
		return body
	}
	return out.Bytes()
}

// empty answers without a body.
func (x *exchange) empty(status int) {
	x.ctx.SetStatusCode(status)
	x.ctx.Response.ResetBody()
}

// versionHeaders sets ETag and Last-Modified.
func (x *exchange) versionHeaders(versionID int64, lastUpdated fhir.Instant) {
	var buf [64]byte
	header := &x.ctx.Response.Header
	header.SetBytesV("ETag", appendETag(buf[:0], versionID))
	header.SetBytesV("Last-Modified", fasthttp.AppendHTTPDate(buf[:0], time.UnixMilli(lastUpdated.Milli)))
}

// metaBytesMax is what versionId and lastUpdated add to a body at most.
const metaBytesMax = 128

// resource answers with a version.
func (x *exchange) resource(status int, v *engine.Version) {
	x.versionHeaders(v.VersionID, v.LastUpdated)
	x.body(status, contentTypeAnswer, v.AppendJSON(slices.Grow(x.buffer(), len(v.Body)+metaBytesMax)))
}

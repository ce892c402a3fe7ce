package httpapi

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
)

// historyPage is what one history request asks for.
type historyPage struct {
	query     engine.HistoryQuery
	countOnly bool
	total     int64  // from the paging token; -1: to be counted
	self      string // query of the self link
}

// history answers the three _history addresses with one page.
func (x *exchange) history() error {
	page, err := x.historyPage()
	if err != nil {
		return err
	}
	snap, done, err := x.snapshot()
	if err != nil {
		return err
	}
	defer done()
	switch {
	case page.query.LSN > snap.LSN():
		return badRequest("The value of the parameter 'ct' is not a paging token of this server.")
	case page.query.LSN == 0:
		page.query.LSN = snap.LSN()
	}
	ctx, cancel := x.workContext()
	defer cancel()
	if page.total < 0 {
		page.total, err = snap.HistoryTotal(ctx, page.query)
		if err != nil {
			return x.historyError(err)
		}
	}
	entries, next := entryWriter{base: x.baseURL()}, ""
	if !page.countOnly {
		cursor, more, err := snap.History(ctx, page.query, entries.add)
		if err != nil && !errors.Is(err, errPageFull) {
			return x.historyError(err)
		}
		if more || err != nil {
			next = x.nextPage(&page, cursor)
		}
	}
	x.body(fasthttp.StatusOK, contentTypeAnswer, x.appendHistory(x.buffer(), &page, entries.text, next))
	return nil
}

func (x *exchange) historyError(err error) error {
	if errors.Is(err, engine.ErrNotFound) {
		return x.missing()
	}
	if errors.Is(err, engine.ErrCursorGone) {
		return &problem{fasthttp.StatusGone, codeNotFound, "The page is gone, because a resource was purged; begin at the first page again."}
	}
	return fmt.Errorf("cannot read a history: %w", err)
}

// appendHistory appends the Bundle.
func (x *exchange) appendHistory(dst []byte, page *historyPage, entries []byte, next string) []byte {
	dst = append(dst, `{"resourceType":"Bundle","id":`...)
	dst = appendString(dst, x.server.opts.NewID())
	dst = append(dst, `,"meta":{"lastUpdated":"`...)
	dst = x.now().UTC().AppendFormat(dst, instantLayout)
	dst = append(dst, `"},"type":"history","total":`...)
	dst = strconv.AppendInt(dst, page.total, 10)
	dst = append(dst, `,"link":[{"relation":"self","url":`...)
	dst = appendString(dst, x.historyURL(page.self))
	if next != "" {
		dst = append(dst, `},{"relation":"next","url":`...)
		dst = appendString(dst, x.historyURL(next))
	}
	dst = append(dst, `}]`...)
	if len(entries) > 0 {
		dst = append(dst, `,"entry":[`...)
		dst = append(dst, entries...)
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// historyURL is this history's address with another query.
func (x *exchange) historyURL(query string) string {
	u := x.baseURL()
	if x.addr.typ != 0 {
		u += "/" + string(x.addr.typeName)
	}
	if len(x.addr.id) > 0 {
		u += "/" + string(x.addr.id)
	}
	u += "/_history"
	if query != "" {
		u += "?" + query
	}
	return u
}

// nextPage is the query of the next link.
func (x *exchange) nextPage(page *historyPage, cursor engine.HistoryCursor) string {
	token := pagingToken{
		count: page.query.Count, lsn: page.query.LSN,
		sinceMilli: page.query.SinceMilli, beforeMilli: page.query.BeforeMilli,
		cursor: cursor, total: page.total, scope: x.historyScope(),
	}
	return x.keepFormat("ct=" + token.encode(x.server.opts.PagingKey))
}

// keepFormat adds _format and _pretty as they were given.
func (x *exchange) keepFormat(query string) string {
	for _, name := range [...]string{"_format", "_pretty"} {
		if value := x.ctx.QueryArgs().Peek(name); len(value) > 0 {
			query += "&" + name + "=" + url.QueryEscape(string(value))
		}
	}
	return strings.TrimPrefix(query, "&")
}

// historyScope tells the addresses of histories apart in paging tokens.
func (x *exchange) historyScope() uint64 {
	return xxhash.Sum64String(string(x.addr.typeName) + "/" + string(x.addr.id))
}

// historyPage reads the query of a history request.
func (x *exchange) historyPage() (historyPage, error) {
	if len(x.addr.id) > 0 && !fhir.ValidID(x.addr.id) {
		return historyPage{}, x.missing()
	}
	token, err := x.single("ct")
	if err != nil {
		return historyPage{}, err
	}
	var page historyPage
	if token != "" {
		page, err = x.tokenPage(token)
	} else {
		page, err = x.firstPage()
	}
	page.query.Type, page.query.ID = x.addr.typ, x.addr.id
	return page, err
}

// tokenPage is the page of a next link: its token holds the filters.
func (x *exchange) tokenPage(text string) (historyPage, error) {
	for key := range x.ctx.QueryArgs().All() {
		if name := string(key); name != "ct" && name != "_format" && name != "_pretty" && !x.prefer.lenient {
			return historyPage{}, badRequest("The parameter '%s' cannot be combined with 'ct'.", name)
		}
	}
	t, err := decodePagingToken(x.server.opts.PagingKey, text)
	if err != nil || t.scope != x.historyScope() {
		return historyPage{}, badRequest("The value of the parameter 'ct' is not a paging token for this address.")
	}
	return historyPage{
		query: engine.HistoryQuery{
			SinceMilli: t.sinceMilli, BeforeMilli: t.beforeMilli,
			Count: t.count, After: t.cursor, LSN: t.lsn,
		},
		total: t.total,
		self:  x.keepFormat("ct=" + text),
	}, nil
}

// firstPage reads the filters of a history request.
func (x *exchange) firstPage() (historyPage, error) {
	page := historyPage{total: -1, query: engine.HistoryQuery{Count: historyCountDefault}}
	q := historyReader{x: x}
	since, before := q.get("_since"), q.get("_before")
	at, count := q.get("_at"), q.get("_count")
	sort, summary := q.get("_sort"), q.get("_summary")
	if q.err == nil {
		q.err = checkAt(at, since, before)
	}
	page.query.SinceMilli = q.bound("_since", since)
	page.query.BeforeMilli = q.bound("_before", before)
	if q.err == nil && page.query.BeforeMilli > x.now().UnixMilli() {
		q.err = forbidden("Parameter _before cannot a be a value in the future.")
	}
	if count != "" {
		page.query.Count = q.count(count)
		page.countOnly = page.query.Count == 0
	}
	q.checkSort(sort)
	switch summary {
	case "", "false":
	case "count":
		page.countOnly = true
	default:
		q.fail(notSupported(fasthttp.StatusBadRequest, "The value '%s' of the parameter '_summary' is not supported.", summary))
	}
	page.self = x.keepFormat(strings.Join(q.used, "&"))
	return page, q.err
}

// checkAt: by itself _at has no effect, as on the server whose contract this
// is, and it is left out of the self link, which says so to the client.
func checkAt(at, since, before string) error {
	switch {
	case at == "":
		return nil
	case since != "":
		return forbidden("_at and _since cannot both be specified.")
	case before != "":
		return forbidden("_at and _before cannot both be specified.")
	}
	if _, err := fhir.ParseSince([]byte(at)); err != nil {
		return badRequest("The value '%s' of the parameter '_at' is not a date: %v.", at, err)
	}
	return nil
}

func forbidden(text string) error {
	return &problem{fasthttp.StatusForbidden, codeForbidden, text}
}

// historyReader reads parameters until the first error, and notes which it used.
type historyReader struct {
	x    *exchange
	used []string
	err  error
}

func (q *historyReader) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

func (q *historyReader) get(name string) string {
	value, err := q.x.single(name)
	if err != nil {
		q.fail(err)
	}
	if value != "" && name != "_at" {
		q.used = append(q.used, name+"="+url.QueryEscape(value))
	}
	return value
}

// bound reads a date, of which the earliest instant counts.
func (q *historyReader) bound(name, value string) int64 {
	if value == "" || q.err != nil {
		return 0
	}
	instant, err := fhir.ParseSince([]byte(unescapedPlus(value)))
	if err != nil {
		q.fail(badRequest("The value '%s' of the parameter '%s' is not a date: %v.", value, name, err))
		return 0
	}
	if instant.Milli == 0 {
		return 1 // 0 means no bound; nothing was ever dated in that millisecond
	}
	return instant.Milli
}

func (q *historyReader) count(value string) int {
	n, ok := parseDigits([]byte(value))
	if !ok {
		q.fail(badRequest("The value '%s' of the parameter '_count' is not a number of 0 or more.", value))
		return 0
	}
	return int(min(n, historyCountMax))
}

func (q *historyReader) checkSort(value string) {
	switch value {
	case "", "-_lastUpdated":
	case "_lastUpdated":
		q.fail(notSupported(fasthttp.StatusNotImplemented, "A history with the oldest version first is not supported by this server."))
	default:
		q.fail(forbidden(fmt.Sprintf("Sorting by the '%s' parameter is not supported.", value)))
	}
}

// errPageFull ends a page that has reached its size.
var errPageFull = errors.New("page full")

// entryWriter appends the entries of a history Bundle.
type entryWriter struct {
	base string
	text []byte
}

func (w *entryWriter) add(v *engine.Version) error {
	if len(w.text) >= historyPageBytesMax {
		return errPageFull
	}
	if len(w.text) > 0 {
		w.text = append(w.text, ',')
	}
	w.text = appendHistoryEntry(w.text, w.base, v)
	return nil
}

// historyMethod is the method and the status that made a version. PUT stands for
// patches, whose documents are not kept: the entry's resource is what a PUT
// would send. It stands for imports too, and for what older builds wrote; of
// those the first version counts as created.
func historyMethod(v *engine.Version) (method, status string) {
	switch {
	case v.Deleted:
		return "DELETE", "204 NoContent"
	case v.Posted:
		method = "POST"
	default:
		method = "PUT"
	}
	if v.Created || v.VersionID == 1 {
		return method, "201 Created"
	}
	return method, "200 OK"
}

// appendHistoryEntry appends one entry.
func appendHistoryEntry(dst []byte, base string, v *engine.Version) []byte {
	name := v.Type.String()
	method, status := historyMethod(v)
	dst = append(dst, `{"fullUrl":`...)
	dst = appendString(dst, base+"/"+name+"/"+string(v.ID))
	dst = append(dst, `,"resource":`...)
	dst = v.AppendJSON(dst)
	dst = append(dst, `,"request":{"method":"`...)
	dst = append(dst, method...)
	dst = append(dst, `","url":"`...)
	dst = append(dst, name...)
	if method != "POST" {
		dst = append(dst, '/')
		dst = append(dst, v.ID...)
	}
	dst = append(dst, `"},"response":{"status":"`...)
	dst = append(dst, status...)
	dst = append(dst, `","etag":"W/\"`...)
	dst = strconv.AppendInt(dst, v.VersionID, 10)
	dst = append(dst, `\"","lastModified":"`...)
	dst = time.UnixMilli(v.LastUpdated.Milli).UTC().AppendFormat(dst, instantLayout)
	return append(dst, `"}}`...)
}

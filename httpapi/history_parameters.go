package httpapi

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/query"
)

// historyPage reads the query of a history request.
func (x *exchange) historyPage() (historyPage, error) {
	if len(x.addr.id) > 0 && !fhir.ValidID(x.addr.id) {
		return historyPage{}, x.missing()
	}
	token, err := x.single("ct")
	if err != nil {
		return historyPage{}, err
	}
	lists, err := x.historyLists()
	if err != nil {
		return historyPage{}, err
	}
	scope := x.historyScope(lists)
	var page historyPage
	if token != "" {
		page, err = x.tokenPage(token, scope)
	} else {
		page, err = x.firstPage()
	}
	if err == nil && !page.countOnly {
		page.shown, err = x.view()
	}
	page.query.Type, page.query.ID, page.lists, page.scope = x.addr.typ, x.addr.id, lists, scope
	return page, err
}

// historyLists reads _list.
func (x *exchange) historyLists() ([]string, error) {
	value, err := x.single("_list")
	if err != nil || value == "" {
		return nil, err
	}
	lists, err := query.ListIDs(value)
	if err != nil {
		return nil, searchError(err)
	}
	return lists, nil
}

// tokenPage is the page of a next link: its token holds the filters.
func (x *exchange) tokenPage(text string, scope uint64) (historyPage, error) {
	for key := range x.ctx.QueryArgs().All() {
		if name := string(key); name != "ct" && !slices.Contains(besideToken, name) && !x.prefer.lenient {
			return historyPage{}, badRequest("The parameter '%s' cannot be combined with 'ct'.", name)
		}
	}
	t, err := decodePagingToken(x.server.opts.PagingKey, text)
	if err != nil || t.scope != scope {
		return historyPage{}, badRequest("The value of the parameter 'ct' is not a paging token for this address.")
	}
	return historyPage{
		query: engine.HistoryQuery{
			SinceMilli: t.sinceMilli, BeforeMilli: t.beforeMilli, OldestFirst: t.oldestFirst,
			Count: t.count, After: t.cursor, LSN: t.lsn,
		},
		total: t.total, earlier: t.earlier, following: true,
		self: x.keep("ct="+text, besideToken),
	}, nil
}

// firstPage reads the filters of a history request.
func (x *exchange) firstPage() (historyPage, error) {
	page := historyPage{total: -1, query: engine.HistoryQuery{Count: historyCountDefault}}
	q := historyReader{x: x}
	since, before := q.get("_since"), q.get("_before")
	at, count := q.get("_at"), q.get("_count")
	sort, summary := q.get("_sort"), q.get("_summary")
	q.get("_elements")
	q.get("_list")
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
	page.query.OldestFirst = q.oldestFirst(sort)
	page.countOnly = page.countOnly || summary == "count"
	page.self = x.keep(strings.Join(q.used, "&"), []string{"_format", "_pretty"})
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

// oldestFirst reads _sort: by _lastUpdated, falling unless it is asked for rising.
func (q *historyReader) oldestFirst(value string) bool {
	switch value {
	case "", "-_lastUpdated":
	case "_lastUpdated":
		return true
	default:
		q.fail(forbidden(fmt.Sprintf("Sorting by the '%s' parameter is not supported.", value)))
	}
	return false
}

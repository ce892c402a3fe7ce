package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir/view"
	"kiln/query"
)

// historyPage is what one history request asks for.
type historyPage struct {
	query     engine.HistoryQuery
	lists     []string // of _list; nil: it is not asked for
	shown     view.View
	countOnly bool
	total     int64  // from the paging token; -1: to be counted, or not told
	following bool   // a paging token led here
	self      string // query of the self link
	scope     uint64 // what its paging tokens are for
	earlier   []engine.HistoryCursor
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
	if err := checkTokenLSN(page.query.LSN, snap); err != nil {
		return err
	}
	if page.query.LSN == 0 {
		page.query.LSN = snap.LSN()
	}
	ctx, cancel := x.workContext()
	defer cancel()
	if err := x.historyMembers(ctx, snap, &page); err != nil {
		return err
	}
	if err := x.limitHistory(ctx, snap, &page); err != nil {
		return err
	}
	if page.total < 0 && page.query.Judge == nil {
		page.total, err = snap.HistoryTotal(ctx, page.query)
		if err != nil {
			return x.historyError(err)
		}
	}
	token := page.token()
	entries, next := entryWriter{base: x.baseURL(), shown: &page.shown}, (*pagingToken)(nil)
	if !page.countOnly {
		cursor, more, err := snap.History(ctx, page.query, entries.add)
		if err != nil && !errors.Is(err, errPageFull) {
			return x.historyError(err)
		}
		if more || err != nil {
			next = token.following(cursor)
		}
	}
	x.body(fasthttp.StatusOK, contentTypeAnswer, x.appendHistory(x.buffer(), &page, entries.text, next))
	return nil
}

// historyMembers reads the Lists of _list as of the first page, so that all pages
// have the same members.
func (x *exchange) historyMembers(ctx context.Context, snap *engine.Snapshot, page *historyPage) error {
	if page.lists == nil {
		return nil
	}
	lists := query.Lists{IDs: page.lists, Base: x.baseURL(), AsOf: page.query.LSN, Access: x.searchAccess()}
	var err error
	page.query.Among, err = lists.Members(ctx, x.server.opts.Store, snap)
	var refused *query.Error
	missing := errors.As(err, &refused) && refused.Kind == query.NotFound
	switch {
	case err == nil:
		return nil
	case missing && page.following: // the first page has read it
		return x.historyError(engine.ErrCursorGone)
	case missing:
		return &problem{fasthttp.StatusNotFound, codeNotFound, refused.Text}
	}
	return searchError(err)
}

func (x *exchange) historyError(err error) error {
	if errors.Is(err, engine.ErrNotFound) {
		return x.missing()
	}
	if errors.Is(err, engine.ErrCursorGone) {
		return &problem{fasthttp.StatusGone, codeNotFound, "The page is gone, because a resource was purged; begin at the first page again."}
	}
	if refused := historyRefusal(err); refused != err {
		return refused
	}
	return fmt.Errorf("cannot read a history: %w", err)
}

// appendHistory appends the Bundle.
func (x *exchange) appendHistory(dst []byte, page *historyPage, entries []byte, next *pagingToken) []byte {
	dst = append(dst, `{"resourceType":"Bundle","id":`...)
	dst = appendString(dst, x.server.opts.NewID())
	dst = append(dst, `,"meta":{"lastUpdated":"`...)
	dst = x.now().UTC().AppendFormat(dst, instantLayout)
	dst = append(dst, `"},"type":"history"`...)
	if page.total >= 0 {
		dst = append(dst, `,"total":`...)
		dst = strconv.AppendInt(dst, page.total, 10)
	}
	dst = x.appendHistoryLinks(dst, page, next)
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

// appendHistoryLinks appends the links of a page: itself, the first and the previous
// one unless it is the first, and the next.
func (x *exchange) appendHistoryLinks(dst []byte, page *historyPage, next *pagingToken) []byte {
	dst = appendLink(append(dst, `,"link":[`...), "self", x.historyURL(page.self))
	token := page.token()
	if !token.isFirst() {
		dst = appendLink(append(dst, ','), "first", x.historyLink(token.first()))
	}
	if to := token.preceding(); to != nil {
		dst = appendLink(append(dst, ','), "previous", x.historyLink(to))
	}
	if next != nil {
		dst = appendLink(append(dst, ','), "next", x.historyLink(next))
	}
	return append(dst, ']')
}

// token is the page's own.
func (p *historyPage) token() *pagingToken {
	return &pagingToken{
		count: p.query.Count, lsn: p.query.LSN,
		sinceMilli: p.query.SinceMilli, beforeMilli: p.query.BeforeMilli,
		oldestFirst: p.query.OldestFirst, cursor: p.query.After, earlier: p.earlier, total: p.total, scope: p.scope,
	}
}

// historyLink is the address of another page of a history.
func (x *exchange) historyLink(to *pagingToken) string {
	return x.historyURL(x.keep("ct="+to.encode(x.server.opts.PagingKey), besideToken))
}

// besideToken are the parameters that every page's address repeats; the token
// holds the others.
var besideToken = []string{"_list", "_summary", "_elements", "_format", "_pretty"}

// keep adds parameters as they were given.
func (x *exchange) keep(query string, names []string) string {
	for _, name := range names {
		if value := x.ctx.QueryArgs().Peek(name); len(value) > 0 {
			query += "&" + name + "=" + url.QueryEscape(string(value))
		}
	}
	return strings.TrimPrefix(query, "&")
}

// historyScope tells histories apart in paging tokens.
func (x *exchange) historyScope(lists []string) uint64 {
	scope := string(x.addr.typeName) + "/" + string(x.addr.id)
	if lists != nil {
		scope += "?_list=" + strings.Join(lists, ",")
	}
	return xxhash.Sum64String(scope + x.tokenOwner())
}

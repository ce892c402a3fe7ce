package httpapi

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/query"
)

// searchPage is what one search request asks for.
type searchPage struct {
	search    *query.Search
	page      query.Page
	total     int64 // from the paging token; -1: not known
	countOnly bool
	shown     view
	query     string // of the links, without a paging token
	self      string // of the self link
	scope     uint64 // what its paging tokens are for
}

// presentation are the parameters that say how an answer is written, and not
// what is found.
var presentation = []string{"_format", "_pretty", "_summary", "_elements", "ct"}

// searchTypes answers searches of a type, and of all.
func (x *exchange) searchTypes() error {
	var types []fhir.TypeCode
	if x.addr.typ != 0 {
		types = append(types, x.addr.typ)
	}
	return x.searchOf(types, func(*query.Search) error { return nil })
}

// searchOf answers a search of some types; none: of all. limit adds to what the
// parameters say.
func (x *exchange) searchOf(types []fhir.TypeCode, limit func(*query.Search) error) error {
	if err := x.takeForm(); err != nil {
		return err
	}
	p, err := x.searchPage(types, limit)
	if err != nil {
		return err
	}
	snap, done, err := x.snapshot()
	if err != nil {
		return err
	}
	defer done()
	if p.page.AsOf > snap.LSN() {
		return badRequest("The value of the parameter 'ct' is not a paging token of this server.")
	}
	ctx, cancel := x.workContext()
	defer cancel()
	result, err := p.search.Run(ctx, x.server.opts.Store, snap, p.page)
	if err != nil {
		return searchError(err)
	}
	if p.page.Total {
		p.total = int64(result.Total)
	}
	body, err := x.appendSearchset(x.buffer(), p, result)
	if err != nil {
		return err
	}
	x.body(fasthttp.StatusOK, contentTypeAnswer, body)
	return nil
}

// searchError words what a search can fail of.
func searchError(err error) error {
	var refused *query.Error
	switch {
	case errors.As(err, &refused):
		switch refused.Kind {
		case query.NotSupported:
			return notSupported(fasthttp.StatusBadRequest, "%s", refused.Text)
		case query.TooCostly:
			return &problem{fasthttp.StatusBadRequest, codeTooCostly, refused.Text}
		case query.NotFound:
			return &problem{fasthttp.StatusBadRequest, codeNotFound, refused.Text}
		}
		return badRequest("%s", refused.Text)
	case errors.Is(err, engine.ErrCursorGone):
		return &problem{fasthttp.StatusGone, codeNotFound, "The page is gone, because a resource was purged; search again."}
	case errors.Is(err, engine.ErrReindex):
		return &problem{fasthttp.StatusServiceUnavailable, codeException, "The store was written by a version of this server whose search index is another; it must be indexed again."}
	}
	return fmt.Errorf("cannot search: %w", err)
}

// takeForm adds the parameters of a POST's body to those of its address.
func (x *exchange) takeForm() error {
	if x.addr.place != placeTypeSearch && x.addr.place != placeSystemSearch || !x.ctx.IsPost() {
		return nil
	}
	contentType := x.ctx.Request.Header.ContentType()
	if len(x.ctx.PostBody()) == 0 {
		return nil
	}
	if parseMediaType(contentType).name != contentTypeForm {
		return notSupported(fasthttp.StatusUnsupportedMediaType, "The Content-Type '%s' is not supported for a search; use %s.", contentType, contentTypeForm)
	}
	var form fasthttp.Args
	form.ParseBytes(x.ctx.PostBody())
	for name, value := range form.All() {
		x.ctx.QueryArgs().AddBytesKV(name, value)
	}
	row := &x.server.table.rows[x.row]
	if err := x.checkQuery(row); err != nil {
		return err
	}
	return x.checkAccept(row)
}

const contentTypeForm = "application/x-www-form-urlencoded"

// searchPage reads the query of a search request.
func (x *exchange) searchPage(types []fhir.TypeCode, limit func(*query.Search) error) (*searchPage, error) {
	var parameters []query.Parameter
	for name, value := range x.ctx.QueryArgs().All() {
		if !slices.Contains(presentation, string(name)) {
			parameters = append(parameters, query.Parameter{Name: string(name), Value: string(value)})
		}
	}
	search, err := query.Parse(types, parameters, x.queryOptions())
	if err != nil {
		return nil, searchError(err)
	}
	if err := limit(search); err != nil {
		return nil, err
	}
	p := &searchPage{search: search, total: -1}
	if err := x.searchView(p); err != nil {
		return nil, err
	}
	x.searchLinks(p)
	return p, x.searchLimits(p)
}

func (x *exchange) queryOptions() query.Options {
	return query.Options{Base: x.baseURL(), Now: x.now(), Lenient: x.prefer.lenient}
}

// searchView reads _summary and _elements.
func (x *exchange) searchView(p *searchPage) (err error) {
	summary, err := x.single("_summary")
	if err != nil {
		return err
	}
	if summary == "count" {
		p.countOnly = true
		return nil
	}
	typ := fhir.TypeCode(0)
	if len(p.search.Types) == 1 {
		typ = p.search.Types[0]
	}
	p.shown, err = x.viewOf(typ)
	return err
}

// searchLimits says which page it is and how long.
func (x *exchange) searchLimits(p *searchPage) error {
	p.page = query.Page{Limit: searchCountDefault, Bytes: historyPageBytesMax}
	if n := p.search.Count; n >= 0 {
		p.page.Limit = min(n, searchCountMax)
	}
	if p.countOnly || p.page.Limit == 0 {
		p.countOnly, p.page.Limit = true, 0
	}
	p.page.Total = p.countOnly || p.search.Total != "none"
	text, err := x.single("ct")
	if err != nil || text == "" {
		return err
	}
	token, err := decodeSearchToken(x.server.opts.PagingKey, text)
	if err != nil || token.scope != p.scope {
		return badRequest("The value of the parameter 'ct' is not a paging token for this search.")
	}
	p.page.AsOf, p.page.After, p.total = token.asOf, token.after, token.total
	p.page.Total = p.page.Total && p.total < 0
	p.self = withToken(p.query, text)
	return nil
}

// searchLinks makes the self link's query, of the parameters that were used.
func (x *exchange) searchLinks(p *searchPage) {
	var b strings.Builder
	for _, q := range p.search.Used {
		b.WriteString("&" + url.QueryEscape(q.Name) + "=" + url.QueryEscape(q.Value))
	}
	p.scope = xxhash.Sum64String(string(x.addr.typeName) + "/" + string(x.addr.id) + "/" + string(x.addr.name) + "?" + b.String())
	for _, name := range presentation {
		if value := x.ctx.QueryArgs().Peek(name); len(value) > 0 && name != "ct" {
			b.WriteString("&" + name + "=" + url.QueryEscape(string(value)))
		}
	}
	p.query = strings.TrimPrefix(b.String(), "&")
	p.self = p.query
}

func withToken(query, token string) string { return strings.TrimPrefix(query+"&ct="+token, "&") }

// nextSearch is the query of the next link.
func (x *exchange) nextSearch(p *searchPage, result *query.Result) string {
	token := searchToken{asOf: result.AsOf, total: p.total, scope: p.scope, after: result.Next}
	return withToken(p.query, token.encode(x.server.opts.PagingKey))
}

// searchURL is this search's address with another query.
func (x *exchange) searchURL(query string) string {
	u := x.baseURL()
	if x.addr.typ != 0 {
		u += "/" + string(x.addr.typeName)
	}
	if len(x.addr.id) > 0 {
		u += "/" + string(x.addr.id)
	}
	if len(x.addr.name) > 0 {
		u += "/" + string(x.addr.name)
	}
	if query != "" {
		u += "?" + query
	}
	return u
}

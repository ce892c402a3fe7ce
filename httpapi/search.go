package httpapi

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/view"
	"kiln/httpapi/access"
	"kiln/query"
)

// searchPage is what one search request asks for.
type searchPage struct {
	search    *query.Search
	page      query.Page
	countOnly bool
	shown     view.View
	query     string // of the links, without a paging token
	self      string // of the self link
	token     searchToken
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
	if err := checkTokenLSN(p.page.AsOf, snap); err != nil {
		return err
	}
	ctx, cancel := x.workContext()
	defer cancel()
	result, err := p.search.Run(ctx, x.server.opts.Store, snap, p.page)
	if err != nil {
		return searchError(err)
	}
	p.token.asOf = result.AsOf
	if result.Known {
		p.token.total = int64(result.Total)
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
		return &problem{fasthttp.StatusServiceUnavailable, codeTransient, "The index that this search needs is being built; try again later. GET SearchParameter/$status tells how far it is."}
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
	p, text, err := x.pageOfToken()
	if err != nil {
		return nil, err
	}
	options := x.queryOptions()
	options.Now = time.UnixMilli(p.token.now)
	if p.search, err = query.Parse(types, parameters, options); err != nil {
		return nil, searchError(err)
	}
	if err := x.checkTypes(p.search.Types); err != nil {
		return nil, err
	}
	if err := limit(p.search); err != nil {
		return nil, searchError(err)
	}
	if err := x.searchView(p); err != nil {
		return nil, err
	}
	x.searchLimits(p)
	return p, x.searchLinks(p, text)
}

// pageOfToken begins with what the paging token says, when there is one.
func (x *exchange) pageOfToken() (p *searchPage, text string, err error) {
	p = &searchPage{token: searchToken{total: -1, now: x.now().UnixMilli()}}
	if text, err = x.single("ct"); err != nil || text == "" {
		return p, text, err
	}
	if p.token, err = decodeSearchToken(x.server.opts.PagingKey, text); err != nil {
		return p, text, badRequest("The value of the parameter 'ct' is not a paging token for this search.")
	}
	return p, text, nil
}

func (x *exchange) queryOptions() query.Options {
	options := x.openOptions()
	options.Access = x.searchAccess()
	return options
}

// openOptions limit nothing.
func (x *exchange) openOptions() query.Options {
	return query.Options{
		Base: x.baseURL(), Now: x.now(), Units: x.server.opts.Units, Lenient: x.prefer.lenient, Table: x.server.parameters.Current().Table,
	}
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
	if len(p.search.Types) == 1 && !p.search.Contained() { // the matches may be of other types
		typ = p.search.Types[0]
	}
	p.shown, err = x.viewOf(typ)
	return err
}

// searchLimits says which page it is and how long.
func (x *exchange) searchLimits(p *searchPage) {
	p.page = query.Page{Limit: searchCountDefault, Bytes: historyPageBytesMax, AsOf: p.token.asOf, After: p.token.after}
	if n := p.search.Count; n >= 0 {
		p.page.Limit = min(n, searchCountMax)
	}
	if p.countOnly || p.page.Limit == 0 {
		p.countOnly, p.page.Limit = true, 0
	}
	p.page.Total = (p.countOnly || p.search.Total != "none") && p.token.total < 0
}

// searchLinks makes the self link's query, of the parameters that were used. token
// is the text of the page's; empty: it has none.
func (x *exchange) searchLinks(p *searchPage, token string) error {
	var b strings.Builder
	for _, q := range p.search.Used {
		b.WriteString("&" + url.QueryEscape(q.Name) + "=" + url.QueryEscape(q.Value))
	}
	scope := xxhash.Sum64String(string(x.addr.typeName) + "/" + string(x.addr.id) + "/" + string(x.addr.name) + "?" + b.String() + x.tokenOwner())
	for _, name := range presentation {
		if value := x.ctx.QueryArgs().Peek(name); len(value) > 0 && name != "ct" {
			b.WriteString("&" + name + "=" + url.QueryEscape(string(value)))
		}
	}
	p.query = strings.TrimPrefix(b.String(), "&")
	p.self = p.query
	if token == "" {
		p.token.scope = scope
		return nil
	}
	if p.token.scope != scope {
		return badRequest("The value of the parameter 'ct' is not a paging token for this search.")
	}
	p.self = strings.TrimPrefix(p.query+"&ct="+token, "&")
	return nil
}

// checkTypes denies a search that names a type of which the client may find nothing;
// a compartment names all of its own.
func (x *exchange) checkTypes(types []fhir.TypeCode) error {
	if x.addr.place == placeCompartment {
		return nil
	}
	for _, t := range types {
		if err := x.check(access.Search, t); err != nil {
			return err
		}
	}
	return nil
}

// tokenOwner is what binds paging tokens to a client; "": an open server's, which are
// bound to nobody.
func (x *exchange) tokenOwner() string {
	if x.who == nil {
		return ""
	}
	return "\x00" + x.who.Key() + "\x00" + x.who.Patient
}

// pageLink is the address of another page of a search.
func (x *exchange) pageLink(p *searchPage, to *searchToken) string {
	return x.searchURL(strings.TrimPrefix(p.query+"&ct="+to.encode(x.server.opts.PagingKey), "&"))
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

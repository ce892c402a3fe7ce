package httpapi

import (
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
)

// A Bundle of type batch or transaction is many requests in one. Both run their
// entries through the same table as requests of their own, so that an entry does
// what its request would do; a transaction's writes are prepared alike and
// committed together (transaction.go).

// bundleEntry is one request of a Bundle. The slices alias the Bundle.
type bundleEntry struct {
	fullURL  string
	resource []byte // JSON; nil: none
	method   string
	url      string
	headers  [len(entryHeaders)]string
}

// entryHeaders are the members of an entry's request that stand for headers.
var entryHeaders = [...]struct{ member, header string }{
	{"ifMatch", "If-Match"}, {"ifNoneMatch", "If-None-Match"},
	{"ifModifiedSince", "If-Modified-Since"}, {"ifNoneExist", "If-None-Exist"},
}

// headerIfNoneExist is the place of If-None-Exist in entryHeaders.
const headerIfNoneExist = 3

// String names an entry in errors.
func (e *bundleEntry) String() string { return strings.TrimSpace(e.method + " " + e.url) }

// bundle answers POST of a Bundle to the base.
func (x *exchange) bundle() error {
	if err := x.checkWrite(); err != nil {
		return err
	}
	body := x.ctx.PostBody()
	if len(body) == 0 {
		return badRequest("The request has no body.")
	}
	text, err := fhir.Minify(body)
	if err != nil {
		return err
	}
	kind, entries, err := parseBundle(text)
	if err != nil {
		return err
	}
	switch kind {
	case "batch":
		return x.batch(entries)
	case "transaction":
		return x.transaction(entries)
	}
	return badRequest("The Bundle is of type '%s'; only batch and transaction are taken here.", kind)
}

// parseBundle takes a checked Bundle apart.
func parseBundle(text []byte) (kind string, entries []bundleEntry, err error) {
	if text[0] != '{' {
		return "", nil, badRequest("The body is not a resource.")
	}
	var members objectMembers
	if err := members.read(text, 0, "The Bundle", "resourceType", "type", "entry"); err != nil {
		return "", nil, err
	}
	if name := members.text(text, "resourceType"); name != "Bundle" {
		return "", nil, badRequest("The body is a resource of type '%s', and here a Bundle is expected.", name)
	}
	at, ok := members["entry"]
	if !ok {
		return members.text(text, "type"), nil, nil
	}
	if text[at.from] != '[' {
		return "", nil, badRequest("The Bundle's 'entry' is not a list.")
	}
	fhir.Elements(text, at.from, func(from, _ int) bool {
		var e bundleEntry
		if e, err = parseBundleEntry(text, from); err != nil {
			err = inEntry(len(entries), &e, err)
			return false
		}
		if len(entries) == bundleEntriesMax {
			err = &problem{fasthttp.StatusRequestEntityTooLarge, codeTooLong, fmt.Sprintf("The Bundle has more than %d entries; split it.", bundleEntriesMax)}
			return false
		}
		entries = append(entries, e)
		return true
	})
	return members.text(text, "type"), entries, err
}

func parseBundleEntry(text []byte, at int) (e bundleEntry, err error) {
	if text[at] != '{' {
		return e, badRequest("It is not an object.")
	}
	var members, request objectMembers
	if err := members.read(text, at, "It", "fullUrl", "resource", "request"); err != nil {
		return e, err
	}
	e.fullURL = members.text(text, "fullUrl")
	if r, ok := members["resource"]; ok {
		if text[r.from] != '{' {
			return e, badRequest("Its resource is not an object.")
		}
		e.resource = text[r.from:r.to:r.to]
	}
	r, ok := members["request"]
	if !ok || text[r.from] != '{' {
		return e, badRequest("It has no request.")
	}
	names := []string{"method", "url"}
	for _, h := range entryHeaders {
		names = append(names, h.member)
	}
	if err := request.read(text, r.from, "Its request", names...); err != nil {
		return e, err
	}
	e.method, e.url = request.text(text, "method"), request.text(text, "url")
	for i, h := range entryHeaders {
		e.headers[i] = request.text(text, h.member)
	}
	if e.method == "" || e.url == "" {
		return e, badRequest("Its request has no method or no url.")
	}
	return e, nil
}

// span is a value's place in a text.
type span struct{ from, to int }

// objectMembers are the places of some members of an object.
type objectMembers map[string]span

// read finds the named members of the object at a place; what names the object
// when one of them is there twice.
func (m *objectMembers) read(text []byte, at int, what string, names ...string) (err error) {
	*m = make(objectMembers, len(names))
	fhir.Members(text, at, func(key []byte, from, to int) bool {
		for _, name := range names {
			if string(key) != name {
				continue
			}
			if _, twice := (*m)[name]; twice {
				err = badRequest("%s has the member '%s' twice.", what, name)
				return false
			}
			(*m)[name] = span{from, to}
		}
		return true
	})
	return err
}

// text is a string member's characters; "" when it is absent or no string.
func (m objectMembers) text(text []byte, name string) string {
	at, ok := m[name]
	if !ok || text[at.from] != '"' {
		return ""
	}
	return string(fhir.AppendText(nil, text[at.from:at.to]))
}

// inEntry says in which entry an error lies.
func inEntry(i int, e *bundleEntry, err error) error {
	p, known := asProblem(err)
	if !known {
		return fmt.Errorf("cannot serve entry %d of a Bundle: %w", i, err)
	}
	p.text = fmt.Sprintf("Bundle.entry[%d] (%s): %s", i, e, p.text)
	return &p
}

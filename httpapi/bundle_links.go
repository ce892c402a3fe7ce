package httpapi

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
	"kiln/fhir/structure"
)

// links says where the fullUrls of a transaction will lead: to "Type/id". In the
// resources they are replaced wherever FHIR has links (R4 http.html#trules):
// references, elements of type uri, url, oid and uuid, and href and src in the
// narrative; not in canonicals. Nothing else of a resource changes.
type links struct {
	targets map[string]string
	// relative: some fullUrl is an address Type/id, so relative references may
	// lead to it.
	relative bool
	// created has the targets whose first version the transaction makes.
	created map[string]bool
}

// add notes an entry's fullUrl. base is the server's.
func (l *links) add(fullURL, target, base string) error {
	if fullURL == "" || fullURL == base+"/"+target {
		return nil
	}
	if !strings.Contains(fullURL, ":") {
		return badRequest("Its fullUrl '%s' is not absolute.", fullURL)
	}
	if l.targets == nil {
		l.targets = map[string]string{}
	}
	if _, twice := l.targets[fullURL]; twice {
		return badRequest("Its fullUrl '%s' is another entry's as well.", fullURL)
	}
	l.targets[fullURL] = target
	l.relative = l.relative || restfulRoot(fullURL) != ""
	return nil
}

// restfulRoot is the base of a fullUrl that ends in Type/id; "" for others.
func restfulRoot(fullURL string) string {
	rest, id, ok := cutLast(fullURL, "/")
	root, name, ok2 := cutLast(rest, "/")
	if !ok || !ok2 || !strings.HasPrefix(fullURL, "http") || fhir.TypeByName([]byte(name)) == 0 || !fhir.ValidID([]byte(id)) {
		return ""
	}
	return root
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// rewritten is the entry's resource with its links replaced; the entry's own
// when there are none. A reference that is a search is looked up.
func (l *links) rewritten(e *bundleEntry, x *exchange) ([]byte, error) {
	if len(e.resource) == 0 {
		return nil, nil
	}
	if len(l.targets) == 0 && bytes.IndexByte(e.resource, '?') < 0 && !bytes.Contains(e.resource, []byte("urn:uuid:")) {
		return e.resource, nil
	}
	w := linkWriter{links: l, x: x, text: e.resource, root: restfulRoot(e.fullURL)}
	w.value(0, "Resource")
	if w.err != nil {
		return nil, w.err
	}
	if len(w.out) == 0 {
		return e.resource, nil
	}
	return append(w.out, w.text[w.kept:]...), nil
}

// linkWriter walks a checked, minified resource and replaces links.
type linkWriter struct {
	links *links
	x     *exchange
	text  []byte
	root  string // of the entry's fullUrl
	out   []byte // the result so far, without text[kept:]
	kept  int
	err   error
}

// value walks the value at a place; typ is its FHIR type.
func (w *linkWriter) value(at int, typ string) {
	switch w.text[at] {
	case '{':
		w.object(at, typ)
	case '[':
		fhir.Elements(w.text, at, func(from, _ int) bool {
			w.value(from, typ)
			return w.err == nil
		})
	case '"':
		w.str(at, typ)
	}
}

// typeReference marks Reference.reference among the strings.
const typeReference = "Reference.reference"

func (w *linkWriter) object(at int, typ string) {
	if typ == "Resource" {
		var members objectMembers
		if w.err = members.read(w.text, at, "A resource", "resourceType"); w.err != nil {
			return
		}
		typ = members.text(w.text, "resourceType")
	}
	fhir.Members(w.text, at, func(key []byte, from, _ int) bool {
		if c := w.text[from]; c != '{' && c != '[' && c != '"' {
			return true
		}
		switch {
		case typ == "Reference" && string(key) == "reference":
			w.value(from, typeReference)
		case len(key) > 0 && key[0] == '_':
			w.value(from, "Element")
		default:
			if _, e, ok := structure.ByKey(typ, string(key)); ok && len(e.Types) > 0 {
				w.value(from, e.Types[0])
			}
		}
		return w.err == nil
	})
}

func (w *linkWriter) str(at int, typ string) {
	switch typ {
	case "uri", "url", "oid", "uuid":
		end := fhir.StringEnd(w.text, at)
		if target, ok := w.links.targets[string(fhir.AppendText(nil, w.text[at:end]))]; ok {
			w.replace(at, end, target)
		}
	case typeReference:
		end := fhir.StringEnd(w.text, at)
		w.reference(at, end, string(fhir.AppendText(nil, w.text[at:end])))
	case "xhtml":
		w.narrative(at, fhir.StringEnd(w.text, at))
	}
}

// reference replaces a reference that leads into the Bundle: a fullUrl, perhaps
// with a version or a fragment, or a relative one (R4 bundle.html#references).
func (w *linkWriter) reference(at, end int, text string) {
	bare, suffix := text, ""
	if i := strings.Index(text, "/_history/"); i >= 0 {
		bare, suffix = text[:i], text[i:]
	} else if i := strings.IndexByte(text, '#'); i > 0 {
		bare, suffix = text[:i], text[i:]
	}
	target, ok := w.links.targets[bare]
	if !ok && w.root != "" && w.links.relative {
		target, ok = w.links.targets[w.root+"/"+bare]
	}
	if ok {
		if strings.HasPrefix(suffix, "/_history/") && w.links.created[target] {
			// The client cannot know versions; a reference with one gets what the
			// entry becomes (R4 http.html#trules).
			suffix = "/_history/1"
		}
		if target+suffix != text {
			w.replace(at, end, target+suffix)
		}
		return
	}
	if strings.HasPrefix(text, "urn:uuid:") {
		w.err = badRequest("The reference '%s' is no entry's fullUrl.", text)
		return
	}
	name, query, isSearch := strings.Cut(text, "?")
	if typ := fhir.TypeByName([]byte(name)); isSearch && typ != 0 {
		var found string
		if found, w.err = w.x.referenceTo(typ, query); w.err == nil {
			w.replace(at, end, found)
		}
	}
}

// replace puts a string in the place of another.
func (w *linkWriter) replace(at, end int, text string) {
	w.out = append(w.out, w.text[w.kept:at]...)
	w.out = appendString(w.out, text)
	w.kept = end
}

// narrative replaces the href and src of a narrative, in its JSON text: quotes
// are escaped there, and links have no characters that would be.
func (w *linkWriter) narrative(at, end int) {
	for i := at; i < end; {
		next := nextLink(w.text[i:end])
		if next < 0 {
			return
		}
		i += next
		quote, n := linkQuote(w.text[i:end])
		if n == 0 {
			continue
		}
		i += n
		length := bytes.Index(w.text[i:end], quote)
		if length < 0 {
			return
		}
		if target, ok := w.links.targets[string(w.text[i:i+length])]; ok {
			w.out = append(append(w.out, w.text[w.kept:i]...), target...)
			w.kept = i + length
		}
		i += length
	}
}

// nextLink is the offset past the next "href=" or "src="; -1: there is none.
func nextLink(text []byte) int {
	next := -1
	for _, name := range [...]string{"href=", "src="} {
		if i := bytes.Index(text, []byte(name)); i >= 0 && (next < 0 || i+len(name) < next) {
			next = i + len(name)
		}
	}
	return next
}

// linkQuote is the quote that an attribute's value begins with, as JSON writes it.
func linkQuote(text []byte) (quote []byte, bytesRead int) {
	for _, q := range [...]string{`\"`, `'`, `\u0022`, `\u0027`} {
		if bytes.HasPrefix(text, []byte(q)) {
			return []byte(q), len(q)
		}
	}
	return nil, 0
}

// referenceTo is the one resource that a conditional reference finds.
func (x *exchange) referenceTo(typ fhir.TypeCode, query string) (string, error) {
	c := readCriteria(typ, query)
	found, err := x.matches(c, 2)
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", &problem{fasthttp.StatusPreconditionFailed, codeProcessing, "The conditional reference '" + typ.String() + "?" + query + "' does not find exactly one resource."}
	}
	return typ.String() + "/" + string(found[0].ID), nil
}

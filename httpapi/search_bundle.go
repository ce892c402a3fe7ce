package httpapi

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/view"
	"kiln/query"
)

// appendSearchset appends the Bundle of a page.
func (x *exchange) appendSearchset(dst []byte, p *searchPage, result *query.Result) ([]byte, error) {
	dst = append(dst, `{"resourceType":"Bundle","id":`...)
	dst = appendString(dst, x.server.opts.NewID())
	dst = append(dst, `,"meta":{"lastUpdated":"`...)
	dst = x.now().UTC().AppendFormat(dst, instantLayout)
	dst = append(dst, `"},"type":"searchset"`...)
	if p.token.total >= 0 {
		dst = append(dst, `,"total":`...)
		dst = strconv.AppendInt(dst, p.token.total, 10)
	}
	dst = x.appendSearchLinks(dst, p, result)
	w := searchWriter{x: x, text: slices.Grow(dst, x.searchsetBytes(result))}
	for i := range result.Matches {
		if result.Parts != nil && result.Parts[i] != nil {
			w.addPart(&result.Matches[i], result.Parts[i], &p.shown)
		} else {
			w.add(&result.Matches[i], "match", &p.shown)
		}
	}
	for i := range result.Included {
		included := view.View{Summary: p.shown.Summary} // _elements is about the matches
		w.add(&result.Included[i], "include", &included)
	}
	w.remarks(p, result)
	if w.entries > 0 {
		w.text = append(w.text, ']')
	}
	return append(w.text, '}'), nil
}

// appendSearchLinks appends the links of a page: itself, the first and the previous
// one unless it is the first, and the next.
func (x *exchange) appendSearchLinks(dst []byte, p *searchPage, result *query.Result) []byte {
	dst = appendLink(append(dst, `,"link":[`...), "self", x.searchURL(p.self))
	if !p.token.isFirst() {
		dst = appendLink(append(dst, ','), "first", x.pageLink(p, p.token.first()))
	}
	if to := p.token.preceding(); to != nil {
		dst = appendLink(append(dst, ','), "previous", x.pageLink(p, to))
	}
	if result.More {
		dst = appendLink(append(dst, ','), "next", x.pageLink(p, p.token.following(result.Next)))
	}
	return append(dst, ']')
}

func appendLink(dst []byte, relation, url string) []byte {
	dst = append(dst, `{"relation":"`...)
	dst = append(dst, relation...)
	dst = append(dst, `","url":`...)
	return append(appendString(dst, url), '}')
}

// searchsetBytes is about what a page's entries take.
func (x *exchange) searchsetBytes(result *query.Result) (n int) {
	for _, versions := range [][]engine.Version{result.Matches, result.Included} {
		for i := range versions {
			n += len(versions[i].Body) + len(x.baseURL()) + metaBytesMax + searchEntryBytes
		}
	}
	return n
}

// searchEntryBytes is about what an entry adds to its resource and the base URL.
const searchEntryBytes = 128

// searchWriter appends the entries of a searchset.
type searchWriter struct {
	x       *exchange
	text    []byte
	entries int
	// prefix is how the addresses of resources of a type begin, escaped, and what stands
	// before them.
	prefix   []byte
	prefixOf fhir.TypeCode
}

// address begins an entry with the address of a resource, not closed yet.
func (w *searchWriter) address(v *engine.Version) {
	if w.prefixOf != v.Type {
		w.prefixOf = v.Type
		w.prefix = appendEscaped(append(w.prefix[:0], `"fullUrl":"`...), w.x.baseURL()+"/"+v.Type.String()+"/")
	}
	w.text = append(w.text, w.prefix...)
	w.text = appendEscaped(w.text, string(v.ID))
}

func (w *searchWriter) next() {
	if w.entries++; w.entries == 1 {
		w.text = append(w.text, `,"entry":[`...)
	} else {
		w.text = append(w.text, ',')
	}
}

func (w *searchWriter) add(v *engine.Version, mode string, shown *view.View) {
	w.next()
	w.text = append(w.text, '{')
	w.address(v)
	w.text = append(w.text, `","resource":`...)
	if shown.IsWhole() {
		w.text = v.AppendJSON(w.text)
	} else {
		w.text = shown.Append(w.text, v.AppendJSON(nil))
	}
	w.text = append(w.text, `,"search":{"mode":"`...)
	w.text = append(w.text, mode...)
	w.text = append(w.text, `"}}`...)
}

// addPart adds a contained resource, as it stands in its container; what names it is
// the container's address and its id there (R4 search.html#contained).
func (w *searchWriter) addPart(v *engine.Version, part *engine.Part, shown *view.View) {
	w.next()
	w.text = append(w.text, '{')
	if part.ID != "" {
		w.address(v)
		w.text = append(appendEscaped(append(w.text, '#'), part.ID), `",`...)
	}
	w.text = append(w.text, `"resource":`...)
	if shown.IsWhole() {
		w.text = append(w.text, part.Body...)
	} else {
		w.text = shown.Append(w.text, withMeta(part.Body))
	}
	w.text = append(w.text, `,"search":{"mode":"match"}}`...)
}

// withMeta gives a resource a meta, which a view needs for its mark.
func withMeta(resource []byte) []byte {
	has := false
	fhir.Members(resource, 0, func(key []byte, _, _ int) bool {
		has = string(key) == "meta"
		return !has
	})
	if has {
		return resource
	}
	return append(bytes.Clone(resource[:len(resource)-1]), `,"meta":{}}`...)
}

// remarks appends an OperationOutcome with what the client should know.
func (w *searchWriter) remarks(p *searchPage, result *query.Result) {
	var issues []issue
	for _, name := range p.search.Ignored {
		issues = append(issues, issue{severity: "warning", code: codeNotSupported, text: fmt.Sprintf("The parameter '%s' is not supported and was left out.", name)})
	}
	if result.Plan != nil {
		issues = appendPlan(issues, result.Plan, 0)
	}
	if len(issues) == 0 {
		return
	}
	w.next()
	w.text = append(w.text, `{"resource":`...)
	w.text = appendOutcome(w.text, w.x.requestID(), w.x.now(), issues...)
	w.text = append(w.text, `,"search":{"mode":"outcome"}}`...)
}

// appendPlan appends what each step of a search found, and how long it took.
func appendPlan(issues []issue, step *engine.Explanation, depth int) []issue {
	if step.Name == "" {
		return issues
	}
	text := fmt.Sprintf("%s%s: %d versions, %v", strings.Repeat("  ", depth), step.Name, step.Found, step.Took)
	issues = append(issues, issue{severity: "information", code: codeInformational, text: text})
	for _, inner := range step.Steps {
		issues = appendPlan(issues, inner, depth+1)
	}
	return issues
}

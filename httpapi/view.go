package httpapi

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
	"kiln/fhir/structure"
)

// A view is a part of a resource, as _summary or _elements ask for (FHIR R4
// search.html#summary). What is left out is marked by the tag SUBSETTED, so that
// nobody takes the part for the whole and writes it back.
type view struct {
	summary string // "true", "text" or "data"; "": all
	// elements are the names of _elements: of members, choices without their type.
	elements map[string]bool
}

const (
	subsettedSystem = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
	subsettedCode   = "SUBSETTED"
	subsettedTag    = `{"system":"` + subsettedSystem + `","code":"` + subsettedCode + `"}`
	// elementsMax bounds the names of _elements; no type has as many members.
	elementsMax = 200
)

func (w *view) isWhole() bool { return w.summary == "" && w.elements == nil }

// view reads _summary and _elements.
func (x *exchange) view() (view, error) { return x.viewOf(x.addr.typ) }

// viewOf is view for resources of a type; 0: of several.
func (x *exchange) viewOf(typ fhir.TypeCode) (view, error) {
	var w view
	summary, err := x.single("_summary")
	if err != nil {
		return w, err
	}
	switch summary {
	case "", "false":
	case "true", "text", "data":
		w.summary = summary
	default:
		return w, notSupported(fasthttp.StatusBadRequest, "The value '%s' of the parameter '_summary' is not supported here.", summary)
	}
	names, err := x.single("_elements")
	if err != nil || names == "" {
		return w, err
	}
	if w.summary != "" {
		return w, badRequest("The parameters '_summary' and '_elements' cannot both be specified.")
	}
	return w, x.viewElements(&w, typ, names)
}

func (x *exchange) viewElements(w *view, typ fhir.TypeCode, names string) error {
	w.elements = map[string]bool{}
	typeName := typ.String()
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimPrefix(strings.TrimSpace(name), typeName+".")
		if typ == 0 { // of several types, and none has all of them
			w.elements[name] = true
			continue
		}
		known, _, ok := structure.ByKey(typeName, name)
		if _, choice := structure.Of(typeName, name); choice {
			known, ok = name, true
		}
		switch {
		case ok:
			w.elements[known] = true
		case !x.prefer.lenient:
			return badRequest("The value '%s' of the parameter '_elements' is no element of %s.", name, typeName)
		}
		if len(w.elements) > elementsMax {
			return badRequest("The parameter '_elements' has more than %d names.", elementsMax)
		}
	}
	return nil
}

// appendView appends what the view shows of a resource as it is served.
func (w *view) appendView(dst, resource []byte) []byte {
	out := viewWriter{view: w, text: resource, dst: dst}
	var members objectMembers
	if members.read(resource, 0, "", "resourceType") != nil {
		return append(dst, resource...)
	}
	out.object(0, members.text(resource, "resourceType"), true)
	return out.dst
}

type viewWriter struct {
	view *view
	text []byte
	dst  []byte
}

// value appends the value at a place. Below the top only a summary leaves out.
func (o *viewWriter) value(at, end int, typ string) {
	switch {
	case o.view.summary != "true":
		o.dst = append(o.dst, o.text[at:end]...)
	case o.text[at] == '{':
		o.object(at, typ, false)
	case o.text[at] == '[':
		o.dst = append(o.dst, '[')
		first := true
		fhir.Elements(o.text, at, func(from, to int) bool {
			if !first {
				o.dst = append(o.dst, ',')
			}
			first = false
			o.value(from, to, typ)
			return true
		})
		o.dst = append(o.dst, ']')
	default:
		o.dst = append(o.dst, o.text[at:end]...)
	}
}

func (o *viewWriter) object(at int, typ string, top bool) {
	if typ == "Resource" { // in a Bundle: it tells its own
		var members objectMembers
		if members.read(o.text, at, "", "resourceType") == nil {
			typ = members.text(o.text, "resourceType")
		}
	}
	o.dst = append(o.dst, '{')
	start := len(o.dst)
	keyAt := at + 1
	fhir.Members(o.text, at, func(key []byte, from, to int) bool {
		if o.text[keyAt] == ',' {
			keyAt++
		}
		quoted := o.text[keyAt:from] // with its colon
		keyAt = to
		e, shown := o.view.shows(typ, strings.TrimPrefix(string(key), "_"), top)
		if !shown {
			return true
		}
		if len(o.dst) > start {
			o.dst = append(o.dst, ',')
		}
		o.dst = append(o.dst, quoted...)
		switch {
		case top && string(key) == "meta" && o.text[from] == '{':
			o.dst = appendSubsetted(o.dst, o.text[from:to])
		case len(key) > 0 && key[0] == '_', string(key) == "modifierExtension", len(e.Types) != 1:
			o.dst = append(o.dst, o.text[from:to]...)
		default:
			o.value(from, to, e.Types[0])
		}
		return true
	})
	o.dst = append(o.dst, '}')
}

// shows says whether a member is part of the view. What R4 does not know is
// left out, as extensions are.
func (w *view) shows(typ, key string, top bool) (structure.Element, bool) {
	name, e, ok := structure.ByKey(typ, key)
	switch {
	case key == "resourceType", key == "id", key == "meta" && top:
		return e, true
	case w.summary == "data":
		return e, key != "text"
	case !ok:
		return e, false
	case e.Mandatory, e.Modifier && w.elements != nil: // FHIR R4 search.html#elements
		return e, true
	case w.summary == "text":
		return e, name == "text"
	case w.summary == "true":
		return e, e.Summary || name == "modifierExtension"
	}
	return e, w.elements[name]
}

// appendSubsetted appends a resource's meta with the tag.
func appendSubsetted(dst, meta []byte) []byte {
	var members objectMembers
	if members.read(meta, 0, "", "tag") != nil {
		return append(dst, meta...)
	}
	tags, ok := members["tag"]
	switch {
	case !ok && len(meta) == len("{}"):
		return append(dst, `{"tag":[`+subsettedTag+`]}`...)
	case !ok:
		dst = append(dst, meta[:len(meta)-1]...)
		return append(dst, `,"tag":[`+subsettedTag+`]}`...)
	case meta[tags.from] != '[' || tags.to-tags.from == len("[]") || isSubsetted(meta[tags.from:tags.to]):
		return append(dst, meta...)
	}
	dst = append(dst, meta[:tags.to-1]...)
	dst = append(dst, ","+subsettedTag...)
	return append(dst, meta[tags.to-1:]...)
}

// isSubsetted says whether a list of tags has the one that marks a part.
func isSubsetted(tags []byte) bool {
	found := false
	fhir.Elements(tags, 0, func(at, _ int) bool {
		var members objectMembers
		if tags[at] == '{' && members.read(tags, at, "", "code", "system") == nil {
			found = members.text(tags, "code") == subsettedCode && members.text(tags, "system") == subsettedSystem
		}
		return !found
	})
	return found
}

// checkWhole refuses a resource that is marked as a part. body is minified.
func checkWhole(body []byte) error {
	if !bytes.Contains(body, []byte(subsettedCode)) {
		return nil
	}
	var members, meta objectMembers
	if err := members.read(body, 0, "The resource", "meta"); err != nil {
		return err
	}
	at, ok := members["meta"]
	if !ok {
		return nil
	}
	if err := meta.read(body, at.from, "Its meta", "tag"); err != nil {
		return err
	}
	if tags, ok := meta["tag"]; ok && body[tags.from] == '[' && isSubsetted(body[tags.from:tags.to]) {
		return badRequest("The resource is marked as a part of one by the tag SUBSETTED, so storing it would lose the rest. Read it whole, or patch it.")
	}
	return nil
}

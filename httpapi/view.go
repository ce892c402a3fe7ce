package httpapi

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
	"kiln/fhir/structure"
	"kiln/fhir/view"
)

// elementsMax bounds the names of _elements; no type has as many members.
const elementsMax = 200

// view reads _summary and _elements.
func (x *exchange) view() (view.View, error) { return x.viewOf(x.addr.typ) }

// viewOf is view for resources of a type; 0: of several.
func (x *exchange) viewOf(typ fhir.TypeCode) (view.View, error) {
	var w view.View
	summary, err := x.single("_summary")
	if err != nil {
		return w, err
	}
	switch summary {
	case "", "false":
	case "true", "text", "data":
		w.Summary = summary
	default:
		return w, notSupported(fasthttp.StatusBadRequest, "The value '%s' of the parameter '_summary' is not supported here.", summary)
	}
	names, err := x.single("_elements")
	if err != nil || names == "" {
		return w, err
	}
	if w.Summary != "" {
		return w, badRequest("The parameters '_summary' and '_elements' cannot both be specified.")
	}
	return w, x.viewElements(&w, typ, names)
}

func (x *exchange) viewElements(w *view.View, typ fhir.TypeCode, names string) error {
	w.Elements = map[string]bool{}
	typeName := typ.String()
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimPrefix(strings.TrimSpace(name), typeName+".")
		if typ == 0 { // of several types, and none has all of them
			w.Elements[name] = true
			continue
		}
		known, _, ok := structure.ByKey(typeName, name)
		if _, choice := structure.Of(typeName, name); choice {
			known, ok = name, true
		}
		switch {
		case ok:
			w.Elements[known] = true
		case !x.prefer.lenient:
			return badRequest("The value '%s' of the parameter '_elements' is no element of %s.", name, typeName)
		}
		if len(w.Elements) > elementsMax {
			return badRequest("The parameter '_elements' has more than %d names.", elementsMax)
		}
	}
	return nil
}

// checkWhole refuses a resource that is marked as a part. body is minified.
func checkWhole(body []byte) error {
	if !bytes.Contains(body, []byte(view.Subsetted)) {
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
	if tags, ok := meta["tag"]; ok && body[tags.from] == '[' && view.IsSubsetted(body[tags.from:tags.to]) {
		return badRequest("The resource is marked as a part of one by the tag SUBSETTED, so storing it would lose the rest. Read it whole, or patch it.")
	}
	return nil
}

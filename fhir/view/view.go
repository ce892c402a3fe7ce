// Package view shows parts of resources, as _summary and _elements ask for
// (FHIR R4 search.html#summary). What is left out is marked by the tag SUBSETTED,
// so that nobody takes the part for the whole and writes it back.
package view

import (
	"strings"

	"kiln/fhir"
	"kiln/fhir/structure"
)

// View says which part.
type View struct {
	Summary string // "true", "text" or "data"; "": all
	// Elements are the names of _elements: of members, choices without their type.
	// nil: all.
	Elements map[string]bool
}

// Subsetted is the code of the tag.
const Subsetted = "SUBSETTED"

const (
	subsettedSystem = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
	subsettedTag    = `{"system":"` + subsettedSystem + `","code":"` + Subsetted + `"}`
)

// IsWhole tells whether nothing is left out.
func (w *View) IsWhole() bool { return w.Summary == "" && w.Elements == nil }

// Append appends what the view shows of a resource as it is served: checked JSON
// without white space.
func (w *View) Append(dst, resource []byte) []byte {
	out := viewWriter{view: w, text: resource, dst: dst}
	typ, ok := fhir.MemberText(resource, 0, "resourceType")
	if !ok {
		return append(dst, resource...)
	}
	out.object(0, string(typ), true)
	return out.dst
}

type viewWriter struct {
	view *View
	text []byte
	dst  []byte
}

// value appends the value at a place. Below the top only a summary leaves out.
func (o *viewWriter) value(at, end int, typ string) {
	switch {
	case o.view.Summary != "true":
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
		own, _ := fhir.MemberText(o.text, at, "resourceType")
		typ = string(own)
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
func (w *View) shows(typ, key string, top bool) (structure.Element, bool) {
	name, e, ok := structure.ByKey(typ, key)
	switch {
	case key == "resourceType", key == "id", key == "meta" && top:
		return e, true
	case w.Summary == "data":
		return e, key != "text"
	case !ok:
		return e, false
	case e.Mandatory, e.Modifier && w.Elements != nil: // FHIR R4 search.html#elements
		return e, true
	case w.Summary == "text":
		return e, name == "text"
	case w.Summary == "true":
		return e, e.Summary || name == "modifierExtension"
	}
	return e, w.Elements[name]
}

// appendSubsetted appends a resource's meta with the tag.
func appendSubsetted(dst, meta []byte) []byte {
	tags, ok := member(meta, 0, "tag")
	switch {
	case !ok && len(meta) == len("{}"):
		return append(dst, `{"tag":[`+subsettedTag+`]}`...)
	case !ok:
		dst = append(dst, meta[:len(meta)-1]...)
		return append(dst, `,"tag":[`+subsettedTag+`]}`...)
	case meta[tags.from] != '[' || tags.to-tags.from == len("[]") || IsSubsetted(meta[tags.from:tags.to]):
		return append(dst, meta...)
	}
	dst = append(dst, meta[:tags.to-1]...)
	dst = append(dst, ","+subsettedTag...)
	return append(dst, meta[tags.to-1:]...)
}

// IsSubsetted says whether a list of tags, an array, has the one that marks a part.
func IsSubsetted(tags []byte) bool {
	found := false
	fhir.Elements(tags, 0, func(at, _ int) bool {
		if tags[at] == '{' {
			code, _ := fhir.MemberText(tags, at, "code")
			system, _ := fhir.MemberText(tags, at, "system")
			found = string(code) == Subsetted && string(system) == subsettedSystem
		}
		return !found
	})
	return found
}

// span is where a value stands.
type span struct{ from, to int }

// member finds a member of the object at a place.
func member(src []byte, at int, name string) (s span, ok bool) {
	if src[at] != '{' {
		return s, false
	}
	fhir.Members(src, at, func(key []byte, from, to int) bool {
		if ok = string(key) == name; ok {
			s = span{from, to}
		}
		return !ok
	})
	return s, ok
}

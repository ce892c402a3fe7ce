package search

import (
	"slices"
	"strings"

	"kiln/fhir/structure"
)

// place is an element on the way along a path.
type place struct {
	json string // "Observation.valueQuantity"
	path string // where its members are defined: "Quantity", or "Observation.component"
	typ  string // its data type, "" for an element with members of its own
	// conditions are those of the elements on the way, and of this one.
	conditions []Condition
}

// plainType stands for Resource and DomainResource, which have no table of
// their own: of its members, plainMembers are theirs.
const plainType = "Basic"

func plainMember(name string) bool {
	switch name {
	case "id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension":
		return true
	}
	return false
}

// follow gives what the member name of p can be: several places for a choice;
// none when R4 has no such member.
func (p place) follow(name string) []place {
	parent := p.path
	if parent == "Resource" || parent == "DomainResource" {
		if !plainMember(name) {
			return nil
		}
		parent = plainType
	}
	e, ok := structure.Of(parent, name)
	if !ok {
		return nil
	}
	var places []place
	for _, t := range e.Types {
		next := place{json: p.members() + "." + name, path: t, typ: t, conditions: p.conditions}
		if e.Choice {
			next.json += structure.Suffix(t)
		}
		if strings.Contains(t, ".") {
			next.typ = "" // its members are defined in place
		}
		places = append(places, next)
	}
	return places
}

// members is the path of the object with the members of p: those of a primitive,
// its id and extensions, are in one of their own.
func (p place) members() string {
	if !p.primitive() {
		return p.json
	}
	dot := strings.LastIndexByte(p.json, '.')
	return p.json[:dot+1] + "_" + p.json[dot+1:]
}

func (p place) primitive() bool {
	return p.typ != "" && 'a' <= p.typ[0] && p.typ[0] <= 'z' && p.typ != "xhtml"
}

// when is the place with one more condition; ok is false when the element has no
// such member, or one that is not a single text.
func (p place) when(key, value string) (next place, ok bool) {
	e, ok := structure.Of(p.path, key)
	if !ok || e.List || e.Choice || !slices.Contains(texts, e.Types[0]) {
		return p, false
	}
	p.conditions = append(slices.Clip(p.conditions), Condition{Path: p.json, Key: key, Value: value})
	return p, true
}

// texts are the primitive types that a condition can compare.
var texts = []string{"code", "string", "uri", "url", "canonical", "id", "oid", "uuid"}

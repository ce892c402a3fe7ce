package search

import (
	"strings"

	"kiln/fhir/structure"
)

// place is an element on the way along a path.
type place struct {
	json string // "Observation.valueQuantity"
	path string // where its members are defined: "Quantity", or "Observation.component"
	typ  string // its data type, "" for an element with members of its own
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
		next := place{json: p.json + "." + name, path: t, typ: t}
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

package search

import (
	_ "embed" // the tables
	"fmt"
	"strings"
)

// elementsTable says, for every element that a search parameter's path goes
// through, what it can be: path, types parted by "|" (empty for an element with
// members of its own), and the path whose members it repeats.
//
//go:embed elements.tsv
var elementsTable string

// element is a row of it.
type element struct {
	types []string
	same  string
}

// elements finds a path such as "Observation.value[x]".
type elements func(path string) (element, bool)

func embeddedElements() (elements, error) {
	rows := map[string]element{}
	for line := range strings.Lines(elementsTable) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(cells) != 3 {
			return nil, fmt.Errorf("cannot read the table of elements: %q", line)
		}
		rows[cells[0]] = newElement(cells[1], cells[2])
	}
	return func(path string) (element, bool) {
		e, ok := rows[path]
		return e, ok
	}, nil
}

// newElement reads the cells of a definition.
func newElement(types, same string) element {
	e := element{same: strings.TrimPrefix(same, "#")}
	switch types {
	case "", "BackboneElement", "Element":
	default:
		e.types = strings.Split(types, "|")
	}
	return e
}

// place is an element on the way along a path.
type place struct {
	json string // "Observation.valueQuantity"
	path string // where its members are defined: "Quantity", or "Observation.component"
	typ  string // its data type, "" for an element with members of its own
}

// follow gives what the member name of p can be: several places for a choice.
func (known elements) follow(p place, name string) []place {
	at := p.path + "." + name
	json := p.json + "." + name
	if e, ok := known(at); ok {
		switch {
		case e.same != "":
			return []place{{json: json, path: e.same}}
		case len(e.types) == 0:
			return []place{{json: json, path: at}}
		}
		return []place{{json: json, path: e.types[0], typ: e.types[0]}}
	}
	e, ok := known(at + "[x]")
	if !ok {
		return nil
	}
	var choices []place
	for _, t := range e.types {
		choices = append(choices, place{json: json + strings.ToUpper(t[:1]) + t[1:], path: t, typ: t})
	}
	return choices
}

// Package elements knows which members R4's resources and data types have: which
// of them are lists, choices, mandatory, or part of a summary.
//
// elements.txt is made from the specification's snapshots (elements_test.go,
// with KILN_UPDATE=1) and is read once, by the first that asks.
package elements

import (
	_ "embed"
	"strings"
	"sync"
)

// Element is one member of a resource or of a data type.
type Element struct {
	List      bool
	Mandatory bool // at least one
	Summary   bool
	Modifier  bool // it may change what the others mean
	// Choice: the member's key is the name and one of Types, as in valueQuantity.
	Choice bool
	// Types are the types that the element may have, such as "HumanName"; the
	// path of an element whose members are defined in place, as "Patient.contact".
	Types []string
}

// A line of elements.txt is a parent and its members, separated by tabs:
//
//	Patient <tab> active!:boolean <tab> contact*:Patient.contact <tab> deceased[x]!:boolean|dateTime
//
// with * for lists, + for mandatory ones, ! for summaries and ? for modifiers. The members that
// all types or all resources share are left out; shared has them.
//
//go:embed elements.txt
var text string

// table is by parent and name.
var table = sync.OnceValue(func() map[string]map[string]Element { return parse(text) })

// shared are the members of every type, and of every resource.
var shared = map[string]Element{
	"id":                {Types: []string{"string"}},
	"extension":         {List: true, Types: []string{"Extension"}},
	"modifierExtension": {List: true, Modifier: true, Types: []string{"Extension"}},
}

var sharedByResources = map[string]Element{
	"meta":          {Summary: true, Types: []string{"Meta"}},
	"implicitRules": {Summary: true, Modifier: true, Types: []string{"uri"}},
	"language":      {Types: []string{"code"}},
	"text":          {Types: []string{"Narrative"}},
	"contained":     {List: true, Types: []string{"Resource"}},
}

// Of returns the element of that name in a parent: a resource type, a data type,
// or the path of an element with members of its own. A choice has the name
// without "[x]". ok is false when R4 has no such element.
func Of(parent, name string) (e Element, ok bool) {
	members, ok := table()[parent]
	if !ok {
		return Element{}, false
	}
	if e, ok = members[name]; ok {
		return e, true
	}
	if e, ok = shared[name]; ok {
		return e, true
	}
	if _, isResource := members[resourceMark]; isResource {
		e, ok = sharedByResources[name]
	}
	return e, ok
}

// ByKey is Of for a JSON key, in which a choice carries its type; the result's
// Types then hold that one.
func ByKey(parent, key string) (name string, e Element, ok bool) {
	if e, ok = Of(parent, key); ok && !e.Choice {
		return key, e, true
	}
	for i := 1; i < len(key); i++ {
		if key[i] < 'A' || key[i] > 'Z' {
			continue
		}
		e, ok := Of(parent, key[:i])
		if !ok || !e.Choice {
			continue
		}
		for _, t := range e.Types {
			if Suffix(t) == key[i:] {
				e.Types = []string{t}
				return key[:i], e, true
			}
		}
	}
	return "", Element{}, false
}

// Suffix is what a type adds to the key of a choice: "dateTime" gives "DateTime".
func Suffix(typeName string) string {
	if typeName == "" {
		return ""
	}
	return strings.ToUpper(typeName[:1]) + typeName[1:]
}

// resourceMark stands among the members of a resource type.
const resourceMark = "@"

func parse(text string) map[string]map[string]Element {
	parsed := map[string]map[string]Element{}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		members := make(map[string]Element, len(fields)-1)
		for _, field := range fields[1:] {
			name, e := parseElement(field)
			members[name] = e
		}
		parsed[fields[0]] = members
	}
	return parsed
}

func parseElement(field string) (string, Element) {
	name, types, _ := strings.Cut(field, ":")
	bare := strings.TrimRight(name, "*+!?")
	flags := name[len(bare):]
	e := Element{
		List: strings.Contains(flags, "*"), Mandatory: strings.Contains(flags, "+"), Summary: strings.Contains(flags, "!"),
		Modifier: strings.Contains(flags, "?"),
	}
	if types != "" {
		e.Types = strings.Split(types, "|")
	}
	bare, e.Choice = strings.CutSuffix(bare, "[x]")
	return bare, e
}

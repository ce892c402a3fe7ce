package search

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"kiln/fhir"
)

// readable says which data types a search type can read. A choice gives the
// types that are here and leaves out the others (Condition.onset as a string is
// no date).
var readable = map[Kind][]string{
	Number:    {"decimal", "integer", "positiveInt", "unsignedInt", "Range"},
	Date:      {"date", "dateTime", "instant", "Period", "Timing"},
	String:    {"string", "markdown", "HumanName", "Address"},
	Token:     {"CodeableConcept", "Coding", "Identifier", "ContactPoint", "code", "boolean", "id", "string", "uri"},
	Reference: {"Reference", "canonical", "uri", "Resource"},
	Quantity:  {"Quantity", "Age", "Duration", "Money", "Range", "SampledData"},
	URI:       {"uri", "url", "canonical"},
	Special:   {"Location.position"},
}

// dead is the data type of Patient.deceased as the parameter "deceased" has it.
const dead = "deceased"

// compiler turns expressions into sources.
type compiler struct {
	fields map[string]*Field // by kind and name
	number func(kind Kind, name string) uint16
}

// sources compiles an expression of the type named root.
func (c *compiler) sources(root string, kind Kind, expression string) ([]Source, error) {
	paths, err := parse(expression)
	if err != nil {
		return nil, err
	}
	var sources []Source
	for _, p := range paths {
		source, err := c.source(root, kind, p)
		if err != nil {
			return nil, fmt.Errorf("cannot compile expression %q: %w", expression, err)
		}
		sources = append(sources, source)
	}
	return sources, nil
}

func (c *compiler) source(root string, kind Kind, p path) (Source, error) {
	if p.root != "" && p.root != root {
		return Source{}, fmt.Errorf("it begins at %s, not at %s", p.root, root)
	}
	if len(p.steps) == 0 {
		return Source{}, fmt.Errorf("it has no steps")
	}
	last := &p.steps[len(p.steps)-1]
	source := Source{}
	if last.only != "" {
		if source.Only = fhir.TypeByName([]byte(last.only)); source.Only == 0 || kind != Reference {
			return source, fmt.Errorf("cannot tell references to %q", last.only)
		}
		last.only = ""
	}
	if last.key == "system" && kind == Token {
		plain := *last
		plain.key, plain.value = "", ""
		steps := append(slices.Clone(p.steps[:len(p.steps)-1]), plain)
		found, err := c.elements(start(root), kind, path{steps: steps})
		if err == nil && found[0].Type == "ContactPoint" {
			source.System, p.steps = last.value, steps
		}
	}
	name := p.name(root)
	key := kind.String() + "\t" + name
	if c.fields[key] == nil {
		found, err := c.elements(start(root), kind, p)
		if err != nil {
			return source, err
		}
		c.fields[key] = c.field(Field{Kind: kind, Name: name, Elements: found}, root)
	}
	source.Field = c.fields[key]
	return source, nil
}

func (c *compiler) field(f Field, root string) *Field {
	f.Type = fhir.TypeByName([]byte(root))
	f.Number = c.number(f.Kind, f.Name)
	return &f
}

// start is the place of a resource.
func start(root string) place {
	if fhir.TypeByName([]byte(root)) == 0 {
		return place{json: "*", path: root}
	}
	return place{json: root, path: root}
}

// elements gives the places at the end of p that kind can read.
func (c *compiler) elements(from place, kind Kind, p path) ([]Element, error) {
	at, among, first := []place{from}, "", false
	for i, s := range p.steps {
		next, err := follow(at, s)
		if err != nil {
			return nil, err
		}
		switch {
		case s.only != "":
			return nil, fmt.Errorf("a condition on what a reference leads to stands at %s, which is not the end", s.name)
		case s.key == "":
		case isArtifact(next, s, p.steps[i+1:]):
			among = s.value
		default:
			for i := range next {
				var ok bool
				if next[i], ok = next[i].when(s.key, s.value); !ok {
					return nil, fmt.Errorf("%s has no element %s that is one text, which the condition on it could compare", s.name, s.key)
				}
			}
		}
		at, first = next, first || s.first
	}
	if p.dead {
		return []Element{{Path: at[0].json, Type: dead}, {Path: at[1].json, Type: dead}}, nil
	}
	var found []Element
	for _, p := range at {
		if t := p.dataType(); slices.Contains(readable[kind], t) {
			found = append(found, Element{Path: p.json, Type: t, First: first, Among: among, Conditions: p.conditions})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("a %s cannot be read from %s", kind, at[0].dataType())
	}
	return found, nil
}

// follow takes one step from places.
func follow(at []place, s step) ([]place, error) {
	var next []place
	for _, from := range at {
		next = append(next, from.follow(s.name)...)
	}
	if len(next) == 0 {
		return nil, fmt.Errorf("%s has no element %s", at[0].dataType(), s.name)
	}
	if s.as != "" {
		// R4 writes value.as(DateTime) once; types begin in lower case where they are primitive.
		next = slices.DeleteFunc(next, func(p place) bool { return p.typ != s.as && !(s.as == "DateTime" && p.typ == "dateTime") })
		if len(next) == 0 {
			return nil, fmt.Errorf("there is no element %s that is a %s", s.name, s.as)
		}
	}
	return next, nil
}

// isArtifact tells the one condition that has a reader of its own:
// relatedArtifact.where(type='x').resource.
func isArtifact(at []place, s step, rest []step) bool {
	return s.key == "type" && at[0].typ == "RelatedArtifact" && len(rest) == 1 && rest[0].name == "resource"
}

func (p place) dataType() string {
	if p.typ == "" {
		return p.path
	}
	return p.typ
}

// name is the path in one fixed way of writing.
func (p path) name(root string) string {
	b := strings.Builder{}
	b.WriteString(root)
	for _, s := range p.steps {
		b.WriteString("." + s.name)
		if s.first {
			b.WriteString("[0]")
		}
		if s.key != "" {
			b.WriteString(".where(" + s.key + "='" + s.value + "')")
		}
		if s.as != "" {
			b.WriteString(".as(" + s.as + ")")
		}
	}
	if p.dead {
		b.WriteString(".exists() and " + root + ".deceased != false")
	}
	return strings.TrimPrefix(b.String(), ".")
}

// sorted gives the fields in the order of their numbers.
func (c *compiler) sorted() []*Field {
	fields := slices.Collect(maps.Values(c.fields))
	slices.SortFunc(fields, func(a, b *Field) int { return cmp.Compare(a.Number, b.Number) })
	return fields
}

package search

import (
	"fmt"
	"slices"
	"strings"

	"kiln/fhir"
)

// component is one component of a composite's definition.
type component struct {
	code  string
	paths []path
}

// parseComponents reads "code=expression;code=expression".
func parseComponents(text string) ([]component, error) {
	var all []component
	for part := range strings.SplitSeq(text, ";") {
		code, expression, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("cannot read component %q", part)
		}
		paths, err := parse(expression)
		if err != nil {
			return nil, err
		}
		all = append(all, component{code, paths})
	}
	return all, nil
}

// pairings compiles a composite. kinds gives the search type of a parameter of
// the same resource type, 0 when there is none.
func (c *compiler) pairings(root, expression, components string, kinds func(code string) Kind) ([]Pairing, error) {
	parts, err := parseComponents(components)
	if err != nil {
		return nil, err
	}
	groups, err := parse(expression)
	if err != nil {
		return nil, err
	}
	var all []Pairing
	for _, group := range groups {
		p, err := c.pairing(root, group, parts, kinds)
		if err != nil {
			return nil, fmt.Errorf("cannot compile composite %q of %q: %w", components, expression, err)
		}
		all = append(all, p)
	}
	return all, nil
}

func (c *compiler) pairing(root string, group path, components []component, kinds func(string) Kind) (Pairing, error) {
	pairing := Pairing{Whole: make([][]Source, len(components))}
	at := start(root)
	if group.root != "" && group.root != root {
		return pairing, fmt.Errorf("it begins at %s, not at %s", group.root, root)
	}
	for _, s := range group.steps {
		if s != (step{name: s.name}) {
			return pairing, fmt.Errorf("the element %s, whose parts are paired, has a condition or a type", s.name)
		}
		next := at.follow(s.name)
		if len(next) != 1 {
			return pairing, fmt.Errorf("there is no one element %s", s.name)
		}
		at = next[0]
	}
	field := Field{Kind: Composite, Name: group.name(root), Group: at.json}
	var names []string
	for i, component := range components {
		if component.paths[0].whole || len(group.steps) == 0 {
			sources, err := c.whole(root, component, kinds)
			if err != nil {
				return pairing, err
			}
			pairing.Whole[i] = sources
			continue
		}
		part, name, err := c.part(at, component, kinds)
		if err != nil {
			return pairing, err
		}
		field.Parts, names = append(field.Parts, part), append(names, name)
	}
	if len(field.Parts) > 0 {
		field.Name += "(" + strings.Join(names, ";") + ")"
		key := Composite.String() + "\t" + field.Name
		if c.fields[key] == nil {
			c.fields[key] = c.field(field, root)
		}
		pairing.Group = c.fields[key]
	}
	return pairing, nil
}

// whole gives the sources of a component that belongs to the resource.
func (c *compiler) whole(root string, component component, kinds func(string) Kind) ([]Source, error) {
	var sources []Source
	for _, p := range component.paths {
		p.whole = false
		kind, _, err := c.kindOf(start(root), p, kinds(component.code))
		if err != nil {
			return nil, err
		}
		source, err := c.source(root, kind, p)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// part gives a component below the group's element.
func (c *compiler) part(group place, component component, kinds func(string) Kind) (part Part, name string, err error) {
	var names []string
	for _, p := range component.paths {
		kind, found, err := c.kindOf(group, p, kinds(component.code))
		if err != nil {
			return part, "", err
		}
		if slices.ContainsFunc(found, func(e Element) bool { return len(e.Conditions) > 0 || e.Among != "" || e.First }) {
			return part, "", fmt.Errorf("the component %s has a condition", component.code)
		}
		part.Kind = kind
		part.Elements = append(part.Elements, found...)
		names = append(names, p.name(""))
	}
	return part, strings.Join(names, "|"), nil
}

// kindOf gives the search type of a component: that of the parameter it names,
// or, where R4 names the wrong one (DocumentReference-relationship), the first
// that can read what the expression says.
func (c *compiler) kindOf(from place, p path, named Kind) (Kind, []Element, error) {
	var first error
	for _, kind := range []Kind{named, Token, Reference, Number, Date, Quantity, String, URI} {
		if kind == 0 {
			continue
		}
		found, err := c.elements(from, kind, p)
		if err == nil {
			return kind, found, nil
		}
		if first == nil {
			first = err
		}
	}
	return 0, nil, first
}

// targets reads type names parted by blanks or commas; those that are no
// concrete type stand for any.
func targets(text string) []fhir.TypeCode {
	var types []fhir.TypeCode
	for _, name := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '|' }) {
		t := fhir.TypeByName([]byte(name))
		if t == 0 {
			return nil
		}
		types = append(types, t)
	}
	return types
}

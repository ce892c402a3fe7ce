package search

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"kiln/fhir"
)

// Definition is a search parameter that is added to those of R4.
type Definition struct {
	URL  string
	Code string
	Kind Kind
	// Bases are the names of the types it is for; "Resource" and
	// "DomainResource" stand for every type.
	Bases []string
	// Expression is a union of paths. Those that begin at another base are not
	// for this one; one that begins at no type is for all.
	Expression string
	Components []ComponentDefinition // of a composite
	Targets    []fhir.TypeCode       // of a reference; none: any
}

// ComponentDefinition is one component of a composite: the URL of the parameter
// it is as, and its expression.
type ComponentDefinition struct{ URL, Expression string }

// With is the table with more parameters, which Compile made. What is taken
// already is an error.
func (t *Table) With(params []*Param) (*Table, error) {
	if len(params) == 0 {
		return t, nil
	}
	all := &Table{params: slices.Concat(t.params, params), fields: t.fields, byCode: maps.Clone(t.byCode), byName: t.byName}
	for _, p := range params {
		other := t.taken(p.Type, p.Code)
		if other == nil {
			other = all.byCode[paramKey{p.Type, p.Code}]
		}
		if other != nil {
			return nil, fmt.Errorf("the code %s of %s is taken by %s", p.Code, baseName(p.Type), other.URL)
		}
		all.byCode[paramKey{p.Type, p.Code}] = p
	}
	return all, nil
}

// taken finds a parameter that one of a type and code could be taken for.
func (t *Table) taken(of fhir.TypeCode, code string) *Param {
	if p := t.Param(of, code); p != nil || of != 0 {
		return p
	}
	for _, p := range t.params { // one of every type is one of each
		if p.Code == code {
			return p
		}
	}
	return nil
}

func baseName(t fhir.TypeCode) string {
	if t == 0 {
		return "every type"
	}
	return t.String()
}

// Compile makes the parameters of a definition, one for each base. Composites
// refer to parameters of t. Fields that R4 does not have go through field, which
// gives the one of that content that has a number. Errors are for whoever wrote
// the definition.
func (t *Table) Compile(d *Definition, field func(*Field) *Field) ([]*Param, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	c := &compiler{fields: maps.Clone(t.byName), number: func(Kind, string) uint16 { return 0 }}
	var params []*Param
	for _, base := range d.Bases {
		p := &Param{
			Type: fhir.TypeByName([]byte(base)), Code: d.Code, Kind: d.Kind, URL: d.URL,
			Expression: d.Expression, Targets: d.Targets,
		}
		if other := t.taken(p.Type, p.Code); other != nil {
			return nil, fmt.Errorf("the code '%s' is the one of %s for %s already; choose another", p.Code, other.URL, baseName(p.Type))
		}
		if slices.ContainsFunc(params, func(o *Param) bool { return o.Type == p.Type || o.Type == 0 || p.Type == 0 }) {
			return nil, fmt.Errorf("a base is given twice")
		}
		if err := c.custom(t, d, base, p); err != nil {
			return nil, err
		}
		p.renumber(field)
		params = append(params, p)
	}
	return params, nil
}

// codeBytesMax bounds a parameter's code, which stands in addresses.
const codeBytesMax = 64

func (d *Definition) check() error {
	if len(d.Code) == 0 || len(d.Code) > codeBytesMax || !validCode(d.Code) {
		return fmt.Errorf("the code '%s' cannot stand in a search: letters, digits, '-' and '_' can, up to %d", d.Code, codeBytesMax)
	}
	if d.Kind == 0 || d.Kind == Special {
		return errors.New("its type is not supported; number, date, string, token, reference, composite, quantity and uri are")
	}
	if len(d.Bases) == 0 {
		return errors.New("it has no base, the type that it is for")
	}
	for _, base := range d.Bases {
		if fhir.TypeByName([]byte(base)) == 0 && !everyType(base) {
			return fmt.Errorf("the base '%s' is no resource type of R4", base)
		}
	}
	if d.Expression == "" {
		return errors.New("it has no expression, which says where the values are")
	}
	if (d.Kind == Composite) != (len(d.Components) > 0) {
		return errors.New("a composite has components, and no other type has")
	}
	return nil
}

func everyType(base string) bool { return base == "Resource" || base == "DomainResource" }

// validCode: a leading '_' is for the parameters of the server itself, and a dot or a colon
// is what chains and modifiers are told by.
func validCode(code string) bool {
	for i := range len(code) {
		if c := code[i]; !isNameByte(c, i > 0) && !(i > 0 && c == '-') {
			return false
		}
	}
	return true
}

// custom compiles a definition for one of its bases.
func (c *compiler) custom(t *Table, d *Definition, base string, p *Param) error {
	paths, err := d.pathsOf(base)
	if err != nil {
		return err
	}
	if d.Kind != Composite {
		for _, path := range paths {
			source, err := c.source(base, d.Kind, path)
			if err != nil {
				return fmt.Errorf("cannot compile expression %q for %s: %w", d.Expression, base, err)
			}
			p.Sources = append(p.Sources, source)
		}
		return nil
	}
	components, kinds, err := t.components(d)
	if err != nil {
		return err
	}
	for _, group := range paths {
		pairing, err := c.pairing(base, group, components, func(code string) Kind { return kinds[code] })
		if err != nil {
			return fmt.Errorf("cannot compile expression %q for %s: %w", d.Expression, base, err)
		}
		p.Pairings = append(p.Pairings, pairing)
	}
	return nil
}

// pathsOf is the paths of the expression that are for a base, as if they began there.
func (d *Definition) pathsOf(base string) ([]path, error) {
	all, err := parse(d.Expression)
	if err != nil {
		return nil, err
	}
	var own []path
	for _, p := range all {
		switch {
		case p.root == "", p.root == base, everyType(p.root):
			p.root = base
			own = append(own, p)
		case !slices.Contains(d.Bases, p.root):
			return nil, fmt.Errorf("cannot compile expression %q: it begins at %s, which is not among the bases", d.Expression, p.root)
		}
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("cannot compile expression %q: nothing in it is for the base %s", d.Expression, base)
	}
	return own, nil
}

// components resolves a composite's components. Their codes are their URLs here,
// which need not be of one type.
func (t *Table) components(d *Definition) (all []component, kinds map[string]Kind, err error) {
	kinds = map[string]Kind{}
	for i, part := range d.Components {
		at := slices.IndexFunc(t.params, func(p *Param) bool { return p.URL == part.URL })
		if at < 0 || t.params[at].Kind == Composite || t.params[at].Kind == Special {
			return nil, nil, fmt.Errorf("component %d is defined by '%s', which is no parameter that can be part of a composite", i+1, part.URL)
		}
		kinds[part.URL] = t.params[at].Kind
		paths, err := parse(part.Expression)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, component{part.URL, paths})
	}
	if len(all) < 2 {
		return nil, nil, errors.New("a composite has two components at least")
	}
	return all, kinds, nil
}

// renumber puts what field gives in the place of new fields.
func (p *Param) renumber(field func(*Field) *Field) {
	each := func(sources []Source) {
		for i := range sources {
			if sources[i].Field.Number == 0 {
				sources[i].Field = field(sources[i].Field)
			}
		}
	}
	each(p.Sources)
	for i := range p.Pairings {
		for _, whole := range p.Pairings[i].Whole {
			each(whole)
		}
		if group := p.Pairings[i].Group; group != nil && group.Number == 0 {
			p.Pairings[i].Group = field(group)
		}
	}
}

// FieldMax is the highest number among the fields that answer the parameter; 0: it has none.
func (p *Param) FieldMax() uint16 {
	highest := uint16(0)
	for _, s := range p.Sources {
		highest = max(highest, s.Field.Number)
	}
	for _, pairing := range p.Pairings {
		for _, whole := range pairing.Whole {
			for _, s := range whole {
				highest = max(highest, s.Field.Number)
			}
		}
		if pairing.Group != nil {
			highest = max(highest, pairing.Group.Number)
		}
	}
	return highest
}

// KindByName finds a search type by the specification's name; 0: there is none.
func KindByName(name string) Kind { return kindByName(strings.TrimSpace(name)) }

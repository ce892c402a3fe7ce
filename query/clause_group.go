package query

import (
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// group is a name that only a _filter has, for parameters of one element of which a
// composite is made: characteristic[code eq a].value eq b (R4 search_filter.html#params,
// those whose parameters R4 still has).
type group struct {
	typ, name string
	composite string
	children  map[string]int // the composite's components
}

var groups = []group{
	{"Group", "characteristic", "characteristic-value", map[string]int{"code": 0, "value": 1}},
	{"DocumentReference", "relatesTo", "relationship", map[string]int{"code": 0, "target": 1}},
}

// groupOf finds a type's group; nil: none.
func groupOf(t fhir.TypeCode, name string) *group {
	for i := range groups {
		if t != 0 && groups[i].typ == t.String() && groups[i].name == name {
			return &groups[i]
		}
	}
	return nil
}

// grouped reads a group's test as the composite: both components equal in one
// element. Of a filter with "or", each of its tests counts.
func (r *clauseReader) grouped(t fhir.TypeCode, g *group, c *clause, path []link) (*filter, error) {
	p := r.table.Param(t, g.composite)
	where := path[0].where
	if p == nil || len(path) != 2 || path[1].where != nil || where == nil {
		return nil, invalid("The name '%s' stands in front of a filter and one name, as '%s[code eq a].NAME eq b'.", g.name, g.name)
	}
	tests := []*clause{where}
	if where.op == opOr {
		tests = where.args
	}
	own, err := r.component(g, c, path[1:])
	if err != nil {
		return nil, err
	}
	var all []*filter
	for _, test := range tests {
		other, err := r.component(g, test, test.path)
		if err != nil {
			return nil, err
		}
		if own == other {
			return nil, invalid("The filter of '%s' is about the component '%s' itself.", g.name, path[1].name)
		}
		parts := make([]string, len(g.children))
		parts[own], parts[other] = r.part(p, own, c.value), r.part(p, other, test.value)
		f, err := r.pairs(p, parts)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return or(all...), r.addValues(len(all))
}

// component is which of a group's components a test is about.
func (r *clauseReader) component(g *group, c *clause, path []link) (int, error) {
	if c.op != opTerms || len(path) != 1 || path[0].where != nil {
		return 0, notSupported("The filter of '%s' is one test, or several with 'or' between them: others are not supported.", g.name)
	}
	at, ok := g.children[path[0].name]
	switch {
	case !ok:
		return 0, invalid("The name '%s' has nothing of the name '%s'.", g.name, path[0].name)
	case c.operator != "eq" && !(c.operator == "re" && path[0].name == "target"):
		return 0, notSupported("The operator %s is not supported for '%s' of '%s', only eq (of references, re).", c.operator, path[0].name, g.name)
	}
	return at, nil
}

// part is a value as composites have it.
func (r *clauseReader) part(p *search.Param, at int, value string) string {
	group := p.Pairings[0].Group
	if group == nil || group.Parts[at].Kind == search.Token {
		return named(value, 0)
	}
	return strings.ReplaceAll(value, `\`, `\\`)
}

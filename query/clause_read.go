package query

import (
	"fmt"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// clauseReader makes a filter of the text of one _filter.
type clauseReader struct {
	*reader
	text string
}

// expression reads a _filter on resources of a type; 0: of any.
func (r *reader) expression(t fhir.TypeCode, modifier, text string, depth int) (*filter, error) {
	if modifier != "" {
		return nil, notSupported("The modifier ':%s' is not supported for the parameter '_filter'.", modifier)
	}
	c, err := parseClause(text)
	if err != nil {
		return nil, err
	}
	return (&clauseReader{r, text}).clause(t, c, depth)
}

func (r *clauseReader) clause(t fhir.TypeCode, c *clause, depth int) (*filter, error) {
	if c.op == opTerms {
		return r.test(t, c, depth)
	}
	var args []*filter
	for _, arg := range c.args {
		f, err := r.clause(t, arg, depth)
		if err != nil {
			return nil, err
		}
		args = append(args, f)
	}
	switch c.op {
	case opNot:
		return not(args[0]), nil
	case opOr:
		return or(args...), nil
	}
	return and(args...), nil
}

// test reads a path, an operator and a value.
func (r *clauseReader) test(t fhir.TypeCode, c *clause, depth int) (*filter, error) {
	if err := r.addFilter(); err != nil {
		return nil, err
	}
	f, err := r.path(t, c, c.path, depth)
	switch err := err.(type) {
	case nil:
	case *Error:
		if !err.placed {
			err.Text, err.placed = r.where(c)+err.Text, true
		}
		return nil, err
	case *unknownParameter:
		if err.where == "" {
			err.where = r.where(c)
		}
		return nil, err
	default:
		return nil, err
	}
	if f.name == "" {
		f.name = c.name()
	}
	return f, nil
}

// where says which test an error is about.
func (r *clauseReader) where(c *clause) string {
	return fmt.Sprintf("In _filter, at character %d: ", character(r.text, c.at))
}

// name is the test for explanations, without its value.
func (c *clause) name() string {
	var names []string
	for _, step := range c.path {
		names = append(names, step.name)
	}
	return strings.Join(names, ".") + " " + c.operator
}

// path reads a test from one name of its path on.
func (r *clauseReader) path(t fhir.TypeCode, c *clause, path []link, depth int) (*filter, error) {
	if depth > chainDepthMax {
		return nil, tooLong()
	}
	step := path[0]
	first, _, _ := strings.Cut(step.name, ":")
	if err := r.checkContained(first, depth); err != nil {
		return nil, err
	}
	if rest, ok := strings.CutPrefix(step.name, "_has:"); ok {
		return r.hasPath(t, c, rest, path, depth)
	}
	if g := groupOf(t, step.name); g != nil && len(path) > 1 {
		return r.grouped(t, g, c, path)
	}
	code, modifier, _ := strings.Cut(step.name, ":")
	p := r.table.Param(t, code)
	switch {
	case isSpecial(code):
		if c.operator != "eq" || len(path) > 1 {
			return nil, invalid("The parameter '%s' is only compared with the operator eq.", code)
		}
		f, _, err := r.special(t, code, modifier, c.value, depth)
		return f, err
	case p == nil:
		return nil, &unknownParameter{name: code, typ: t}
	case p.Virtual == search.Unsupported:
		return nil, noWords(code)
	case len(path) > 1:
		return r.chain(p, modifier, func(t fhir.TypeCode) (*filter, error) { return r.rest(t, c, path, depth) })
	case modifier != "":
		return nil, notSupported("A _filter has no modifiers as in '%s': operators stand for them.", step.name)
	}
	return r.compare(t, p, c)
}

// rest reads what stands behind the first name of a path, and the filter on it.
func (r *clauseReader) rest(t fhir.TypeCode, c *clause, path []link, depth int) (*filter, error) {
	inner, err := r.path(t, c, path[1:], depth+1)
	if err != nil || path[0].where == nil {
		return inner, err
	}
	where, err := r.clause(t, path[0].where, depth+1)
	if err != nil {
		return nil, err
	}
	return and(where, inner), nil
}

// hasPath reads a path that begins with _has:Type:reference:.
func (r *clauseReader) hasPath(t fhir.TypeCode, c *clause, rest string, path []link, depth int) (*filter, error) {
	return r.reverse(t, rest, func(from fhir.TypeCode, name string) (*filter, error) {
		inner := append([]link{{name: name, where: path[0].where}}, path[1:]...)
		return r.path(from, c, inner, depth+1)
	})
}

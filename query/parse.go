package query

import (
	"fmt"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/fhir/ucum"
	"kiln/index"
)

// Parameter is a name and a value of a URL, decoded.
type Parameter struct{ Name, Value string }

// Options say what a search is read against.
type Options struct {
	// Base is the server's own FHIR base: references below it are to its own
	// resources.
	Base string
	// Now is what "ap" of a date is relative to.
	Now time.Time
	// Units converts quantities; nil: they are found in the unit that is asked for.
	Units *ucum.Table
	// Lenient leaves out parameters that nobody knows, and notes them in Ignored.
	Lenient bool
	// Table is the parameters that are known, as Registry.Current gives them; nil:
	// those of R4.
	Table *search.Table
	// Access limits what is found; nil: nothing does.
	Access *Access
}

// Search is what a client asks for.
type Search struct {
	// Types are searched; none: all.
	Types []fhir.TypeCode
	Sort  []SortKey
	// Count is how many matches a page has; -1: not said; 0: only the number of
	// all is wanted.
	Count int
	// Total is "none", "estimate", "accurate", or "" when not said.
	Total string
	// Explain asks for the plan.
	Explain bool
	// Ignored are parameters that were left out.
	Ignored []string
	// Used are the parameters that were not, in their order.
	Used []Parameter

	where     *filter
	contained contained
	includes  []include
	base      string
	table     *search.Table
	access    *Access
}

// Conditions tells whether anything limits what is found.
func (s *Search) Conditions() bool { return s.where.op != opAll }

// reader reads the parameters of one search.
type reader struct {
	Options
	table   *search.Table
	search  *Search
	filters int
	values  int
}

// addValues counts values that are searched for.
func (r *reader) addValues(n int) error {
	if r.values += n; r.values > valuesMax {
		return tooCostly("The search has more than %d values.", valuesMax)
	}
	return nil
}

// Parse reads a search of the types (none: all). The parameters of answers that
// are not about which resources are found, _summary and so on, are the
// caller's, and are not among them. Errors are *Error.
func Parse(types []fhir.TypeCode, parameters []Parameter, o Options) (*Search, error) {
	if o.Table == nil {
		var err error
		if o.Table, err = search.Load(); err != nil {
			return nil, err
		}
	}
	s := &Search{Types: types, Count: -1, base: o.Base, table: o.Table, access: o.Access}
	if s.access != nil && (s.access.Find == nil || s.access.Bring == nil) {
		panic("BUG: an Access without its functions")
	}
	r := &reader{Options: o, table: o.Table, search: s}
	if err := r.types(parameters); err != nil {
		return nil, err
	}
	if err := r.contained(parameters); err != nil {
		return nil, err
	}
	var all []*filter
	for _, p := range parameters {
		f, err := r.parameter(p)
		if err != nil {
			return nil, err
		}
		if f != nil {
			all = append(all, f)
		}
	}
	s.where = and(all...)
	if s.access != nil && s.Explain { // a step counts what it left, before it is limited
		return nil, notSupported("The parameter '_explain' is not supported for who may see a part of the resources only. Leave it out.")
	}
	return s, nil
}

// parameter reads one; nil: it is no condition.
func (r *reader) parameter(p Parameter) (*filter, error) {
	ours, err := r.control(p)
	if ours || err != nil {
		return nil, err
	}
	if p.Value == "" { // as if it was not there (R4 search.html#escaping and every server)
		return nil, nil
	}
	f, err := r.condition(r.search.Types, p.Name, p.Value, 0)
	if unknown, ok := err.(*unknownParameter); ok && r.Lenient && unknown.where == "" {
		r.search.Ignored = append(r.search.Ignored, p.Name)
		return nil, nil
	} else if ok {
		return nil, unknown.refused()
	}
	if err == nil {
		r.search.Used = append(r.search.Used, p)
	}
	return f, err
}

// unknownParameter is an error that a lenient search does not mind, but in a
// _filter: what is left of that without a part is another filter.
type unknownParameter struct {
	name  string
	typ   fhir.TypeCode
	where string // which part of a _filter it is in; empty: none
}

func (e *unknownParameter) Error() string { return e.refused().Error() }

func (e *unknownParameter) refused() error {
	text := fmt.Sprintf("The search parameter '%s' is not supported for resource type '%s'.", e.name, e.typ)
	if e.typ == 0 {
		text = fmt.Sprintf("The search parameter '%s' is not supported for all resource types.", e.name)
	}
	return &Error{Kind: NotSupported, Text: e.where + text}
}

// condition reads a condition on resources of the types; none: of all.
func (r *reader) condition(types []fhir.TypeCode, name, value string, depth int) (*filter, error) {
	if err := r.addFilter(); err != nil {
		return nil, err
	}
	f, err := r.onTypes(types, name, value, depth)
	if err == nil && f.name == "" {
		f.name = name
	}
	return f, err
}

// addFilter counts conditions.
func (r *reader) addFilter() error {
	if r.filters++; r.filters > filtersMax {
		return tooCostly("The search has more than %d conditions.", filtersMax)
	}
	return nil
}

func tooLong() error {
	return tooCostly("The search has a chain of more than %d links.", chainDepthMax)
}

func (r *reader) onTypes(types []fhir.TypeCode, name, value string, depth int) (*filter, error) {
	if len(types) == 0 {
		return r.ofType(0, name, value, depth)
	}
	var all []*filter
	seen := map[*search.Param]bool{}
	for _, t := range types {
		// A parameter of every type is one field for all of them.
		head, _, _ := strings.Cut(name, ".")
		code, _, _ := strings.Cut(head, ":")
		p := r.table.Param(t, code)
		common := p != nil && p.Type == 0 && p.Virtual != search.ByKey
		if common {
			if seen[p] {
				continue
			}
			seen[p] = true
		}
		f, err := r.ofType(t, name, value, depth)
		if err != nil {
			return nil, err
		}
		if len(types) > 1 && !common && (f.op == opNot || code == "_filter") {
			// "Not" is about the resources of this type, also deep in a _filter.
			f = and(f, ofTypes(t))
		}
		all = append(all, f)
	}
	return or(all...), nil
}

func typeValue(t fhir.TypeCode) []byte { return []byte{byte(t >> 8), byte(t)} }

// ofType reads a condition on resources of one type; 0: of any.
func (r *reader) ofType(t fhir.TypeCode, name, value string, depth int) (*filter, error) {
	if depth > chainDepthMax {
		return nil, tooLong()
	}
	first, _, _ := strings.Cut(name, ":")
	if err := r.checkContained(first, depth); err != nil {
		return nil, err
	}
	if rest, ok := strings.CutPrefix(name, "_has:"); ok {
		return r.reverse(t, rest, func(from fhir.TypeCode, name string) (*filter, error) {
			return r.ofType(from, name, value, depth+1)
		})
	}
	head, tail, chained := strings.Cut(name, ".")
	code, modifier, _ := strings.Cut(head, ":")
	if f, ok, err := r.special(t, code, modifier, value, depth); ok || err != nil {
		return f, err
	}
	p := r.table.Param(t, code)
	switch {
	case p == nil:
		return nil, &unknownParameter{name: head, typ: t}
	case p.Virtual == search.Unsupported:
		return nil, noWords(code)
	case chained:
		return r.chain(p, modifier, func(t fhir.TypeCode) (*filter, error) { return r.ofType(t, tail, value, depth+1) })
	}
	return r.simple(t, p, modifier, value)
}

// simple reads a condition that is no chain.
func (r *reader) simple(t fhir.TypeCode, p *search.Param, modifier, value string) (*filter, error) {
	if modifier == "missing" {
		return r.missing(p, value)
	}
	texts := split(value, ',')
	if err := r.addValues(len(texts)); err != nil {
		return nil, err
	}
	negated := false
	if p.Kind == search.Token {
		switch modifier {
		case "not":
			negated, modifier = true, ""
		case "not-in":
			negated, modifier = true, "in"
		}
	}
	f, err := r.anyOf(t, p, modifier, texts)
	if err != nil {
		return nil, err
	}
	if negated {
		f = not(f)
	}
	return f, nil
}

// anyOf is one of several values.
func (r *reader) anyOf(t fhir.TypeCode, p *search.Param, modifier string, texts []string) (*filter, error) {
	if p.Virtual == search.ByKey {
		return r.ids(t, modifier, texts)
	}
	var all []*filter
	for _, text := range texts {
		f, err := r.value(p, modifier, text)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return or(all...), nil
}

// value is one value of a parameter.
func (r *reader) value(p *search.Param, modifier, text string) (*filter, error) {
	if text == "" {
		return nil, invalid("The parameter '%s' has an empty value.", p.Code)
	}
	if p.Virtual == search.ByClock {
		return r.updated(modifier, text)
	}
	if p.Kind == search.Composite {
		return r.composite(p, modifier, text)
	}
	if p.Kind == search.Token {
		switch modifier {
		case "in", "above", "below":
			return r.codes(p, modifier, text)
		case "not-in":
			f, err := r.codes(p, "in", text)
			if err != nil {
				return nil, err
			}
			return not(f), nil
		}
	}
	walks, err := r.walks(p, p.Sources, modifier, text)
	return terms(walks), err
}

// Supports tells whether a parameter can be searched by.
func Supports(p *search.Param) bool {
	return p.Virtual != search.Unsupported
}

// missing is whether a resource has any value of a parameter.
func (r *reader) missing(p *search.Param, value string) (*filter, error) {
	if value != "true" && value != "false" {
		return nil, invalid("The value of '%s:missing' is not true or false.", p.Code)
	}
	var has *filter
	switch {
	case p.Virtual == search.ByKey || p.Virtual == search.ByClock:
		has = &filter{op: opAll}
	case p.Kind == search.Composite:
		has = anyPair(p)
	default:
		has = terms(index.FieldWalks(p.Sources))
	}
	if value == "true" {
		return not(has), nil
	}
	return has, nil
}

// anyPair is having a value of a composite.
func anyPair(p *search.Param) *filter {
	var all []*filter
	for _, pairing := range p.Pairings {
		var parts []*filter
		for _, sources := range pairing.Whole {
			if len(sources) > 0 {
				parts = append(parts, terms(index.PartWalks(sources)))
			}
		}
		if pairing.Group != nil {
			parts = append(parts, terms([]index.Walk{{Param: index.Param(pairing.Group.Number)}}))
		}
		all = append(all, and(parts...))
	}
	return or(all...)
}

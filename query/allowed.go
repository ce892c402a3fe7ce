package query

import (
	"context"
	"errors"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
)

// Allowed is what of a type's resources a client may find: Whole, or what one of Rules
// chooses; without rules nothing.
type Allowed struct {
	Whole bool
	Rules []Rule
}

// Rule chooses resources of a type.
type Rule struct {
	// Patient limits it to the compartment of the patient with this id; "": it does not.
	Patient string
	// Where limits it to the matches of a search; none: it does not. A rule whose
	// search cannot be read, or has a parameter that is no condition, chooses nothing.
	Where []Parameter
}

// Access is what of each type a search may reach. What it may not reach is not there
// for it: it is no match, is not counted, is not brought along, and no chain, _has,
// _list or value set leads through it.
type Access struct {
	// Find is about matches and what conditions look into, Bring about what includes
	// bring along.
	Find, Bring func(fhir.TypeCode) Allowed
	// Options are those that the rules are read by; their Access counts for nothing. Their
	// Base is one that no client can choose: by it references are to this server's
	// patients, or to another's.
	Options Options
}

// Condition is what of a type is allowed, as an expression; nil: all of it. What the
// rules' own chains go through is not limited. Errors are the engine's.
func (a *Access) Condition(ctx context.Context, snap *engine.Snapshot, t fhir.TypeCode, allowed Allowed) (*engine.Expr, error) {
	return a.ConditionAsOf(ctx, snap, 0, t, allowed)
}

// ConditionAsOf is Condition whose chains have run as of an LSN; 0: the snapshot's.
func (a *Access) ConditionAsOf(ctx context.Context, snap *engine.Snapshot, asOf uint64, t fhir.TypeCode, allowed Allowed) (*engine.Expr, error) {
	return a.condition(&runner{ctx: ctx, snap: snap, asOf: asOf}, t, allowed)
}

func (a *Access) condition(u *runner, t fhir.TypeCode, allowed Allowed) (*engine.Expr, error) {
	if allowed.Whole {
		return nil, nil
	}
	free := &runner{ctx: u.ctx, snap: u.snap, asOf: u.asOf, base: a.Options.Base}
	e := nothingExpr()
	e.Name = "allowed"
	for _, rule := range allowed.Rules {
		one, err := a.rule(free, t, rule)
		if err != nil {
			return nil, err
		}
		if one != nil {
			e.Args = append(e.Args, one)
		}
	}
	return e, nil
}

// rule is the condition of one; nil: it chooses nothing.
func (a *Access) rule(u *runner, t fhir.TypeCode, rule Rule) (*engine.Expr, error) {
	e := &engine.Expr{Op: engine.And}
	if rule.Patient != "" {
		patient := fhir.TypeByName([]byte("Patient"))
		in, err := InCompartments(t, patient, []engine.Key{{Type: patient, ID: []byte(rule.Patient)}}, u.base)
		if err != nil || in == nil {
			return nil, err
		}
		e.Args = append(e.Args, in)
	}
	if len(rule.Where) == 0 {
		return e, nil
	}
	where, err := a.where(u, t, rule.Where)
	var refused *Error
	if where == nil || errors.As(err, &refused) {
		return nil, nil
	}
	e.Args = append(e.Args, where)
	return e, err
}

// where is a rule's search; nil: it is none.
func (a *Access) where(u *runner, t fhir.TypeCode, parameters []Parameter) (*engine.Expr, error) {
	for _, p := range parameters {
		if p.Value == "" || isAboutAnswer(p.Name) { // left out, the rest would choose more
			return nil, nil
		}
	}
	options := a.Options
	options.Lenient, options.Access = false, nil
	s, err := Parse([]fhir.TypeCode{t}, parameters, options)
	if err != nil {
		return nil, err
	}
	return u.expr(s.where)
}

// isAboutAnswer tells the parameters that are no conditions; see control. What it does
// not know is refused by Parse, or is a condition.
func isAboutAnswer(name string) bool {
	code, _, _ := strings.Cut(name, ":")
	switch code {
	case "_sort", "_count", "_total", "_include", "_revinclude", "_contained", "_containedType", "_explain", "_score":
		return true
	}
	return false
}

// limit narrows a query to what of its types may be found, or brought along.
func (u *runner) limit(q *engine.Query, of func(*Access) func(fhir.TypeCode) Allowed) error {
	if u.access == nil {
		return nil
	}
	allowed := of(u.access)
	if len(q.Types) == 1 {
		e, err := u.access.condition(u, q.Types[0], allowed(q.Types[0]))
		if e != nil {
			q.Where = both(q.Where, e)
		}
		return err
	}
	e, types, err := u.anyAllowed(q.Types, allowed)
	if e == nil || err != nil {
		return err
	}
	q.Types, q.Where = types, both(q.Where, e)
	return nil
}

// anyAllowed is what of several types (none: of all) is allowed, and of which some
// is; nil: all is.
func (u *runner) anyAllowed(types []fhir.TypeCode, allowed func(fhir.TypeCode) Allowed) (*engine.Expr, []fhir.TypeCode, error) {
	if len(types) == 0 {
		for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
			types = append(types, t)
		}
	}
	whole, e := &engine.Expr{Op: engine.Terms}, nothingExpr()
	e.Name = "allowed"
	var some []fhir.TypeCode
	for _, t := range types {
		a := allowed(t)
		switch {
		case a.Whole:
			whole.Walks = append(whole.Walks, typeWalk(t))
		case len(a.Rules) == 0:
			continue
		default:
			one, err := u.access.condition(u, t, a)
			if err != nil {
				return nil, nil, err
			}
			e.Args = append(e.Args, both(&engine.Expr{Op: engine.Terms, Walks: []index.Walk{typeWalk(t)}}, one))
		}
		some = append(some, t)
	}
	if len(whole.Walks) == len(types) {
		return nil, nil, nil
	}
	if len(whole.Walks) > 0 {
		e.Args = append(e.Args, whole)
	}
	if len(some) == 0 {
		some = types // and nothing of them
	}
	return e, some, nil
}

func typeWalk(t fhir.TypeCode) index.Walk { return index.ExactWalk(index.ParamType, typeValue(t)) }

func both(a, b *engine.Expr) *engine.Expr {
	if a == nil {
		return b
	}
	return &engine.Expr{Op: engine.And, Args: []*engine.Expr{a, b}}
}

func toFind(a *Access) func(fhir.TypeCode) Allowed  { return a.Find }
func toBring(a *Access) func(fhir.TypeCode) Allowed { return a.Bring }

// Consults are the types of the resources that the conditions look into beside those
// that are searched: a chain's, those of _has, Lists, ValueSets and CodeSystems.
func (s *Search) Consults() []fhir.TypeCode { return s.where.consults(nil) }

func (f *filter) consults(types []fhir.TypeCode) []fhir.TypeCode {
	switch f.op {
	case opList:
		types = append(types, listType())
	case opCodes:
		types = append(types, fhir.TypeByName([]byte("ValueSet")), fhir.TypeByName([]byte("CodeSystem")))
	}
	for _, t := range f.targets {
		types = t.where.consults(append(types, t.typ))
	}
	for _, arg := range f.args {
		types = arg.consults(types)
	}
	return types
}

package engine

import (
	"kiln/fhir/search"
	"kiln/index"
)

// needs says which terms a search reads, of those that an extraction makes.
type needs struct {
	fields    bool // those of R4's fields
	custom    int  // those of so many added fields, the first ones
	contained bool // the types of contained resources
}

// and is the needs of both.
func (n needs) and(o needs) needs {
	return needs{n.fields || o.fields, max(n.custom, o.custom), n.contained || o.contained}
}

func termNeeds(p index.Param) needs {
	switch {
	case p == index.ParamContained:
		return needs{contained: true}
	case !p.IsField():
		return needs{}
	case p < search.FieldCustomMin:
		return needs{fields: true}
	}
	return needs{fields: true, custom: int(p-search.FieldCustomMin) + 1}
}

func walksNeed(walks []index.Walk) (all needs) {
	for i := range walks {
		all = all.and(termNeeds(walks[i].Param))
	}
	return all
}

// needs of nil are none: everything is taken.
func (e *Expr) needs() (all needs) {
	if e == nil {
		return all
	}
	all = walksNeed(e.Walks)
	for i := range e.Inside { // what is inside is read in the bodies
		all = all.and(walksNeed(e.Inside[i].Walks))
	}
	for _, arg := range e.Args {
		all = all.and(arg.needs())
	}
	return all
}

func (q *Query) sortNeeds() (all needs) {
	for _, k := range q.Sort {
		for _, s := range k.Param.Sources {
			all = all.and(termNeeds(index.Param(s.Field.Number)))
		}
	}
	return all
}

// has tells whether the run has the terms. Void and dropped rows need none.
func (r *runState) has(n needs) bool {
	return (!n.fields || r.run.HasFieldTerms()) && n.custom <= r.run.Custom() && (!n.contained || r.run.HasContainedTerms())
}

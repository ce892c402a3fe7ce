package engine

import (
	"kiln/fhir/search"
	"kiln/index"
)

// needs says which terms a search reads: none that an extraction makes, those of
// R4's fields (1), or those of n added fields too (1 + n).
type needs int

const (
	needsNone   needs = 0
	needsFields needs = 1
)

func fieldNeeds(p index.Param) needs {
	switch {
	case !p.IsField():
		return needsNone
	case p < search.FieldCustomMin:
		return needsFields
	}
	return needsFields + needs(p-search.FieldCustomMin) + 1
}

func walksNeed(walks []index.Walk) (most needs) {
	for i := range walks {
		most = max(most, fieldNeeds(walks[i].Param))
	}
	return most
}

// needs of nil are none: everything is taken.
func (e *Expr) needs() needs {
	if e == nil {
		return needsNone
	}
	most := walksNeed(e.Walks)
	for _, arg := range e.Args {
		most = max(most, arg.needs())
	}
	return most
}

func (q *Query) sortNeeds() (most needs) {
	for _, k := range q.Sort {
		for _, s := range k.Param.Sources {
			most = max(most, fieldNeeds(index.Param(s.Field.Number)))
		}
	}
	return most
}

// has tells whether the run has the terms. Void and dropped rows need none.
func (r *runState) has(n needs) bool {
	if n == needsNone {
		return true
	}
	return r.run.Extraction() == index.ExtractionVersion && needs(r.run.Custom()) >= n-needsFields
}

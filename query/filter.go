package query

import (
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/fhir/terminology"
	"kiln/index"
)

// op is what a filter is.
type op uint8

const (
	opAll   op = iota // everything
	opAnd             // all of args
	opOr              // one of args; none: nothing
	opNot             // not args[0]
	opTerms           // a term in one of walks
	opKeys            // one of keys
	opChain           // refers, by one of sources, to a match of one of targets
	opHas             // is referred to, by param, from a match of targets[0]
	opList            // is an entry of the List keys[0]
	opCodes           // has, in one of sources, a code of what codes names
)

// filter is a condition on resources, before its inner searches ran.
type filter struct {
	op      op
	name    string // of the parameter, for explanations
	args    []*filter
	walks   []index.Walk
	keys    []key
	sources []search.Source // of opChain and opHas
	targets []target
	codes   codesOf
}

// codesOf names a set of codes: of a value set, or a code with what is above or
// below it.
type codesOf struct {
	modifier string // in, above, below
	// literal is the id of a ValueSet, canonical its url or url|version; what is found
	// by the first goes before the second. "": not that.
	literal, canonical string
	code               terminology.Code
}

// target is an inner search of a chain.
type target struct {
	typ   fhir.TypeCode
	where *filter
}

// key names a resource.
type key struct {
	typ fhir.TypeCode
	id  string
}

func and(args ...*filter) *filter {
	kept := args[:0]
	for _, f := range args {
		if f.op != opAll {
			kept = append(kept, f)
		}
	}
	switch len(kept) {
	case 0:
		return &filter{op: opAll}
	case 1:
		return kept[0]
	}
	return &filter{op: opAnd, args: kept}
}

// or joins filters; those of terms become one.
func or(args ...*filter) *filter {
	if len(args) == 1 && args[0].op == opTerms {
		args[0].walks = index.JoinWalks(args[0].walks)
		return args[0]
	}
	terms := &filter{op: opTerms}
	var kept []*filter
	for _, f := range args {
		switch f.op {
		case opTerms:
			terms.walks = append(terms.walks, f.walks...)
		case opAll:
			return f
		case opOr:
			kept = append(kept, f.args...)
		default:
			kept = append(kept, f)
		}
	}
	if len(terms.walks) > 0 {
		terms.walks = index.JoinWalks(terms.walks)
		kept = append(kept, terms)
	}
	if len(kept) == 1 {
		return kept[0]
	}
	return &filter{op: opOr, args: kept}
}

func not(f *filter) *filter {
	if f.op == opNot {
		return f.args[0]
	}
	return &filter{op: opNot, args: []*filter{f}}
}

func nothing() *filter { return &filter{op: opOr} }

func terms(walks []index.Walk) *filter {
	if len(walks) == 0 {
		return nothing()
	}
	return &filter{op: opTerms, walks: walks}
}

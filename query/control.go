package query

import (
	"strconv"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
)

// SortKey is one key of _sort.
type SortKey = engine.SortKey

// types reads _type, which says what the other parameters are about.
func (r *reader) types(parameters []Parameter) error {
	if len(r.search.Types) > 0 {
		return nil
	}
	for _, p := range parameters {
		if p.Name != "_type" {
			continue
		}
		if len(r.search.Types) > 0 {
			return invalid("The parameter '_type' is given more than once.")
		}
		for name := range strings.SplitSeq(p.Value, ",") {
			t := fhir.TypeByName([]byte(name))
			if t == 0 {
				return invalid("The value '%s' of the parameter '_type' is not a resource type.", name)
			}
			r.search.Types = append(r.search.Types, t)
		}
		r.search.Used = append(r.search.Used, p)
	}
	return nil
}

// control reads the parameters that are about the result; ours is false for
// conditions.
func (r *reader) control(p Parameter) (ours bool, err error) {
	name, modifier, _ := strings.Cut(p.Name, ":")
	switch name {
	case "_type":
		if len(r.search.Used) > 0 && r.search.Used[0].Name == "_type" {
			return true, nil // read by types
		}
		return false, nil
	case "_sort":
		err = r.sort(p.Value)
	case "_count":
		err = r.count(p.Value)
	case "_total":
		err = r.total(p.Value)
	case "_include", "_revinclude":
		err = r.include(name, modifier, p.Value)
		modifier = ""
	case "_contained", "_containedType": // read by contained
	case "_explain":
		r.search.Explain = p.Value == "true"
	case "_score":
		err = notSupported("The parameter '_score' is not supported: matches have no rank here. Leave it out, or order them with '_sort'.")
	default:
		return false, nil
	}
	if err == nil && modifier != "" {
		err = notSupported("The modifier ':%s' is not supported for the parameter '%s'.", modifier, name)
	}
	if err == nil {
		r.search.Used = append(r.search.Used, p)
	}
	return true, err
}

func (r *reader) count(value string) error {
	if r.search.Count >= 0 {
		return invalid("The parameter '_count' is given more than once.")
	}
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return invalid("The value '%s' of the parameter '_count' is not a number of 0 or more.", value)
	}
	r.search.Count = int(n)
	return nil
}

func (r *reader) total(value string) error {
	switch value {
	case "none", "estimate", "accurate":
		r.search.Total = value
		return nil
	}
	return invalid("The value '%s' of the parameter '_total' is none of none, estimate and accurate.", value)
}

// sort reads keys such as "-date,family" (R4 search.html#sort).
func (r *reader) sort(value string) error {
	if r.search.contained.asked {
		return notSupported("The parameter '_sort' is not supported with '_contained': matches come in the order of the store. Leave it out.")
	}
	for name := range strings.SplitSeq(value, ",") {
		code, descending := strings.CutPrefix(name, "-")
		t := fhir.TypeCode(0)
		if len(r.search.Types) == 1 {
			t = r.search.Types[0]
		}
		p := r.table.Param(t, code)
		switch {
		case p == nil && t == 0:
			return notSupported("Sorting by '%s' is not supported in a search of several resource types.", code)
		case p == nil:
			return notSupported("Sorting by '%s' is not supported: resource type '%s' has no such parameter.", code, t)
		case !isSortable(p):
			return notSupported("Sorting by '%s' is not supported.", code)
		}
		if len(r.search.Sort) == sortKeysMax {
			return tooCostly("The parameter '_sort' has more than %d keys.", sortKeysMax)
		}
		r.search.Sort = append(r.search.Sort, SortKey{Param: p, Desc: descending})
	}
	return nil
}

func isSortable(p *search.Param) bool {
	return p.Kind != search.Composite && p.Kind != search.Special && (p.Virtual == search.Stored || p.Virtual == search.ByClock)
}

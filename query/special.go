package query

import (
	"kiln/fhir"
	"kiln/index"
)

// isSpecial tells the parameters that special reads.
func isSpecial(code string) bool {
	switch code {
	case "_type", "_list", "_filter", "_text", "_content", "_query":
		return true
	}
	return false
}

// special reads the parameters that are no field; ok is false for others.
func (r *reader) special(t fhir.TypeCode, code, modifier, value string, depth int) (f *filter, ok bool, err error) {
	switch code {
	case "_type":
		err = notSupported("The parameter '_type' is for searches of all resource types.")
	case "_list":
		f, err = r.list(modifier, value)
	case "_filter":
		f, err = r.expression(t, modifier, value, depth)
	case "_text", "_content":
		err = noWords(code)
	case "_query":
		err = notSupported("The parameter '_query' is not supported: this server has no named queries. Say what they would find by search parameters, or by '_filter'.")
	default:
		return nil, false, nil
	}
	return f, true, err
}

// noWords refuses a search for words.
func noWords(code string) error {
	return notSupported("The search parameter '%s' is not supported: this server has no index of the words in texts. Search elements by their parameters: strings with :contains, the displays of codes with :text.", code)
}

// ids reads _id.
func (r *reader) ids(t fhir.TypeCode, modifier string, texts []string) (*filter, error) {
	if modifier != "" {
		return nil, notSupported("The modifier ':%s' is not supported for the parameter '_id'.", modifier)
	}
	types := []fhir.TypeCode{t}
	if t == 0 {
		types = types[:0]
		for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
			types = append(types, t)
		}
	}
	if len(types)*len(texts) > keysMax {
		return nil, tooCostly("The parameter '_id' has more than %d values.", keysMax/len(types))
	}
	f := &filter{op: opKeys}
	for _, text := range texts {
		id := plain(text)
		if !fhir.ValidID([]byte(id)) {
			continue // no resource has it
		}
		for _, t := range types {
			f.keys = append(f.keys, key{t, id})
		}
	}
	if len(f.keys) == 0 {
		return nothing(), nil
	}
	return f, nil
}

// ofTypes is all resources of some types.
func ofTypes(types ...fhir.TypeCode) *filter {
	var walks []index.Walk
	for _, t := range types {
		walks = append(walks, index.ExactWalk(index.ParamType, typeValue(t)))
	}
	return terms(walks)
}

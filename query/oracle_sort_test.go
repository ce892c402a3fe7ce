package query

import (
	"cmp"
	"math/big"
	"regexp"
	"slices"
	"strings"
)

// sort puts what a search found in the order of its _sort: by key after key; of
// several values the lowest counts, or the highest of a falling key; without
// any comes last. The order among equals is kept.
func (o *oracle) sort(found []*modelVersion, s *modelSearch) {
	for _, p := range s.parameters {
		if p.Name != "_sort" {
			continue
		}
		keys := strings.Split(p.Value, ",")
		slices.SortStableFunc(found, func(a, b *modelVersion) int {
			for _, key := range keys {
				if c := o.compare(a, b, key); c != 0 {
					return c
				}
			}
			return 0
		})
	}
}

func (o *oracle) compare(a, b *modelVersion, key string) int {
	code, falling := strings.CutPrefix(key, "-")
	x, y := o.sortValues(a, code), o.sortValues(b, code)
	switch {
	case len(x) == 0 && len(y) == 0:
		return 0
	case len(x) == 0:
		return 1
	case len(y) == 0:
		return -1
	case falling:
		return slices.MaxFunc(y, compareSorted).compare(slices.MaxFunc(x, compareSorted))
	}
	return slices.MinFunc(x, compareSorted).compare(slices.MinFunc(y, compareSorted))
}

// sortValue is a number with what is before all numbers, or texts.
type sortValue struct {
	open   bool // before everything
	number *big.Rat
	texts  []string
}

func compareSorted(a, b sortValue) int { return a.compare(b) }

func (v sortValue) compare(w sortValue) int {
	switch {
	case v.open || w.open:
		return cmp.Compare(rank(w.open), rank(v.open))
	case v.number != nil:
		return v.number.Cmp(w.number)
	}
	return slices.Compare(v.texts, w.texts)
}

func rank(open bool) int {
	if open {
		return 1
	}
	return 0
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// sortValues are what a parameter's values are ordered by: dates by their
// beginning, numbers by the lower end, tokens by system and code, strings
// without case and accents.
func (o *oracle) sortValues(v *modelVersion, code string) (values []sortValue) {
	if code == "_lastUpdated" {
		return []sortValue{{number: new(big.Rat).SetInt64(v.milli)}}
	}
	d := o.def(v.typ, code)
	if d == nil {
		return nil
	}
	for _, path := range d.paths {
		for _, value := range pick(v.tree, path.steps) {
			values = append(values, sortValuesOf(d.kind, path.typ, value)...)
		}
	}
	return values
}

func sortValuesOf(kind, typ string, value any) (values []sortValue) {
	switch kind {
	case "date":
		if s, ok := spanOf(typ, value); ok {
			values = append(values, sortValue{open: s.first < -1<<60, number: new(big.Rat).SetInt64(s.first)})
		}
	case "number", "quantity":
		if a, ok := amountOf(typ, value); ok {
			values = append(values, sortValue{open: a.low == nil, number: a.low})
		}
	case "token":
		codes, _ := oracleCodes(typ, value)
		for _, c := range codes {
			first := "1"
			if c.code == "" || uuidForm.MatchString(c.code) {
				first = "0" // no code, then UUIDs stand before other codes
			}
			values = append(values, sortValue{texts: []string{c.system, first, c.code}})
		}
	case "string":
		for _, s := range stringsOf(typ, value) {
			values = append(values, sortValue{texts: []string{oracleFold(s)}})
		}
	case "uri":
		values = append(values, sortValue{texts: []string{value.(string)}})
	}
	return values
}

package query

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/index"
)

// TestFiltersAgreeWithTheOracle: the same random searches as those of
// TestSearchesAgreeWithTheOracle, written as a _filter as far as that can say them.
func TestFiltersAgreeWithTheOracle(t *testing.T) {
	from, to := seeds(t)
	asked := 0
	for seed := from; seed < to; seed++ {
		m := newSearchModel(t, seed)
		for range 8 {
			asked += m.checkFilters(m.step(), 30)
		}
		m.close()
	}
	if asked < 100*int(to-from) {
		t.Errorf("only %d searches had a filter", asked)
	}
}

func (m *searchModel) checkFilters(when string, count int) (asked int) {
	m.Helper()
	o := m.oracle()
	for range count {
		s := m.search(o)
		parameters, ok := o.filtered(s)
		if !ok {
			continue
		}
		asked++
		read, err := Parse(s.pathTypes(), parameters, Options{Base: o.base, Now: o.now})
		if err != nil {
			m.Fatalf("%s: %v for %s is refused: %v", when, parameters, s, err)
		}
		found := o.find(s.types, s.parameters)
		o.sort(found, s)
		got, total := m.pages(read, oneOf(m.rng, 1, 3, 1000), false)
		if want := names(found); !slices.Equal(got, want) || total != uint64(len(want)) {
			m.Fatalf("%s: %v for %s\n got %v (%d)\nwant %v (%d)\n%s", when, parameters, s, got, total, want, len(want), m.difference(got, found))
		}
	}
	return asked
}

// filtered puts a _filter in the place of the conditions that it can say; false:
// there are none.
func (o *oracle) filtered(s *modelSearch) (parameters []Parameter, ok bool) {
	typ := "*"
	if len(s.types) == 1 {
		typ = s.types[0]
	}
	var tests []string
	for _, p := range s.parameters {
		if p.Name != "_sort" && p.Name != "_type" {
			if text, ok := o.asFilter(typ, p); ok {
				tests = append(tests, "("+text+")")
				continue
			}
		}
		parameters = append(parameters, p)
	}
	return append(parameters, Parameter{"_filter", strings.Join(tests, " and ")}), len(tests) > 0
}

// asFilter writes a condition on resources of a type as a _filter.
func (o *oracle) asFilter(typ string, p Parameter) (string, bool) {
	path, name := "", p.Name
	for {
		if rest, ok := strings.CutPrefix(name, "_has:"); ok {
			parts := strings.SplitN(rest, ":", 3)
			path, typ, name = path+"_has:"+parts[0]+":"+parts[1]+":", parts[0], parts[2]
			continue
		}
		head, tail, chained := strings.Cut(name, ".")
		if !chained {
			break
		}
		code, target, _ := strings.Cut(head, ":")
		if target == "" {
			d := o.def(typ, code)
			if d == nil || len(d.targets) == 0 {
				return "", false
			}
			target = d.targets[0]
		}
		path, typ, name = path+head+".", target, tail
	}
	code, modifier, _ := strings.Cut(name, ":")
	if modifier == "missing" {
		return path + code + " pr " + map[string]string{"true": "false", "false": "true"}[p.Value], true
	}
	kind := code
	if d := o.def(typ, code); d != nil {
		kind = d.kind
	}
	var tests []string
	for _, text := range split(p.Value, ',') {
		operator, value, ok := asTest(kind, modifier, text)
		if !ok || modifier == "not" && path != "" {
			return "", false
		}
		quoted, err := json.Marshal(value)
		if err != nil {
			return "", false
		}
		tests = append(tests, fmt.Sprintf("%s%s %s %s", path, code, operator, quoted))
	}
	text := strings.Join(tests, " or ")
	if modifier == "not" {
		text = "not (" + text + ")"
	}
	return text, true
}

// asTest is the operator and the value of a condition on a parameter of a kind.
func asTest(kind, modifier, text string) (operator, value string, ok bool) {
	switch kind + ":" + modifier {
	case "token:", "token:not", "composite:", "_id:", "_list:":
		return "eq", text, true
	case "string:":
		return "sw", plain(text), true
	case "string:contains":
		return "co", plain(text), true
	case "uri:":
		return "eq", plain(text), true
	case "uri:below":
		return "sw", plain(text), true
	case "reference:":
		return "re", plain(text), true
	case "date:", "number:", "quantity:", "_lastUpdated:":
		compare, rest := index.CutCompare([]byte(text))
		return compare.String(), string(rest), true
	}
	return "", "", false
}

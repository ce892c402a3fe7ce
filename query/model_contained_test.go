package query

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
)

// addContained puts some random resources into another, mostly; their ids are short,
// and some are those of stored resources.
func (m *searchModel) addContained(tree map[string]any) {
	m.Helper()
	var list []any
	for m.rng.IntN(3) > 0 {
		inner := m.resource()
		if m.rng.IntN(2) == 0 {
			inner["id"] = fmt.Sprintf("c%d", m.rng.IntN(3))
		}
		list = append(list, inner)
	}
	if list == nil {
		return
	}
	m.referInside(tree, list)
	tree["contained"] = list
	for _, inner := range list {
		m.referInside(inner, list)
	}
}

// referInside makes some references of a value lead to contained resources.
func (m *searchModel) referInside(node any, list []any) {
	switch v := node.(type) {
	case []any:
		for _, element := range v {
			m.referInside(element, list)
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			if _, text := v[name].(string); !text || name != "reference" {
				m.referInside(v[name], list)
			} else if m.rng.IntN(2) == 0 {
				v[name] = "#" + oneOf(m.rng, list...).(map[string]any)["id"].(string)
			}
		}
	}
}

// inside gives what a resource contains, as resources.
func inside(v *modelVersion) (parts []*modelVersion) {
	list, _ := v.tree["contained"].([]any)
	for _, element := range list {
		tree := element.(map[string]any)
		parts = append(parts, &modelVersion{typ: tree["resourceType"].(string), id: tree["id"].(string), tree: tree, in: v})
	}
	return parts
}

// containedMode is what _contained and _containedType say.
type containedMode struct{ own, parts bool }

func (c containedMode) parameters() []Parameter {
	mode := map[bool]string{false: "true", true: "both"}[c.own]
	kind := map[bool]string{false: "container", true: "contained"}[c.parts]
	return []Parameter{{"_contained", mode}, {"_containedType", kind}}
}

// findContained gives what a search of contained resources finds: of R4's
// search.html#contained, resource by resource.
func (o *oracle) findContained(types []string, parameters []Parameter, mode containedMode) (found []string) {
	fits := func(v *modelVersion) bool {
		ok := len(types) == 0 || slices.Contains(types, v.typ)
		for _, p := range parameters {
			ok = ok && (isControl(p.Name) || o.matches(v, p.Name, p.Value))
		}
		return ok
	}
	for _, v := range o.all {
		name, there := names([]*modelVersion{v})[0], false
		if mode.own && fits(v) {
			found, there = append(found, name), true
		}
		for i, part := range inside(v) {
			switch {
			case !fits(part):
			case mode.parts:
				found = append(found, fmt.Sprintf("%s#%d %s", name, i, part.id))
			case !there:
				found, there = append(found, name), true
			}
		}
	}
	return found
}

// containedSearch makes a random search of contained resources.
func (m *searchModel) containedSearch(o *oracle) (*modelSearch, containedMode) {
	s := &modelSearch{}
	typ := "*"
	switch m.rng.IntN(6) {
	case 0:
	case 1:
		s.types = []string{"Patient", "Observation"}
		s.parameters = append(s.parameters, Parameter{"_type", "Patient,Observation"})
		typ = severalTypes
	default:
		typ = oneOf(m.rng, modelTypes()...)
		s.types = []string{typ}
	}
	samples := *o // values are near those of contained resources, too
	for _, v := range o.all {
		samples.all = append(slices.Clip(samples.all), inside(v)...)
	}
	for range oneOf(m.rng, 0, 1, 1, 1, 2) {
		p := m.condition(&samples, typ, 2)
		for strings.HasPrefix(p.Name, "_has") || strings.HasPrefix(p.Name, "_list") || strings.HasPrefix(p.Name, "_lastUpdated") {
			p = m.condition(&samples, typ, 2)
		}
		s.parameters = append(s.parameters, p)
	}
	return s, containedMode{own: m.rng.IntN(2) == 0, parts: m.rng.IntN(2) == 0}
}

// containedPages reads all pages of a search of contained resources.
func (m *searchModel) containedPages(s *Search, limit int, moving bool) (lines []string, total uint64) {
	m.Helper()
	page := Page{Limit: limit, Bytes: 1 << 20, Total: true}
	if !moving && m.rng.IntN(4) == 0 {
		page.Bytes = 1
	}
	for {
		n := m.snapshot()
		r, err := s.Run(context.Background(), m.store, n, page)
		if err != nil {
			m.Fatalf("Run: %v", err)
		}
		n.Release()
		if len(r.Matches) > limit || len(r.Parts) != len(r.Matches) {
			m.Fatalf("a page of %d has %d matches and %d parts", limit, len(r.Matches), len(r.Parts))
		}
		for i := range r.Matches {
			line := version(&r.Matches[i])
			if part := r.Parts[i]; part != nil {
				line += fmt.Sprintf("#%d %s", m.placeOf(r.Matches[i].Body, part.Body), part.ID)
			}
			lines = append(lines, line)
		}
		if page.Total {
			if total = r.Total; !r.Known {
				m.Fatal("nobody counted")
			}
		}
		if !r.More {
			return lines, total
		}
		page.After, page.AsOf, page.Total = r.Next, r.AsOf, false
		if moving {
			m.step()
		}
	}
}

// placeOf is the place of a contained resource.
func (m *searchModel) placeOf(container, part []byte) int {
	m.Helper()
	var c struct{ Contained []json.RawMessage }
	if err := json.Unmarshal(container, &c); err != nil {
		m.Fatal(err)
	}
	// The same resource may be there twice: its place in memory tells.
	for i, text := range c.Contained {
		if len(text) == len(part) && string(text) == string(part) && m.sameStart(container, part, i) {
			return i
		}
	}
	m.Fatalf("%s is not contained in %s", part, container)
	return 0
}

// sameStart tells whether part is what stands in a place of the container.
func (m *searchModel) sameStart(container, part []byte, place int) (same bool) {
	m.Helper()
	fhir.Members(container, 0, func(key []byte, at, _ int) bool {
		if string(key) == "contained" {
			i := 0
			fhir.Elements(container, at, func(at, _ int) bool {
				same = i == place && &container[at] == &part[0]
				i++
				return !same
			})
		}
		return !same
	})
	return same
}

// chainInside makes a chain that leads to a contained resource.
func (m *searchModel) chainInside(o *oracle) (typ string, p Parameter, ok bool) {
	for range min(20, len(o.all)) {
		v := oneOf(m.rng, o.all...)
		for _, d := range o.references(v.typ) {
			for _, w := range inside(v) {
				if !refersInside(v, d, w) || len(d.targets) > 0 && !slices.Contains(d.targets, w.typ) {
					continue
				}
				near := *o
				near.all = inside(v) // which refer to each other
				inner := m.condition(&near, w.typ, 1)
				return v.typ, Parameter{d.code + ":" + w.typ + "." + inner.Name, inner.Value}, true
			}
		}
	}
	return "", p, false
}

// checkChainsInside compares chains that lead to contained resources, and gives how
// many found some.
func (m *searchModel) checkChainsInside(when string) (matched int) {
	m.Helper()
	o := m.oracle()
	for range 3 {
		typ, p, ok := m.chainInside(o)
		if !ok {
			continue
		}
		parameters := []Parameter{p}
		read, err := Parse([]fhir.TypeCode{fhir.TypeByName([]byte(typ))}, parameters, Options{Base: o.base, Now: o.now})
		if err != nil {
			m.Fatalf("%s: %s?%v is refused: %v", when, typ, p, err)
		}
		want := names(o.find([]string{typ}, parameters))
		got, total := m.pages(read, oneOf(m.rng, 1, 1000), false)
		if !slices.Equal(got, want) || total != uint64(len(want)) {
			m.Fatalf("%s: %s?%v\n got %v (%d)\nwant %v", when, typ, p, got, total, want)
		}
		matched += len(want)
	}
	return matched
}

// TestContainedSearchesAgreeWithTheOracle: what is contained in others is found by the
// conditions that find what stands for itself, in the head, in runs and in both.
func TestContainedSearchesAgreeWithTheOracle(t *testing.T) {
	from, to := seeds(t)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newSearchModel(t, seed)
			m.containing = true
			chained := 0
			for range 10 {
				when := m.step()
				for range 3 {
					m.checkContained(when, false)
				}
				m.checkSearches(when, 2)
				chained += m.checkChainsInside(when)
			}
			for range 2 {
				m.checkContained("between other things", true)
			}
			m.close()
			if chained == 0 {
				t.Error("no chain led to a contained resource")
			}
		})
	}
}

// checkContained compares a search; moving: other things happen between its pages.
func (m *searchModel) checkContained(when string, moving bool) {
	m.Helper()
	o := m.oracle()
	s, mode := m.containedSearch(o)
	read, err := Parse(s.pathTypes(), slices.Concat(s.parameters, mode.parameters()), Options{Base: o.base, Now: o.now})
	if err != nil {
		m.Fatalf("%s: %s is refused: %v", when, s, err)
	}
	want := o.findContained(s.types, s.parameters, mode)
	limit := oneOf(m.rng, 1, 2, 1000)
	if moving {
		limit = max(2, len(want)/3)
	}
	got, total := m.containedPages(read, limit, moving)
	if !slices.Equal(got, want) || total != uint64(len(want)) {
		m.Fatalf("%s: %s %+v, pages of %d\n got %v (%d)\nwant %v (%d)", when, s, mode, limit, got, total, want, len(want))
	}
}

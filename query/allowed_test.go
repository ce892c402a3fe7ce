package query

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"kiln/engine"
	"kiln/fhir"
)

// limited is a random Access, and the oracle that has only what it allows.
func (m *searchModel) limited(o *oracle) (*Access, *oracle) {
	m.Helper()
	byType := map[string]Allowed{}
	for _, typ := range modelTypes() {
		byType[typ] = m.allowedOf(o, typ)
	}
	known := *o
	known.all = nil
	for _, v := range o.all {
		if o.allows(byType[v.typ], v) {
			known.all = append(known.all, v)
		}
	}
	of := func(t fhir.TypeCode) Allowed { return byType[t.String()] }
	return &Access{Find: of, Bring: of, Options: Options{Base: o.base, Now: o.now}}, &known
}

// allowedOf is everything, nothing, or one or two rules.
func (m *searchModel) allowedOf(o *oracle, typ string) Allowed {
	switch m.rng.IntN(5) {
	case 0, 1:
		return Allowed{Whole: true}
	case 2:
		return Allowed{}
	}
	var a Allowed
	for range 1 + m.rng.IntN(2) {
		var r Rule
		kind := m.rng.IntN(3)
		if kind != 0 {
			r.Patient = m.id()
		}
		if kind != 1 {
			r.Where = []Parameter{m.condition(o, typ, 1)}
		}
		a.Rules = append(a.Rules, r)
	}
	return a
}

func (o *oracle) allows(a Allowed, v *modelVersion) bool {
	if a.Whole {
		return true
	}
	return slices.ContainsFunc(a.Rules, func(r Rule) bool {
		in := r.Patient == "" || v.typ == "Patient" && v.id == r.Patient || v.typ != "Patient" && o.inCompartment(v, r.Patient)
		return in && (len(r.Where) == 0 || slices.Contains(o.find([]string{v.typ}, r.Where), v))
	})
}

// TestWhatIsNotAllowedIsNotThere: a limited search answers as an unlimited one would of
// a store that has only what is allowed: matches, totals, order, chains, _has, _list
// and what is brought along. Single versions are judged as searches find them.
func TestWhatIsNotAllowedIsNotThere(t *testing.T) {
	from, to := seeds(t)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newSearchModel(t, seed+1000)
			for range 12 {
				when := m.step()
				o := m.oracle()
				access, known := m.limited(o)
				for range 8 {
					m.checkLimited(when, access, o, known)
				}
				for range 4 {
					m.checkLimitedContained(when, access, o, known)
				}
				m.checkJudged(when, access, o, known)
			}
			m.close()
		})
	}
}

// checkLimited compares one search.
func (m *searchModel) checkLimited(when string, access *Access, o, known *oracle) {
	m.Helper()
	s := m.search(o)
	plain := slices.Clone(s.parameters)
	var includes []oracleInclude
	for range m.rng.IntN(3) {
		in := m.include(o)
		includes, s.parameters = append(includes, in), append(s.parameters, in.parameter())
	}
	read, err := Parse(s.pathTypes(), s.parameters, Options{Base: o.base, Now: o.now, Access: access})
	if err != nil {
		m.Fatalf("%s: %s is refused: %v", when, s, err)
	}
	found := known.find(s.types, plain)
	known.sort(found, &modelSearch{types: s.types, parameters: plain})
	got, total := m.pages(read, oneOf(m.rng, 3, 1000), false)
	if want := names(found); !slices.Equal(got, want) || total != uint64(len(want)) {
		m.Fatalf("%s: %s\n got %v (%d)\nwant %v (%d)\n%s", when, s, got, total, want, len(want), m.difference(got, found))
	}
	n := m.snapshot()
	defer n.Release()
	r, err := read.Run(context.Background(), m.store, n, Page{Limit: 1000, Bytes: 1 << 20})
	if err != nil {
		m.Fatal(err)
	}
	var brought []string
	for i := range r.Included {
		brought = append(brought, version(&r.Included[i]))
	}
	want := names(known.bring(found, includes))
	slices.Sort(brought)
	slices.Sort(want)
	if !slices.Equal(brought, want) {
		m.Fatalf("%s: %s brings\n     %v\nwant %v", when, s, brought, want)
	}
}

// checkLimitedContained compares a search of what resources contain.
func (m *searchModel) checkLimitedContained(when string, access *Access, o, known *oracle) {
	m.Helper()
	s, mode := m.containedSearch(o)
	want := known.findContained(s.types, s.parameters, mode)
	s.parameters = append(s.parameters, mode.parameters()...)
	read, err := Parse(s.pathTypes(), s.parameters, Options{Base: o.base, Now: o.now, Access: access})
	if err != nil {
		m.Fatalf("%s: %s is refused: %v", when, s, err)
	}
	got, total := m.containedPages(read, oneOf(m.rng, 1, 3, 1000), false)
	if !slices.Equal(got, want) || total != uint64(len(want)) {
		m.Fatalf("%s: %s\n got %v (%d)\nwant %v (%d)", when, s, got, total, want, len(want))
	}
}

// checkJudged compares each version by itself.
func (m *searchModel) checkJudged(when string, access *Access, o, known *oracle) {
	m.Helper()
	n := m.snapshot()
	defer n.Release()
	for _, v := range o.all {
		where, err := access.Condition(context.Background(), n, v.code(), access.Find(v.code()))
		if err != nil {
			m.Fatal(err)
		}
		stored, err := n.Get(v.code(), []byte(v.id))
		if err != nil {
			m.Fatal(err)
		}
		got := true
		if where != nil {
			if got, err = n.Matches(context.Background(), &stored, where); err != nil {
				m.Fatal(err)
			}
		}
		if got != slices.Contains(known.all, v) {
			m.Fatalf("%s: %s/%s by itself is allowed: %v, %+v", when, v.typ, v.id, got, access.Find(v.code()))
		}
	}
}

// A rule that cannot be read, or might choose more than it says, chooses nothing.
func TestRulesThatChooseNothing(t *testing.T) {
	m := newSearchModel(t, 1)
	defer m.close()
	for range 10 {
		m.commit()
	}
	n := m.snapshot()
	defer n.Release()
	patient := fhir.TypeByName([]byte("Patient"))
	f := func(rule Rule, some bool) {
		t.Helper()
		of := func(fhir.TypeCode) Allowed { return Allowed{Rules: []Rule{rule}} }
		access := &Access{Find: of, Bring: of, Options: Options{Base: modelBase, Lenient: true}}
		read, err := Parse([]fhir.TypeCode{patient}, nil, Options{Base: modelBase, Access: access})
		if err != nil {
			t.Fatal(err)
		}
		r, err := read.Run(context.Background(), m.store, n, Page{Total: true})
		if err != nil || r.Total > 0 != some {
			t.Errorf("%+v finds %d, error %v", rule, r.Total, err)
		}
		where, err := access.Condition(context.Background(), n, patient, of(patient))
		if err != nil {
			t.Fatal(err)
		}
		v := engine.Version{Type: patient, ID: []byte("a"), VersionID: 1, Body: []byte(`{"resourceType":"Patient","id":"a"}`)}
		if ok, err := n.Matches(context.Background(), &v, where); err != nil || ok && !some {
			t.Errorf("%+v takes a patient: %v, error %v", rule, ok, err)
		}
	}
	where := func(name, value string) Rule { return Rule{Where: []Parameter{{name, value}}} }
	f(where("_id:missing", "false"), true)
	f(where("nothing", "a"), false)
	f(where("name", ""), false)
	f(where("birthdate", "no date"), false)
	f(where("_count", "5"), false)
	f(where("_sort", "name"), false)
	f(where("_include", "*"), false)
	f(where("_total", "none"), false)
	f(where("_contained", "true"), false)
	f(where("_type", "Patient"), false)
	f(where("_explain", "false"), false)
	f(where("_contained", "false"), false)
	f(where("_containedType", "container"), false)
	f(where("_format", "json"), false)
	f(where("_summary", "true"), false)
	f(Rule{Where: []Parameter{{"_id:missing", "false"}, {"_count", "5"}}}, false)
	f(Rule{Where: []Parameter{{"_id:missing", "false"}, {"name", ""}}}, false)
	f(Rule{Patient: "nobody"}, false)
}

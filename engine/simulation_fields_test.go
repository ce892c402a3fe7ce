package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// simValues is how many values a simulated resource may have, in an extension that
// added fields read.
const simValues = 4

func simValue(n int) string {
	return fmt.Sprintf(`"n":%d,"extension":[{"url":"e","valueCode":"n%d"}]`, n, n)
}

// simDefinitions are the fields that the simulation adds.
var simDefinitions = []search.Definition{
	{Code: "a", Kind: search.Token, Bases: []string{"Patient"}, Expression: "Patient.extension('e').value as code"},
	{Code: "b", Kind: search.Token, Bases: []string{"Resource"}, Expression: "Resource.extension.where(url='e').value as code"},
	{Code: "c", Kind: search.Token, Bases: []string{"Observation"}, Expression: "Observation.extension.where(url='e').value"},
}

// simFields is what the simulation knows of added fields. Its random numbers are
// its own, so that it does not change what else a seed does.
type simFields struct {
	rng   *rand.Rand
	added []*search.Field // acknowledged, with their numbers
	begun []*merge        // runs that are built again and not published
	metas []index.RunMeta
}

func newSimFields(seed uint64) simFields {
	return simFields{rng: rand.New(rand.NewPCG(seed, 11))}
}

// simExtractions keeps what makes terms for the few lists of fields that there are:
// to make it takes longer than all else that an open does.
type simExtractions struct {
	mu    sync.Mutex
	known map[string]*index.Extraction
	table *search.Table
}

func newSimExtractions() (*simExtractions, error) {
	table, err := search.Load()
	return &simExtractions{known: map[string]*index.Extraction{}, table: table}, err
}

func (x *simExtractions) of(custom []*search.Field) (*index.Extraction, error) {
	name := ""
	for _, f := range custom {
		definition, _ := f.AppendDefinition(nil)
		name += fmt.Sprintf("%d %s;", f.Number, definition)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known[name] == nil {
		made, err := index.NewExtraction(custom)
		if err != nil {
			return nil, err
		}
		x.known[name] = made
	}
	return x.known[name], nil
}

// newFields compiles a definition of a custom parameter.
func newFields(d *search.Definition) (fields []*search.Field, err error) {
	table, err := search.Load()
	if err != nil {
		return nil, err
	}
	_, err = table.Compile(d, func(f *search.Field) *search.Field {
		fields = append(fields, f)
		return f
	})
	return fields, err
}

// check: numbers that were acknowledged are as they were.
func (f *simFields) check(s *Store) error {
	for _, want := range f.added {
		got := s.Field(want)
		if got == nil || got.Number != want.Number {
			return fmt.Errorf("field %s is %+v, and was number %d", want.Name, got, want.Number)
		}
	}
	return followOn(0, s.Fields())
}

// changeFields adds a field, or takes a step of indexing again.
func (m *sim) changeFields() error {
	switch f := &m.fields; f.rng.IntN(12) {
	case 0:
		d := simDefinitions[f.rng.IntN(len(simDefinitions))]
		fields, err := newFields(&d)
		if err != nil {
			return err
		}
		err = m.s.DefineFields(context.Background(), fields)
		m.note("field %s: %v", fields[0].Name, err)
		if err == nil {
			m.saw("field added")
			f.added = append(f.added, m.s.Field(fields[0]))
		}
		return m.outcome(err, m.model)
	case 1, 2:
		more, err := m.s.reindexOnce(context.Background())
		m.note("indexed again %v %v", more, err)
		if more {
			m.saw("indexed again")
		}
		return m.outcome(err, m.model)
	case 3:
		return m.beginReindex()
	case 4, 5:
		return m.endReindex()
	}
	return nil
}

// beginReindex builds a run again, which endReindex publishes: anything may happen
// to it in between.
func (m *sim) beginReindex() error {
	g, err := m.s.beginReindex()
	if g == nil || err != nil {
		return m.outcome(err, m.model)
	}
	meta, err := m.s.buildReindex(context.Background(), g)
	if err != nil {
		m.s.endMerge(g)
		return m.outcome(err, m.model)
	}
	m.note("indexing again begun")
	m.saw("indexing begun")
	m.fields.begun, m.fields.metas = append(m.fields.begun, g), append(m.fields.metas, meta)
	return nil
}

func (m *sim) endReindex() error {
	f := &m.fields
	if len(f.begun) == 0 {
		return nil
	}
	g, meta := f.begun[0], f.metas[0]
	f.begun, f.metas = f.begun[1:], f.metas[1:]
	err := m.s.finishReindex(context.Background(), g, meta)
	m.note("indexing again finished %v", err)
	if err == nil {
		m.saw("indexing finished later")
	}
	m.s.endMerge(g)
	return m.outcome(err, m.model)
}

// indexAll ends with every run indexed, and searches that find all.
func (m *sim) indexAll() error {
	for more := true; more; {
		var err error
		if more, err = m.s.reindexOnce(context.Background()); err != nil {
			return err
		}
	}
	if due := m.s.Reindexing(); due.Runs != 0 || due.Fields != len(m.s.Fields()) {
		return fmt.Errorf("everything was indexed again, and %+v is due", due)
	}
	n, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	defer n.Release()
	return m.model.checkFields(n)
}

// checkFields searches by every added field. Only while a run lacks it a search
// may say so.
func (m *simModel) checkFields(n *Snapshot) error {
	for _, f := range n.s.Fields() {
		for value := range simValues {
			if err := m.checkField(n, f, value); err != nil {
				return fmt.Errorf("field %d, %s, value %d: %w", f.Number, f.Name, value, err)
			}
		}
	}
	return nil
}

func (m *simModel) checkField(n *Snapshot, f *search.Field, value int) error {
	p := index.Param(f.Number)
	walk := index.Walk{Param: p, From: index.AppendToken(nil, nil, fmt.Appendf(nil, "n%d", value)), Exact: true}
	found := map[simKey]bool{}
	_, err := n.Search(context.Background(), &Query{Where: &Expr{Op: Terms, Walks: []index.Walk{walk}}}, func(v *Version) error {
		found[simKey{v.Type, string(v.ID)}] = true
		return nil
	})
	if errors.Is(err, ErrReindex) {
		for _, r := range n.view.runs {
			if r.run.Meta().Live > 0 && !r.has(termNeeds(p)) {
				return nil
			}
		}
	}
	if errors.Is(err, vfs.ErrPowerCut) {
		return err
	}
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	want := 0
	for k := range m.keys {
		cur, ok := m.current(k)
		if !ok || cur.deleted || !strings.Contains(cur.body, simValue(value)) || f.Type != 0 && f.Type != k.typ {
			continue
		}
		if want++; !found[k] {
			return fmt.Errorf("%v is not found", k)
		}
	}
	if want != len(found) {
		return fmt.Errorf("%d are found, want %d", len(found), want)
	}
	return nil
}

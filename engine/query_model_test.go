package engine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

var observation = fhir.TypeByName([]byte("Observation"))

// searchDoc is the content of a resource, in plain values.
type searchDoc struct {
	typ      fhir.TypeCode
	id       string
	families []string // Patient
	code     string   // Observation, as all below; in system s0 or s1 by its first digit
	cats     []string
	date     string
	value    int // 0: none
	subject  string
	tag      string
}

// searchVersion is a version that was written: in the order of the store.
type searchVersion struct {
	searchDoc
	version int64
	lsn     uint64
	milli   int64
	deleted bool
}

// searchModel holds everything that was written.
type searchModel struct {
	rng      *rand.Rand
	table    *search.Table
	versions []searchVersion
	purges   bool
}

func newSearchModel(t *testing.T, seed uint64) *searchModel {
	t.Helper()
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	return &searchModel{rng: rand.New(rand.NewPCG(seed, 2)), table: table}
}

func oneOf[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func (m *searchModel) doc() searchDoc {
	d := searchDoc{typ: oneOf(m.rng, patient, observation, observation), id: fmt.Sprint(m.rng.IntN(40)), tag: oneOf(m.rng, "", "x", "y")}
	if d.typ == patient {
		for range m.rng.IntN(3) {
			d.families = append(d.families, oneOf(m.rng, "Eve", "Évelyn", "eve", "Adams", "Ba", "ba", "Chalmers"))
		}
		return d
	}
	d.code = oneOf(m.rng, "01", "02", "11", "12")
	for range m.rng.IntN(3) {
		d.cats = append(d.cats, oneOf(m.rng, "vital", "lab", "exam"))
	}
	d.date = oneOf(m.rng, "", "2020", "2020-02", "2020-02-03", "2020-02-03T04:05:06Z", "2021-05", "2019-01-01")
	d.value = m.rng.IntN(6)
	d.subject = oneOf(m.rng, "", "Patient/1", "Patient/2", "Patient/0b2d37a4-5e0b-4a55-9bb7-6f6b0b9fd0b4")
	return d
}

func (d *searchDoc) json() []byte {
	b := bytes.NewBuffer(nil)
	fmt.Fprintf(b, `{"resourceType":%q,"id":%q`, d.typ.String(), d.id)
	if d.tag != "" {
		fmt.Fprintf(b, `,"meta":{"tag":[{"code":%q}]}`, d.tag)
	}
	if len(d.families) > 0 {
		fmt.Fprintf(b, `,"name":[{"family":"%s"}]`, strings.Join(d.families, `"},{"family":"`))
	}
	if d.code != "" {
		fmt.Fprintf(b, `,"code":{"coding":[{"system":"s%c","code":%q}]}`, d.code[0], d.code)
	}
	if len(d.cats) > 0 {
		fmt.Fprintf(b, `,"category":[{"coding":[{"code":"%s"}]}]`, strings.Join(d.cats, `"},{"code":"`))
	}
	if d.date != "" {
		fmt.Fprintf(b, `,"effectiveDateTime":%q`, d.date)
	}
	if d.value > 0 {
		fmt.Fprintf(b, `,"valueQuantity":{"value":%d,"system":"u","code":"mg"}`, d.value)
	}
	if d.subject != "" {
		fmt.Fprintf(b, `,"subject":{"reference":%q}`, d.subject)
	}
	return append(b.Bytes(), '}')
}

func (d *searchDoc) change(t testing.TB) Change {
	t.Helper()
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan(d.json(), nil)
	if err != nil {
		t.Fatalf("cannot scan %s: %v", d.json(), err)
	}
	return Change{Type: d.typ, ID: []byte(d.id), IDAt: r.IDAt, Body: r.Body, Splice: r.Splice}
}

// commit writes a few documents, and deletes, in one record.
func (m *searchModel) commit(t *testing.T, s *Store) {
	t.Helper()
	var changes []Change
	var docs []searchVersion
	for range 1 + m.rng.IntN(4) {
		v := searchVersion{searchDoc: m.doc(), deleted: m.rng.IntN(8) == 0}
		if slices.ContainsFunc(docs, func(o searchVersion) bool { return o.typ == v.typ && o.id == v.id }) {
			continue
		}
		c := v.change(t)
		if v.deleted {
			c = Change{Type: v.typ, ID: []byte(v.id), Delete: true}
		}
		changes, docs = append(changes, c), append(docs, v)
	}
	for i, out := range mustCommit(t, s, changes...) {
		if !out.Unchanged && out.VersionID > 0 {
			docs[i].version = out.VersionID
			m.versions = append(m.versions, docs[i])
		}
	}
	m.date(t, s)
}

// ingest imports one new version of some resources, as one or two runs. Now and
// then one of them is written meanwhile: the import's version is then after it,
// and in the head.
func (m *searchModel) ingest(t *testing.T, s *Store) {
	t.Helper()
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	var imported []searchVersion
	for range 1 + m.rng.IntN(2) {
		imported = append(imported, m.ingestRun(t, s, g, keys)...)
	}
	if m.rng.IntN(3) == 0 {
		i := m.rng.IntN(len(imported))
		racing := searchVersion{searchDoc: m.doc()}
		for racing.typ != imported[i].typ {
			racing.searchDoc = m.doc()
		}
		racing.id = imported[i].id
		out := mustCommit(t, s, racing.change(t))
		if !out[0].Unchanged {
			racing.version = out[0].VersionID
			m.versions = append(m.versions, racing)
			m.date(t, s)
			last := imported[i]
			last.version = racing.version + 1
			imported = append(slices.Delete(imported, i, i+1), last)
		}
	}
	if err := g.Publish(context.Background(), 1, takeNext, nil); err != nil {
		t.Fatal(err)
	}
	m.versions = append(m.versions, imported...)
	m.date(t, s)
}

// ingestRun adds a run of keys that the import does not have yet.
func (m *searchModel) ingestRun(t *testing.T, s *Store, g *Ingest, keys map[string]bool) (imported []searchVersion) {
	t.Helper()
	b, err := s.NewRun()
	if err != nil {
		t.Fatal(err)
	}
	x, lookup := b.Extraction().NewExtractor(b), g.Snapshot().KeyLookup()
	rows := map[index.Ordinal]index.Row{}
	for len(rows) == 0 || m.rng.IntN(6) > 0 {
		d := m.doc()
		key := index.AppendKey(nil, d.typ, []byte(d.id))
		if keys[string(key)] {
			continue
		}
		keys[string(key)] = true
		if _, err := x.Scan(d.json()); err != nil {
			t.Fatal(err)
		}
		c := d.change(t)
		o, err := b.Append(c.Type, c.ID, c.IDAt, c.Body, c.Splice)
		if err != nil {
			t.Fatal(err)
		}
		row := index.Row{Type: d.typ, VersionID: 1, LastUpdated: g.Instant()}
		versions, err := lookup.Versions(key)
		if err != nil {
			t.Fatal(err)
		}
		if len(versions) > 0 {
			row.VersionID = versions[0].VersionID + 1
			row.LastUpdated.Milli = max(row.LastUpdated.Milli, versions[0].LastUpdated.Milli+1)
			g.Supersede(key, versions[0].Place)
		}
		rows[o] = row
		imported = append(imported, searchVersion{searchDoc: d, version: row.VersionID})
	}
	b.SortKeys()
	for o, row := range rows {
		b.SetRow(o, row)
	}
	meta, err := b.Seal(context.Background())
	if err == nil {
		err = g.Add(meta, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return imported
}

// purge takes the versions of a resource out, or all but the current one.
func (m *searchModel) purge(t *testing.T, s *Store) {
	t.Helper()
	of := m.versions[m.rng.IntN(len(m.versions))]
	scope := oneOf(m.rng, PurgeAll, PurgeHistory)
	if _, err := s.Purge(context.Background(), of.typ, []byte(of.id), scope, Precondition{}); err != nil {
		t.Fatal(err)
	}
	newest := int64(0)
	for _, v := range m.versions {
		if v.typ == of.typ && v.id == of.id {
			newest = max(newest, v.version)
		}
	}
	m.versions = slices.DeleteFunc(m.versions, func(v searchVersion) bool {
		return v.typ == of.typ && v.id == of.id && (scope == PurgeAll || v.version < newest)
	})
}

// date fills in what the store gave to the versions written last.
func (m *searchModel) date(t *testing.T, s *Store) {
	t.Helper()
	n := mustSnapshot(t, s)
	defer n.Release()
	for i := len(m.versions) - 1; i >= 0 && m.versions[i].lsn == 0; i-- {
		v := &m.versions[i]
		stored, err := n.Vread(v.typ, []byte(v.id), v.version)
		if err != nil {
			t.Fatalf("version %d of %v/%s: %v", v.version, v.typ, v.id, err)
		}
		v.lsn, v.milli = stored.LSN, stored.LastUpdated.Milli
	}
}

// current is what a search at lsn may find, in the store's order.
func (m *searchModel) current(lsn uint64) (found []searchVersion) {
	newest := map[string]int64{}
	for _, v := range m.versions {
		if v.lsn <= lsn {
			key := v.typ.String() + "/" + v.id
			newest[key] = max(newest[key], v.version)
		}
	}
	for _, v := range m.versions {
		if v.lsn <= lsn && !v.deleted && newest[v.typ.String()+"/"+v.id] == v.version {
			found = append(found, v)
		}
	}
	return found
}

// modelQuery is a query with its plain meaning.
type modelQuery struct {
	query   Query
	matches func(v *searchVersion) bool
	compare func(a, b *searchVersion) int
}

// want is what a query finds at an LSN.
func (m *searchModel) want(q *modelQuery, lsn uint64) (lines []string) {
	var found []searchVersion
	for _, v := range m.current(lsn) {
		if (len(q.query.Types) == 0 || slices.Contains(q.query.Types, v.typ)) && q.matches(&v) {
			found = append(found, v)
		}
	}
	slices.SortStableFunc(found, func(a, b searchVersion) int { return q.compare(&a, &b) })
	for _, v := range found {
		lines = append(lines, fmt.Sprintf("%v/%s/%d", v.typ, v.id, v.version))
	}
	return lines
}

// pages reads a query page by page; between calls between it, when not nil, to
// get another snapshot.
func pages(t *testing.T, n *Snapshot, q Query, limit int, between func() *Snapshot) (lines []string) {
	t.Helper()
	q.Limit = limit
	for {
		page, err := n.Search(context.Background(), &q, func(v *Version) error {
			lines = append(lines, fmt.Sprintf("%v/%s/%d", v.Type, v.ID, v.VersionID))
			return nil
		})
		if err != nil {
			t.Fatalf("Search: %v", err)
		}
		if !page.More {
			return lines
		}
		stored, err := page.Next.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		rest := []byte(nil)
		if q.After, rest, err = ParseCursor(append(stored, 7)); err != nil || q.After != page.Next || len(rest) != 1 {
			t.Fatalf("%v comes back as %v, error %v", page.Next, q.After, err)
		}
		q.AsOf = page.AsOf
		if between != nil {
			n.Release()
			n = between()
			defer n.Release()
		}
	}
}

// check compares queries with the model.
func (m *searchModel) check(t *testing.T, s *Store, when string, queries int) {
	t.Helper()
	n := mustSnapshot(t, s)
	defer n.Release()
	for range queries {
		q := m.query(t)
		asOf := n.lsn
		if m.rng.IntN(3) == 0 {
			asOf = 1 + m.rng.Uint64N(n.lsn)
			q.query.AsOf = asOf
		}
		want := m.want(q, asOf)
		got := pages(t, n, q.query, oneOf(m.rng, 0, 1, 3, 1000), nil)
		if !slices.Equal(got, want) {
			t.Fatalf("%s, as of %d of %d: %s sorted by %s\nfound %v\nwant  %v", when, asOf, n.lsn, describe(q.query.Where), sortNames(&q.query), got, want)
		}
		if count, err := n.Count(context.Background(), &q.query); err != nil || count != uint64(len(want)) {
			t.Fatalf("%s: count %d (%v), want %d of %s", when, count, err, len(want), describe(q.query.Where))
		}
		m.checkKeys(t, n, q, asOf)
	}
}

// checkKeys compares the keys and the subjects of what a query finds.
func (m *searchModel) checkKeys(t *testing.T, n *Snapshot, q *modelQuery, asOf uint64) {
	t.Helper()
	var keys, subjects, wantSubjects []string
	err := n.SearchKeys(context.Background(), &q.query, func(typ fhir.TypeCode, id []byte) error {
		keys = append(keys, fmt.Sprintf("%v/%s", typ, id))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	walks := index.FieldWalks(m.table.Param(observation, "subject").Sources)
	err = n.SearchValues(context.Background(), &q.query, walks, func(_ index.Param, value []byte) error {
		text, _ := index.AppendReferenceText(nil, value)
		subjects = append(subjects, string(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := m.want(q, asOf)
	for i, line := range want {
		want[i] = line[:strings.LastIndexByte(line, '/')]
		for _, v := range m.current(asOf) {
			if v.typ.String()+"/"+v.id == want[i] && v.subject != "" {
				wantSubjects = append(wantSubjects, v.subject)
			}
		}
	}
	for _, list := range []*[]string{&keys, &subjects, &want, &wantSubjects} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	if !slices.Equal(keys, want) || !slices.Equal(subjects, wantSubjects) {
		t.Fatalf("keys %v, want %v; subjects %v, want %v", keys, want, subjects, wantSubjects)
	}
}

func describe(e *Expr) string {
	if e == nil {
		return "all"
	}
	args := []string{}
	for _, arg := range e.Args {
		args = append(args, describe(arg))
	}
	return fmt.Sprintf("%s %s(%s)%v", opNames[e.Op], e.Name, strings.Join(args, ", "), e.Keys)
}

func sortNames(q *Query) (names []string) {
	for _, k := range q.Sort {
		names = append(names, fmt.Sprint(k.Param.Code, k.Desc))
	}
	return names
}

// query makes a random query.
func (m *searchModel) query(t *testing.T) *modelQuery {
	t.Helper()
	q := &modelQuery{compare: func(a, b *searchVersion) int { return 0 }}
	q.query.Types = oneOf(m.rng, nil, []fhir.TypeCode{patient}, []fhir.TypeCode{observation}, []fhir.TypeCode{patient, observation})
	q.query.Where, q.matches = m.expr(t, 3)
	if m.rng.IntN(10) == 0 {
		q.query.Explain = &Explanation{}
	}
	for range oneOf(m.rng, 0, 0, 1, 2) {
		m.addSort(q)
	}
	return q
}

// addSort adds a sort key.
func (m *searchModel) addSort(q *modelQuery) {
	k, values := m.sortKey()
	k.Desc = m.rng.IntN(2) == 0
	before := q.compare
	q.compare = func(a, b *searchVersion) int {
		if c := before(a, b); c != 0 {
			return c
		}
		x, y := values(a), values(b)
		slices.Sort(x)
		slices.Sort(y)
		switch {
		case len(x) == 0 || len(y) == 0:
			return cmp.Compare(len(y), len(x)) * min(1, len(x)+len(y))
		case k.Desc:
			return cmp.Compare(y[len(y)-1], x[len(x)-1])
		}
		return cmp.Compare(x[0], y[0])
	}
	q.query.Sort = append(q.query.Sort, k)
}

// sortKey is a random key and the values it reads, as texts in order.
func (m *searchModel) sortKey() (SortKey, func(v *searchVersion) []string) {
	of := func(typ fhir.TypeCode, code string) SortKey { return SortKey{Param: m.table.Param(typ, code)} }
	switch m.rng.IntN(7) {
	case 0:
		return of(observation, "date"), func(v *searchVersion) []string {
			if first, _, ok := fhir.ParseDate([]byte(v.date)); ok {
				return []string{string(index.AppendMilli(nil, first))}
			}
			return nil
		}
	case 1:
		return of(patient, "family"), func(v *searchVersion) (all []string) {
			for _, f := range v.families {
				all = append(all, string(index.AppendStringPrefix(nil, []byte(f), index.NewFolder())))
			}
			return all
		}
	case 2:
		return of(patient, "_lastUpdated"), func(v *searchVersion) []string { return []string{string(index.AppendMilli(nil, v.milli))} }
	case 3:
		return of(patient, "_id"), func(v *searchVersion) []string { return []string{v.id} }
	case 4:
		return of(observation, "value-quantity"), func(v *searchVersion) []string {
			if v.value == 0 {
				return nil
			}
			return []string{fmt.Sprint(v.value)}
		}
	case 5:
		return of(observation, "subject"), func(v *searchVersion) []string {
			if v.subject == "" {
				return nil
			}
			return []string{string(index.AppendReference(nil, []byte(v.subject)))}
		}
	}
	return of(observation, "category"), func(v *searchVersion) []string { return slices.Clone(v.cats) }
}

// expr makes a random expression.
func (m *searchModel) expr(t *testing.T, depth int) (*Expr, func(v *searchVersion) bool) {
	t.Helper()
	if depth == 0 || m.rng.IntN(3) == 0 {
		return m.leaf(t)
	}
	a, inA := m.expr(t, depth-1)
	b, inB := m.expr(t, depth-1)
	switch m.rng.IntN(4) {
	case 0:
		return &Expr{Op: Or, Args: []*Expr{a, b}}, func(v *searchVersion) bool { return inA(v) || inB(v) }
	case 1:
		return &Expr{Op: Not, Args: []*Expr{a}}, func(v *searchVersion) bool { return !inA(v) }
	}
	return &Expr{Op: And, Args: []*Expr{a, b}}, func(v *searchVersion) bool { return inA(v) && inB(v) }
}

func (m *searchModel) leaf(t *testing.T) (*Expr, func(v *searchVersion) bool) {
	t.Helper()
	terms := func(name string, walks []index.Walk, err error) *Expr {
		if err != nil {
			t.Fatal(err)
		}
		return &Expr{Op: Terms, Walks: walks, Name: name}
	}
	of := func(typ fhir.TypeCode, code string) []search.Source { return m.table.Param(typ, code).Sources }
	compare := index.Compare(m.rng.IntN(int(index.Ap)))
	switch m.rng.IntN(14) {
	case 10, 11, 12:
		return m.oneTerm(t)
	case 13:
		return m.oneTermAndRange(t)
	case 0:
		code := oneOf(m.rng, "01", "02", "11", "12", "x")
		walks, err := index.TokenWalks(of(observation, "code"), index.Token{Code: []byte(code), AnySystem: true})
		return terms("code="+code, walks, err), func(v *searchVersion) bool { return v.code == code }
	case 1:
		system := oneOf(m.rng, "s0", "s1", "s2")
		walks, err := index.TokenWalks(of(observation, "code"), index.Token{System: []byte(system)})
		return terms("code="+system, walks, err), func(v *searchVersion) bool { return v.code != "" && v.code[0] == system[1] }
	case 2:
		family := oneOf(m.rng, "e", "EVE", "ba", "ch", "z")
		walks, err := index.StringWalks(of(patient, "family"), []byte(family))
		fold := func(s string) string { return string(index.NewFolder().Fold([]byte(s))) }
		return terms("family="+family, walks, err), func(v *searchVersion) bool {
			return slices.ContainsFunc(v.families, func(f string) bool { return strings.HasPrefix(fold(f), fold(family)) })
		}
	case 3:
		date := oneOf(m.rng, "2020", "2020-02", "2020-02-03", "2019", "2021-05-06")
		first, last, _ := fhir.ParseDate([]byte(date))
		walks := index.DateWalks(of(observation, "date"), compare, first, last)
		return terms("date="+compare.String()+date, walks, nil), func(v *searchVersion) bool {
			f, l, ok := fhir.ParseDate([]byte(v.date))
			return ok && compares(compare, f, l, first, last)
		}
	case 4:
		value := 1 + m.rng.IntN(5)
		walks, err := index.QuantityWalks(of(observation, "value-quantity"), compare, fmt.Append(nil, value), index.Unit{AnySystem: true})
		return terms(fmt.Sprint("value=", compare, value), walks, err), func(v *searchVersion) bool {
			return v.value > 0 && compares(compare, int64(v.value), int64(v.value), int64(value), int64(value))
		}
	case 5:
		subject := oneOf(m.rng, "Patient/1", "Patient/0b2d37a4-5e0b-4a55-9bb7-6f6b0b9fd0b4", "Patient/3")
		walks, err := index.ReferenceWalks(of(observation, "patient"), []byte(subject))
		return terms("patient="+subject, walks, err), func(v *searchVersion) bool { return v.subject == subject }
	case 6:
		return terms("date present", index.FieldWalks(of(observation, "date")), nil), func(v *searchVersion) bool { return v.date != "" }
	case 7:
		tag := oneOf(m.rng, "x", "y")
		walks, err := index.TokenWalks(of(patient, "_tag"), index.Token{Code: []byte(tag), AnySystem: true})
		return terms("_tag="+tag, walks, err), func(v *searchVersion) bool { return v.tag == tag }
	case 8:
		milli := m.versions[m.rng.IntN(len(m.versions))].milli
		return terms(fmt.Sprint("_lastUpdated=", compare, milli), index.LastUpdatedWalks(compare, milli, milli), nil), func(v *searchVersion) bool {
			return compares(compare, v.milli, v.milli, milli, milli)
		}
	}
	e := &Expr{Op: Keys}
	for range m.rng.IntN(30) {
		d := m.doc()
		e.Keys = append(e.Keys, Key{d.typ, []byte(d.id)})
	}
	return e, func(v *searchVersion) bool {
		return slices.ContainsFunc(e.Keys, func(k Key) bool { return k.Type == v.typ && string(k.ID) == v.id })
	}
}

// oneTermAndRange asks for one term and both ends of a range.
func (m *searchModel) oneTermAndRange(t *testing.T) (*Expr, func(v *searchVersion) bool) {
	t.Helper()
	date := m.table.Param(observation, "date").Sources
	from, _, _ := fhir.ParseDate([]byte("2020-01-15"))
	_, to, _ := fhir.ParseDate([]byte(oneOf(m.rng, "2020-02-02", "2020-12-31")))
	begin := &Expr{Op: Terms, Walks: index.DateWalks(date, index.Ge, from, from), Name: "date from"}
	end := &Expr{Op: Terms, Walks: index.DateWalks(date, index.Le, to, to), Name: "date to"}
	code, has := m.oneTerm(t)
	return &Expr{Op: And, Args: []*Expr{begin, code, end}}, func(v *searchVersion) bool {
		f, l, ok := fhir.ParseDate([]byte(v.date))
		return ok && l >= from && f <= to && has(v)
	}
}

// oneTerm asks for one term.
func (m *searchModel) oneTerm(t *testing.T) (*Expr, func(v *searchVersion) bool) {
	t.Helper()
	param, system, code := "code", "s0", oneOf(m.rng, "01", "02")
	has := func(v *searchVersion) bool { return v.code == code }
	if m.rng.IntN(2) == 0 {
		param, system, code = "category", "", oneOf(m.rng, "vital", "lab", "none")
		has = func(v *searchVersion) bool { return slices.Contains(v.cats, code) }
	}
	walks, err := index.TokenWalks(m.table.Param(observation, param).Sources, index.Token{System: []byte(system), Code: []byte(code)})
	if err != nil || len(walks) != 1 || !walks[0].Exact {
		t.Fatalf("%d walks: %v", len(walks), err)
	}
	return &Expr{Op: Terms, Walks: walks, Name: param + "=" + code}, has
}

// compares is R4's table of prefixes over spans.
func compares(c index.Compare, first, last, qFirst, qLast int64) bool {
	inside := qFirst <= first && last <= qLast
	return map[index.Compare]bool{
		index.Eq: inside, index.Ne: !inside, index.Gt: last > qLast, index.Lt: first < qFirst,
		index.Ge: last > qLast || inside, index.Le: first < qFirst || inside, index.Sa: first > qLast, index.Eb: last < qFirst,
	}[c]
}

package index

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/fhir/search"
)

// walkField is a field for tests of walks.
func walkField(kind search.Kind) []search.Source {
	return []search.Source{{Field: &search.Field{Number: search.FieldMin, Kind: kind}}}
}

func noCheck() error { return nil }

// walkTable is the same terms in memory and in a run: one value an ordinal.
type walkTable struct {
	values [][]byte
	memory *MemoryTerms
	run    *Run
}

func tableOf(t *testing.T, values [][]byte) *walkTable {
	t.Helper()
	table := &walkTable{values: values, memory: NewMemoryTerms()}
	fs := newTestFS(t)
	b, err := NewBuilder(BuilderOptions{FS: fs, Dir: testDir, ID: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range values {
		table.memory.AddTerm(search.FieldMin, value)
		table.memory.Commit(Ordinal(i))
		b.AddTerm(search.FieldMin, value)
		if _, err := b.Append(1, fmt.Append(nil, i), 0, fmt.Append(nil, i), fhir.Splice{}); err != nil {
			t.Fatal(err)
		}
	}
	b.SortKeys()
	for i := range values {
		b.SetRow(Ordinal(i), Row{Type: 1, VersionID: 1})
	}
	meta, err := b.Seal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if table.run, err = OpenRun(fs, testDir, meta, 1, NewCache(64<<20)); err != nil {
		t.Fatal(err)
	}
	return table
}

// walked gives the ordinals that walks find in memory, those that must be looked
// into decided by the whole values; and expects that they find the same in a run,
// and in a column of it.
func (m *walkTable) walked(t *testing.T, walks []Walk) []uint32 {
	t.Helper()
	found := m.find(t, walks, MemorySource{m.memory, Ordinal(len(m.values))})
	for i, value := range m.values { // a value alone is judged as in a walk
		takes := slices.ContainsFunc(walks, func(w Walk) bool { return w.Takes(value) })
		if takes != found.Contains(uint32(i)) {
			t.Errorf("value %q alone: %v, in the walk: %v", value, takes, !takes)
		}
	}
	if inRun := m.find(t, walks, m.run); !inRun.Equals(found) {
		t.Errorf("in the run: %v, in memory %v", inRun, found)
	}
	if err := m.run.Walked(search.FieldMin, 1<<40, noCheck); err != nil {
		t.Fatal(err)
	}
	if column := m.run.Column(search.FieldMin); column != nil {
		m.checkColumn(t, column, walks, found)
	}
	return found.ToArray()
}

// find is what walks find in terms.
func (m *walkTable) find(t *testing.T, walks []Walk, terms TermSource) *roaring.Bitmap {
	t.Helper()
	n := uint32(len(m.values))
	rows, unsure := NewRowSet(n), NewRowSet(n)
	for i := range walks {
		if _, err := walks[i].AddTo(rows, unsure, terms, noCheck); err != nil {
			t.Fatal(err)
		}
	}
	found := rows.Bitmap()
	for _, o := range unsure.Bitmap().ToArray() {
		if slices.ContainsFunc(walks, func(w Walk) bool { return w.Takes(m.values[o]) }) {
			found.Add(o)
		}
	}
	return found
}

func (m *walkTable) checkColumn(t *testing.T, column *FieldColumn, walks []Walk, want *roaring.Bitmap) {
	t.Helper()
	var all []Places
	for i := range walks {
		places, err := column.Places(&walks[i], noCheck)
		if err != nil {
			t.Fatal(err)
		}
		all = UnitedPlaces(all, places)
	}
	everything := roaring.New()
	everything.AddRange(0, uint64(len(m.values)))
	filtered, _, err := column.Filter(all, everything, 0, noCheck)
	if err != nil || !filtered.Equals(want) {
		t.Errorf("in the column: %v (%v), want %v", filtered, err, want)
	}
	read := NewRowSet(uint32(len(m.values)))
	if err := column.AddPostings(read, m.run, search.FieldMin, all, noCheck); err != nil {
		t.Fatal(err)
	}
	if got := read.Bitmap(); !got.Equals(want) {
		t.Errorf("postings of the column's places: %v, want %v", got, want)
	}
}

func expectWalk(t *testing.T, what string, got []uint32, n int, want func(i int) bool) {
	t.Helper()
	var all []uint32
	for i := range n {
		if want(i) {
			all = append(all, uint32(i))
		}
	}
	if !slices.Equal(got, all) {
		t.Errorf("%s: found %v, want %v", what, got, all)
	}
}

func TestTokenWalksReadValues(t *testing.T) {
	systems := []string{"", "a", "b", "http://loinc.org", "a\x01b", strings.Repeat("s", 1100)}
	codes := []string{"", "1", "12", "x", "0b2d37a4-5e0b-4a55-9bb7-6f6b0b9fd0b4", "\x02", strings.Repeat("c", 1200), strings.Repeat("c", 1201)}
	var values [][]byte
	var parts [][2]string
	for _, s := range systems {
		for _, c := range codes {
			values, parts = append(values, AppendToken(nil, []byte(s), []byte(c))), append(parts, [2]string{s, c})
			values, parts = append(values, AppendTokenText(nil, []byte(s+c), NewFolder())), append(parts, [2]string{"text", s + c})
		}
	}
	m := tableOf(t, values)
	isCode := func(i int) bool { return i%2 == 0 }
	for _, s := range systems {
		for _, c := range codes {
			f := func(what string, tok Token, want func(i int) bool) {
				t.Helper()
				walks, err := TokenWalks(walkField(search.Token), tok)
				if err != nil {
					if len(s) < TermPrefixBytes {
						t.Errorf("%s: %v", what, err)
					}
					return
				}
				expectWalk(t, fmt.Sprintf("%s %.20q|%.40q", what, s, c), m.walked(t, walks), len(values), want)
				others, err := TokenOtherWalks(walkField(search.Token), tok)
				if err != nil {
					t.Fatal(err)
				}
				other := func(i int) bool { return isCode(i) && !want(i) }
				expectWalk(t, fmt.Sprintf("other than %s %.20q|%.40q", what, s, c), m.walked(t, others), len(values), other)
			}
			if c != "" {
				f("system|code", Token{System: []byte(s), Code: []byte(c)}, func(i int) bool { return isCode(i) && parts[i] == [2]string{s, c} })
				f("code", Token{Code: []byte(c), AnySystem: true}, func(i int) bool { return isCode(i) && parts[i][1] == c })
			} else {
				f("system|", Token{System: []byte(s)}, func(i int) bool { return isCode(i) && parts[i][0] == s })
			}
		}
	}
}

// A walk for many tokens finds those and no other, whatever their length.
func TestAnyOfWalksReadValues(t *testing.T) {
	long := strings.Repeat("c", 1000)
	var values [][]byte
	for _, s := range []string{"", "a", "b", strings.Repeat("s", 990)} {
		for _, c := range []string{"", "1", "12", "2", long, long + "1", long + strings.Repeat("d", 50), long + strings.Repeat("e", 50), long + strings.Repeat("f", 50)} {
			values = append(values, AppendToken(nil, []byte(s), []byte(c)))
		}
	}
	m := tableOf(t, values)
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		wanted := map[string]bool{string(values[r.IntN(len(values))]): true}
		for range r.IntN(6) {
			wanted[string(values[r.IntN(len(values))])] = true
			wanted[string(AppendToken(nil, []byte("a"), []byte{byte('0' + r.IntN(9)), 'x'}))] = true
		}
		var sorted [][]byte
		for v := range wanted {
			sorted = append(sorted, []byte(v))
		}
		slices.SortFunc(sorted, bytes.Compare)
		got := m.walked(t, []Walk{AnyOfWalk(search.FieldMin, sorted)})
		expectWalk(t, fmt.Sprintf("any of %.80q", sorted), got, len(values), func(i int) bool { return wanted[string(values[i])] })
	}
}

// TestJoinedWalksFindWhatTheyFindAlone: lists of codes, with a system and in any.
func TestJoinedWalksFindWhatTheyFindAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	systems := []string{"", "a", "b", strings.Repeat("s", 980)}
	code := func() string {
		if rng.IntN(40) == 0 {
			return strings.Repeat("c", 960+rng.IntN(100))
		}
		return fmt.Sprint(rng.IntN(300))
	}
	var values [][]byte
	var parts [][2]string
	for range 400 {
		s, c := oneOf(rng, systems), code()
		values, parts = append(values, AppendToken(nil, []byte(s), []byte(c))), append(parts, [2]string{s, c})
	}
	m := tableOf(t, values)
	for range 60 {
		var walks []Walk
		var asked [][2]string
		inSystem, inAny := rng.IntN(40), rng.IntN(40)
		for i := range inSystem + inAny {
			tok := Token{System: []byte(oneOf(rng, systems)), Code: []byte(code()), AnySystem: i >= inSystem}
			if tok.AnySystem {
				tok.System = nil
			}
			alone, err := TokenWalks(walkField(search.Token), tok)
			if err != nil {
				t.Fatal(err)
			}
			walks = append(walks, alone...)
			asked = append(asked, [2]string{string(tok.System), string(tok.Code)})
		}
		joined := JoinWalks(walks)
		if len(walks) >= 2*joinedMin && len(joined) > joinedMin {
			t.Errorf("%d walks become %d", len(walks), len(joined))
		}
		expectWalk(t, fmt.Sprint(inSystem, " codes in systems, ", inAny, " in any"), m.walked(t, joined), len(values), func(i int) bool {
			for j, a := range asked {
				if a[1] == parts[i][1] && (j >= inSystem || a[0] == parts[i][0]) {
					return true
				}
			}
			return false
		})
	}
}

func oneOf[T any](rng *rand.Rand, of []T) T { return of[rng.IntN(len(of))] }

func TestStringWalksReadValues(t *testing.T) {
	texts := []string{"Eve", "eve", "Évelyn", "Steve", "Straße", "", "x" + strings.Repeat("y", 1100) + "Eve", strings.Repeat("y", 1100)}
	fold := func(s string) string { return string(NewFolder().Fold([]byte(s))) }
	var values [][]byte
	for _, s := range texts {
		values = append(values, AppendString(nil, []byte(s), NewFolder()))
	}
	m := tableOf(t, values)
	for _, q := range []string{"Eve", "EV", "strass", "y", "é", "x", "Steve"} {
		f := func(what string, walks []Walk, want func(i int) bool) {
			t.Helper()
			expectWalk(t, what+" "+q, m.walked(t, walks), len(values), want)
		}
		prefix, err := StringWalks(walkField(search.String), []byte(q))
		if err != nil {
			t.Fatal(err)
		}
		f("starts with", prefix, func(i int) bool { return strings.HasPrefix(fold(texts[i]), fold(q)) })
		f("is", StringExactWalks(walkField(search.String), []byte(q)), func(i int) bool { return texts[i] == q })
		f("contains", StringContainsWalks(walkField(search.String), []byte(q)), func(i int) bool { return strings.Contains(fold(texts[i]), fold(q)) })
		f("ends with", StringEndWalks(walkField(search.String), []byte(q)), func(i int) bool { return strings.HasSuffix(fold(texts[i]), fold(q)) })
		equal, err := StringEqualWalks(walkField(search.String), []byte(q))
		if err != nil {
			t.Fatal(err)
		}
		f("equals", equal, func(i int) bool { return fold(texts[i]) == fold(q) })
		for c, want := range map[Compare]func(order int) bool{
			Ne: func(order int) bool { return order != 0 }, Gt: func(order int) bool { return order > 0 }, Lt: func(order int) bool { return order < 0 },
			Ge: func(order int) bool { return order >= 0 }, Le: func(order int) bool { return order <= 0 },
		} {
			walks, err := StringOrderWalks(walkField(search.String), c, []byte(q))
			if err != nil {
				t.Fatal(err)
			}
			f(c.String(), walks, func(i int) bool { return want(strings.Compare(fold(texts[i]), fold(q))) })
		}
	}
	if _, err := StringWalks(walkField(search.String), bytes.Repeat([]byte("y"), 1000)); err == nil {
		t.Error("a text that is longer than what stands in order is taken")
	}
}

func TestDateWalksReadValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	at := func() int64 { return rng.Int64N(40) - 20 + 100*rng.Int64N(3) }
	type span struct{ first, last int64 }
	var spans []span
	var values [][]byte
	for range 600 {
		s := span{first: at()}
		s.last = s.first + []int64{0, 0, 1, 9, 20, 500}[rng.IntN(6)]
		switch rng.IntN(12) {
		case 0:
			s.first = math.MinInt64
		case 1:
			s.last = math.MaxInt64
		}
		if value := AppendDate(nil, s.first, s.last); len(value) > 0 {
			spans, values = append(spans, s), append(values, value)
		}
	}
	m := tableOf(t, values)
	for range 400 {
		q := span{first: at()}
		q.last = q.first + []int64{0, 3, 30}[rng.IntN(3)]
		inside := func(s span) bool { return q.first <= s.first && s.last <= q.last }
		for c, want := range map[Compare]func(s span) bool{
			Eq: inside,
			Ne: func(s span) bool { return !inside(s) },
			Gt: func(s span) bool { return s.last > q.last },
			Lt: func(s span) bool { return s.first < q.first },
			Ge: func(s span) bool { return s.last > q.last || inside(s) },
			Le: func(s span) bool { return s.first < q.first || inside(s) },
			Sa: func(s span) bool { return s.first > q.last },
			Eb: func(s span) bool { return s.last < q.first },
			Ap: func(s span) bool { return s.first <= q.last && s.last >= q.first },

			Holds: func(s span) bool { return s.first <= q.first && q.last <= s.last },
		} {
			got := m.walked(t, DateWalks(walkField(search.Date), c, q.first, q.last))
			expectWalk(t, fmt.Sprintf("%v %v", c, q), got, len(values), func(i int) bool { return want(spans[i]) })
		}
	}
}

// rat reads a number as a fraction.
func rat(text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(text)
	}
	return r
}

// queryBounds is what a query's number stands for, by R4's examples.
func queryBounds(text string) (low, high *big.Rat) {
	half := rat("0.5")
	mantissa, exponent, scientific := strings.Cut(text, "e")
	if _, fraction, ok := strings.Cut(mantissa, "."); ok {
		half.Mul(half, rat("1e-"+fmt.Sprint(len(fraction))))
	}
	if scientific {
		half.Mul(half, rat("1e"+exponent))
		half.Mul(half, rat("0.1"))
	}
	return new(big.Rat).Sub(rat(text), half), new(big.Rat).Add(rat(text), half)
}

func TestNumberWalksReadValues(t *testing.T) {
	numbers := []string{"0", "1", "-1", "99.5", "99.49", "100", "100.0", "100.4999", "100.5", "1e2", "95", "105", "94.9", "90", "110", "-100", "-99.5", "5.4", "5.35", "5.45", "1e-7", "12345678901234567890"}
	var values, quantities [][]byte
	for i, n := range numbers {
		value, _ := AppendNumber(nil, []byte(n))
		values = append(values, value)
		quantity, _ := AppendDecimal(AppendQuantityUnit(nil, []byte("ucum"), []byte([]string{"mg", "g"}[i%2])), []byte(n))
		quantities = append(quantities, quantity)
	}
	m, mq := tableOf(t, values), tableOf(t, quantities)
	f := func(c Compare, q string) {
		t.Helper()
		low, high := queryBounds(q)
		n := rat(q)
		tenth := new(big.Rat).Abs(new(big.Rat).Mul(n, rat("0.1")))
		inside := func(v *big.Rat) bool { return low.Cmp(v) <= 0 && v.Cmp(high) < 0 }
		want := map[Compare]func(v *big.Rat) bool{
			Eq: inside,
			Ne: func(v *big.Rat) bool { return !inside(v) },
			Gt: func(v *big.Rat) bool { return v.Cmp(n) > 0 },
			Lt: func(v *big.Rat) bool { return v.Cmp(n) < 0 },
			Ge: func(v *big.Rat) bool { return v.Cmp(n) >= 0 },
			Le: func(v *big.Rat) bool { return v.Cmp(n) <= 0 },
			Sa: func(v *big.Rat) bool { return v.Cmp(n) > 0 },
			Eb: func(v *big.Rat) bool { return v.Cmp(n) < 0 },
			Ap: func(v *big.Rat) bool { return new(big.Rat).Abs(new(big.Rat).Sub(v, n)).Cmp(tenth) <= 0 },
		}[c]
		walks, err := NumberWalks(walkField(search.Number), c, []byte(q))
		if err != nil {
			t.Fatal(err)
		}
		expectWalk(t, c.String()+q, m.walked(t, walks), len(numbers), func(i int) bool { return want(rat(numbers[i])) })
		for what, u := range map[string]Unit{
			"no unit": {AnySystem: true}, "mg": {Code: []byte("mg"), AnySystem: true}, "ucum|mg": {System: []byte("ucum"), Code: []byte("mg")},
			"ucum|": {System: []byte("ucum")}, "x|mg": {System: []byte("x"), Code: []byte("mg")},
		} {
			walks, err := QuantityWalks(walkField(search.Quantity), c, []byte(q), u)
			if err != nil {
				t.Fatal(err)
			}
			expectWalk(t, c.String()+q+" "+what, mq.walked(t, walks), len(numbers), func(i int) bool {
				return want(rat(numbers[i])) && (len(u.Code) == 0 || i%2 == 0) && string(u.System) != "x"
			})
		}
	}
	for _, q := range append(numbers, "100.00", "1.0e2", "-5e1", "5", "12345678901234567891") {
		for c := Eq; c <= Ap; c++ {
			f(c, q)
		}
	}
	for _, bad := range []string{"", "x", "1.2.3", "+1", "1e", "--1", "1e99999999999999999999", strings.Repeat("9", 300)} {
		if _, err := NumberWalks(walkField(search.Number), Eq, []byte(bad)); err == nil {
			t.Errorf("%q is taken for a number", bad)
		}
	}
}

func TestReferenceWalksReadValues(t *testing.T) {
	const uuid = "0b2d37a4-5e0b-4a55-9bb7-6f6b0b9fd0b4"
	texts := []string{
		"Patient/1", "Patient/12", "Patient/1/_history/3", "Patient/" + uuid, "Patient/" + uuid + "/_history/2", "Group/1",
		"http://own/fhir/Patient/1", "http://own/fhir/Patient/1/_history/3", "http://other/fhir/Patient/1",
		"urn:uuid:" + uuid, "#x", "http://x/y",
	}
	var values [][]byte
	for _, text := range texts {
		values = append(values, AppendReference(nil, []byte(text)))
	}
	m := tableOf(t, values)
	f := func(q string, want ...string) {
		t.Helper()
		walks, err := ReferenceWalks(walkField(search.Reference), []byte(q), []byte("http://own/fhir"))
		if err != nil {
			t.Fatal(err)
		}
		expectWalk(t, q, m.walked(t, walks), len(values), func(i int) bool { return slices.Contains(want, texts[i]) })
	}
	one := []string{"Patient/1", "Patient/1/_history/3", "http://own/fhir/Patient/1", "http://own/fhir/Patient/1/_history/3"}
	f("Patient/1", one...)
	f("http://own/fhir/Patient/1", one...)
	f("Patient/1/_history/3", one[1], one[3])
	f("http://other/fhir/Patient/1", "http://other/fhir/Patient/1")
	f("Patient/"+uuid, "Patient/"+uuid, "Patient/"+uuid+"/_history/2")
	f("urn:uuid:"+uuid, "urn:uuid:"+uuid)
	f("#x", "#x")
	f("http://x/y", "http://x/y")
	f("Patient/2")
	for i, value := range values {
		typ, id, version, ok := ParseReferenceKey(nil, value, []byte("http://own/fhir"))
		got := fmt.Sprintf("%v/%s/%s", typ, id, version)
		want := map[int]string{0: "Patient/1/", 1: "Patient/12/", 2: "Patient/1/3", 3: "Patient/" + uuid + "/", 4: "Patient/" + uuid + "/2", 5: "Group/1/", 6: "Patient/1/", 7: "Patient/1/3"}[i]
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s: key %s (%v), want %s", texts[i], got, ok, want)
		}
	}
}

func TestCompositeWalksReadPairs(t *testing.T) {
	group := &search.Field{Number: search.FieldMin, Kind: search.Composite, Parts: []search.Part{{Kind: search.Token}, {Kind: search.Quantity}}}
	source := []search.Source{{Field: group}}
	codes, numbers := []string{"", "a", "ab", "\x02"}, []string{"1", "5.4", "-2", "5.5"}
	var values [][]byte
	var parts [][2]string
	for _, c := range codes {
		for _, n := range numbers {
			quantity, _ := AppendDecimal(AppendQuantityUnit(nil, []byte("u"), []byte("mg")), []byte(n))
			values = append(values, AppendPart(AppendPart(nil, AppendToken(nil, []byte("s"), []byte(c))), quantity))
			parts = append(parts, [2]string{c, n})
		}
	}
	m := tableOf(t, values)
	for _, c := range codes[1:] {
		for compare := Eq; compare <= Ap; compare++ {
			for _, any := range []bool{false, true} {
				tok := Token{System: []byte("s"), Code: []byte(c)}
				if any {
					tok = Token{Code: []byte(c), AnySystem: true}
				}
				first, err := TokenWalks(source, tok)
				if err != nil {
					t.Fatal(err)
				}
				second, err := QuantityWalks(source, compare, []byte("5.4"), Unit{System: []byte("u"), Code: []byte("mg"), AnySystem: any})
				if err != nil {
					t.Fatal(err)
				}
				walks, err := CompositeWalks(group, [][]Walk{first, second})
				if err != nil {
					t.Fatal(err)
				}
				expectWalk(t, c+"$"+compare.String(), m.walked(t, walks), len(values), func(i int) bool {
					n, _ := AppendDecimal(AppendQuantityUnit(nil, []byte("u"), []byte("mg")), []byte(parts[i][1]))
					return parts[i][0] == c && slices.ContainsFunc(second, func(w Walk) bool { return w.Takes(n) })
				})
			}
		}
	}
}

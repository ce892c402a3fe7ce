package structure

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/internal/shareddata"
)

// differential compares the Checker with the naive one.
type differential struct {
	scanner *fhir.Scanner
	checker *Checker
	naive   *naive
	refused int
}

func newDifferential(t testing.TB) *differential {
	return &differential{fhir.NewScanner(fhir.ScannerOptions{}), NewChecker(), newNaive(t), 0}
}

// check looks at what the scanner accepts.
func (d *differential) check(t testing.TB, src []byte) {
	t.Helper()
	if _, err := d.scanner.Scan(src, nil); err != nil {
		return
	}
	issues := d.checker.Check(src)
	refused := Refused(issues)
	if want := !d.naive.resource(parseTree(t, src), false); refused != want {
		t.Fatalf("refused: %v, by the reference: %v\n%.2000s\n%+v", refused, want, src, issues)
	}
	if refused {
		d.refused++
	}
	for _, issue := range issues {
		if issue.Text == "" || issue.Severity != SeverityInformation && issue.Expression == "" {
			t.Fatalf("an issue says too little: %+v", issue)
		}
	}
}

// oddValues are put in place of others.
var oddValues = []string{
	`""`, `" "`, `"a b"`, `"x"`, `"\u0001"`, `"2024"`, `"2024-02-30"`, `"2024-02-29T10:00:00Z"`, `"10:00:00"`, `"<div>x</div>"`, `"YQ=="`, `"urn:oid:1.2"`,
	`0`, `-1`, `1.0`, `2147483648`, `1e3`, `true`, `null`, `{}`, `[]`, `[null]`, `{"id":"x"}`, `[{"id":"x"}]`, `{"extension":[{"url":"u","valueCode":"c"}]}`,
	`{"url":"u"}`, `{"reference":"Patient/a"}`, `{"text":"t"}`, `{"resourceType":"Patient"}`, `["a"]`, `[true]`,
}

// mutated changes one place of a tree.
func mutated(t testing.TB, random *rand.Rand, root *tree) {
	at := root
	for len(at.items) > 0 && random.IntN(4) > 0 {
		next := at.items[random.IntN(len(at.items))]
		if next.kind != '{' && next.kind != '[' {
			break
		}
		at = next
	}
	if len(at.items) == 0 {
		return
	}
	i := random.IntN(len(at.items))
	switch action := random.IntN(8); {
	case action == 0:
		at.items = slices.Delete(at.items, i, i+1)
		if at.kind == '{' {
			at.keys = slices.Delete(at.keys, i, i+1)
		}
	case action == 1:
		at.items[i] = &tree{kind: '[', items: []*tree{at.items[i]}}
	case action == 2 && at.items[i].kind == '[' && len(at.items[i].items) > 0:
		at.items[i] = at.items[i].items[0]
	case action == 3 && at.kind == '{':
		at.keys[i] = "_" + at.keys[i]
	case action == 4 && at.kind == '{':
		at.keys = append(at.keys, []string{"_" + at.keys[i], at.keys[i], "extension", "valueString", "value", "id", "contained", "_id"}[random.IntN(8)])
		at.items = append(at.items, parseTree(t, []byte(oddValues[random.IntN(len(oddValues))])))
	case action == 5 && at.kind == '{': // the same, in another order
		last := len(at.keys) - 1
		at.keys[i], at.keys[last] = at.keys[last], at.keys[i]
		at.items[i], at.items[last] = at.items[last], at.items[i]
	default:
		at.items[i] = parseTree(t, []byte(oddValues[random.IntN(len(oddValues))]))
	}
}

func (t *tree) append(dst []byte) []byte {
	switch t.kind {
	case '{', '[':
		dst = append(dst, t.kind)
		for i, item := range t.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			if t.kind == '{' {
				key, _ := json.Marshal(t.keys[i])
				dst = append(append(dst, key...), ':')
			}
			dst = item.append(dst)
		}
		return append(dst, t.kind+'}'-'{')
	case '"':
		text, _ := json.Marshal(t.text)
		return append(dst, text...)
	case 'n':
		return append(dst, "null"...)
	}
	return append(dst, t.text...)
}

// TestCheckAgreesWithTheReference mutates real resources, one change on top of
// another until the resource is wrong.
func TestCheckAgreesWithTheReference(t *testing.T) {
	d := newDifferential(t)
	random := rand.New(rand.NewPCG(1, 2))
	checked := 0
	for _, line := range shareddata.Lines(t, "data", "examples-r4.ndjson.gz") {
		d.check(t, line)
		if len(line) > 6000 {
			continue
		}
		for range 6 {
			root := parseTree(t, line)
			for step, before := 0, d.refused; step < 4 && d.refused == before; step++ {
				mutated(t, random, root)
				d.check(t, root.append(nil))
				checked++
			}
		}
	}
	t.Logf("%d mutations, %d refused", checked, d.refused)
	if d.refused < checked/4 || d.refused == checked {
		t.Errorf("of %d mutations %d were refused: they prove little", checked, d.refused)
	}
}

func TestCheckAgreesOnOtherData(t *testing.T) {
	d := newDifferential(t)
	for _, name := range []string{"odd-r4.ndjson.gz", "validator-cases.ndjson.gz", "public-mini"} {
		for _, line := range shareddata.Lines(t, "data", name) {
			if len(line) < 1<<20 {
				d.check(t, line)
			}
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, p := range primitives {
		for _, value := range append(strings.Fields(p.right), strings.Fields(p.bad)...) {
			f.Add(`{"resourceType":"Basic","code":{"text":"x"},"extension":[{"url":"a","` + p.element + `":` + value + `}]}`)
		}
	}
	f.Add(`{"resourceType":"Patient","name":[{"given":["a",null],"_given":[null,{"id":"x"}]}],"deceasedBoolean":true,"_deceasedBoolean":{"id":"y"}}`)
	f.Add(`{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"id":"1","contained":[{"resourceType":"Basic"}],"resourceType":"Patient"}}]}`)
	f.Add(`{"resourceType":"Patient","fhir_comments":[],"x":1,"_birthDate":{"extension":[{"url":"u","valueAge":{"value":1.0}}]}}`)
	d := newDifferential(f)
	f.Fuzz(func(t *testing.T, src string) { d.check(t, []byte(src)) })
}

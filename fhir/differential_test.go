package fhir

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// differentialRules name elements of all shapes: scalars, objects, arrays, a
// path inside another, the same path twice, meta, and names at any depth.
var differentialRules = []PathRule{
	{"**.reference", 1},
	{"**.url", 2},
	{"*.id", 3},
	{"*.meta.tag.code", 4},
	{"*.meta.extension", 5},
	{"*.meta.extension.url", 6},
	{"Patient.name", 7},
	{"Patient.name.given", 8},
	{"Patient.name.given", 9},
	{"Patient.a.b.c", 10},
	{"Observation.code.coding", 11},
	{"Observation.code.coding.system", 12},
	{"Observation.code.coding.code", 13},
	{"Observation.subject.reference", 14},
	{"Observation.valueQuantity.value", 15},
	{"*.contained.code", 16},
}

type differential struct {
	paths   *Paths
	scanner *Scanner
	again   *Scanner
	visitor recordVisitor
}

func newDifferential(t testing.TB) *differential {
	t.Helper()
	paths, err := NewPaths(differentialRules)
	if err != nil {
		t.Fatal(err)
	}
	opts := ScannerOptions{Paths: paths}
	return &differential{paths: paths, scanner: NewScanner(opts), again: NewScanner(opts)}
}

// check compares a scan of src with the reference.
func (d *differential) check(t testing.TB, src []byte) {
	t.Helper()
	before := bytes.Clone(src)
	d.visitor.got = d.visitor.got[:0]
	got, err := d.scanner.Scan(src, &d.visitor)
	if !bytes.Equal(src, before) {
		t.Fatalf("the scan changed its source %q", before)
	}
	want, refErr := refScan(src)
	if (err == nil) != (refErr == nil) {
		t.Fatalf("scan of %q\n got error %v\nwant error %v", src, err, refErr)
	}
	if err != nil {
		return
	}
	if !slices.Equal(want.visits, d.visitor.got) {
		t.Fatalf("visits of %q\n got %q\nwant %q", src, d.visitor.got, want.visits)
	}
	checkResource(t, src, got, want)
	d.checkServed(t, got)
}

func checkResource(t testing.TB, src []byte, got *Resource, want *refResource) {
	t.Helper()
	if string(got.Body) != want.body {
		t.Fatalf("body of %q\n got %q\nwant %q", src, got.Body, want.body)
	}
	if string(got.TypeName) != want.typeName || got.Type != TypeByName([]byte(want.typeName)) ||
		string(got.ID) != want.id || (got.ID != nil) != want.hasID ||
		string(got.VersionID) != want.versionID || string(got.LastUpdated) != want.lastUpdated ||
		got.Deleted != want.deleted || got.ConditionalReference != want.conditional || got.Splice.Kind != want.kind {
		t.Fatalf("scan of %q\n got %+v\nwant %+v", src, got, want)
	}
	if valid := ValidID(got.ID); valid != (got.IDAt != 0) {
		t.Fatalf("scan of %q: id %q has offset %d", src, got.ID, got.IDAt)
	} else if valid && !bytes.HasPrefix(got.Body[got.IDAt:], []byte(want.id+`"`)) {
		t.Fatalf("scan of %q: id is not at %d of %q", src, got.IDAt, got.Body)
	}
	if len(src) == len(want.body) && &got.Body[0] != &src[0] {
		t.Fatalf("scan of %q copied a body that needed no cut", src)
	}
}

// checkServed scans what AppendResource and AppendBodyWithID give.
func (d *differential) checkServed(t testing.TB, r *Resource) {
	t.Helper()
	lastUpdated := Instant{1_600_000_000_123, 90}
	served := AppendResource([]byte("x"), r.Body, r.Splice, -3, lastUpdated)[1:]
	back, err := d.again.Scan(served, nil)
	if err != nil {
		t.Fatalf("cannot scan served %q: %s", served, err)
	}
	body := r.Body
	if r.Splice.Kind == SpliceNewMeta {
		back.Body = bytes.Replace(back.Body, []byte(`,"meta":{}`), nil, 1)
	}
	if string(back.VersionID) != "-3" || string(back.LastUpdated) != lastUpdated.String() || !bytes.Equal(back.Body, body) {
		t.Fatalf("served %q\n got %q\nwant %q", served, back.Body, body)
	}
	withID, idAt, splice := AppendBodyWithID([]byte("xy"), r, []byte("new-id.1"))
	back, err = d.again.Scan(withID, nil)
	if err != nil {
		t.Fatalf("cannot scan %q: %s", withID, err)
	}
	if string(back.ID) != "new-id.1" || back.IDAt != idAt || back.Splice != splice {
		t.Fatalf("with id %q\n got %d %v\nwant %d %v", withID, idAt, splice, back.IDAt, back.Splice)
	}
}

var oddResources = []string{
	`{"resourceType":"Patient","id":"a","meta":{"versionId":"1","lastUpdated":"2020-01-01T00:00:00Z"},"name":[{"given":["A","\u00e9\ud83d\ude00",null,{"x":1}]}]}`,
	`{"resourceType":"Patient","id":"\u0061","meta":{"extension":[{"url":"` + DeletedStateURL + `","valueString":"soft-deleted"}]}}`,
	`{"meta":{"tag":[{"code":"x"}],"extension":[{"url":"u"},{"valueString":"soft-deleted","url":"` + DeletedStateURL + `"},{"url":"v","a":[]}],"versionId":"1"},"id":"a","resourceType":"Patient"}`,
	`{"meta":{"extension":[{"url":"` + DeletedStateURL + `"},{"url":"` + DeletedStateURL + `","valueString":"soft-deleted"}],"tag":[]},"resourceType":"Patient"}`,
	`{"meta":{"extension":[{"url":"` + DeletedStateURL + `","valueString":"deleted"}],"lastUpdated":"x"},"resourceType":"Patient"}`,
	`{"meta":{"extension":[ 1 , [ ] , {"url":"` + DeletedStateURL + `","valueString":"soft-deleted"} , "x" ]},"resourceType":"Patient"}`,
	`{"meta":{"extension":{"url":"` + DeletedStateURL + `","valueString":"soft-deleted"}},"resourceType":"Patient"}`,
	`{"resourceType":"Observation","subject":{"reference":"Patient?identifier=x"},"code":{"coding":[{"system":"s","code":"c"}]},"valueQuantity":{"value":1.00}}`,
	`{"code":{"coding":[{"system":"s","code":"c","a":{"b":[{"url":"x","reference":{"reference":["a","b?"]}}]}}]},"resourceType":"Observation"}`,
	`{"code":{"coding":[{"system":"s"}]},"\u0072esourceType":"Observation"}`,
	`{"resourceType":"X","a":[-0,0.0,1e5,1E-5,1.25e+10,-1.5],"b":[true,false,null],"c":"\"\\\/\b\f\n\r\t"}`,
	`{"resourceType":"Patient","a":-}`, `{"resourceType":"Patient","a":1.}`, `{"resourceType":"Patient","a":1e}`,
	`{"resourceType":"Patient","a":.5}`, `{"resourceType":"Patient","a":00}`, `{"resourceType":"Patient","a":tru}`,
	`{"resourceType":"Patient","a":"\ud800\u0041"}`, `{"resourceType":"Patient","a":"\udc00"}`, `{"resourceType":"Patient","a":"\x"}`,
	`{"resourceType":"Patient","a":"\u12`, `{"resourceType":"Patient","a":"\`, `{"resourceType":"Patient","refe\u0072ence":"a?"}`,
	"{\"resourceType\":\"Patient\",\"a\":\"\xed\xa0\x80\"}", "{\"resourceType\":\"Patient\",\"a\":\"\xc0\x80\"}", "{\"resourceType\":\"Patient\",\"a\":\"\xf4\x90\x80\x80\"}",
	"{\"resourceType\":\"Patient\",\"a\":\"\xef\xbf\xbd\u2028\x7f\"}", "\xef\xbb\xbf{\"resourceType\":\"Patient\"}",
	" {\n\t\"resourceType\" : \"Patient\" ,\r\n \"a\" : [ 1 , { } , [ ] , { \"b\" : { \"reference\" : \"x\" } } ] } ",
	`{"resourceType":"Patient"}{}`, `{"resourceType":"Patient"} x`, `{"resourceType" "Patient"}`, `{"resourceType":"Patient" "a":1}`, `{resourceType:"Patient"}`,
	`{"resourceType":"Patient","meta":{"id":"m","id":"n"}}`, `{"resourceType":"Patient","name":[{"given":1,"given":2}]}`,
	`{"resourceType":"Patient","id":"not valid/\u0061"}`, `{"resourceType":"Patient","id":""}`, `{"resourceType":"","id":"a"}`,
}

func TestScanAgreesWithReferenceOnOddResources(t *testing.T) {
	d := newDifferential(t)
	for _, src := range oddResources {
		d.check(t, []byte(src))
		for cut := range len(src) {
			d.check(t, []byte(src[:cut]))
		}
	}
	for _, n := range []int{DepthMax - 2, DepthMax - 1, DepthMax} {
		d.check(t, []byte(`{"resourceType":"Patient","a":`+strings.Repeat("[", n)+strings.Repeat("]", n)+`}`))
		d.check(t, []byte(`{"resourceType":"Patient","a":`+strings.Repeat(`{"a":`, n)+`1`+strings.Repeat("}", n)+`}`))
		d.check(t, []byte(`{"resourceType":"Patient","reference":`+strings.Repeat("[", n)+strings.Repeat("]", n)+`}`))
	}
}

// mutate changes a few places of src: bytes that matter to JSON, cuts and repeats.
func mutate(random *rand.Rand, src []byte) []byte {
	const spice = "{}[]\",:\\ \n0-.eEtu\x00\x1f\x7f\x80\xc3\xff"
	out := bytes.Clone(src)
	for range 1 + random.IntN(3) {
		at := random.IntN(len(out))
		switch random.IntN(4) {
		case 0:
			out[at] = spice[random.IntN(len(spice))]
		case 1:
			out = slices.Insert(out, at, spice[random.IntN(len(spice))])
		case 2:
			out = slices.Delete(out, at, min(len(out), at+1+random.IntN(3)))
		case 3:
			end := min(len(out), at+1+random.IntN(40))
			out = slices.Insert(out, at, bytes.Clone(out[at:end])...)
		}
		if len(out) == 0 {
			return src
		}
	}
	return out
}

func TestScanAgreesWithReferenceOnMutatedResources(t *testing.T) {
	d := newDifferential(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		for _, src := range oddResources {
			d.check(t, mutate(random, []byte(src)))
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, src := range oddResources {
		f.Add([]byte(src))
	}
	d := newDifferential(f)
	f.Fuzz(func(t *testing.T, src []byte) { d.check(t, src) })
}

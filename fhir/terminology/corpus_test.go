package terminology

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"kiln/fhir"
	"kiln/internal/shareddata"
)

// library is resources in memory.
type library struct {
	byURL map[fhir.TypeCode]map[string][]Resource
	byID  map[fhir.TypeCode]map[string]Resource
}

func newLibrary() *library {
	return &library{map[fhir.TypeCode]map[string][]Resource{}, map[fhir.TypeCode]map[string]Resource{}}
}

func (l *library) add(tb testing.TB, text []byte) {
	tb.Helper()
	var head struct{ ResourceType, ID, URL string }
	if err := json.Unmarshal(text, &head); err != nil {
		tb.Fatal(err)
	}
	t := fhir.TypeByName([]byte(head.ResourceType))
	if l.byURL[t] == nil {
		l.byURL[t], l.byID[t] = map[string][]Resource{}, map[string]Resource{}
	}
	body, err := fhir.Minify(text)
	if err != nil {
		tb.Fatal(err)
	}
	if _, twice := l.byID[t][head.ID]; twice {
		return
	}
	r := Resource{ID: head.ID, Body: body}
	l.byID[t][head.ID] = r
	l.byURL[t][head.URL] = append(l.byURL[t][head.URL], r)
}

func (l *library) WithURL(t fhir.TypeCode, url string) ([]Resource, error) {
	return l.byURL[t][url], nil
}

func (l *library) WithID(t fhir.TypeCode, id string) (Resource, bool, error) {
	r, ok := l.byID[t][id]
	return r, ok, nil
}

// corpus is every ValueSet and CodeSystem of the shared data.
func corpus(tb testing.TB) *library {
	tb.Helper()
	l := newLibrary()
	for _, name := range []string{"huge-r4.ndjson.gz", "examples-r4.ndjson.gz"} {
		for line := range bytes.Lines(shareddata.Read(tb, shareddata.Path(tb, "data", name))) {
			var r struct {
				ResourceType string
				Entry        []struct{ Resource json.RawMessage }
			}
			if err := json.Unmarshal(line, &r); err != nil {
				tb.Fatal(err)
			}
			all := []json.RawMessage{line}
			for _, e := range r.Entry {
				all = append(all, e.Resource)
			}
			for _, text := range all {
				var head struct{ ResourceType string }
				if json.Unmarshal(text, &head) == nil && (head.ResourceType == "ValueSet" || head.ResourceType == "CodeSystem") {
					l.add(tb, text)
				}
			}
		}
	}
	return l
}

// TestCorpus asks the value sets and code systems that HL7 publishes with R4.
func TestCorpus(t *testing.T) {
	l := corpus(t)
	t.Run("expansions", func(t *testing.T) { compareExpansions(t, l) })
	t.Run("subsumption", func(t *testing.T) { compareSubsumption(t, l) })
	t.Run("whatever is stored", func(t *testing.T) { askAll(t, l) })
}

// compareExpansions compares what definitions give with HL7's own expansions. HL7 leaves deprecated concepts out of them, which R4 does not ask
// for: they may be in what the definition gives.
func compareExpansions(t *testing.T, l *library) {
	// HL7 did not follow the property "child" then, and wrote one expansion by hand.
	otherwise := []string{"detectedissue-category", "inactive"}
	same, refused := 0, 0
	for id, r := range l.byID[valueSetType()] {
		v := parseValueSet(id, r.Body)
		if v.broken != "" || v.expansion == nil || v.expansion.doubt != "" || v.compose == nil || slices.Contains(otherwise, id) {
			continue
		}
		x := NewExpander(context.Background(), l)
		want, err := x.listed(v.expansion)
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.composed(v)
		var reason *Error
		switch {
		case errors.As(err, &reason):
			refused++
			continue
		case err != nil:
			t.Fatal(err)
		}
		same++
		for _, c := range want.Codes() {
			if !got.Has(c) {
				t.Errorf("%s lacks %v", id, c)
			}
		}
		for _, c := range got.Codes() {
			if !want.Has(c) && !isDeprecated(x, c) {
				t.Errorf("%s has %v", id, c)
			}
		}
	}
	if same < 430 || refused > 5 {
		t.Errorf("%d value sets are compared and %d refused", same, refused)
	}
}

func isDeprecated(x *Expander, c Code) bool {
	system, err := x.system(c.System, "")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(system.of(system.byCode[c.Code]), func(p property) bool {
		return p.code == "status" && p.text == "deprecated"
	})
}

// tree is a code system as objects.
type tree struct {
	URL, Content, HierarchyMeaning string
	Concept                        []treeConcept
}

type treeConcept struct {
	Code     string
	Concept  []treeConcept
	Property []struct{ Code, ValueCode string }
}

// parents gives the direct parents of every code.
func (c *tree) parents() map[string][]string {
	all := map[string][]string{}
	var read func(parent string, concepts []treeConcept)
	read = func(parent string, concepts []treeConcept) {
		for _, c := range concepts {
			all[c.Code] = append(all[c.Code], parent)
			for _, p := range c.Property {
				switch p.Code {
				case "child":
					all[p.ValueCode] = append(all[p.ValueCode], c.Code)
				case "parent", "subsumedBy":
					all[c.Code] = append(all[c.Code], p.ValueCode)
				}
			}
			read(c.Code, c.Concept)
		}
	}
	read("", c.Concept)
	return all
}

// compareSubsumption compares with a plain walk up a tree of objects, for every two
// concepts of the code systems that have a hierarchy.
func compareSubsumption(t *testing.T, l *library) {
	systems := 0
	for _, r := range l.byID[codeSystemType()] {
		var c tree
		if err := json.Unmarshal(r.Body, &c); err != nil {
			t.Fatal(err)
		}
		parents := c.parents()
		if c.HierarchyMeaning != "is-a" || c.Content != "complete" || len(l.byURL[codeSystemType()][c.URL]) > 1 || len(parents) > 150 {
			continue
		}
		systems++
		var isA func(code, of string) bool
		isA = func(code, of string) bool {
			return code == of || slices.ContainsFunc(parents[code], func(p string) bool { return isA(p, of) })
		}
		x := NewExpander(context.Background(), l)
		for code := range parents {
			below, err := x.Below(c.URL, code)
			if err != nil {
				t.Fatalf("below %s|%s: %v", c.URL, code, err)
			}
			above, err := x.Above(c.URL, code)
			if err != nil {
				t.Fatalf("above %s|%s: %v", c.URL, code, err)
			}
			for other := range parents {
				if below.Has(Code{c.URL, other}) != isA(other, code) || above.Has(Code{c.URL, other}) != isA(code, other) {
					t.Fatalf("%s: %s and %s", c.URL, code, other)
				}
			}
		}
	}
	if systems < 100 {
		t.Errorf("only %d code systems are compared", systems)
	}
}

// askAll: whatever is stored, a question has a set or a reason.
func askAll(t *testing.T, l *library) {
	for _, line := range shareddata.Lines(t, "data", "validator-cases.ndjson.gz") {
		var head struct{ ResourceType, ID string }
		if json.Unmarshal(line, &head) == nil && (head.ResourceType == "ValueSet" || head.ResourceType == "CodeSystem") {
			l.add(t, line)
		}
	}
	answered, refused := 0, 0
	for id := range l.byID[valueSetType()] {
		_, err := NewExpander(context.Background(), l).ValueSetByID(id)
		var reason *Error
		switch {
		case err == nil:
			answered++
		case errors.As(err, &reason):
			refused++
		default:
			t.Errorf("%s: %v", id, err)
		}
	}
	if answered < 1200 || refused > 150 {
		t.Errorf("%d value sets are answered, %d refused", answered, refused)
	}
}

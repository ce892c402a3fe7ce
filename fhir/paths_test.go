package fhir

import (
	"fmt"
	"slices"
	"testing"
)

func TestNewPathsRefusesMalformedRules(t *testing.T) {
	for _, path := range []string{"", "Patient", "Patient.", "Patient..name", "Patient.name.", "Person2.name", "**.a.b", "**", "*", "*."} {
		if _, err := NewPaths([]PathRule{{Path: path}}); err == nil {
			t.Errorf("path %q is compiled", path)
		}
	}
}

// Each of very many elements must be found, whatever the tables look like.
func TestPathsFindEachOfThousands(t *testing.T) {
	var rules []PathRule
	for i := range 5000 {
		path := fmt.Sprintf("Observation.a%d.b%d", i%100, i)
		rules = append(rules, PathRule{path, PathID(i)}, PathRule{path, PathID(i)})
	}
	p, err := NewPaths(rules)
	if err != nil {
		t.Fatal(err)
	}
	root := p.roots[TypeByName([]byte("Observation"))]
	for i := range 5000 {
		state := p.step(p.step(root, fmt.Appendf(nil, "a%d", i%100)), fmt.Appendf(nil, "b%d", i))
		if ids := p.nodes[state].ids; !slices.Equal(ids, []PathID{PathID(i)}) {
			t.Fatalf("path %d has ids %v", i, ids)
		}
		if state := p.step(p.step(root, fmt.Appendf(nil, "a%d", (i+1)%100)), fmt.Appendf(nil, "b%d", i)); state != 0 {
			t.Fatalf("path %d is found below another element", i)
		}
	}
	if state := p.step(root, []byte("")); state != 0 {
		t.Errorf("the empty key leads to state %d", state)
	}
	if state := p.step(p.anyType, []byte("a1")); state != 0 {
		t.Errorf("another type's element leads to state %d", state)
	}
}

func TestVisitorGetsObjectsAsUnits(t *testing.T) {
	paths, err := NewPaths([]PathRule{{"*.code.coding", 1}, {"*.code.coding.system", 2}, {"*.code.coding.code", 3}})
	if err != nil {
		t.Fatal(err)
	}
	src := `{"code":{"text":"x","coding":[{"system":"s1","display":"d","code":"c1"},{"code":"c2"},{}]},"resourceType":"Basic"}`
	v := &recordVisitor{}
	if _, err := NewScanner(ScannerOptions{Paths: paths}).Scan([]byte(src), v); err != nil {
		t.Fatal(err)
	}
	want := []string{"1 begin", "2 1 s1", "3 1 c1", "1 end", "1 begin", "3 1 c2", "1 end", "1 begin", "1 end"}
	if !slices.Equal(v.got, want) {
		t.Errorf("got %q\nwant %q", v.got, want)
	}
}

// The type decides about elements that come before it.
func TestVisitorGetsElementsBeforeTheType(t *testing.T) {
	paths, err := NewPaths([]PathRule{{"Basic.a", 1}, {"Patient.a", 2}})
	if err != nil {
		t.Fatal(err)
	}
	s := NewScanner(ScannerOptions{Paths: paths})
	f := func(src string, want ...string) {
		t.Helper()
		v := &recordVisitor{}
		if _, err := s.Scan([]byte(src), v); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(v.got, want) {
			t.Errorf("%s: got %q, want %q", src, v.got, want)
		}
	}
	f(`{"a":1,"resourceType":"Basic"}`, "1 2 1")
	f(`{"a":true,"resourceType":"Patient"}`, "2 3 true")
	f(`{"a":null,"resource\u0054ype":"Patient"}`, "2 4 null")
	f(`{"a":1,"resourceType":"Account"}`)
	f(`{"a":1,"resourceType":"unknown"}`)
	f(`{"x":{"resourceType":"Basic"},"a":1,"resourceType":"Patient"}`, "2 2 1")
}

package query

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"kiln/fhir"
	"kiln/index"
)

// What references lead to is one key for each resource of this server, in order,
// whatever form and version they are in and in which order they come.
func TestReferredKeys(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const own = "http://here/fhir"
	want := map[string]bool{}
	keys := referredKeys{own: []byte(own)}
	for range 20 {
		var values [][]byte
		for range rng.IntN(60) {
			id := fmt.Sprintf("%08x-0000-4000-8000-00000000000a", rng.IntN(40))
			if rng.IntN(3) == 0 {
				id = fmt.Sprint("p", rng.IntN(20))
			}
			text, isOwn := "Patient/"+id, true
			switch rng.IntN(5) {
			case 0:
				text = own + "/" + text
			case 1:
				text, isOwn = "http://there/fhir/"+text, false
			case 2:
				text += "/_history/3"
			case 3:
				text, isOwn = "#"+id, false
			}
			values = append(values, index.AppendReference(nil, []byte(text)))
			if isOwn {
				want[string(index.AppendKey(nil, fhir.TypeByName([]byte("Patient")), []byte(id)))] = true
			}
		}
		slices.SortFunc(values, bytes.Compare)
		for _, v := range values {
			if err := keys.add(v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := keys.arrange(); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(keys.sorted, bytes.Compare) || len(keys.sorted) != len(want) {
		t.Fatalf("%d keys, in order: %v; want %d", len(keys.sorted), slices.IsSortedFunc(keys.sorted, bytes.Compare), len(want))
	}
	for _, k := range keys.sorted {
		if !want[string(k)] {
			t.Errorf("key %x", k)
		}
	}
}

// The bound is about resources, not about how often they are referred to.
func TestReferredKeysAreBounded(t *testing.T) {
	value := func(i int) []byte { return index.AppendReference(nil, fmt.Appendf(nil, "Patient/%d", i)) }
	var keys referredKeys
	for range 3 {
		for i := range reverseMatchesMax {
			if err := keys.add(value(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := keys.arrange(); err != nil {
		t.Fatal(err)
	}
	if err := keys.add(value(reverseMatchesMax)); err != nil {
		t.Fatal(err)
	}
	var refused *Error
	if err := keys.arrange(); !errors.As(err, &refused) || refused.Kind != TooCostly {
		t.Fatal(err)
	}
}

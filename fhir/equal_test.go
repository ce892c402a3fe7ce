package fhir

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestEqualContent(t *testing.T) {
	f := func(want bool, a, b string) {
		t.Helper()
		if EqualContent([]byte(a), []byte(b)) != want || EqualContent([]byte(b), []byte(a)) != want {
			t.Errorf("equality of %s and %s is not %v", a, b, want)
		}
	}
	f(true, `{}`, `{}`)
	f(true, `{}`, `{"meta":{}}`)
	f(true, `{"a":1}`, `{"meta":{},"a":1}`)
	f(true, `{"a":1,"b":[{"x":1,"y":2}]}`, `{"b":[{"y":2,"x":1}],"a":1}`)
	f(true, `{"a":"\u0041\/"}`, `{"\u0061":"A/"}`)
	f(true, `{"a":1}`, ` { "a" : 1 } `)
	f(true, `{"a":"é"}`, `{"a":"\u00e9"}`)
	f(true, `{"a":{"x":1,"y":3,"x":2}}`, `{"a":{"y":3,"x":1,"x":2}}`)

	many := `"x":1,"x":2,"x":3,"x":4,"x":5,"x":6,"x":7,"x":8,"x":9,"x":10,"x":11,"x":12,"x":13,"x":14`
	f(true, `{"a":{"y":0,`+many+`,"b":0}}`, `{"a":{"b":0,"y":0,`+many+`}}`)

	f(false, `{"a":{"x":1,"y":3,"x":2}}`, `{"a":{"y":3,"x":2,"x":1}}`)
	f(false, `{"a":1.0}`, `{"a":1.00}`)
	f(false, `{"a":1e0}`, `{"a":1}`)
	f(false, `{"a":1}`, `{"a":"1"}`)
	f(false, `{"a":null}`, `{}`)
	f(false, `{"a":{}}`, `{}`)
	f(false, `{"a":[]}`, `{"a":{}}`)
	f(false, `{"a":true}`, `{"a":false}`)
	f(false, `{"a":[1,2]}`, `{"a":[2,1]}`)
	f(false, `{"a":[1,2]}`, `{"a":[1,2,3]}`)
	f(false, `{"a":[[1],2]}`, `{"a":[[1,2]]}`)
	f(false, `{"a":{"meta":{}}}`, `{"a":{}}`)
	f(false, `{"meta":{"tag":[]}}`, `{"meta":{}}`)
	f(false, `{"a":1}`, `{"b":1}`)
	f(false, `{"a":1}`, `{"a":1,"b":1}`)
	f(false, `{"a":1}`, `{"a":1`)
	f(false, `{"a":1}`, ``)
}

// shuffled is v with the members of all objects in another order.
func shuffled(random *rand.Rand, v *refValue) *refValue {
	c := *v
	c.members, c.items = slices.Clone(v.members), slices.Clone(v.items)
	for i := range c.members {
		c.members[i].value = shuffled(random, c.members[i].value)
	}
	for i := range c.items {
		c.items[i] = shuffled(random, c.items[i])
	}
	random.Shuffle(len(c.members), func(i, j int) { c.members[i], c.members[j] = c.members[j], c.members[i] })
	return &c
}

// refEqual compares what shuffled may have changed.
func refEqual(a, b *refValue) bool {
	if a.kind != b.kind || len(a.members) != len(b.members) || len(a.items) != len(b.items) || a.text != b.text {
		return false
	}
	if a.kind != '"' && a.raw != b.raw {
		return false
	}
	for i := range a.items {
		if !refEqual(a.items[i], b.items[i]) {
			return false
		}
	}
	for _, m := range a.members {
		if other := b.member(m.key); other == nil || !refEqual(m.value, other) {
			return false
		}
	}
	return true
}

func TestEqualContentIgnoresOnlyOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		for _, src := range oddResources {
			checkEqual(t, random, []byte(src))
		}
	}
}

func checkEqual(t testing.TB, random *rand.Rand, src []byte) {
	t.Helper()
	a, err := refParse(src)
	if err != nil || a.kind != '{' || refRepeats(a) {
		return
	}
	text := []byte(shuffled(random, a).String())
	if !EqualContent(src, text) {
		t.Fatalf("%q and %q are not equal", src, text)
	}
	changed := mutate(random, text)
	b, err := refParse(changed)
	if err != nil || b.kind != '{' || refRepeats(b) || bytes.Contains(changed, []byte("meta")) {
		return
	}
	if got, want := EqualContent(src, changed), refEqual(a, b); got != want {
		t.Fatalf("equality of %q and %q is %v, want %v", src, changed, got, want)
	}
}

// refRepeats tells whether any object in v repeats a key.
func refRepeats(v *refValue) bool {
	return v.repeatedKey() || slices.ContainsFunc(v.items, refRepeats) ||
		slices.ContainsFunc(v.members, func(m refMember) bool { return refRepeats(m.value) })
}

func FuzzEqualContent(f *testing.F) {
	for i, src := range oddResources {
		f.Add([]byte(src), []byte(oddResources[(i+1)%len(oddResources)]), uint64(i))
	}
	f.Fuzz(func(t *testing.T, a, b []byte, seed uint64) {
		checkEqual(t, rand.New(rand.NewPCG(seed, 0)), a)
		if EqualContent(a, b) != EqualContent(b, a) {
			t.Fatalf("equality of %q and %q depends on their order", a, b)
		}
	})
}

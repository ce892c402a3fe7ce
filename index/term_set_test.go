package index

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTermSetKeepsEveryOrdinal(t *testing.T) {
	f := func(seed uint64, terms int, steps int, stepMax uint32) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 1))
		s, want := newTermSet(), map[string][]uint32{}
		for range 2 { // the second time in the memory of the first
			s.reset()
			clear(want)
			o := uint32(0)
			for range steps {
				for range rng.IntN(4) {
					value := fmt.Sprint(rng.IntN(terms))
					s.add(7, []byte(value))
					if list := want[value]; len(list) == 0 || list[len(list)-1] != o {
						want[value] = append(list, o)
					}
				}
				s.commit(o)
				s.add(7, fmt.Append(nil, rng.IntN(2*terms)))
				s.discard()
				o += 1 + rng.Uint32N(stepMax)
			}
			checkTermSet(t, s, want)
		}
	}
	f(1, 1, 50_000, 1)
	f(2, 3, 20_000, 300)
	f(3, 500, 5_000, 40_000)
	f(4, 50_000, 20_000, 2)
	f(5, 2, 900, 1<<20)
}

func checkTermSet(t *testing.T, s *termSet, want map[string][]uint32) {
	t.Helper()
	found := 0
	for i := range s.recs {
		found++
		value := string(s.termKey(uint32(i))[2:])
		if got := s.ordinals(nil, &s.recs[i]); !slices.Equal(got, want[value]) || int(s.recs[i].count) != len(got) {
			t.Fatalf("term %q has %d ordinals, want %d", value, len(got), len(want[value]))
		}
	}
	if found != len(want) {
		t.Fatalf("%d terms, want %d", found, len(want))
	}
}

func TestKeySorterSortsStably(t *testing.T) {
	f := func(what string, keys [][]byte) {
		t.Helper()
		items := make([]sortItem, len(keys))
		want := make([]uint32, len(keys))
		for i := range items {
			items[i].id, want[i] = uint32(i), uint32(i)
		}
		s := keySorter{key: func(id uint32) []byte { return keys[id] }}
		s.sort(items)
		slices.SortStableFunc(want, func(a, b uint32) int { return bytes.Compare(keys[a], keys[b]) })
		for i := range items {
			if items[i].id != want[i] {
				t.Fatalf("%s: place %d has key %x, want %x", what, i, keys[items[i].id], keys[want[i]])
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n, length, alphabet int, prefix string) (keys [][]byte) {
		for range n {
			key := []byte(prefix)
			for range rng.IntN(length + 1) {
				key = append(key, byte(rng.IntN(alphabet)))
			}
			keys = append(keys, key)
		}
		return keys
	}
	f("none", nil)
	f("few", random(10, 3, 2, ""))
	f("short", random(5000, 3, 2, ""))
	f("zeros", random(5000, 40, 1, ""))
	f("two letters", random(20_000, 60, 2, ""))
	f("far apart", random(20_000, 30, 256, ""))
	f("a long common prefix", random(20_000, 20, 3, "http://example.org/a/common/prefix/"))
	f("one key", slices.Repeat([][]byte{[]byte("the same key all along")}, 3000))
	f("mixed", append(random(3000, 12, 2, "12345678"), slices.Repeat([][]byte{[]byte("12345678")}, 500)...))
}

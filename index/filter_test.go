package index

import (
	"math/rand/v2"
	"testing"

	"github.com/FastFilter/xorfilter"
)

// Asking about many hashes gives what asking about each gives, for every kind
// of filter, and what is in a filter is found.
func TestFilterAnswersManyAsOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []uint64 {
		hashes := make([]uint64, n)
		for i := range hashes {
			hashes[i] = rng.Uint64()
		}
		return hashes
	}
	f := func(kind byte, keys []uint64) {
		t.Helper()
		payload := []byte{filterNone}
		switch kind {
		case filterFuse8:
			payload = appendFilter(nil, &xorfilter.BinaryFuseBuilder{}, append([]uint64(nil), keys...))
		case filterBloom:
			payload = append([]byte{filterBloom}, make([]byte, bloomBytes(uint64(len(keys))))...)
			bloomFilter(payload[1:]).addAll(keys)
		}
		filter, ok := parseFilter(payload)
		if !ok || payload[0] != kind {
			t.Fatalf("kind %d of %d keys: not that filter", kind, len(keys))
		}
		asked := append(random(20_000), keys...)
		hits, at := filter.among(nil, asked), 0
		for i, hash := range asked {
			hit := at < len(hits) && hits[at] == uint32(i)
			if hit {
				at++
			}
			if hit != filter.mayContain(hash) {
				t.Fatalf("kind %d of %d keys: hash %x alone is %t, among others %t", kind, len(keys), hash, !hit, hit)
			}
			if i >= 20_000 && !hit {
				t.Fatalf("kind %d of %d keys: hash %x is not found", kind, len(keys), hash)
			}
		}
		if at != len(hits) || kind != filterNone && len(hits) > len(keys)+20_000/50 {
			t.Fatalf("kind %d of %d keys: %d hits, %d read", kind, len(keys), len(hits), at)
		}
	}
	for _, n := range []int{1, 2, 3, 17, 1000, 60_000} {
		keys := random(n)
		f(filterNone, keys)
		f(filterFuse8, keys)
		f(filterBloom, keys)
	}
}

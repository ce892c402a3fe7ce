package engine

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"kiln/index"
)

// TestHeadDirAgainstMap: keys whose hashes are equal, or fall together in a
// small table, are told apart, also while the table grows.
func TestHeadDirAgainstMap(t *testing.T) {
	f := func(name string, hash func(key int) uint64) {
		t.Run(name, func(t *testing.T) {
			var d headDir
			d.table.Store(newHeadTable(2))
			rng := rand.New(rand.NewPCG(1, 2))
			var keyOf []int // of each entry
			newest := map[int]int32{}
			find := func(key int) int32 {
				return d.find(hash(key), func(i int32) bool { return keyOf[i] == key })
			}
			for range 3000 {
				key := rng.IntN(1000)
				before := find(key)
				keyOf = append(keyOf, key)
				newest[key] = int32(len(keyOf) - 1)
				d.put(hash(key), before, newest[key])
			}
			for key := range 2000 {
				want, there := newest[key]
				if !there {
					want = none
				}
				if got := find(key); got != want {
					t.Fatalf("key %d: entry %d, want %d", key, got, want)
				}
				if there && !d.mayContain(hash(key)) {
					t.Fatalf("key %d is said to be missing", key)
				}
			}
			if d.used != len(newest) || len(d.table.Load().slots) < 2*d.used {
				t.Fatalf("%d slots of %d for %d keys", d.used, len(d.table.Load().slots), len(newest))
			}
		})
	}
	f("spread", func(key int) uint64 { return index.KeyHash(fmt.Append(nil, key)) })
	f("one place", func(key int) uint64 { return 1<<63 | uint64(key)<<32 })
	f("at the end", func(key int) uint64 { return 0xffffffff<<32 - uint64(key)<<32 })
	f("few hashes", func(key int) uint64 { return index.KeyHash(fmt.Append(nil, key%7)) })
	f("one hash", func(int) uint64 { return 0 })
}

// TestHeadDirReadersBesideTheWriter: whoever reads as of an LSN finds the newest
// entry up to it, however far the writer has gone on.
func TestHeadDirReadersBesideTheWriter(t *testing.T) {
	const keys, entries = 100, 5_000
	g := newHeadGen(0)
	key := func(i uint64) string { return fmt.Sprintf("key-%d", i%keys) }
	var visible atomic.Uint64
	var readers sync.WaitGroup
	for seed := range uint64(3) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 1))
			for lsn := uint64(0); lsn < entries; {
				lsn = visible.Load()
				asOf := rng.Uint64N(lsn + 1)
				// Entry n has LSN n+1 and the key of n: the newest up to asOf of a
				// key is the last n below asOf that falls on it.
				k := rng.Uint64N(keys)
				want := int32(none)
				if asOf > k {
					want = int32(k + (asOf-1-k)/keys*keys)
				}
				if got := g.latest([]byte(key(k)), asOf); got != want {
					t.Errorf("%s as of LSN %d: entry %d, want %d", key(k), asOf, got, want)
					return
				}
			}
		})
	}
	for n := uint64(0); n < entries; n++ {
		g.add([]headEntry{{key: key(n), lsn: n + 1, versionID: int64(n/keys) + 1}})
		visible.Store(n + 1)
	}
	readers.Wait()
	if _, e := g.current([]byte(key(7)), entries); e == nil || e.versionID != int64((entries-1-7)/keys)+1 {
		t.Fatalf("the current version is %+v", e)
	}
}

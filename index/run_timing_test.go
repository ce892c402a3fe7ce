package index

import (
	"context"
	"math/rand/v2"
	"testing"

	"kiln/internal/vfs"
)

// openCorpus builds one run of the public data set.
func openCorpus(b *testing.B, cacheBytes int64) (*Run, []scanned, int64) {
	all, bytes := scanCorpus(b, "public")
	dir := b.TempDir()
	meta, _ := buildCorpus(b, vfs.OS(), dir, 1, nil, all)
	r, err := OpenRun(vfs.OS(), dir, meta, 1, NewCache(cacheBytes))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	b.ReportAllocs()
	return r, all, bytes
}

func BenchmarkLookup(b *testing.B) {
	r, all, _ := openCorpus(b, 64<<20)
	rng := rand.New(rand.NewPCG(1, 1))
	keys := make([][]byte, 1<<16)
	for i := range keys {
		res := &all[rng.IntN(len(all))].res
		keys[i] = AppendKey(nil, res.Type, res.ID)
	}
	var found []Found
	i := 0
	b.Run("hit", func(b *testing.B) {
		for b.Loop() {
			found, _ = r.Lookup(found[:0], keys[i&(len(keys)-1)])
			i++
		}
	})
	b.Run("filtered", func(b *testing.B) {
		for b.Loop() {
			_ = r.MayContain(KeyHash(keys[i&(len(keys)-1)][1:]))
			i++
		}
	})
	b.Run("ascending", func(b *testing.B) {
		c, keys := r.LookupCursor(), r.KeyCursor()
		for b.Loop() {
			if !keys.Next() {
				c, keys = r.LookupCursor(), r.KeyCursor()
				keys.Next()
			}
			found, _ = c.Lookup(found[:0], keys.Key())
		}
	})
}

func BenchmarkBody(b *testing.B) {
	f := func(name string, cacheBytes int64) {
		r, all, _ := openCorpus(b, cacheBytes)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			rng := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				if _, err := r.Body(Ordinal(rng.IntN(len(all)))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("cached", 512<<20)
	f("decoded", 0)
}

func BenchmarkScan(b *testing.B) {
	r, _, bytes := openCorpus(b, 0)
	b.SetBytes(bytes)
	for b.Loop() {
		err := r.Scan(context.Background(), r.Live(), func(Ordinal, Row, Stored) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
}

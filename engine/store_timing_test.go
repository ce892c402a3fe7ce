package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// benchStore is a store on the real file system.
func benchStore(b *testing.B) *Store {
	b.Helper()
	return mustOpen(b, Options{FS: vfs.OS(), Dir: b.TempDir(), Now: time.Now, NewID: rand.Uint64, Logger: discardLogger(), FreeBytesMin: -1})
}

// benchChange has about 1 KB, as a Condition does.
func benchChange(b *testing.B, i int) Change {
	id := fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(i)*2654435761, i)
	return write(b, patient, id, strings.Repeat("x", 900)+fmt.Sprint(i))
}

// BenchmarkCommit: create, one resource a request.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := benchStore(b)
			defer mustClose(b, s)
			var next atomic.Int64
			b.SetParallelism((writers + 1) / 2)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					mustCommit(b, s, benchChange(b, int(next.Add(1))))
				}
			})
			b.StopTimer()
			st := s.Stats()
			b.ReportMetric(float64(st.Commits)/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(float64(st.Commits)/float64(max(st.CommitGroups, 1)), "commits/group")
		})
	}
}

// BenchmarkGet reads one of 20,000 resources, from the head and from a run.
func BenchmarkGet(b *testing.B) {
	const resources = 20_000
	s := benchStore(b)
	defer mustClose(b, s)
	var ids [][]byte
	var changes []Change
	for i := range resources {
		c := benchChange(b, i)
		ids, changes = append(ids, c.ID), append(changes, c)
		if len(changes) == 500 {
			mustCommit(b, s, changes...)
			changes = changes[:0]
		}
	}
	read := func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			n := mustSnapshot(b, s)
			if _, err := n.Get(patient, ids[i*7919%resources]); err != nil {
				b.Fatal(err)
			}
			n.Release()
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
	}
	b.Run("head", read)
	if err := s.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Run("run", read)
	b.Run("missing", func(b *testing.B) {
		for range b.N {
			n := mustSnapshot(b, s)
			if _, err := n.Get(fhir.TypeByName([]byte("Observation")), ids[0]); err == nil {
				b.Fatal("found")
			}
			n.Release()
		}
	})
}

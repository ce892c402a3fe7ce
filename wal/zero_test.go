package wal_test

import (
	"context"
	"slices"
	"syscall"
	"testing"

	"kiln/internal/vfs"
	"kiln/wal"
)

// span is a range of the newest segment that was written.
type span struct{ from, to int64 }

// isOfRecords: a write that is not of a segment's header. The name does not tell,
// a segment was made under another.
func isOfRecords(op vfs.Op) bool { return op.Kind == vfs.OpWrite && op.Offset > 0 }

// recordWrites keeps what is written behind segments' headers from now on.
func recordWrites(m *vfs.Mem, written *[]span) {
	m.SetHook(func(op vfs.Op) error {
		if isOfRecords(op) {
			*written = append(*written, span{op.Offset, op.Offset + op.Bytes})
		}
		return nil
	})
}

// zeroOptions have steps of the shortest length and room for many of them.
func zeroOptions(fsys vfs.FS) wal.Options {
	opts := testOptions(fsys)
	opts.SegmentBytes = 128 << 10
	return opts
}

const zeroStep = 4 << 10

func TestLoneWritesGoOverWrittenZeros(t *testing.T) {
	m, _ := newStore(t)
	l, _ := openLog(t, zeroOptions(m), 1)
	var written []span
	recordWrites(m, &written)
	fresh, end := 0, int64(0)
	const writes = 200
	for range writes {
		written = written[:0]
		at := int64(appendN(t, l, 1)[0].Position.Offset)
		record := written[0]
		if record.from > at || record.to <= at {
			t.Fatalf("a record at %d: wrote %v", at, written)
		}
		if record.to <= end {
			if len(written) != 1 {
				t.Fatalf("the blocks up to %d are written; a record up to %d wrote %v", end, record.to, written)
			}
			continue
		}
		// The one that gets to new blocks writes zeros behind itself, never before.
		fresh++
		if len(written) != 2 || written[1].from != record.to || written[1].to%zeroStep != 0 || written[1].to-record.to > zeroStep {
			t.Fatalf("a record up to %d, beyond %d, wrote %v", record.to, end, written)
		}
		end = written[1].to
	}
	if fresh > writes/5 {
		t.Fatalf("%d of %d records met new blocks", fresh, writes)
	}
	m.SetHook(nil)
	must(t, l.Close())
	after, seen := openLog(t, zeroOptions(m.CrashClone(7)), 1)
	if !slices.Equal(seen, lsns(1, writes)) {
		t.Fatalf("replayed %v", seen)
	}
	must(t, after.Close())
}

// TestLongBatchesWriteNoZeros: they would double what is written.
func TestLongBatchesWriteNoZeros(t *testing.T) {
	m, _ := newStore(t)
	l, _ := openLog(t, zeroOptions(m), 1)
	var written []span
	recordWrites(m, &written)
	for range 6 {
		before := l.Stats().Bytes
		written = written[:0]
		appendN(t, l, 40)
		if bytes := l.Stats().Bytes - before; bytes <= zeroStep || len(written) != 1 || written[0].to-written[0].from != bytes {
			t.Fatalf("a batch of %d bytes wrote %v", bytes, written)
		}
	}
	must(t, l.Close())
}

// TestZerosThatFailAreNoWriteError: the records are durable, and the segment gets
// no more zeros; the next one does.
func TestZerosThatFailAreNoWriteError(t *testing.T) {
	f := func(name string, failure error) {
		t.Run(name, func(t *testing.T) {
			m, _ := newStore(t)
			opts := zeroOptions(m)
			opts.SegmentBytes = 64 << 10
			l, _ := openLog(t, opts, 1)
			tried := map[string]int{}
			afterRecords := false // since the last sync
			m.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync {
					afterRecords = false
				}
				if !isOfRecords(op) {
					return nil
				}
				if !afterRecords {
					afterRecords = true
					return nil
				}
				tried[op.Name]++
				return failure
			})
			for l.Stats().Rolls < 4 {
				appendN(t, l, 1)
			}
			m.SetHook(nil)
			for name, n := range tried {
				if n != 1 {
					t.Fatalf("zeros were written to %s %d times, the first failed", name, n)
				}
			}
			if len(tried) < 3 || l.Err() != nil {
				t.Fatalf("zeros were tried in %v, the log says %v", tried, l.Err())
			}
			last := l.LastLSN()
			must(t, l.Close())
			after, seen := openLog(t, zeroOptions(m.CrashClone(3)), 1)
			if !slices.Equal(seen, lsns(1, last)) {
				t.Fatalf("replayed %v of %d", seen, last)
			}
			must(t, after.Close())
		})
	}
	f("no room", syscall.ENOSPC)
	f("input/output error", syscall.EIO)
	f("short", &vfs.ShortWrite{Bytes: 1000, Err: syscall.ENOSPC})
}

// TestPowerCutAmongLoneWrites cuts the power at each operation of lone writes, the
// zeros between them included, and while the log is opened again.
func TestPowerCutAmongLoneWrites(t *testing.T) {
	const writes = 40 // three steps
	lone := func(m *vfs.Mem, from wal.LSN) (acked wal.LSN) {
		l, err := wal.Open(context.Background(), zeroOptions(m), 1, checkRecord)
		for acked = from - 1; err == nil && acked < writes; {
			if _, err = l.Append(entries(acked+1, 1)); err == nil {
				acked++
			}
		}
		return acked
	}
	m, _ := newStore(t)
	if acked := lone(m, 1); acked != writes {
		t.Fatalf("%d of %d writes", acked, writes)
	}
	total := m.Ops()
	for cut := int64(1); cut <= total; cut++ {
		for seed := range uint64(5) {
			m := vfs.NewMem(seed)
			must(t, m.MkdirAll("/store"))
			m.CutPowerAt(cut)
			acked := lone(m, 1)
			m = m.CrashClone(seed)
			m.CutPowerAt(m.Ops() + 1 + int64(seed))
			lone(m, acked+1) // whatever it comes to
			l, seen := openLog(t, zeroOptions(m.CrashClone(seed+1)), 1)
			if l.LastLSN() < acked || !slices.Equal(seen, lsns(1, l.LastLSN())) {
				t.Fatalf("cut %d seed %d: acknowledged %d, found %v", cut, seed, acked, seen)
			}
			must(t, l.Close())
		}
	}
}

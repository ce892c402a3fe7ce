package wal_test

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"

	"kiln/internal/vfs"
	"kiln/wal"
)

// TestEveryFailingCall fails each call of a workload once, in several ways, then
// opens the log again as a restarted process does, with the page cache as the
// failure left it, and then cuts the power.
func TestEveryFailingCall(t *testing.T) {
	kinds := []error{
		syscall.EIO, syscall.ENOSPC, &vfs.ShortWrite{Bytes: 512, Err: syscall.EIO},
		&vfs.ShortWrite{Bytes: 17, Err: syscall.ENOSPC},
	}
	for call := 1; ; call++ {
		calls := 0
		for i, kind := range kinds {
			for seed := range uint64(3) {
				calls = max(runFailure(t, testOptions, seed+uint64(i)*10, call, kind), runFailure(t, encryptedOptions, seed+uint64(i)*10, call, kind))
			}
		}
		if call > calls {
			return
		}
	}
}

func runFailure(t *testing.T, options func(vfs.FS) wal.Options, seed uint64, call int, kind error) (calls int) {
	t.Helper()
	m := vfs.NewMem(seed)
	must(t, m.MkdirAll("/store"))
	m.SetHook(func(op vfs.Op) error {
		if calls++; calls == call {
			return kind
		}
		return nil
	})
	acked, tried := faultyWorkload(t, options(m))
	m.SetHook(nil)
	l, seen, err := tryOpen(options(m), 1)
	if err != nil {
		t.Fatalf("call %d: %v", call, err)
	}
	if l.LastLSN() < acked || l.LastLSN() > tried || !slices.Equal(seen, lsns(1, l.LastLSN())) {
		t.Fatalf("call %d: acknowledged %d, tried %d, found %v", call, acked, tried, seen)
	}
	// What an opened log has shown must survive, whatever the failed sync did.
	after, again := openLog(t, options(m.CrashClone(seed)), 1)
	if !slices.Equal(again, seen) {
		t.Fatalf("call %d, seed %d: the log held %v, and after a power cut %v", call, seed, seen, again)
	}
	appendN(t, after, 3)
	must(t, after.Close())
	appendN(t, l, 3)
	after, again = openLog(t, options(m.CrashClone(seed)), 1)
	if !slices.Equal(again, lsns(1, l.LastLSN())) {
		t.Fatalf("call %d, seed %d: the log went on to %d, and after a power cut holds %v", call, seed, l.LastLSN(), again)
	}
	must(t, after.Close())
	must(t, l.Close())
	return calls
}

// faultyWorkload appends batches whatever fails, and checks that each error says
// the truth about what comes after it.
func faultyWorkload(t *testing.T, opts wal.Options) (acked, tried wal.LSN) {
	t.Helper()
	l, err := wal.Open(context.Background(), opts, 1, checkRecord)
	if err != nil {
		return 0, 0
	}
	defer l.Close()
	for range 6 {
		n := 4
		tried = acked + wal.LSN(n)
		_, err := l.Append(entries(acked+1, n))
		if err != nil && !errors.Is(err, wal.ErrOutcomeUnknown) {
			// Nothing was written: the same batch goes in now.
			if l.LastLSN() != acked {
				t.Fatalf("%v, but the log went from %d to %d", err, acked, l.LastLSN())
			}
			_, err = l.Append(entries(acked+1, n))
		}
		if errors.Is(err, wal.ErrOutcomeUnknown) {
			_, again := l.Append(entries(acked+1, 1))
			mustFail(t, again, wal.ErrPoisoned)
			mustFail(t, l.Err(), wal.ErrOutcomeUnknown)
			return acked, tried
		}
		must(t, err)
		acked = tried
	}
	return acked, tried
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	m, opts := newStore(t)
	m.SetCapacity(2 * opts.SegmentBytes)
	l, _ := openLog(t, opts, 1)
	var err error
	for err == nil {
		_, err = l.Append(entries(l.LastLSN()+1, 3))
	}
	mustFail(t, err, wal.ErrNoSpace)
	if l.Err() != nil || l.Stats().NoSpace != 1 {
		t.Fatalf("a full disk poisoned the log: %v", l.Err())
	}
	before := l.LastLSN()
	sum, err := wal.Dump(context.Background(), m, testDir, checkRecord)
	must(t, err)
	if sum.LastLSN != before || sum.TornBytes != 0 {
		t.Fatalf("the refused batch left bytes: %+v, the log is at %d", sum, before)
	}
	m.SetCapacity(0)
	appendN(t, l, 3)
	must(t, l.Close())
	l, seen := openLog(t, opts, 1)
	if !slices.Equal(seen, lsns(1, before+3)) {
		t.Fatalf("replayed %v", seen)
	}
	must(t, l.Close())
}

// TestFullDiskAfterTrim: trimming is what makes room on a full disk.
func TestFullDiskAfterTrim(t *testing.T) {
	m, opts := newStore(t)
	m.SetCapacity(3 * opts.SegmentBytes)
	l, _ := openLog(t, opts, 1)
	for range 100 {
		if _, err := l.Append(entries(l.LastLSN()+1, 3)); errors.Is(err, wal.ErrNoSpace) {
			must(t, l.Trim(l.LastLSN()+1))
		} else {
			must(t, err)
		}
	}
	if l.LastLSN() < 200 {
		t.Fatalf("the log is at %d", l.LastLSN())
	}
	must(t, l.Close())
}

func TestReplayErrorStopsOpening(t *testing.T) {
	m, opts := newStore(t)
	l, _ := openLog(t, opts, 1)
	appendN(t, l, 10)
	must(t, l.Close())
	ops := m.Ops()
	boom := errors.New("boom")
	_, err := wal.Open(context.Background(), opts, 1, func(r wal.Record) error {
		if r.LSN == 7 {
			return boom
		}
		return nil
	})
	mustFail(t, err, boom)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = wal.Open(canceled, opts, 1, checkRecord)
	mustFail(t, err, context.Canceled)
	if m.Ops() != ops {
		t.Fatal("a log that could not be opened was written to")
	}
}

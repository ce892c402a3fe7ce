package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/internal/vfs"
)

// hangingDisk lets syncs wait until they are let go.
type hangingDisk struct {
	vfs.FS
	hangs   atomic.Bool
	waiting chan struct{} // gets one for each sync that waits
	letGo   chan struct{}
}

func (d *hangingDisk) OpenWrite(name string) (vfs.File, error) {
	f, err := d.FS.OpenWrite(name)
	return &hangingFile{f, d}, err
}

type hangingFile struct {
	vfs.File
	disk *hangingDisk
}

func (f *hangingFile) SyncData() error {
	if f.disk.hangs.Load() {
		f.disk.waiting <- struct{}{}
		<-f.disk.letGo
	}
	return f.File.SyncData()
}

// TestAStallIsToldWhileItLasts: from when on a write to the log waits is known at
// any moment, the log hears of it once, and once of its end.
func TestAStallIsToldWhileItLasts(t *testing.T) {
	disk := &hangingDisk{FS: vfs.NewMem(1), waiting: make(chan struct{}), letGo: make(chan struct{})}
	opts := testOptions(disk, 1)
	var clock atomic.Int64
	var log bytes.Buffer
	opts.Now = func() time.Time { return time.Unix(1_750_000_000, clock.Load()) }
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := mustOpen(t, opts)
	f := func(after, wait time.Duration, stalled bool, stalls uint64, lines int) {
		t.Helper()
		clock.Add(int64(after))
		s.watchLog()
		if h := s.Health(); h.LogWait != wait || h.Stalled() != stalled || h.Stalls != stalls {
			t.Errorf("the log waits for %v, stalled %v, %d stalls; want %v %v %d", h.LogWait, h.Stalled(), h.Stalls, wait, stalled, stalls)
		}
		if got := strings.Count(log.String(), "\n"); got != lines {
			t.Errorf("%d lines instead of %d:\n%s", got, lines, &log)
		}
	}
	f(0, 0, false, 0, 0)
	disk.hangs.Store(true)
	done := make(chan error)
	changes := []Change{write(t, patient, "a", "1")}
	go func() {
		_, err := s.Commit(context.Background(), changes)
		done <- err
	}()
	<-disk.waiting
	f(0, 0, false, 0, 0)
	f(900*time.Millisecond, 900*time.Millisecond, false, 0, 0)
	f(100*time.Millisecond, time.Second, true, 1, 1)
	f(time.Hour, time.Hour+time.Second, true, 1, 1)
	disk.hangs.Store(false)
	close(disk.letGo)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f(0, 0, false, 1, 2)
	mustClose(t, s)
}

// TestReadOnlyChangesNothing opens stores as a crash left them, and as Close did.
func TestReadOnlyChangesNothing(t *testing.T) {
	f := func(name string, leave func(t *testing.T, disk *vfs.Mem, s *Store) *vfs.Mem) {
		t.Helper()
		disk := vfs.NewMem(1)
		opts := testOptions(disk, 1)
		opts.SegmentBytes, opts.HeadBytes = 8<<10, 16<<10
		s := mustOpen(t, opts)
		for i := range 200 {
			mustCommit(t, s, write(t, patient, "a", strings.Repeat("x", 100)+string(rune('a'+i%20))))
		}
		opts.FS = leave(t, disk, s)
		opts.ReadOnly = true
		before := opts.FS.(*vfs.Mem).Ops()
		s = mustOpen(t, opts)
		n := mustSnapshot(t, s)
		if v, err := n.Get(patient, []byte("a")); err != nil || v.VersionID != 200 {
			t.Errorf("%s: Get: version %d, %v", name, v.VersionID, err)
		}
		if total, err := n.HistoryTotal(context.Background(), HistoryQuery{Type: patient}); err != nil || total != 200 {
			t.Errorf("%s: %d versions, %v", name, total, err)
		}
		n.Release()
		refused(t, s)
		mustClose(t, s)
		if after := opts.FS.(*vfs.Mem).Ops(); after != before {
			t.Errorf("%s: %d calls changed something", name, after-before)
		}
		opts.ReadOnly = false
		s = mustOpen(t, opts)
		mustCommit(t, s, write(t, patient, "a", "written again"))
		mustClose(t, s)
	}
	f("closed", func(t *testing.T, disk *vfs.Mem, s *Store) *vfs.Mem { mustClose(t, s); return disk })
	f("power cut", func(_ *testing.T, disk *vfs.Mem, _ *Store) *vfs.Mem { return disk.CrashClone(7) })
}

// refused tries everything that writes.
func refused(t *testing.T, s *Store) {
	t.Helper()
	ctx := context.Background()
	_, commit := s.Commit(ctx, []Change{write(t, patient, "b", "1")})
	_, purge := s.Purge(ctx, patient, []byte("a"), PurgeAll, Precondition{})
	_, ingest := s.BeginIngest(ctx)
	for _, err := range []error{commit, purge, ingest, s.Flush(ctx), s.CatalogPut("k", nil), s.CatalogDelete("k")} {
		if !errors.Is(err, ErrOpenedReadOnly) || !errors.Is(err, ErrReadOnly) {
			t.Errorf("got %v", err)
		}
	}
}

func TestReadOnlyMakesNoStore(t *testing.T) {
	disk := vfs.NewMem(1)
	opts := testOptions(disk, 1)
	opts.ReadOnly = true
	if _, err := Open(context.Background(), opts); !errors.Is(err, ErrForeign) {
		t.Errorf("got %v", err)
	}
	if disk.Ops() != 0 {
		t.Error("it changed something")
	}
}

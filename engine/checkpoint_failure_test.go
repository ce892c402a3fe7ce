package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kiln/internal/vfs"
)

// failCheckpoints has no checkpoint written while what it returns is true.
func failCheckpoints(fsys *vfs.Mem, errno syscall.Errno) *atomic.Bool {
	failing := new(atomic.Bool)
	fsys.SetHook(func(op vfs.Op) error {
		if failing.Load() && op.Kind == vfs.OpCreate && strings.HasPrefix(op.Name, "/data/checkpoint/") {
			return errno
		}
		return nil
	})
	return failing
}

// TestTheLogIsBoundedWithoutCheckpoints: flushes work and checkpoints do not, so the log
// cannot be trimmed. Health tells at once; at the bound writes are refused, and nothing
// of theirs is there; when checkpoints can be written again all goes on by itself.
func TestTheLogIsBoundedWithoutCheckpoints(t *testing.T) {
	f := func(inBackground bool, errno syscall.Errno, reason error) {
		t.Helper()
		fsys := vfs.NewMem(1)
		failing := failCheckpoints(fsys, errno)
		opts := testOptions(fsys, 1)
		opts.Logger, opts.SegmentBytes, opts.HeadBytes = discardLogger(), 8<<10, 16<<10
		opts.PrepareInline = !inBackground
		s := mustOpen(t, opts)
		failing.Store(true)
		commit := func(i int) error {
			_, err := s.Commit(context.Background(), []Change{write(t, patient, fmt.Sprint("a", i), strings.Repeat("x", 400))})
			return err
		}
		written := 0
		for ; commit(written) == nil; written++ {
			if written > 10_000 {
				t.Fatal("the log grows without a bound")
			}
		}
		err := commit(written)
		if !errors.Is(err, reason) || !errors.Is(err, errno) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("refused with %v", err)
		}
		if bytes, bound := s.log.Bytes(), int64(logHeadsMax+2)*opts.HeadBytes; bytes > bound || written < 100 {
			t.Errorf("%d versions, and the log has %d bytes, bound %d", written, bytes, bound)
		}
		if h := s.Health(); !errors.Is(h.Checkpoint, errno) || h.Failed != nil {
			t.Errorf("health tells %v", h.Checkpoint)
		}
		mustClose(t, s)
		failing.Store(false) // and the log is read again
		s = mustOpen(t, opts)
		if n := s.Stats().Versions; n != uint64(written) {
			t.Errorf("%d versions after a restart, want %d", n, written)
		}
		failing.Store(true)
		for ; written < 10_000; written++ {
			if err = commit(written); err != nil {
				break
			}
		}
		failing.Store(false)
		for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); {
			err = commit(written)
		}
		if err != nil || s.Health().Checkpoint != nil {
			t.Errorf("afterwards: %v, health tells %v", err, s.Health().Checkpoint)
		}
		for i := range 2 { // the log reaches back to the older of two checkpoints
			if err := errors.Join(commit(20_000+i), s.Flush(context.Background())); err != nil {
				t.Error(err)
			}
		}
		if bytes := s.log.Bytes(); bytes > 6*opts.HeadBytes {
			t.Errorf("the log has %d bytes still", bytes)
		}
		mustClose(t, s)
		if problems := fsckAll(t, fsys); len(problems) > 0 {
			t.Errorf("fsck: %+v", problems)
		}
	}
	f(false, syscall.EIO, ErrReadOnly)
	f(false, syscall.ENOSPC, ErrNoSpace)
	f(true, syscall.EIO, ErrReadOnly)
}

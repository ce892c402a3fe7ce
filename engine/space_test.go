package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"kiln/internal/vfs"
)

// TestFullDiskRefusesWritesAndRecovers: writes are refused, reads go on,
// nothing is lost, and writes resume when there is room.
func TestFullDiskRefusesWritesAndRecovers(t *testing.T) {
	f := func(name string, full, room func(*vfs.Mem)) {
		t.Helper()
		fsys := vfs.NewMem(1)
		opts := testOptions(fsys, 1)
		opts.Logger, opts.FreeBytesMin, opts.SegmentBytes, opts.HeadBytes = discardLogger(), 64<<10, 8<<10, 16<<10
		fsys.SetCapacity(16 << 20)
		s := mustOpen(t, opts)
		last := 0
		for i := range 20 {
			mustCommit(t, s, write(t, patient, "a", fmt.Sprint(i)))
			last = i
		}
		full(fsys)
		refused := 0
		for i := range 60 {
			_, err := s.Commit(context.Background(), []Change{write(t, patient, "a", fmt.Sprint("full", i))})
			switch {
			case err == nil:
				last++
			case errors.Is(err, ErrNoSpace):
				refused++
			default:
				t.Fatalf("%s: Commit on a full disk: %v", name, err)
			}
		}
		if refused == 0 {
			t.Fatalf("%s: no write was refused", name)
		}
		n := mustSnapshot(t, s)
		if v, err := n.Get(patient, []byte("a")); err != nil || v.VersionID != int64(last+1) {
			t.Fatalf("%s: Get on a full disk: version %d, %v; want %d", name, v.VersionID, err, last+1)
		}
		n.Release()
		room(fsys)
		for i := range 30 {
			out := mustCommit(t, s, write(t, patient, "a", fmt.Sprint("room", i)))
			last++
			if out[0].VersionID != int64(last+1) {
				t.Fatalf("%s: version %d after the disk had room again, want %d", name, out[0].VersionID, last+1)
			}
		}
		mustClose(t, s)
		s = mustOpen(t, opts)
		n = mustSnapshot(t, s)
		if total, err := n.HistoryTotal(context.Background(), HistoryQuery{Type: patient}); err != nil || total != int64(last+1) {
			t.Fatalf("%s: %d versions after a restart, %v; want %d", name, total, err, last+1)
		}
		n.Release()
		mustClose(t, s)
	}
	f("below the watermark", func(m *vfs.Mem) { m.SetCapacity(m.UsedBytes() + 60<<10) }, func(m *vfs.Mem) { m.SetCapacity(0) })
	f("quite full", func(m *vfs.Mem) { m.SetCapacity(m.UsedBytes()) }, func(m *vfs.Mem) { m.SetCapacity(16 << 20) })
	noWatermark := func(m *vfs.Mem) { m.SetCapacity(m.UsedBytes() + 64<<10 + 4<<10) }
	f("it fills up under way", noWatermark, func(m *vfs.Mem) { m.SetCapacity(16 << 20) })
}

package vfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kiln/internal/vfs"
)

// crashSeeds is how many power cuts the tests of what survives look at.
const crashSeeds = 200

func newMem(t *testing.T) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem(1)
	must(t, m.MkdirAll("/d/e"))
	return m
}

// read is the content of a file, or "missing".
func read(t *testing.T, m *vfs.Mem, name string) string {
	t.Helper()
	data, err := vfs.ReadFile(m, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	must(t, err)
	return string(data)
}

// outcomes collects what f sees over many power cuts.
func outcomes(m *vfs.Mem, f func(after *vfs.Mem) string) map[string]int {
	seen := map[string]int{}
	for seed := range uint64(crashSeeds) {
		seen[f(m.CrashClone(seed))]++
	}
	return seen
}

func wantOutcomes(t *testing.T, got map[string]int, want ...string) {
	t.Helper()
	for _, w := range want {
		if got[w] == 0 {
			t.Fatalf("%d power cuts never left %q: %v", crashSeeds, w, got)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("power cuts left %v, want only %q", got, want)
	}
}

func TestSyncedBytesAndNamesSurvive(t *testing.T) {
	m := newMem(t)
	f := create(t, m, "/d/a", "kept")
	must(t, f.Sync())
	must(t, m.SyncDir("/d"))
	wantOutcomes(t, outcomes(m, func(after *vfs.Mem) string { return read(t, after, "/d/a") }), "kept")
}

func TestUnsyncedNameMayGo(t *testing.T) {
	m := newMem(t)
	must(t, create(t, m, "/d/a", "kept").Sync())
	wantOutcomes(t, outcomes(m, func(after *vfs.Mem) string { return read(t, after, "/d/a") }), "kept", "missing")
}

func TestUnsyncedRenameIsOldOrNew(t *testing.T) {
	m := newMem(t)
	must(t, create(t, m, "/d/a", "old").Sync())
	must(t, create(t, m, "/d/b", "new").Sync())
	must(t, m.SyncDir("/d"))
	must(t, m.Rename("/d/b", "/d/a"))
	both := func(after *vfs.Mem) string { return read(t, after, "/d/a") + " " + read(t, after, "/d/b") }
	wantOutcomes(t, outcomes(m, both), "old new", "new missing")
	must(t, m.SyncDir("/d"))
	wantOutcomes(t, outcomes(m, both), "new missing")
}

func TestRenameBetweenDirectoriesIsOneChange(t *testing.T) {
	m := newMem(t)
	must(t, create(t, m, "/d/a", "x").Sync())
	must(t, m.SyncDir("/d"))
	must(t, m.Rename("/d/a", "/d/e/a"))
	both := func(after *vfs.Mem) string { return read(t, after, "/d/a") + " " + read(t, after, "/d/e/a") }
	wantOutcomes(t, outcomes(m, both), "x missing", "missing x")
	must(t, m.SyncDir("/d/e"))
	wantOutcomes(t, outcomes(m, both), "missing x")
}

func TestUnsyncedRemovalsSurviveInAnyOrder(t *testing.T) {
	m := newMem(t)
	for _, name := range []string{"/d/1", "/d/2"} {
		must(t, create(t, m, name, "x").Sync())
	}
	must(t, m.SyncDir("/d"))
	must(t, m.Remove("/d/1"))
	must(t, m.Remove("/d/2"))
	list := func(after *vfs.Mem) string {
		names, err := after.List("/d")
		must(t, err)
		return strings.Join(names, " ")
	}
	wantOutcomes(t, outcomes(m, list), "1 2 e", "1 e", "2 e", "e")
}

func TestUnsyncedWritesTearBySector(t *testing.T) {
	m := newMem(t)
	before, after := strings.Repeat("a", 1024), strings.Repeat("b", 1024)
	f := create(t, m, "/d/a", before)
	must(t, f.Sync())
	must(t, m.SyncDir("/d"))
	_, err := f.WriteAt([]byte(after), 0)
	must(t, err)
	wantOutcomes(t, outcomes(m, func(c *vfs.Mem) string { return read(t, c, "/d/a") }),
		before, after, before[:512]+after[:512], after[:512]+before[:512])
}

func TestUnsyncedLengthMayGo(t *testing.T) {
	m := newMem(t)
	f := create(t, m, "/d/a", "x")
	must(t, f.Sync())
	must(t, m.SyncDir("/d"))
	must(t, f.Preallocate(100_000))
	lengths := map[int64]bool{}
	for seed := range uint64(crashSeeds) {
		info, err := m.CrashClone(seed).Stat("/d/a")
		must(t, err)
		lengths[info.Bytes] = true
	}
	if !lengths[1] || !lengths[100_000] || len(lengths) < 5 {
		t.Fatalf("lengths are %v", lengths)
	}
}

func TestFailedSyncDropsDirtyPages(t *testing.T) {
	m := newMem(t)
	before, after := strings.Repeat("a", 512), strings.Repeat("b", 512)
	f := create(t, m, "/d/a", before)
	must(t, f.Sync())
	must(t, m.SyncDir("/d"))
	_, err := f.WriteAt([]byte(after), 0)
	must(t, err)
	m.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	mustFail(t, f.SyncData(), syscall.EIO)
	m.SetHook(nil)
	must(t, f.Sync())
	if got := read(t, m, "/d/a"); got != after {
		t.Fatal("the page cache lost the write")
	}
	// The seed of m decided whether the sector reached the disk; now nothing will.
	seen := outcomes(m, func(c *vfs.Mem) string { return read(t, c, "/d/a") })
	if len(seen) != 1 {
		t.Fatalf("a later sync or crash changed what the failed one left: %v", seen)
	}
	_, err = f.WriteAt([]byte(after), 0)
	must(t, err)
	must(t, f.Sync())
	wantOutcomes(t, outcomes(m, func(c *vfs.Mem) string { return read(t, c, "/d/a") }), after)
}

// TestFailedSyncLosesForSomeSeed makes sure that the case which matters happens.
func TestFailedSyncLosesForSomeSeed(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(20) {
		m := vfs.NewMem(seed)
		must(t, m.MkdirAll("/d"))
		f := create(t, m, "/d/a", "x")
		must(t, m.SyncDir("/d"))
		m.SetHook(func(op vfs.Op) error { return syscall.EIO })
		mustFail(t, f.Sync(), syscall.EIO)
		seen[read(t, m.CrashClone(0), "/d/a")]++
	}
	if seen["x"] == 0 || seen["x"] == 20 {
		t.Fatalf("failed syncs left %v", seen)
	}
}

func TestPowerCutStopsEverything(t *testing.T) {
	m := newMem(t)
	f := create(t, m, "/d/a", "x")
	m.CutPowerAt(m.Ops() + 2)
	_, err := f.WriteAt([]byte("y"), 0)
	must(t, err)
	mustFail(t, f.Sync(), vfs.ErrPowerCut)
	mustFail(t, f.Sync(), vfs.ErrPowerCut)
	_, err = f.ReadAt(make([]byte, 1), 0)
	mustFail(t, err, vfs.ErrPowerCut)
	_, err = m.Open("/d/a")
	mustFail(t, err, vfs.ErrPowerCut)
	mustFail(t, m.SyncDir("/d"), vfs.ErrPowerCut)
	if err := create(t, m.CrashClone(1), "/d/new", "y").Sync(); err != nil {
		t.Fatalf("the machine does not come up again: %v", err)
	}
}

func TestSameSeedSameDisk(t *testing.T) {
	build := func() string {
		m := vfs.NewMem(3)
		must(t, m.MkdirAll("/d"))
		for _, name := range []string{"a", "b", "c", "d"} {
			create(t, m, path.Join("/d", name), strings.Repeat(name, 9000))
		}
		after := m.CrashClone(12)
		names, err := after.List("/d")
		must(t, err)
		all := strings.Join(names, " ")
		for _, name := range names {
			all += read(t, after, path.Join("/d", name))
		}
		return all
	}
	if first, second := build(), build(); first != second {
		t.Fatal("two runs differ")
	}
}

func TestFullDisk(t *testing.T) {
	m := newMem(t)
	m.SetCapacity(3 * 4096)
	f := create(t, m, "/d/a", strings.Repeat("x", 4096))
	n, err := f.WriteAt(make([]byte, 4*4096), 4096)
	if n != 2*4096 || !vfs.IsNoSpace(err) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if err := create(t, m, "/d/b", "").Preallocate(1); !vfs.IsNoSpace(err) {
		t.Fatalf("a full disk preallocates: %v", err)
	}
	free, err := m.FreeBytes("/d")
	must(t, err)
	if free != 0 || m.UsedBytes() != 3*4096 {
		t.Fatalf("%d bytes free, %d used", free, m.UsedBytes())
	}
	must(t, m.Remove("/d/a"))
	if m.UsedBytes() != 0 {
		t.Fatalf("%d bytes used by nothing", m.UsedBytes())
	}
	must(t, create(t, m, "/d/c", "room again").Close())
	if got := m.CrashClone(1).UsedBytes(); got > 4096 {
		t.Fatalf("%d bytes used after a crash", got)
	}
}

func TestHooksFailAndShortenCalls(t *testing.T) {
	m := newMem(t)
	f := create(t, m, "/d/a", "0123")
	var seen []vfs.Op
	fail := error(&vfs.ShortWrite{Bytes: 2, Err: syscall.EIO})
	m.SetHook(func(op vfs.Op) error {
		seen = append(seen, op)
		return fail
	})
	n, err := f.WriteAt([]byte("abcd"), 0)
	if n != 2 || !errors.Is(err, syscall.EIO) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	fail = syscall.EIO
	_, err = f.ReadAt(make([]byte, 3), 1)
	mustFail(t, err, syscall.EIO)
	m.SetHook(nil)
	if got := read(t, m, "/d/a"); got != "ab23" {
		t.Fatalf("the file holds %q", got)
	}
	want := []vfs.Op{
		{Kind: vfs.OpWrite, Name: "/d/a", Bytes: 4, Count: m.Ops()},
		{Kind: vfs.OpRead, Name: "/d/a", Offset: 1, Bytes: 3, Count: m.Ops()},
	}
	if !slices.Equal(seen, want) {
		t.Fatalf("the hook saw %+v", seen)
	}
}

func TestFlipBitReachesCacheAndDisk(t *testing.T) {
	m := newMem(t)
	must(t, create(t, m, "/d/a", "A").Sync())
	must(t, m.SyncDir("/d"))
	if !m.FlipBit("/d/a", 0, 1) || m.FlipBit("/d/a", 1, 0) || m.FlipBit("/d/none", 0, 0) {
		t.Fatal("wrong answer about whether there was such a bit")
	}
	if read(t, m, "/d/a") != "C" || read(t, m.CrashClone(1), "/d/a") != "C" {
		t.Fatal("the bit is as it was")
	}
}

// TestAtomicWriteAtEveryPowerCut: the old content or the new, and the new once
// it was acknowledged.
func TestAtomicWriteAtEveryPowerCut(t *testing.T) {
	old, fresh := strings.Repeat("old", 2000), strings.Repeat("new", 3000)
	for op := int64(1); ; op++ {
		done := false
		for seed := range uint64(30) {
			m := vfs.NewMem(seed)
			must(t, m.MkdirAll("/d"))
			must(t, vfs.WriteFileAtomic(m, "/d/f", []byte(old)))
			m.CutPowerAt(m.Ops() + op)
			err := vfs.WriteFileAtomic(m, "/d/f", []byte(fresh))
			got := read(t, m.CrashClone(seed), "/d/f")
			if err == nil && got != fresh || got != old && got != fresh {
				t.Fatalf("power cut %d, seed %d: %d bytes, error %v", op, seed, len(got), err)
			}
			done = err == nil
		}
		if done {
			return
		}
	}
}

// TestAtomicWriteAtEveryFailure: a failing call never hurts the old content.
func TestAtomicWriteAtEveryFailure(t *testing.T) {
	for call := 0; ; call++ {
		m := newMem(t)
		must(t, vfs.WriteFileAtomic(m, "/d/f", []byte("old")))
		calls := 0
		m.SetHook(func(vfs.Op) error {
			calls++
			if calls == call+1 {
				return syscall.EIO
			}
			return nil
		})
		err := vfs.WriteFileAtomic(m, "/d/f", []byte("new"))
		m.SetHook(nil)
		got := read(t, m, "/d/f")
		if err == nil && got != "new" || got != "old" && got != "new" {
			t.Fatalf("call %d: the file holds %q, error %v", call, got, err)
		}
		if call >= calls {
			return
		}
	}
}

// FuzzMemAgainstBytes compares a file with a plain slice.
func FuzzMemAgainstBytes(f *testing.F) {
	f.Add([]byte{1, 10, 200, 2, 5, 9, 3, 100, 0, 1, 255, 255})
	f.Add([]byte{1, 16, 31, 3, 0, 2, 2, 40, 0, 0, 0, 0, 1, 3, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		m := vfs.NewMem(1)
		file, err := m.Create("f")
		must(t, err)
		var model []byte
		for script = script[:min(len(script), 300)]; len(script) >= 3; script = script[3:] {
			at, n := int(script[1])*97, int(script[2])*61
			switch script[0] % 4 {
			case 0:
				must(t, file.Sync())
			case 1:
				data := bytes.Repeat(script[2:3], n)
				_, err = file.WriteAt(data, int64(at))
				must(t, err)
				if n > 0 {
					model = grow(model, at+n)
					copy(model[at:], data)
				}
			case 2:
				must(t, file.Preallocate(int64(at)))
				model = grow(model, at)
			case 3:
				must(t, file.Truncate(int64(at)))
				model = grow(model[:min(at, len(model)):min(at, len(model))], at)
			}
		}
		must(t, file.Sync())
		must(t, m.SyncDir("."))
		if read(t, m, "f") != string(model) || read(t, m.CrashClone(1), "f") != string(model) {
			t.Fatal("the file is not what was written")
		}
		if m.UsedBytes() != int64(len(model)+4095)/4096*4096 {
			t.Fatalf("%d bytes used for %d", m.UsedBytes(), len(model))
		}
	})
}

func grow(model []byte, size int) []byte {
	if size > len(model) {
		model = append(model, make([]byte, size-len(model))...)
	}
	return model
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"kiln/internal/vfs"
)

func TestSpaceLevels(t *testing.T) {
	f := func(before SpaceLevel, free int64, want SpaceLevel) {
		t.Helper()
		if got := spaceLevel(before, free, 1000); got != want {
			t.Errorf("from %v, with %d free: %v, want %v", before, free, got, want)
		}
	}
	f(SpaceOK, 2000, SpaceOK)
	f(SpaceOK, 1999, SpaceLow)
	f(SpaceOK, 999, SpaceFull)
	f(SpaceLow, 1000, SpaceLow)
	f(SpaceLow, 2499, SpaceLow)
	f(SpaceLow, 2500, SpaceOK)
	f(SpaceFull, 1249, SpaceFull)
	f(SpaceFull, 1250, SpaceLow)
	f(SpaceFull, 2499, SpaceLow)
	f(SpaceFull, 2500, SpaceOK)
}

// spaceStore is a store on a disk of 16 MiB whose writes are refused below 64 KiB,
// and whose ballast has 128 KiB while its head is nearly empty.
func spaceStore(t *testing.T) (*Store, *vfs.Mem, Options) {
	t.Helper()
	disk := vfs.NewMem(1)
	opts := testOptions(disk, 1)
	opts.Logger, opts.FreeBytesMin, opts.BallastBytes = discardLogger(), 64<<10, 1<<20
	opts.SegmentBytes, opts.HeadBytes = 8<<10, 16<<10
	disk.SetCapacity(16 << 20)
	return mustOpen(t, opts), disk, opts
}

// TestBallastIsGivenBackAndMadeAgain goes down and up.
func TestBallastIsGivenBackAndMadeAgain(t *testing.T) {
	s, disk, opts := spaceStore(t)
	f := func(what string, free int64, level SpaceLevel, ballast int64, writes bool) {
		t.Helper()
		disk.SetCapacity(disk.UsedBytes() + free)
		s.tendSpace()
		s.tendSpace()
		if p := s.Health().Space; p.Level != level || p.BallastBytes != ballast {
			t.Errorf("%s: level %v, ballast of %d bytes; want %v, %d", what, p.Level, p.BallastBytes, level, ballast)
		}
		_, err := disk.Stat(s.path(ballastName))
		if (err == nil) != (ballast > 0) {
			t.Errorf("%s: the file: %v", what, err)
		}
		_, err = s.Commit(context.Background(), []Change{write(t, patient, "a", what)})
		if writes != (err == nil) || err != nil && !errors.Is(err, ErrNoSpace) {
			t.Errorf("%s: Commit: %v", what, err)
		}
	}
	f("plenty", 8<<20, SpaceOK, 128<<10, true)
	f("low", 100<<10, SpaceLow, 128<<10, true)
	f("full", 60<<10, SpaceFull, 128<<10, false)
	f("nothing left", 15<<10, SpaceFull, 0, false)
	// What the ballast gave is not for writing.
	f("a little", 180<<10, SpaceFull, 0, false)
	f("more, but not yet for all", 270<<10, SpaceLow, 0, true)
	f("plenty again", 8<<20, SpaceOK, 128<<10, true)
	mustClose(t, s)

	// It is found at the next start, and goes when it is not wanted.
	s = mustOpen(t, opts)
	if p := s.Health().Space; p.BallastBytes != 128<<10 {
		t.Errorf("after a restart: %+v", p)
	}
	mustClose(t, s)
	opts.BallastBytes = -1
	s = mustOpen(t, opts)
	if _, err := disk.Stat(s.path(ballastName)); err == nil {
		t.Error("a ballast that is not wanted is still there")
	}
	mustClose(t, s)
}

// TestBallastFollowsTheHead: it has room for what a flush would have to write.
func TestBallastFollowsTheHead(t *testing.T) {
	s, disk, opts := spaceStore(t)
	f := func(what string, want int64) {
		t.Helper()
		s.tendSpace()
		p := s.Health().Space
		info, err := disk.Stat(s.path(ballastName))
		if err != nil || info.Bytes != p.BallastBytes || p.BallastBytes != want {
			t.Errorf("%s: ballast of %d bytes, %d on disk (%v); want %d", what, p.BallastBytes, info.Bytes, err, want)
		}
	}
	disk.SetCapacity(disk.UsedBytes() + 64<<20)
	f("an empty head", 128<<10)
	written := 0
	for s.Stats().HeadBytes < opts.HeadBytes/2 {
		mustCommit(t, s, write(t, patient, fmt.Sprint("p", written), "a"))
		written++
	}
	half := s.ballastTarget(64 << 20)
	if half < 512<<10 || half > 768<<10 {
		t.Errorf("with half of a head the ballast should have %d bytes", half)
	}
	disk.SetCapacity(disk.UsedBytes() + 100<<10)
	f("a disk that is low, without room for more", 128<<10)
	disk.SetCapacity(disk.UsedBytes() + 64<<20)
	f("half a head", half)
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	f("an empty head again", half)
	mustClose(t, s)
	s = mustOpen(t, opts)
	f("after a restart", half)
	mustClose(t, s)
}

// TestBallastIsASixteenthAtMost bounds it on a small disk.
func TestBallastIsASixteenthAtMost(t *testing.T) {
	s, disk, _ := spaceStore(t)
	disk.SetCapacity(disk.UsedBytes() + 1<<20)
	s.tendSpace()
	if p := s.Health().Space; p.BallastBytes != 1<<16 {
		t.Errorf("%+v", p)
	}
	mustClose(t, s)
}

// TestAFlushGetsTheBallast: what gives space back must not lack space for it.
func TestAFlushGetsTheBallast(t *testing.T) {
	s, disk, opts := spaceStore(t)
	s.tendSpace()
	for i := range 10 {
		mustCommit(t, s, write(t, patient, "a", fmt.Sprint(i)))
	}
	disk.SetCapacity(disk.UsedBytes())
	if err := s.Flush(context.Background()); err != nil {
		t.Errorf("Flush on a full disk: %v", err)
	}
	if p := s.Health().Space; p.BallastBytes != 0 {
		t.Errorf("%+v", p)
	}
	if _, err := s.Commit(context.Background(), []Change{write(t, patient, "a", "no")}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Commit on a full disk: %v", err)
	}
	mustClose(t, s)
	s = mustOpen(t, opts)
	n := mustSnapshot(t, s)
	if v, err := n.Get(patient, []byte("a")); err != nil || v.VersionID != 10 {
		t.Errorf("after a restart: version %d, %v", v.VersionID, err)
	}
	n.Release()
	mustClose(t, s)
}

// TestMergesAndImportsWaitForRoom: they begin again when there is some.
func TestMergesAndImportsWaitForRoom(t *testing.T) {
	s, disk, _ := spaceStore(t)
	fill(t, s, "a")
	runs := len(s.view.runs)
	disk.SetCapacity(disk.UsedBytes() + 100<<10)
	if more, err := s.mergeOnce(context.Background(), mergeSmall); more || err != nil || s.Stats().MergeStalls == 0 {
		t.Errorf("a merge on a disk that is low: %v %v", more, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	told := false
	if err := s.AwaitRoom(ctx, func() { told = true }); !errors.Is(err, context.DeadlineExceeded) || !told {
		t.Errorf("AwaitRoom: %v, told %v", err, told)
	}
	cancel()
	waited := make(chan error)
	waits := make(chan struct{})
	go func() { waited <- s.AwaitRoom(context.Background(), func() { close(waits) }) }()
	<-waits
	disk.SetCapacity(16 << 20)
	s.tendSpace()
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if _, err := s.mergeOnce(context.Background(), mergeSmall); err != nil || len(s.view.runs) >= runs {
		t.Errorf("with room %d runs of %d were merged to %d, %v", runs, runs, len(s.view.runs), err)
	}
	mustClose(t, s)
}

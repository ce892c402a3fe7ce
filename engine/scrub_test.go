package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"testing"
	"time"

	"kiln/internal/vfs"
)

// scrubbedStore has runs, checkpoints, and segments of the log.
func scrubbedStore(t *testing.T, log *bytes.Buffer) (*Store, *vfs.Mem, Options) {
	t.Helper()
	disk := vfs.NewMem(1)
	opts := testOptions(disk, 1)
	opts.Logger, opts.SegmentBytes, opts.HeadBytes = slog.New(slog.NewTextHandler(log, nil)), 8<<10, 16<<10
	s := mustOpen(t, opts)
	fill(t, s, "a")
	return s, disk, opts
}

// fill writes until there are some runs more, and a head.
func fill(t *testing.T, s *Store, name string) {
	t.Helper()
	for i := range 300 {
		mustCommit(t, s, write(t, patient, fmt.Sprint(name, i%50), strings.Repeat("x", 100)+fmt.Sprint(i)))
	}
}

// flipByte changes a byte of a file for good.
func flipByte(t *testing.T, disk *vfs.Mem, name string, offset int64) {
	t.Helper()
	f, err := disk.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

func mustScrub(t *testing.T, s *Store) Scrub {
	t.Helper()
	if err := s.scrubPass(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s.Health().Scrub
}

// files are those that a scrub reads.
func scrubbedFiles(t *testing.T, s *Store) []string {
	t.Helper()
	files := []string{s.path(formatName)}
	for _, dir := range []string{logDir, runsDir, checkpointsDir} {
		names, err := s.opts.FS.List(s.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.HasSuffix(name, vfs.TempSuffix) {
				files = append(files, path.Join(s.path(dir), name))
			}
		}
	}
	return files
}

// TestScrubFindsDamageInEveryFile flips a byte of each file in turn: each is found
// and told once, however often the scrub comes by.
func TestScrubFindsDamageInEveryFile(t *testing.T) {
	var log bytes.Buffer
	s, disk, _ := scrubbedStore(t, &log)
	if sum := mustScrub(t, s); sum.Passes != 1 || sum.Running || sum.LastEnd.IsZero() || sum.Bytes == 0 {
		t.Errorf("a sound store: %+v", sum)
	}
	if h := s.Health(); len(h.Damages) != 0 || log.Len() > 0 {
		t.Fatalf("a sound store has damages: %v\n%s", h.Damages, &log)
	}
	files := scrubbedFiles(t, s)
	if len(files) < 8 {
		t.Fatalf("only %d files", len(files))
	}
	for i, file := range files {
		flipByte(t, disk, file, 10)
		mustScrub(t, s)
		found := s.Health().Damages
		if len(found) != i+1 || found[i].File != file || found[i].By != "the scrub" {
			t.Fatalf("byte 10 of %s: found %v", file, found)
		}
	}
	mustScrub(t, s)
	if h := s.Health(); len(h.Damages) != len(files) || strings.Count(log.String(), "damage found") != len(files) {
		t.Errorf("%d damages, told %d times, of %d files", len(h.Damages), strings.Count(log.String(), "damage found"), len(files))
	}
	mustClose(t, s)
}

// TestScrubGoesOnAfterARestart: a pass that was stopped is not begun anew.
func TestScrubGoesOnAfterARestart(t *testing.T) {
	var log bytes.Buffer
	s, _, _ := scrubbedStore(t, &log)
	runs := len(s.view.runs)
	if runs < 3 {
		t.Fatalf("only %d runs", runs)
	}
	ctx, stop := context.WithCancel(context.Background())
	end := s.beginPass()
	report := func(err error) { t.Error(err) }
	first := s.scrubNext(end)
	if err := s.scrubRun(ctx, first, report); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := s.scrubPass(ctx); err == nil {
		t.Error("a pass that was stopped says that it ended")
	}
	s.scrub = scrub{}
	s.loadScrub()
	if next := s.scrubNext(end); next == nil || next.run.Meta().ID <= first.run.Meta().ID || s.scrubDue() > 0 {
		t.Errorf("it goes on with %v, due in %v", next, s.scrubDue())
	}
	mustScrub(t, s)
	s.scrub = scrub{}
	s.loadScrub()
	if due := s.scrubDue(); due <= 6*24*time.Hour || s.Health().Scrub.LastEnd.IsZero() {
		t.Errorf("after a whole pass the next is due in %v", due)
	}
	mustClose(t, s)
}

// TestARunThatIsMergedAwayIsNoDamage takes the run away while it is read.
func TestARunThatIsMergedAwayIsNoDamage(t *testing.T) {
	var log bytes.Buffer
	s, _, _ := scrubbedStore(t, &log)
	end := s.beginPass()
	run := s.scrubNext(end)
	for {
		more, err := s.mergeOnce(context.Background(), mergeSmall)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
	}
	if s.hasRun(run.run.Meta().ID) {
		t.Skip("nothing was merged")
	}
	if err := s.scrubRun(context.Background(), run, func(err error) { t.Error(err) }); err != nil {
		t.Error(err)
	}
	mustScrub(t, s)
	if h := s.Health(); len(h.Damages) > 0 {
		t.Errorf("found %v", h.Damages)
	}
	mustClose(t, s)
}

// TestScrubReadsOtherFilesToo: those of jobs, at the end of each pass, as damage is told.
func TestScrubReadsOtherFilesToo(t *testing.T) {
	var log bytes.Buffer
	s, disk, _ := scrubbedStore(t, &log)
	overwrite(t, disk, s.path("other"), "text")
	before, passes := mustScrub(t, s).Bytes, 0
	s.ScrubAlso(func(_ context.Context, fsys vfs.FS, report func(error)) error {
		passes++
		if _, err := vfs.ReadFile(fsys, s.path("other"), 100); err != nil {
			t.Error(err)
		}
		report(&vfs.CorruptError{File: s.path("other"), What: "it has changed"})
		return errors.New("no more")
	})
	without := before
	if with := mustScrub(t, s).Bytes - before; with != without+4 || passes != 1 {
		t.Errorf("%d bytes are read with the file of 4, %d without, in %d passes", with, without, passes)
	}
	mustScrub(t, s)
	if h := s.Health(); len(h.Damages) != 1 || h.Damages[0].File != s.path("other") || h.Damages[0].By != "the scrub" {
		t.Errorf("health tells %+v", h.Damages)
	}
	if n := strings.Count(log.String(), "it has changed"); n != 1 {
		t.Errorf("told %d times", n)
	}
	mustClose(t, s)
}

func TestScrubRests(t *testing.T) {
	f := func(bytes int, took time.Duration, rate int64, want time.Duration) {
		t.Helper()
		if got := scrubRest(bytes, took, rate); got != want {
			t.Errorf("%d bytes in %v at %d/s: rest %v, want %v", bytes, took, rate, got, want)
		}
	}
	f(1<<20, 0, 1<<20, time.Second)
	f(1<<20, 100*time.Millisecond, 1<<20, 900*time.Millisecond)
	f(1<<20, 500*time.Millisecond, 1<<20, 2*time.Second) // the disk is busy
	f(0, 0, 1<<20, 0)
	f(1<<20, time.Hour, 1<<20, scrubRestMax)
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"
)

// What becomes of a store whose disk fills up, by what is free (FreeBytesMin is m):
//
//	free        level   what goes on
//	2 m         ok      everything
//	m to 2 m    low     no new import round, merge or indexing again
//	below m     full    writes are refused (507); reads, flushes, checkpoints, trims
//
// A level is left upwards only when a quarter more than its bound is free, so that
// a disk at the bound does not refuse every other write. m is the room for what
// goes on at "full". Should others take that too, the ballast is given back: a file that
// does nothing but hold space. It is made again when there is room, and until then
// what it should hold counts as taken: it is for getting out, not for writing on.

// SpaceLevel is how full the data disk is.
type SpaceLevel uint8

const (
	SpaceOK SpaceLevel = iota
	SpaceLow
	SpaceFull
)

func (l SpaceLevel) String() string { return [...]string{"ok", "low", "full"}[l] }

// Space is what is known of the data disk.
type Space struct {
	Level        SpaceLevel
	FreeBytes    int64
	BallastBytes int64 // of the file that is there
}

const (
	// spaceLowFactor of FreeBytesMin is where imports and merges stop.
	spaceLowFactor = 2
	// spaceSlack of a bound more must be free to leave its level: a quarter.
	spaceSlack = 4
	// ballastSlack of FreeBytesMin is what must be left for the ballast to stay.
	ballastSlack = 4
	// ballastShare of the free space is the most that the ballast takes.
	ballastShare = 16
	// ballastParts: with nothing in the head the ballast has one such part of
	// Options.BallastBytes, 16 MiB of 128: a checkpoint, two segments as they begin, and
	// what the catalog wants to end in order. What it holds beyond that is room
	// for flushes, so it grows with the head, and has all of it before the head is full.
	ballastParts = 8
	// spaceInterval is between two looks while nobody writes.
	spaceInterval = time.Second
	ballastName   = "BALLAST"
)

// space is the state of it.
type space struct {
	mu sync.Mutex // guards all
	Space
	wanted int64 // bytes that the ballast should have
	room   chan struct{}
}

// awaited is closed when the level becomes ok.
func (p *space) awaited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.room == nil {
		p.room = make(chan struct{})
	}
	return p.room
}

// look takes note of what is free, and tells the level before and after.
func (p *space) look(free, least int64) (before, after SpaceLevel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before = p.Level
	p.FreeBytes = free
	p.Level = spaceLevel(before, free-max(0, p.wanted-p.BallastBytes), least)
	if p.Level == SpaceOK && p.room != nil {
		close(p.room)
		p.room = nil
	}
	return before, p.Level
}

// spaceLevel is the table above.
func spaceLevel(before SpaceLevel, free, least int64) SpaceLevel {
	low := spaceLowFactor * least
	switch {
	case free < least, before == SpaceFull && free < least+least/spaceSlack:
		return SpaceFull
	case free < low, before != SpaceOK && free < low+low/spaceSlack:
		return SpaceLow
	}
	return SpaceOK
}

func (p *space) status() Space {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.Space
}

// spaceChecked tells whether the options want free space to be left.
func (s *Store) spaceChecked() bool { return s.opts.FreeBytesMin > 0 }

// lookAtSpace asks the disk. An error is of the asking.
func (s *Store) lookAtSpace() (SpaceLevel, error) {
	if !s.spaceChecked() {
		return SpaceOK, nil
	}
	free, err := s.opts.FS.FreeBytes(s.opts.Dir)
	if err != nil {
		return SpaceFull, fmt.Errorf("%w: cannot ask for the free space of %q: %w", ErrReadOnly, s.opts.Dir, err)
	}
	before, after := s.space.look(free, s.opts.FreeBytesMin)
	switch {
	case after > before:
		s.opts.Logger.Warn("the data disk fills up: imports and merges wait, and when it is full writes are refused", "level", after, "free", free)
	case after < before:
		s.opts.Logger.Info("the data disk has more room again", "level", after, "free", free)
		if !s.opts.PrepareInline {
			s.kickFlush() // what found no space before
			s.kickMerges()
		}
	}
	return after, nil
}

// CheckRoom is ErrNoSpace when the disk that dir lies on has less space left
// than Options.FreeBytesMin. Whoever writes files beside the store asks it, so
// that they end before the store has to refuse writes.
func (s *Store) CheckRoom(dir string) error {
	if !s.spaceChecked() {
		return nil
	}
	if dir == s.opts.Dir || strings.HasPrefix(dir, s.opts.Dir+"/") {
		level, err := s.lookAtSpace()
		if err == nil && level == SpaceFull {
			err = fmt.Errorf("%w: %d bytes are free, at least %d must be", ErrNoSpace, s.space.status().FreeBytes, s.opts.FreeBytesMin)
		}
		return err
	}
	free, err := s.opts.FS.FreeBytes(dir)
	if err != nil {
		return fmt.Errorf("%w: cannot ask for the free space of %q: %w", ErrReadOnly, dir, err)
	}
	if free < s.opts.FreeBytesMin {
		return fmt.Errorf("%w: %d bytes are free, at least %d must be", ErrNoSpace, free, s.opts.FreeBytesMin)
	}
	return nil
}

// AwaitRoom returns when the data disk is not low any more, or with ctx's error. It
// calls waiting, once, if it is.
func (s *Store) AwaitRoom(ctx context.Context, waiting func()) error {
	for {
		room := s.space.awaited()
		level, err := s.lookAtSpace()
		if err != nil || level == SpaceOK {
			return err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return ErrClosed
		case <-room:
		}
	}
}

// spaceLoop looks when nobody writes, and keeps the ballast.
func (s *Store) spaceLoop() {
	for {
		s.tendSpace()
		if s.pause(s.ctx, spaceInterval) != nil {
			return
		}
	}
}

// tendSpace is one look, and what follows from it.
func (s *Store) tendSpace() {
	if level, err := s.lookAtSpace(); err == nil && s.poison.Load() == nil {
		s.tendBallast(level)
	}
}

// tendBallast gives the ballast back when little is left, and makes it when there is room.
func (s *Store) tendBallast(level SpaceLevel) {
	p := s.space.status()
	switch {
	case p.BallastBytes > 0 && p.FreeBytes < s.opts.FreeBytesMin/ballastSlack:
		s.dropBallast()
	case level == SpaceOK && s.opts.BallastBytes > 0 && p.BallastBytes == 0:
		if err := s.makeBallast(p.FreeBytes); err != nil {
			s.opts.Logger.Warn("cannot make the ballast file", "error", err)
		}
	case level != SpaceFull && s.opts.BallastBytes > 0:
		if err := s.growBallast(p); err != nil {
			s.opts.Logger.Warn("cannot make the ballast file larger", "error", err)
		}
	}
}

// ballastTarget is what the ballast should have, for a disk with so much room.
func (s *Store) ballastTarget(room int64) int64 {
	parts := min(1+s.headParts(ballastParts), ballastParts)
	return min(s.opts.BallastBytes/ballastParts*parts, room/ballastShare)
}

// headParts is how many parts of a full head there are to flush, of so many.
func (s *Store) headParts(parts int64) int64 {
	s.mu.Lock()
	gens := s.view.gens
	s.mu.Unlock()
	filled := int64(0)
	for _, g := range gens {
		terms := max(g.termsCost.Load(), g.terms.bytes.Load()) / headTermsShare
		filled += max(g.bytes.Load(), terms)
	}
	return parts * filled / s.opts.HeadBytes
}

// growBallast lets the ballast follow the head. It stays as large as it got, since the
// head of a store that clients write to fills again.
func (s *Store) growBallast(p Space) error {
	wanted := s.ballastTarget(p.FreeBytes + p.BallastBytes)
	if wanted <= p.BallastBytes || spaceLevel(SpaceFull, p.FreeBytes-(wanted-p.BallastBytes), s.opts.FreeBytesMin) == SpaceFull {
		return nil
	}
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	if s.space.BallastBytes == 0 { // given back meanwhile
		return nil
	}
	name := s.path(ballastName)
	file, err := s.opts.FS.OpenWrite(name)
	if err != nil {
		return err
	}
	err = errors.Join(file.Preallocate(wanted), file.Close())
	info, statErr := s.opts.FS.Stat(name) // a failure may leave it a part larger
	if statErr == nil {
		s.space.BallastBytes, s.space.wanted = info.Bytes, info.Bytes
	}
	return errors.Join(err, statErr)
}

// findBallast takes note of the file that a former process left; one that is not
// wanted goes. At open.
func (s *Store) findBallast() error {
	info, err := s.opts.FS.Stat(s.path(ballastName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s.space.BallastBytes, s.space.wanted = info.Bytes, info.Bytes
	if !s.opts.ReadOnly && s.opts.BallastBytes < 0 {
		s.dropBallast()
		s.space.wanted = 0
	}
	return nil
}

// makeBallast reserves the space. The file's name is not made durable: one that a
// power cut takes is made again.
func (s *Store) makeBallast(free int64) error {
	target := s.ballastTarget(free)
	s.space.mu.Lock()
	wanted := s.space.wanted
	if wanted == 0 {
		wanted = target
	}
	s.space.mu.Unlock()
	if wanted == 0 || spaceLevel(SpaceLow, free-wanted, s.opts.FreeBytesMin) != SpaceOK {
		return nil
	}
	name := s.path(ballastName)
	file, err := s.opts.FS.Create(name)
	if err != nil {
		return err
	}
	err = file.Preallocate(wanted)
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, s.opts.FS.Remove(name))
	}
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	s.space.BallastBytes, s.space.wanted = wanted, wanted
	return nil
}

// dropBallast gives the space back, and tells whether there was some.
func (s *Store) dropBallast() bool {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	if s.space.BallastBytes == 0 || s.opts.ReadOnly {
		return false
	}
	if err := s.opts.FS.Remove(s.path(ballastName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.opts.Logger.Error("cannot give the ballast file's space back", "error", err)
		return false
	}
	s.opts.Logger.Warn("the data disk is full: the ballast file's space is given back", "bytes", s.space.BallastBytes)
	s.space.BallastBytes = 0
	return true
}

// withRelief does what must go on when the disk is full; if it finds no space, once
// more without the ballast.
func (s *Store) withRelief(do func() error) error {
	err := do()
	if errors.Is(err, ErrNoSpace) && s.dropBallast() {
		err = do()
	}
	return err
}

// catalogRoom is ErrNoSpace when Badger had better not write: it does so through
// mappings of files with holes, and a hole that cannot be filled ends the process.
func (s *Store) catalogRoom(least int64) error {
	if !s.spaceChecked() || s.opts.CatalogInMem {
		return nil
	}
	return s.withRelief(func() error {
		free, err := s.opts.FS.FreeBytes(s.opts.Dir)
		if err == nil && free < least {
			err = fmt.Errorf("%w: %d bytes are free, the job catalog needs %d", ErrNoSpace, free, least)
		}
		return err
	})
}

package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"
)

const (
	// keptBytes is what a Keeper takes at a time: about 300 events, so that the writes
	// of clients wait a few milliseconds for it at most.
	keptBytes = 256 << 10

	// lineBytesMax is longer than any event: a query of queryBytesMax, in base64.
	lineBytesMax = 8 << 20

	// rememberEvery and rememberBytes are how far a Keeper's note may be behind: after a
	// crash it is asked for that much again.
	rememberEvery = time.Minute
	rememberBytes = 4 << 20

	// keepAtEnd is how long an end waits for the Keeper. The next start goes on.
	keepAtEnd = 5 * time.Second
)

// Position is a place in the files: all events before it are kept.
type Position struct {
	File   string // the name; "": before the oldest
	Offset int64
}

// Keeper keeps events in a second place. One goroutine calls it.
type Keeper interface {
	// Position is the last that Remember was given; the zero value: none was.
	Position() (Position, error)
	Remember(p Position) error
	// Keep takes whole lines, durable on return: kept are those that it did not have,
	// refused those that it will never take. After an error it is given them again.
	Keep(ctx context.Context, lines []byte) (kept, refused int, err error)
}

// KeptStats tell how the Keeper is doing.
type KeptStats struct {
	Events, Refused, Failures uint64
	Failing                   error // nil: it takes what there is
}

// follower gives the files to the Keeper, in their order: what this process has made
// durable, and what earlier ones left. So the files are the queue, however far the
// Keeper is behind.
type follower struct {
	opts   *Options
	files  *files
	ctx    context.Context
	cancel context.CancelFunc
	kick   chan struct{}
	ending chan struct{}
	ended  chan struct{}

	at        Position // of run alone
	noted     Position
	notedAt   time.Time
	unnoted   int64 // bytes that were kept since
	lineBytes []byte

	mu    sync.Mutex // guards what follows
	state KeptStats
	shown Position // at, for who looks
}

func newFollower(opts *Options, files *files, at Position) *follower {
	f := &follower{
		opts: opts, files: files, at: at, noted: at, shown: at, // the first note is taken at once
		kick: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{}),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.tell()
	return f
}

func (f *follower) stats() KeptStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// wake tells that there are new events.
func (f *follower) wake() {
	select {
	case f.kick <- struct{}{}:
	default: // it knows
	}
}

// end takes what is left, for a moment.
func (f *follower) end() {
	close(f.ending)
	defer time.AfterFunc(keepAtEnd, f.cancel).Stop()
	<-f.ended
	f.cancel()
}

func (f *follower) run() {
	defer close(f.ended)
	if behind := f.behind(); behind > 0 {
		f.opts.Logger.Info("audit events of earlier runs are looked through, as some may be in the files only", "bytes", behind)
	}
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	f.wake()
	for ending := false; !ending; {
		select {
		case <-f.ending:
			ending = true
		case <-f.kick:
			if f.stats().Failing != nil {
				continue // the ticker's turn
			}
		case <-ticker.C:
		}
		f.catchUp()
	}
	f.remember(true)
}

// catchUp keeps what there is. It rests as long as it works: clients come first.
func (f *follower) catchUp() {
	for f.ctx.Err() == nil {
		began := f.opts.Now()
		more, err := f.step()
		f.note(err)
		f.remember(false)
		if err != nil || !more {
			return
		}
		rest := time.NewTimer(f.opts.Now().Sub(began))
		select {
		case <-rest.C:
		case <-f.ending:
			rest.Stop()
		}
	}
}

// note tells once when the Keeper fails, and when it goes on.
func (f *follower) note(err error) {
	f.mu.Lock()
	before := f.state.Failing
	f.shown = f.at
	if f.state.Failing = err; err != nil {
		f.state.Failures++
	}
	f.mu.Unlock()
	switch {
	case err != nil && before == nil:
		f.opts.Logger.Warn("audit events are in the files and not in the store; it is tried again", "error", err)
	case err == nil && before != nil:
		f.opts.Logger.Info("audit events go to the store again")
	}
}

// step gives the Keeper the next lines. false: it has all.
func (f *follower) step() (more bool, err error) {
	lines, err := f.read()
	if err == nil && len(lines) == 0 {
		return f.advance()
	}
	if err != nil {
		return false, err
	}
	kept, refused, err := f.opts.Keeper.Keep(f.ctx, lines)
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	f.state.Events += uint64(kept)
	f.mu.Unlock()
	if refused > 0 {
		f.skip(refused)
	}
	f.at.Offset += int64(len(lines))
	f.unnoted += int64(len(lines))
	return true, nil
}

// skip counts what is no event. Nobody but this program should write into the files.
func (f *follower) skip(lines int) {
	f.mu.Lock()
	f.state.Refused += uint64(lines)
	f.mu.Unlock()
	f.opts.Logger.Error("an audit file has lines that are no audit events, or that the store does not take: they are left out of it", "file", f.at.File, "offset", f.at.Offset, "lines", lines)
}

// advance goes to the next file, when the present one will get nothing more.
func (f *follower) advance() (more bool, err error) {
	if newest, _ := f.newest(); f.at.File == newest {
		return false, nil
	}
	names, err := f.files.list()
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if name <= f.at.File {
			continue
		}
		// It may have got more until its successor was there.
		if lines, err := f.read(); err != nil || len(lines) > 0 {
			return true, err
		}
		f.at = Position{File: name}
		f.tell()
		return true, nil
	}
	return false, nil
}

// tell keeps the file, and those behind it, from being removed.
func (f *follower) tell() {
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	f.files.kept = max(f.at.File, " ") // "" would be: nobody cares
}

func (f *follower) newest() (name string, durable int64) {
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	return f.files.newest, f.files.durable
}

// length is how much of a file can be read: what is durable. A file that is gone has
// nothing.
func (f *follower) length(name string) (int64, error) {
	if newest, durable := f.newest(); name == newest {
		return durable, nil
	}
	info, err := f.opts.FS.Stat(f.files.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return info.Bytes, err
}

// read are whole lines from the present position on, in memory that is used again. None:
// the file has no more; half a line at its end is what a crash left.
func (f *follower) read() ([]byte, error) {
	if f.at.File == "" {
		return nil, nil
	}
	length, err := f.length(f.at.File)
	if left := length - f.at.Offset; err != nil || left <= 0 {
		return nil, err
	}
	file, err := f.opts.FS.Open(f.files.path(f.at.File))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for size := int64(keptBytes); ; size *= 2 {
		n := min(size, length-f.at.Offset)
		if int64(cap(f.lineBytes)) < n {
			f.lineBytes = make([]byte, n)
		}
		text := f.lineBytes[:n]
		if _, err := file.ReadAt(text, f.at.Offset); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		end := bytes.LastIndexByte(text, '\n') + 1
		switch {
		case end > 0 || n == length-f.at.Offset:
			return text[:end], nil
		case size >= lineBytesMax:
			return text, nil // no event; the Keeper refuses it
		}
	}
}

// remember notes the position, now and then.
func (f *follower) remember(now bool) {
	if f.at == f.noted || !now && f.unnoted < rememberBytes && f.opts.Now().Sub(f.notedAt) < rememberEvery {
		return
	}
	f.notedAt = f.opts.Now()
	if err := f.opts.Keeper.Remember(f.at); err != nil {
		f.opts.Logger.Warn("cannot note which audit events are in the store: the next start looks further back", "error", err)
		return
	}
	f.noted, f.unnoted = f.at, 0
}

// behind is how many bytes of the files were not kept yet.
func (f *follower) behind() (total int64) {
	f.mu.Lock()
	at := f.shown
	f.mu.Unlock()
	names, err := f.files.list()
	if err != nil {
		return 0
	}
	for _, name := range names {
		if length, err := f.length(name); err == nil && name > at.File {
			total += length
		} else if err == nil && name == at.File {
			total += max(0, length-at.Offset)
		}
	}
	return total
}

package audit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"strconv"
	"sync"
	"time"

	"kiln/internal/vfs"
)

const (
	// flushEveryDefault is how long an event waits in memory. Five syncs a second leave
	// the disk to the log.
	flushEveryDefault = 200 * time.Millisecond

	// retryEvery is the time between two attempts to write what could not be written.
	retryEvery = time.Second

	// queueBytesMax is when requests wait because the disk is too slow: some 10,000
	// events. The entries of the Bundles in flight may come on top, and an event of
	// each request that waited.
	queueBytesMax = 8 << 20

	// roomWaitMax is how long a request waits for room, then it is refused. A sync of
	// half a second is enough to fill the queue at 20,000 requests a second, and disks
	// stand still for longer than that now and then.
	roomWaitMax = 5 * time.Second

	// fileBytesDefault and fileAgeDefault end a file, so that there is always a closed
	// one to carry away.
	fileBytesDefault = 64 << 20
	fileAgeDefault   = 24 * time.Hour
)

// ErrUnavailable says that events cannot be written.
var ErrUnavailable = errors.New("accesses cannot be recorded")

// Why they cannot, where no write has failed.
var (
	errTooSlow = errors.New("the disk is too slow for them")
	errEnding  = errors.New("the server is about to end")
)

// lockName keeps a second server out of the directory: it would remove, and keep in its
// store, what is not its own.
const lockName = "LOCK"

// Options are explicit. FS, Dir, Now and Instance are required.
type Options struct {
	FS  vfs.FS
	Dir string // made when it is missing
	Now func() time.Time
	// Instance makes the events' ids unique: another one at each start.
	Instance   string
	Site       string // where the server is, for AuditEvent.source.site
	Logger     *slog.Logger
	FileBytes  int64         // 0: 64 MiB
	FileAge    time.Duration // 0: 24 hours
	KeepBytes  int64         // of all files; 0: all are kept
	FlushEvery time.Duration // 0: 200 ms
	// Keeper keeps the events elsewhere, too; nil: nobody does.
	Keeper Keeper
}

// Stats are for the metrics.
type Stats struct {
	Events, Bytes, Failures, Refusals uint64
	QueuedBytes                       int64
	Failing                           error // nil: events are written
	Kept                              KeptStats
}

// Log takes events from any goroutine.
type Log struct {
	opts   Options
	files  files // of the writer alone
	kick   chan struct{}
	ending chan struct{}
	ended  chan struct{}
	lock   io.Closer
	keeper *follower // nil: there is no Keeper

	mu     sync.Mutex    // guards what follows
	queue  []byte        // lines that are not being written yet
	busy   int64         // bytes that are being written
	tried  chan struct{} // closed when a batch was written, or could not be
	number uint64        // of the last event
	stats  Stats
	closed bool
}

// Open begins a file in the directory, which no other server may have.
func Open(opts Options) (*Log, error) {
	if opts.FS == nil || opts.Dir == "" || opts.Now == nil || opts.Instance == "" {
		return nil, errors.New("cannot audit without FS, Dir, Now and Instance")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.FileBytes == 0 {
		opts.FileBytes = fileBytesDefault
	}
	if opts.FileAge == 0 {
		opts.FileAge = fileAgeDefault
	}
	if opts.FlushEvery == 0 {
		opts.FlushEvery = flushEveryDefault
	}
	l := &Log{opts: opts, kick: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{}), tried: make(chan struct{})}
	l.files = files{fs: opts.FS, dir: opts.Dir, now: opts.Now, logger: opts.Logger, bytesMax: opts.FileBytes, ageMax: opts.FileAge, keepBytes: opts.KeepBytes}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("cannot begin an audit file in %q: %w", opts.Dir, err)
	}
	go l.run()
	if l.keeper != nil {
		go l.keeper.run()
	}
	return l, nil
}

func (l *Log) open() (err error) {
	if err = l.opts.FS.MkdirAll(l.opts.Dir); err != nil {
		return err
	}
	l.lock, err = l.opts.FS.Lock(path.Join(l.opts.Dir, lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return errors.New("another server has the directory; each needs one of its own")
	}
	if err != nil {
		return fmt.Errorf("cannot lock it: %w", err)
	}
	if err := l.begin(); err != nil {
		return errors.Join(err, l.lock.Close())
	}
	return nil
}

func (l *Log) begin() error {
	var kept Position
	if l.opts.Keeper != nil {
		var err error
		if kept, err = l.opts.Keeper.Position(); err != nil {
			return fmt.Errorf("cannot find out which events are kept: %w", err)
		}
	}
	if err := l.files.goBehind(kept.File); err != nil {
		return err
	}
	if l.opts.Keeper != nil {
		l.keeper = newFollower(&l.opts, &l.files, kept)
	}
	return l.files.begin()
}

// Admit says whether a request may go on: its event will find room. While there is none
// because the disk is slow, it waits for that.
func (l *Log) Admit() error {
	full, err := l.full()
	if full == nil || err != nil {
		return err
	}
	timer := time.NewTimer(roomWaitMax)
	defer timer.Stop()
	for full != nil && err == nil {
		select {
		case <-full:
			full, err = l.full()
		case <-timer.C:
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.refuse(errTooSlow)
		}
	}
	return err
}

// HasRoom says whether Admit would let a request go on at once.
func (l *Log) HasRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hasRoom()
}

func (l *Log) hasRoom() bool {
	return l.stats.Failing == nil && !l.closed && int64(len(l.queue))+l.busy < queueBytesMax
}

// full is nil when there is room, else closed when that may be otherwise.
func (l *Log) full() (<-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.hasRoom():
		return nil, nil
	case l.stats.Failing != nil:
		return nil, l.refuse(l.stats.Failing)
	case l.closed:
		return nil, l.refuse(errEnding)
	}
	return l.tried, nil
}

// refuse counts a request that may not go on. l.mu is held.
func (l *Log) refuse(why error) error {
	l.stats.Refusals++
	return fmt.Errorf("%w: %w", ErrUnavailable, why)
}

// Write queues an event. Who was admitted is never refused here.
func (l *Log) Write(e *Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	before := len(l.queue)
	l.queue = append(e.appendJSON(l.queue, l.opts.Instance+"-"+strconv.FormatUint(l.number, 10), l.opts.Site), '\n')
	l.stats.Events++
	l.stats.Bytes += uint64(len(l.queue) - before)
	if len(l.queue) > queueBytesMax/4 {
		select {
		case l.kick <- struct{}{}:
		default: // it knows
		}
	}
}

// Stats tells how the log is doing.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.QueuedBytes = int64(len(l.queue)) + l.busy
	if l.keeper != nil {
		s.Kept = l.keeper.stats()
	}
	return s
}

// Behind is how many bytes of the files the Keeper does not have.
func (l *Log) Behind() int64 {
	if l.keeper == nil {
		return 0
	}
	return l.keeper.behind()
}

// Close writes what is queued, and gives the Keeper a moment to take it. No event may
// come afterwards.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	close(l.ending)
	<-l.ended
	if l.keeper != nil {
		l.keeper.end()
	}
	if err := l.Stats().Failing; err != nil {
		err = fmt.Errorf("cannot write the last %d bytes of audit events: %w", l.Stats().QueuedBytes, err)
		return errors.Join(err, l.files.close(), l.lock.Close())
	}
	return errors.Join(l.files.close(), l.lock.Close())
}

// run writes what is queued, until the end.
func (l *Log) run() {
	defer close(l.ended)
	ticker := time.NewTicker(l.opts.FlushEvery)
	defer ticker.Stop()
	var batch []byte // what was taken from the queue
	var tried time.Time
	for ending := false; !ending; {
		select {
		case <-l.ending:
			ending = true
		case <-ticker.C:
		case <-l.kick:
		}
		now := l.opts.Now()
		if !ending && l.Stats().Failing != nil && now.Sub(tried) < retryEvery {
			continue
		}
		tried = now
		batch = l.flush(batch)
	}
}

// flush writes a batch and what came since, and returns what could not be written.
func (l *Log) flush(batch []byte) []byte {
	l.mu.Lock()
	batch = append(batch, l.queue...)
	l.queue = l.queue[:0]
	if cap(l.queue) > queueBytesMax {
		l.queue = nil // a Bundle's
	}
	l.busy = int64(len(batch))
	failed := l.stats.Failing != nil
	l.mu.Unlock()
	if len(batch) == 0 && !failed {
		return batch
	}
	err := l.files.append(batch)
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.tried)
	l.tried = make(chan struct{})
	if err != nil {
		l.stats.Failures++
		if !failed {
			l.opts.Logger.Error("audit events cannot be written: requests are refused until they can", "dir", l.opts.Dir, "error", err)
		}
		l.stats.Failing = err
		return batch
	}
	if failed {
		l.opts.Logger.Info("audit events are written again", "dir", l.opts.Dir)
	}
	l.stats.Failing, l.busy = nil, 0
	if l.keeper != nil {
		l.keeper.wake()
	}
	return batch[:0]
}

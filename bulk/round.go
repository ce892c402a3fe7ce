package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"kiln/index"
)

// round is some consecutive units on their way into the store: scanned in
// parallel, each worker into its own run, then resolved and published together.
type round struct {
	job     *importJob
	workers []*lineScanner
	chunks  []*chunkInfo
	end     roundEnd

	mu     sync.Mutex // guards memory while scanning
	held   []int64    // by worker: builder bytes
	sorry  []int64    // by worker: refusal bytes
	filled atomic.Bool
}

// roundEnd is where the next round goes on.
type roundEnd struct {
	input  int
	offset int64
	stored int64
	last   bool // nothing follows
}

// work is one chunk for a worker.
type work struct {
	chunk  chunk
	info   *chunkInfo
	number uint32
}

func (j *importJob) newRound() (*round, error) {
	r := &round{job: j}
	for range j.workers {
		w, err := j.newLineScanner(j.store.Extraction())
		if err != nil {
			r.abort()
			return nil, err
		}
		r.workers = append(r.workers, w)
	}
	r.held, r.sorry = make([]int64, len(r.workers)), make([]int64, len(r.workers))
	return r, nil
}

func (j *importJob) newLineScanner(extraction *index.Extraction) (*lineScanner, error) {
	builder, err := j.store.NewRunBy(extraction)
	if err != nil {
		return nil, fmt.Errorf("cannot begin a run: %w", err)
	}
	return newLineScanner(&j.rules, builder), nil
}

// abort drops what was scanned. Runs that were handed to the store are its own.
func (r *round) abort() {
	for _, w := range r.workers {
		if err := w.builder.Abort(); err != nil {
			r.job.logger.Warn("cannot remove an unfinished run", "error", err)
		}
	}
}

// scan takes whole units from the feed until memory is full or the inputs end.
func (r *round) scan(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan work)
	for i, w := range r.workers {
		group.Go(func() error { return r.scanChunks(ctx, i, w, queue) })
	}
	group.Go(func() error {
		defer close(queue)
		return r.handOut(ctx, queue)
	})
	return group.Wait()
}

// scanChunks is one worker.
func (r *round) scanChunks(ctx context.Context, number int, w *lineScanner, queue <-chan work) error {
	turns := &r.job.manager.turns
	for item := range queue {
		if err := turns.take(ctx); err != nil {
			item.chunk.release()
			return err
		}
		err := w.chunk(&item.chunk, item.info, item.number)
		turns.give()
		r.job.advance(&item.chunk)
		r.job.manager.counters.lines.Add(uint64(item.info.lines))
		r.job.manager.counters.scanned.Add(uint64(len(item.chunk.data)))
		item.chunk.release()
		if err != nil {
			return err
		}
		r.measure(number, w)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// measure notes whether the round is full.
func (r *round) measure(number int, w *lineScanner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[number], r.sorry[number] = w.memoryBytes(), w.refused
	held, sorry := int64(0), int64(0)
	for i := range r.held {
		held += r.held[i]
		sorry += r.sorry[i]
	}
	if held >= r.job.roundBytes || sorry >= refusalBytesMax {
		r.filled.Store(true)
	}
}

// handOut deals chunks to the workers; the round ends between two units.
func (r *round) handOut(ctx context.Context, queue chan<- work) error {
	j := r.job
	batch, unit, input := int32(-1), int64(-1), -1
	for {
		arrived := j.manager.timed(stageWaitSource)
		c, err := j.nextChunk()
		arrived()
		if err == io.EOF {
			r.end.last = true
			return nil
		}
		if err != nil {
			return err
		}
		if c.unit != unit || c.input != input {
			if r.filled.Load() && len(r.chunks) > 0 {
				r.endBefore(c)
				return nil
			}
			batch, unit, input = batch+1, c.unit, c.input
		}
		info := &chunkInfo{input: c.input, batch: batch, start: c.start}
		r.chunks = append(r.chunks, info)
		r.end.input, r.end.offset, r.end.stored = c.input, c.end(), c.stored
		select {
		case queue <- work{c, info, uint32(len(r.chunks) - 1)}:
		case <-ctx.Done():
			c.release()
			return context.Cause(ctx)
		}
	}
}

// endBefore ends the round in front of a chunk. The next one goes on where that
// chunk starts, not where the last one ended: the rest of a line that was too
// long lies between them.
func (r *round) endBefore(c chunk) {
	r.job.pending, r.job.hasPending = c, true
	if c.input != r.end.input {
		r.end.stored = 0
	}
	r.end.input, r.end.offset = c.input, c.start
}

// nextChunk gives the chunk that the last round left, or the feed's next.
func (j *importJob) nextChunk() (chunk, error) {
	if j.hasPending {
		j.hasPending = false
		return j.pending, nil
	}
	return j.feed.next()
}

// runRound takes one round through to the store. It reports whether more follow.
func (j *importJob) runRound(ctx context.Context) (more bool, err error) {
	if err := j.awaitRoom(ctx); err != nil {
		return false, err
	}
	r, err := j.newRound()
	if err != nil {
		return false, err
	}
	defer r.abort()
	scanned := j.manager.timed(stageScan)
	err = r.scan(ctx)
	scanned()
	if err != nil {
		return false, err
	}
	if len(r.chunks) > 0 {
		if err := r.publish(ctx); err != nil {
			return false, err
		}
	}
	return !r.end.last, nil
}

// awaitRoom keeps a round from beginning on a disk that is nearly full: it could
// not be published, and would take the space that writes need.
func (j *importJob) awaitRoom(ctx context.Context) error {
	defer j.noRoom.Store(false)
	if err := j.store.AwaitRoom(ctx, func() { j.noRoom.Store(true) }); err != nil {
		return fmt.Errorf("cannot wait for room on the data disk: %w", err)
	}
	return nil
}

// isStop tells a cancelled job from a failed one.
func isStop(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, errStopped)
}

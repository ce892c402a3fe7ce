package bulk

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sync/semaphore"
)

// errStopped is how a reader ends when nobody wants its chunks any more.
var errStopped = errors.New("the job stops")

// feedInput is one input to read.
type feedInput struct {
	number int   // in the request
	from   int64 // decompressed offset to start at: the beginning of a unit
	open   func(ctx context.Context) (source, error)
}

// feedOptions are the sizes; see limits.go.
type feedOptions struct {
	chunkBytes, lineBytes int
	unitBytes             int64
	readers               int
}

// feed delivers the chunks of several inputs in request order. Inputs after
// the first are read ahead, each into its own few buffers, so a reader never
// waits for memory that a later input holds.
type feed struct {
	ctx    context.Context
	cancel context.CancelFunc
	queues chan *queue // in request order
	cur    *queue
	long   *semaphore.Weighted
	// spare holds the buffers that ended inputs leave to later ones: of many
	// small inputs each would make one of its own.
	spare    chan []byte
	decoders spareDecoders
	err      error
}

// queue is one input's way to the consumer.
type queue struct {
	chunks chan chunk
	front  chan struct{} // closed when the consumer takes from this queue
	err    error         // valid when chunks is closed
}

func newFeed(ctx context.Context, inputs []feedInput, opts feedOptions) *feed {
	ctx, cancel := context.WithCancel(ctx)
	f := &feed{ctx: ctx, cancel: cancel, queues: make(chan *queue, max(opts.readers-1, 0)), long: semaphore.NewWeighted(longBytesMax), spare: make(chan []byte, chunksPerReader), decoders: make(spareDecoders, opts.readers)}
	go f.schedule(ctx, inputs, opts)
	return f
}

// schedule starts a reader for each input; at most readers of them hold
// buffers at a time, because the queue of queues is that long.
func (f *feed) schedule(ctx context.Context, inputs []feedInput, opts feedOptions) {
	defer close(f.queues)
	for _, in := range inputs {
		q := &queue{chunks: make(chan chunk, chunksPerReader), front: make(chan struct{})}
		select {
		case f.queues <- q:
			go f.read(ctx, q, in, opts)
		case <-ctx.Done():
			return
		}
	}
}

// read runs one input from opening to end.
func (f *feed) read(ctx context.Context, q *queue, in feedInput, opts feedOptions) {
	defer close(q.chunks)
	src, err := in.open(ctx)
	if err != nil {
		q.err = err
		return
	}
	defer src.Close()
	d, err := openAt(ctx, src, in.from, f.decoders)
	if err != nil {
		q.err = err
		return
	}
	defer d.Close()
	q.err = f.split(ctx, q, in, d, opts)
}

// openAt opens the decompressed bytes from an offset on. What is stored as it
// is, is not read up to there.
func openAt(ctx context.Context, src source, from int64, spare spareDecoders) (*decoded, error) {
	stream, err := src.stream(ctx, 0)
	if err != nil {
		return nil, err
	}
	d, err := newDecoded(stream, spare)
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	if from == 0 {
		return d, nil
	}
	if !d.packed {
		if err := d.Close(); err != nil {
			return nil, err
		}
		if stream, err = src.stream(ctx, from); err != nil {
			return nil, err
		}
		return newPlain(stream, from), nil
	}
	if _, err := io.CopyN(io.Discard, d, from); err != nil {
		if err == io.EOF {
			err = errShrunk
		}
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// split sends the chunks of an open input.
func (f *feed) split(ctx context.Context, q *queue, in feedInput, d *decoded, opts feedOptions) error {
	s := &splitter{
		r: d, stored: d.stored.count, memory: f.newMemory(ctx, q, opts),
		input: in.number, unitBytes: opts.unitBytes, pos: in.from, done: ctx.Done(),
	}
	for {
		c, err := s.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case q.chunks <- c:
		case <-ctx.Done():
			c.release()
			s.drop()
			return errStopped
		}
	}
}

var errShrunk = &RequestError{Status: 400, Code: "conflict", Text: "an input has become shorter since it was read before"}

// newMemory lets only the input that is being consumed grow for long lines:
// its chunks are always on their way to being released.
func (f *feed) newMemory(ctx context.Context, q *queue, opts feedOptions) *memory {
	grow := func(bytes int64) error {
		select {
		case <-q.front:
		case <-ctx.Done():
			return errStopped
		}
		return f.long.Acquire(ctx, bytes)
	}
	return newMemory(opts.chunkBytes, opts.lineBytes, chunksPerReader, f.spare, grow, func(bytes int64) { f.long.Release(bytes) })
}

// next returns the following chunk; io.EOF after the last input.
func (f *feed) next() (chunk, error) {
	for f.err == nil {
		if f.cur == nil {
			q, ok := <-f.queues
			if !ok && f.ctx.Err() != nil {
				f.err = errStopped
				break
			}
			if !ok {
				f.err = io.EOF
				break
			}
			f.cur = q
			close(q.front)
		}
		if c, ok := <-f.cur.chunks; ok {
			return c, nil
		}
		f.err = f.cur.err
		f.cur = nil
	}
	return chunk{}, f.err
}

// stop ends the readers; chunks that were not taken are garbage.
func (f *feed) stop() { f.cancel() }

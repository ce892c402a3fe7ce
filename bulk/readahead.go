package bulk

import (
	"context"
	"io"
)

// readahead is a sequential reader over pieces that are fetched several at a
// time, in order.
type readahead struct {
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan chan piece // in order; each holds one piece when it is there
	free   chan []byte
	cur    []byte
	buf    []byte // what cur points into
	err    error
}

type piece struct {
	data []byte
	err  error
}

// newReadahead reads size-from bytes through fetch, pieceBytes at a time and
// ahead pieces in flight; it holds at most ahead+1 pieces in memory.
func newReadahead(ctx context.Context, size, from int64, pieceBytes, ahead int, fetch func(ctx context.Context, p []byte, off int64) error) *readahead {
	ctx, cancel := context.WithCancel(ctx)
	r := &readahead{ctx: ctx, cancel: cancel, slots: make(chan chan piece, ahead-1), free: make(chan []byte, ahead+1)}
	for range ahead + 1 {
		r.free <- nil
	}
	go r.schedule(ctx, size, from, pieceBytes, fetch)
	return r
}

// schedule starts one fetch for each free buffer.
func (r *readahead) schedule(ctx context.Context, size, from int64, pieceBytes int, fetch func(context.Context, []byte, int64) error) {
	defer close(r.slots)
	for off := from; off < size; off += int64(pieceBytes) {
		var buf []byte
		select {
		case buf = <-r.free:
		case <-ctx.Done():
			return
		}
		n := int(min(int64(pieceBytes), size-off))
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		slot := make(chan piece, 1)
		go func() {
			err := fetch(ctx, buf[:n], off)
			slot <- piece{buf[:n], err}
		}()
		select {
		case r.slots <- slot:
		case <-ctx.Done():
			return
		}
	}
}

func (r *readahead) Read(p []byte) (int, error) {
	for len(r.cur) == 0 && r.err == nil {
		r.next()
	}
	if len(r.cur) == 0 {
		return 0, r.err
	}
	n := copy(p, r.cur)
	r.cur = r.cur[n:]
	return n, nil
}

// next waits for the following piece.
func (r *readahead) next() {
	if r.buf != nil {
		r.free <- r.buf
		r.buf = nil
	}
	slot, ok := <-r.slots
	if !ok {
		// The schedule ends early when it is cancelled: that is no end of input.
		if r.err = r.ctx.Err(); r.err == nil {
			r.err = io.EOF
		}
		return
	}
	got := <-slot
	if got.err != nil {
		r.err = got.err
		return
	}
	r.cur, r.buf = got.data, got.data
}

// Close stops the fetches in flight.
func (r *readahead) Close() error {
	r.cancel()
	return nil
}

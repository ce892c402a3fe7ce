package httpapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/engine"
)

// Timeouts bound how long a connection or the work for a request may take. A
// field that is zero is its default, the constant of the same name.
type Timeouts struct {
	// Of the connection.
	Head   time.Duration // until request line and headers are there
	Body   time.Duration // until the body is there; the bytes of a long one add to it
	Idle   time.Duration // until the next request begins
	Answer time.Duration // until an answer is taken, or each piece of a file
	Fresh  time.Duration // until a new connection begins to ask while the server stops
	// Of the work, by the kind of interaction.
	Read   time.Duration // reads, histories, searches, operations
	Queue  time.Duration // a write, until its turn
	Bundle time.Duration // a batch or transaction
	Job    time.Duration // the start of an import or export
	Commit time.Duration // a write, from when it asks for its turn until it is durable
	Late   time.Duration // what a request may take beyond its work, until it is answered without
	// Stall is how long the data disk may take for a write to the log before the
	// server says that it is not ready.
	Stall time.Duration
}

const (
	// headTimeout is short: headers come in one piece from every real client,
	// and a stopping server waits for requests that have begun.
	headTimeout = 10 * time.Second

	// bodyTimeout is what any body may take, and the time of its bytes at
	// bodyBytesPerSecondMin comes on top: 32 MiB have 2 minutes and 20 seconds.
	bodyTimeout           = 20 * time.Second
	bodyBytesPerSecondMin = 280_000

	idleTimeout = 2 * time.Minute

	// answerTimeout covers a whole answer that is not a file, and each piece of
	// one that is. Over its length a file must be taken at
	// fileBytesPerSecondMin at least: the client can go on with a Range.
	answerTimeout         = 2 * time.Minute
	fileBytesPerSecondMin = 16 << 10

	// freshTimeout: a client that has connected before the listener closed, and
	// sends at once, is heard.
	freshTimeout = time.Second

	// readTimeout ends a history or a search that reads many blocks.
	readTimeout = time.Minute

	// queueTimeout is how long a write may wait for its turn. A group of a
	// thousand takes milliseconds, the flush that a full head waits for seconds;
	// whoever waits longer is better told so.
	queueTimeout = 10 * time.Second

	// commitTimeout is Queue and as much again for the sync, which takes milliseconds
	// on a disk that works. Clients mostly give up after 30 s, and then hear nothing.
	commitTimeout = 20 * time.Second

	// lateTimeout is more than a request needs for what is not bounded in itself.
	lateTimeout = 30 * time.Second

	// bundleTimeout: 20,000 writes of a batch, each with its own fsync, take
	// longer and belong into a transaction.
	bundleTimeout = 2 * time.Minute

	// stallTimeout: who sends requests should send them elsewhere while a disk hangs,
	// and not for one long sync. Health and metrics tell from the first moment on.
	stallTimeout = 5 * time.Second

	// jobTimeout: an export waits for the rounds of imports that are being
	// published.
	jobTimeout = time.Minute
)

func (t Timeouts) withDefaults() (Timeouts, error) {
	for _, f := range []struct {
		field     *time.Duration
		byDefault time.Duration
	}{
		{&t.Head, headTimeout},
		{&t.Body, bodyTimeout},
		{&t.Idle, idleTimeout},
		{&t.Answer, answerTimeout},
		{&t.Fresh, freshTimeout},
		{&t.Read, readTimeout},
		{&t.Queue, queueTimeout},
		{&t.Bundle, bundleTimeout},
		{&t.Job, jobTimeout},
		{&t.Commit, commitTimeout},
		{&t.Late, lateTimeout},
		{&t.Stall, stallTimeout},
	} {
		if *f.field < 0 {
			return t, fmt.Errorf("cannot use a timeout of %v", *f.field)
		}
		if *f.field == 0 {
			*f.field = f.byDefault
		}
	}
	return t, nil
}

// body is how long a body of so many bytes may take.
func (t *Timeouts) body(bytes int64) time.Duration {
	return t.Body + time.Duration(bytes)*time.Second/bodyBytesPerSecondMin
}

// piece is until when the next piece of a file must be taken that began to be
// sent at started; sent bytes of it are.
func (t *Timeouts) piece(started, now time.Time, sent int64) time.Time {
	whole := started.Add(t.Answer + time.Duration(sent/fileBytesPerSecondMin)*time.Second)
	if next := now.Add(t.Answer); next.Before(whole) {
		return next
	}
	return whole
}

// work is the bound for what an interaction does.
func (t *Timeouts) work(row *interaction) time.Duration {
	switch row.place {
	case placeBase:
		if row.method == methodPost {
			return t.Bundle
		}
	case placeImport, placeExport:
		return t.Job
	}
	return t.Read
}

// workContext bounds the work for this request, and for an entry of a Bundle by
// what is left of the Bundle's.
func (x *exchange) workContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(x.parentContext(), x.server.opts.Timeouts.work(&x.server.table.rows[x.row]))
}

func (x *exchange) parentContext() context.Context {
	if x.work != nil {
		return x.work
	}
	return x.server.work
}

// commitAll writes changes, all or none. Their time counts until their turn,
// as afterwards nobody can tell that nothing was written.
func (x *exchange) commitAll(work context.Context, changes []engine.Change) ([]engine.Committed, error) {
	end, err := x.dueWrite()
	if err != nil {
		return nil, err
	}
	defer end()
	ctx, cancel := context.WithTimeout(work, x.server.opts.Timeouts.Queue)
	defer cancel()
	done, err := x.committed(ctx, changes)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, &problem{fasthttp.StatusServiceUnavailable, codeThrottled, "More writes are waiting than the data disk takes in time; nothing was written. Try again."}
	}
	return done, err
}

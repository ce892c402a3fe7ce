package httpapi

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"
)

// Every request is answered within a bound, whatever its handler waits for. A
// goroutine that waits for a disk cannot be called off, and having another one do
// each sync would cost every write two changes of goroutine. So the handler stays
// where it is, and one goroutine looks at all connections: it answers a request
// that is overdue past its handler, and ends the connection. The handler goes on. A
// write that is under way becomes visible when its sync succeeds, and never when
// it fails; one that has not begun is not begun any more.

// overdueLook is how often all connections are looked at, some microseconds each time.
const overdueLook = 250 * time.Millisecond

// The states of watched.due that are no time.
const (
	dueNone = 0  // no request is handled
	dueTold = -1 // the client was answered past the handler
)

// asks is what an overdue request is told by.
type asks uint8

const (
	asksRead asks = iota
	asksHead      // the answer has no body
	asksWrite
)

// watched is the request that a connection has in its handler.
type watched struct {
	// due is when the request is overdue, in nanoseconds of the server's clock.
	due atomic.Int64
	// telling is held while the client is answered past the handler.
	telling sync.Mutex

	// What follows is the handler's while due is not dueTold, then the teller's.
	asks  asks
	whole int64 // due by the request's own bound
	// behind: an answer before may still wait in the library's buffer, as the client
	// has sent more requests ahead. deadlines counts those for reading since then.
	behind    bool
	deadlines int
}

// start notes that a request is handled.
func (w *watched) start(until time.Time, method []byte) {
	w.asks = asksWrite
	switch string(method) {
	case fasthttp.MethodGet:
		w.asks = asksRead
	case fasthttp.MethodHead:
		w.asks = asksHead
	}
	w.whole = until.UnixNano()
	w.due.Store(w.whole)
}

// change gives the request another time, and says whether it still counts.
func (w *watched) change(due int64) bool {
	for {
		old := w.due.Load()
		if old == dueTold {
			return false
		}
		if w.due.CompareAndSwap(old, due) {
			return true
		}
	}
}

// finish notes that the handler is done. When the client was answered past it, the
// connection is closed now, and what the library writes comes to nothing.
func (w *watched) finish() (told bool) {
	if w.due.Swap(dueNone) != dueTold {
		w.behind, w.deadlines = true, 0
		return false
	}
	w.telling.Lock() // until the answer is out
	defer w.telling.Unlock()
	return true
}

// setsDeadline and reads see how the library goes on behind an answer. When it has
// more of the client's bytes already, it sets the deadlines for a pause and for a head
// without reading in between, and may keep the answer back. Otherwise it sends it,
// and reads after the first of them (TestOverdueBehindOtherAnswers).
func (w *watched) setsDeadline() { w.deadlines++ }

func (w *watched) reads() {
	if w.deadlines <= 1 {
		w.behind = false
	}
}

// watch begins to watch a request, if it came over one of the server's connections.
func (x *exchange) watch(started time.Time) {
	conn, ok := x.ctx.Conn().(interface{ share() *counted })
	if !ok {
		return
	}
	x.watched = &conn.share().watched
	x.watched.start(started.Add(x.server.opts.Timeouts.Bundle+x.server.opts.Timeouts.Late), x.ctx.Method())
}

// unwatch ends that. told: the client has its answer.
func (x *exchange) unwatch(started time.Time) (told bool) {
	if x.watched == nil || !x.watched.finish() {
		return false
	}
	s := x.server
	s.overdue.stuck.Add(-1)
	s.opts.Logger.Info("a request whose client was told that it is not done in time has ended",
		"interaction", s.table.name(x.row), "status", x.ctx.Response.StatusCode(), "took", s.opts.Now().Sub(started))
	return true
}

// dueWork bounds the request by the work of its row.
func (x *exchange) dueWork() {
	if w := x.watched; w != nil && x.row != rowNone {
		t := &x.server.opts.Timeouts
		w.whole += int64(t.work(&x.server.table.rows[x.row]) - t.Bundle)
		w.change(w.whole)
	}
}

// dueWrite bounds a write that is about to ask for its turn; done is for its end.
// An error says that nobody waits for it any more.
func (x *exchange) dueWrite() (done func(), err error) {
	w := x.watched
	if w == nil {
		return func() {}, nil
	}
	t := &x.server.opts.Timeouts
	if !w.change(x.now().Add(t.Commit).UnixNano()) {
		return nil, &problem{fasthttp.StatusServiceUnavailable, codeTimeout, "The request took too long; nothing was written."}
	}
	return func() { w.change(max(w.whole, x.now().Add(t.Late).UnixNano())) }, nil
}

// overdueCount is for metrics.
type overdueCount struct {
	told  atomic.Uint64
	stuck atomic.Int64 // handlers that have not ended yet
}

func (o *overdueCount) writeMetrics(w io.Writer) {
	metrics.WriteCounterUint64(w, "kiln_http_overdue_requests_total", o.told.Load())
	metrics.WriteGaugeUint64(w, "kiln_http_overdue_requests", uint64(max(0, o.stuck.Load())))
}

// watchRequests looks for overdue requests until the server gives up on all.
func (s *Server) watchRequests(l *limitedListener) {
	ticker := time.NewTicker(overdueLook)
	defer ticker.Stop()
	for {
		select {
		case <-s.work.Done():
			return
		case <-ticker.C:
		}
		now := s.opts.Now().UnixNano()
		for _, c := range l.overdue(now) {
			s.tellOverdue(c, now)
		}
		s.tellStrangers(false)
	}
}

// overdue are the connections with a request that should have been answered.
func (l *limitedListener) overdue(now int64) (late []*counted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if due := c.due.Load(); due > dueNone && due < now {
			late = append(late, c)
		}
	}
	return late
}

// tellOverdue answers past the handler, unless that ends or gets more time just now.
func (s *Server) tellOverdue(c *counted, now int64) {
	c.telling.Lock()
	due := c.due.Load()
	if due <= dueNone || due >= now || !c.due.CompareAndSwap(due, dueTold) {
		c.telling.Unlock()
		return
	}
	s.overdue.told.Add(1)
	s.overdue.stuck.Add(1)
	if ok, skipped := s.logLimit.take(fasthttp.StatusServiceUnavailable, s.opts.Now()); ok {
		s.opts.Logger.Error("a request is not done in time; its client is told so", "left_out", skipped)
	}
	go func() {
		defer c.telling.Unlock()
		defer c.conn.Close()
		if c.behind || c.conn.SetWriteDeadline(time.Now().Add(refusalTime)) != nil {
			return // the client hears of the end: behind half an answer nothing else could be said
		}
		_, _ = c.conn.Write(s.overdueAnswer(c.asks)) // who has gone does not need it
	}()
}

// overdueAnswer has no Retry-After: whoever repeats a write blindly may make a
// resource twice.
func (s *Server) overdueAnswer(a asks) []byte {
	text := "The server did not finish in time"
	if s.opts.Store.Health().Stalled() {
		text = "The server did not finish in time, since its data disk does not answer"
	}
	if a == asksWrite {
		text += ": it is unknown whether what was asked for is done, and it may be done later. Read or search for the resources before you write them again; an update with what is there already makes no second version."
	} else {
		text += ". Ask for less at once, or try again later."
	}
	answer := s.rawAnswer(fasthttp.StatusServiceUnavailable, issue{severity: "error", code: codeTimeout, text: text}, "")
	if a == asksHead {
		answer = answer[:bytes.Index(answer, []byte("\r\n\r\n"))+4]
	}
	return answer
}

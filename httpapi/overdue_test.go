package httpapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

// haltedDisk is a disk whose reads or syncs of files wait once it is closed.
type haltedDisk struct {
	vfs.FS
	reads   bool // reads wait, not syncs
	closed  atomic.Bool
	fails   atomic.Bool
	waiting chan struct{} // gets one for each call that waits
	pass    chan struct{} // lets one pass
}

func newHaltedDisk(reads bool) *haltedDisk {
	return &haltedDisk{FS: vfs.NewMem(1), reads: reads, waiting: make(chan struct{}, 100), pass: make(chan struct{})}
}

type haltedFile struct {
	vfs.File
	disk *haltedDisk
}

func (d *haltedDisk) wait(isRead bool) error {
	if isRead != d.reads || !d.closed.Load() {
		return nil
	}
	pass := d.pass
	d.waiting <- struct{}{}
	<-pass
	if d.fails.Load() {
		return syscall.EIO
	}
	return nil
}

func (d *haltedDisk) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &haltedFile{f, d}, nil
}

func (d *haltedDisk) Create(name string) (vfs.File, error)    { return d.file(d.FS.Create(name)) }
func (d *haltedDisk) Open(name string) (vfs.File, error)      { return d.file(d.FS.Open(name)) }
func (d *haltedDisk) OpenWrite(name string) (vfs.File, error) { return d.file(d.FS.OpenWrite(name)) }

func (f *haltedFile) SyncData() error {
	if err := f.disk.wait(false); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *haltedFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.disk.wait(true); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, offset)
}

// open lets all that wait pass, and what comes.
func (d *haltedDisk) open() {
	if d.closed.Swap(false) {
		close(d.pass)
	}
}

func newOverdueServer(t *testing.T, disk *haltedDisk, timeouts Timeouts) *testServer {
	t.Helper()
	s := newAPI(t, func(store *engine.Options, _ *bulk.Options, o *Options) {
		store.FS, store.Dir, store.CatalogInMem, store.FreeBytesMin = disk, "data", true, -1
		store.Logger = slog.New(slog.DiscardHandler)
		o.Timeouts = timeouts
	})
	t.Cleanup(disk.open)
	return s
}

// expectOverdue checks the answer that was given past a handler.
func (a *answer) expectOverdue(t *testing.T, what, says string) {
	t.Helper()
	code, text := a.outcome(t)
	if a.status != 503 || code != "timeout" || !strings.Contains(text, says) || a.header.Get("Retry-After") != "" {
		t.Errorf("%s: %d %s %q, Retry-After %q", what, a.status, code, text, a.header.Get("Retry-After"))
	}
	a.checkStandingHeaders(t, what)
}

// TestWritesWhoseSyncHangsAreAnswered: of the write alone at the log, and of those that
// share the next sync. What was answered "unknown" is there once the disk has taken it.
func TestWritesWhoseSyncHangsAreAnswered(t *testing.T) {
	disk := newHaltedDisk(false)
	s := newOverdueServer(t, disk, Timeouts{Commit: 10 * short})
	disk.closed.Store(true)
	answers := make(chan *answer, 3)
	go func() { answers <- s.put(t, "a", "") }()
	<-disk.waiting
	const unknown = "it is unknown whether"
	(<-answers).expectOverdue(t, "the write alone", unknown)
	s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "before the sync has ended", 404, "")
	for _, id := range []string{"b", "c"} {
		go func() { answers <- s.put(t, id, "") }()
	}
	disk.pass <- struct{}{}
	<-disk.waiting // the next group's; the other may be in it or behind it
	for range 2 {
		(<-answers).expectOverdue(t, "the writes behind it", unknown)
	}
	s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "after its sync", 200, `W/"1"`)
	if text := s.do(t, "GET", "/metrics", "").body; !strings.Contains(text, "kiln_http_overdue_requests_total 3\n") {
		t.Error("/metrics does not tell")
	}
	disk.open()
	for _, id := range []string{"b", "c"} {
		waitFor(t, "the write is visible", func() bool { return s.do(t, "GET", "/fhir/Patient/"+id, "").status == 200 })
		s.put(t, id, "").expect(t, "the same content again", 200, `W/"1"`)
	}
	waitFor(t, "no handler hangs", func() bool {
		return strings.Contains(s.do(t, "GET", "/metrics", "").body, "kiln_http_overdue_requests 0\n")
	})
}

// TestAHangingSyncThatFailsMakesNothing: nothing is invented after "unknown".
func TestAHangingSyncThatFailsMakesNothing(t *testing.T) {
	disk := newHaltedDisk(false)
	s := newOverdueServer(t, disk, Timeouts{Commit: 5 * short})
	disk.closed.Store(true)
	s.put(t, "a", "").expectOverdue(t, "the write", "unknown")
	disk.fails.Store(true)
	disk.open()
	waitFor(t, "the store knows", func() bool { return s.opts.Store.Health().Failed != nil })
	s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "a read", 404, "")
	s.put(t, "b", "").expect(t, "the next write", 503, "")
}

// TestOverdueBundles: what of a batch has not begun when its client is told never begins.
func TestOverdueBundles(t *testing.T) {
	disk := newHaltedDisk(false)
	s := newOverdueServer(t, disk, Timeouts{Commit: 5 * short})
	bundle := func(typ, id, second string) string {
		entry := func(id string) string {
			return `{"resource":` + patient(id, "") + `,"request":{"method":"PUT","url":"Patient/` + id + `"}}`
		}
		return `{"resourceType":"Bundle","type":"` + typ + `","entry":[` + entry(id) + `,` + entry(second) + `]}`
	}
	f := func(typ, first, second string, status int) {
		t.Helper()
		disk.pass = make(chan struct{})
		disk.closed.Store(true)
		s.do(t, "POST", "/fhir", bundle(typ, first, second), typeHeader).expectOverdue(t, typ, "unknown")
		<-disk.waiting
		disk.open()
		waitFor(t, "the handler ends", func() bool { return s.overdue.stuck.Load() == 0 })
		s.do(t, "GET", "/fhir/Patient/"+first, "").expect(t, typ+": the first entry", 200, `W/"1"`)
		s.do(t, "GET", "/fhir/Patient/"+second, "").expect(t, typ+": the second entry", status, "-")
	}
	f("batch", "a", "b", 404)
	f("transaction", "c", "d", 200)
}

// TestReadsFromAHangingDiskAreAnswered, and HEAD without a body.
func TestReadsFromAHangingDiskAreAnswered(t *testing.T) {
	disk := newHaltedDisk(true)
	s := newOverdueServer(t, disk, Timeouts{Read: 2 * short, Late: short})
	s.put(t, "a", "").expect(t, "a write", 201, "-")
	if err := s.opts.Store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	disk.closed.Store(true)
	s.do(t, "GET", "/fhir/Patient/a", "").expectOverdue(t, "a read", "try again later")
	conn := s.dial(t)
	send(t, conn, "HEAD /fhir/Patient/a HTTP/1.1\r\nHost: x\r\n\r\n")
	if text, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 503 ") || !strings.HasSuffix(string(text), "\r\n\r\n") {
		t.Errorf("HEAD: %q, %v", text, err)
	}
	disk.open()
	s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "later", 200, `W/"1"`)
}

// TestOverdueBehindOtherAnswers: on a connection that was used before a client is
// answered, and one that has sent requests ahead gets no words in a wrong place.
func TestOverdueBehindOtherAnswers(t *testing.T) {
	disk := newHaltedDisk(false)
	s := newOverdueServer(t, disk, Timeouts{Commit: 5 * short})
	s.put(t, "large", `,"language":"`+strings.Repeat("x", 3*writeBufferBytes)+`"`).expect(t, "a write", 201, "-")
	get := func(id string) string { return "GET /fhir/Patient/" + id + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	put := func(id string) string {
		body := patient(id, "")
		return "PUT /fhir/Patient/" + id + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	disk.closed.Store(true)
	conn := s.dial(t)
	reader := bufio.NewReader(conn)
	for _, request := range []string{get("large"), get("none"), get("large")} {
		send(t, conn, request)
		receive(t, reader)
	}
	send(t, conn, put("a"))
	receive(t, reader).expectOverdue(t, "behind answers that were taken", "unknown")
	f := func(name, ahead string) {
		t.Helper()
		conn := s.dial(t)
		send(t, conn, ahead+put("b"))
		text, err := io.ReadAll(conn)
		if err != nil || strings.Contains(string(text), "timeout") {
			t.Errorf("%s: got %.200q ... (%d bytes), %v", name, text, len(text), err)
		}
	}
	// Both have to wait for the one at the log, and are told before it ends.
	f("a small answer ahead", get("none"))
	f("a large answer ahead", get("large"))
	f("two answers ahead", get("large")+get("none"))
}

// TestOverdueOverTLS: the answer is secured as others are.
func TestOverdueOverTLS(t *testing.T) {
	disk := newHaltedDisk(true)
	inner := newOverdueServer(t, disk, Timeouts{})
	inner.put(t, "a", "").expect(t, "a write", 201, "-")
	if err := inner.opts.Store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	s := newSecured(t, CertificateOptions{}, func(o *Options) {
		o.Store, o.Jobs, o.Parameters, o.Timeouts = inner.opts.Store, inner.opts.Jobs, inner.opts.Parameters, Timeouts{Read: 2 * short, Late: short}
	})
	disk.closed.Store(true)
	response, text := s.mustGet(t, "/fhir/Patient/a", &tls.Config{})
	if response.StatusCode != 503 || !strings.Contains(text, `"timeout"`) {
		t.Errorf("got %d %s", response.StatusCode, text)
	}
	disk.open()
}

// TestOverdueNeedsAConnectionOfTheServer: others have no bound, and are served.
func TestOverdueNeedsAConnectionOfTheServer(t *testing.T) {
	var none *watched
	x := &exchange{watched: none}
	x.dueWork()
	if done, err := x.dueWrite(); err != nil {
		t.Error(err)
	} else {
		done()
	}
	if x.unwatch(time.Time{}) {
		t.Error("somebody was told")
	}
}

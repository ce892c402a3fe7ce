package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

// short is a timeout that passes at once for people, and not for a goroutine
// that is about to work.
const short = 100 * time.Millisecond

// dial opens a connection that a test cannot hang on.
func (s *testServer) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// receive reads one final answer.
func receive(t *testing.T, reader *bufio.Reader) *answer {
	t.Helper()
	response, err := http.ReadResponse(reader, nil)
	if err == nil && response.StatusCode == http.StatusContinue {
		response, err = http.ReadResponse(reader, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{response.StatusCode, response.Header, string(body)}
	if response.Close {
		a.header.Set("Connection", "close")
	}
	return a
}

// waitFor spins until something is true.
func waitFor(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !isTrue(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestSlowRequestsAreCutOff(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.Timeouts = Timeouts{Head: short, Body: short} })
	f := func(name, text string) {
		t.Helper()
		conn := s.dial(t)
		send(t, conn, text)
		reader := bufio.NewReader(conn)
		a := receive(t, reader)
		if code, _ := a.outcome(t); a.status != 408 || code != "timeout" || a.header.Get("Connection") != "close" {
			t.Errorf("%s: %d %s, Connection %q", name, a.status, code, a.header.Get("Connection"))
		}
		a.checkStandingHeaders(t, name)
		if _, err := reader.ReadByte(); err != io.EOF {
			t.Errorf("%s: the connection is open: %v", name, err)
		}
	}
	const post = "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\n"
	f("nothing", "")
	f("half a request line", "GET /fhir/Pat")
	f("half the headers", "GET /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nAccept: */")
	f("no body", post+"Content-Length: 10\r\n\r\n")
	f("half a body", post+"Content-Length: 10\r\n\r\n{\"res")
	f("half of a large body", post+"Content-Length: 100000\r\n\r\n"+strings.Repeat("x", 99_999))
	f("half a body after it was asked for", post+"Content-Type: application/fhir+json\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n{\"res")
	if s.bodies.free != bodiesBytesMax {
		t.Errorf("%d bytes of the budget are free afterwards", s.bodies.free)
	}
}

// TestDrippingDoesNotBuyTime sends a byte whenever the server may have gone on
// waiting for the next: the bound is for the whole, not from byte to byte.
func TestDrippingDoesNotBuyTime(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.Timeouts = Timeouts{Head: short, Body: short} })
	f := func(name, begin string) {
		t.Helper()
		conn := s.dial(t)
		send(t, conn, begin)
		answered := make(chan *answer)
		go func() {
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				close(answered)
				return
			}
			answered <- &answer{status: response.StatusCode}
		}()
		tick := time.NewTicker(short / 10)
		defer tick.Stop()
		for {
			select {
			case a := <-answered:
				if a == nil || a.status != 408 {
					t.Errorf("%s: got %+v", name, a)
				}
				return
			case <-tick.C:
				_, _ = conn.Write([]byte("x")) // the server may have closed
			}
		}
	}
	f("headers", "GET /readyz HTTP/1.1\r\nHost: x\r\nX-Long: ")
	f("body", "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.Timeouts = Timeouts{Idle: short} })
	conn := s.dial(t)
	send(t, conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	reader := bufio.NewReader(conn)
	if a := receive(t, reader); a.status != 200 {
		t.Fatalf("got %d", a.status)
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v", rest, err)
	}
}

// TestReadersWhoTakeNothingAreCutOff asks for more than socket buffers hold, and
// reads only when the server has given up.
func TestReadersWhoTakeNothingAreCutOff(t *testing.T) {
	const size = 24 << 20
	s := newAPI(t, func(_ *engine.Options, _ *bulk.Options, o *Options) { o.Timeouts = Timeouts{Answer: short} })
	binary := `{"resourceType":"Binary","id":"a","contentType":"text/plain","data":"` + strings.Repeat("QUFB", size/4) + `"}`
	if a := s.do(t, "PUT", "/fhir/Binary/a", binary, typeHeader, "Prefer: return=minimal"); a.status != 201 {
		t.Fatalf("got %d", a.status)
	}
	a := s.do(t, "GET", "/fhir/$export", "", asyncHeader, acceptHeader)
	var manifest jobResult
	if a = s.finish(t, a.header.Get("Content-Location")); a.status == 200 {
		manifest = *a.result(t)
	}
	if len(manifest.Output) != 1 {
		t.Fatalf("got %+v", manifest)
	}
	f := func(name, path string) {
		t.Helper()
		conn := s.dial(t)
		send(t, conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		reader := bufio.NewReader(conn)
		if _, err := reader.ReadByte(); err != nil {
			t.Fatal(err)
		}
		l := s.listener.Load()
		before := l.open.Load()
		waitFor(t, "the server has closed the connection", func() bool { return l.open.Load() < before })
		if got, err := io.Copy(io.Discard, reader); got >= size {
			t.Errorf("%s: got %d bytes, %v", name, got, err)
		}
	}
	f("a resource", "/fhir/Binary/a")
	f("a file", strings.TrimPrefix(manifest.Output[0].URL, "http://"+s.addr))
}

func TestFilesMustBeTakenAtSomeRate(t *testing.T) {
	timeouts := Timeouts{Answer: time.Minute}
	started := time.Unix(1_000_000, 0)
	f := func(passed time.Duration, sent int64, want time.Duration) {
		t.Helper()
		if got := timeouts.piece(started, started.Add(passed), sent); !got.Equal(started.Add(want)) {
			t.Errorf("after %v and %d bytes: %v, want %v", passed, sent, got.Sub(started), want)
		}
	}
	f(0, 0, time.Minute)
	f(30*time.Second, 0, time.Minute)
	f(30*time.Second, 10*fileBytesPerSecondMin, 70*time.Second)
	f(30*time.Second, 1000*fileBytesPerSecondMin, 90*time.Second)
	f(time.Hour, 1<<40, time.Hour+time.Minute)
}

// slowDisk is a store whose syncs wait, once told to, until they are let go.
type slowDisk struct {
	*vfs.Mem
	mu      sync.Mutex
	release chan struct{} // nil: no sync waits
	waiting chan struct{} // gets one for each sync that waits
}

func (d *slowDisk) hook(op vfs.Op) error {
	d.mu.Lock()
	release := d.release
	d.mu.Unlock()
	if release != nil && op.Kind == vfs.OpSync {
		d.waiting <- struct{}{}
		<-release
	}
	return nil
}

func (d *slowDisk) stall() (letGo func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	release := make(chan struct{})
	d.release = release
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.release = nil
		close(release)
	})
}

func TestWritesThatWaitTooLongAreToldSo(t *testing.T) {
	disk := &slowDisk{Mem: vfs.NewMem(1), waiting: make(chan struct{}, 100)}
	disk.SetHook(disk.hook)
	s := newAPI(t, func(store *engine.Options, _ *bulk.Options, o *Options) {
		store.FS, store.CatalogInMem, store.FreeBytesMin = disk, true, -1
		o.Timeouts = Timeouts{Queue: 5 * short} // the first write must get its turn on a busy machine
	})
	letGo := disk.stall()
	defer letGo()
	first := make(chan *answer, 1)
	go func() { first <- s.put(t, "a", "") }()
	<-disk.waiting
	f := func(a *answer) {
		t.Helper()
		if code, text := a.outcome(t); a.status != 503 || code != "throttled" || a.header.Get("Retry-After") != "1" || !strings.Contains(text, "nothing was written") {
			t.Errorf("got %d %s %q, Retry-After %q", a.status, code, text, a.header.Get("Retry-After"))
		}
	}
	f(s.put(t, "b", ""))
	f(s.do(t, "POST", "/fhir", `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Patient","id":"c"},"request":{"method":"PUT","url":"Patient/c"}}]}`, typeHeader))
	batch := s.do(t, "POST", "/fhir", `{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Patient","id":"d"},"request":{"method":"PUT","url":"Patient/d"}}]}`, typeHeader)
	if batch.status != 200 || !strings.Contains(batch.body, `"status":"503`) {
		t.Errorf("the batch: %d %s", batch.status, batch.body)
	}
	s.do(t, "GET", "/fhir/Patient/b", "").expect(t, "a read meanwhile", 404, "")
	letGo()
	(<-first).expect(t, "the write whose turn it was", 201, `W/"1"`)
	for _, id := range []string{"b", "c", "d"} {
		s.do(t, "GET", "/fhir/Patient/"+id, "").expect(t, "a write that was refused", 404, "")
	}
	s.put(t, "b", "").expect(t, "another attempt", 201, `W/"1"`)
}

func TestWorkThatTakesTooLongIsEnded(t *testing.T) {
	s := newAPI(t, func(_ *engine.Options, _ *bulk.Options, o *Options) {
		o.Timeouts = Timeouts{Read: time.Nanosecond, Bundle: time.Nanosecond}
	})
	for i := range 3 {
		s.put(t, "a", `,"birthDate":"199`+string(rune('0'+i))+`"`)
	}
	f := func(method, path, body string) {
		t.Helper()
		a := s.do(t, method, path, body, typeHeader)
		if code, _ := a.outcome(t); a.status != 503 || code != "timeout" || a.header.Get("Retry-After") != "1" {
			t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
		}
	}
	f("GET", "/fhir/Patient/_history", "")
	f("GET", "/fhir/Patient?birthdate=1992", "")
	const read = `"entry":[{"request":{"method":"GET","url":"Patient/a"}}]}`
	f("POST", "/fhir", `{"resourceType":"Bundle","type":"transaction",`+read)
	batch := s.do(t, "POST", "/fhir", `{"resourceType":"Bundle","type":"batch",`+read, typeHeader)
	if batch.status != 200 || !strings.Contains(batch.body, `"code":"timeout"`) {
		t.Errorf("the batch: %d %s", batch.status, batch.body)
	}
}

func TestTimeoutsMustNotBeNegative(t *testing.T) {
	if _, err := (Timeouts{Queue: -1}).withDefaults(); err == nil {
		t.Error("a negative timeout is taken")
	}
}

// connections counts those that are open, and of these those that have sent something.
func (s *testServer) connections() (open, heard int) {
	l := s.listener.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if c.heard.Load() {
			heard++
		}
	}
	return len(l.conns), heard
}

func TestStoppingFinishesWhatBegan(t *testing.T) {
	s := newAPI(t, func(_ *engine.Options, _ *bulk.Options, o *Options) { o.Timeouts = Timeouts{Fresh: short} })
	silent, idle, busy := s.dial(t), s.dial(t), s.dial(t)
	reader := bufio.NewReader(idle)
	send(t, idle, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	receive(t, reader)
	body := patient("a", "")
	send(t, busy, "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body[:10])
	waitFor(t, "the server has heard of the three", func() bool {
		open, heard := s.connections()
		return open == 3 && heard == 2
	})
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	f := func(name string, conn io.Reader) {
		t.Helper()
		// A connection that is closed while nothing was asked may be reset.
		if rest, _ := io.ReadAll(conn); bytes.Contains(rest, []byte("HTTP/1.1 2")) {
			t.Errorf("%s: got %q", name, rest)
		}
	}
	f("idle", reader)
	f("silent", silent)
	if conn, err := net.Dial("tcp", s.addr); err == nil {
		conn.Close()
		t.Error("a new connection is taken")
	}
	send(t, busy, body[10:])
	a := receive(t, bufio.NewReader(busy))
	if a.status != 201 || a.header.Get("Connection") != "close" {
		t.Errorf("the request in flight: %d, Connection %q", a.status, a.header.Get("Connection"))
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestStoppingHasAnEnd(t *testing.T) {
	s := newBareServer(t, nil)
	conn := s.dial(t)
	send(t, conn, "GET /healthz HTTP/1.1\r\nHo")
	waitFor(t, "the server has heard of it", func() bool {
		open, heard := s.connections()
		return open == 1 && heard == 1
	})
	ctx, cancel := context.WithTimeout(context.Background(), short)
	defer cancel()
	if err := s.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "requests in flight") {
		t.Errorf("got %v", err)
	}
	conn.Close()
}

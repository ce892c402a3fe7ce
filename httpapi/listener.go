package httpapi

import (
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// limitedListener bounds the open connections. Those beyond the bound get a 503
// that FHIR clients understand; the HTTP library's own is plain text.
type limitedListener struct {
	net.Listener
	max  int64
	open atomic.Int64
	// refuse answers a connection that is one too many and closes it; refusals
	// bounds how many are being answered, more are closed at once.
	refuse   func(net.Conn)
	refusals chan struct{}
	close    sync.Once
	closed   error // what the first Close returned
	// secures gives what a connection is secured with; nil: none is.
	secures *Certificates
	shakes  *handshakes
	// refusePlain answers a connection that does not begin with a handshake.
	refusePlain func(net.Conn)

	mu    sync.Mutex
	conns map[*counted]struct{} // the open ones; guarded by mu
}

// closeFresh ends the connections that have sent nothing yet. The HTTP library
// takes them for requests in flight, and a stopping server would wait for them.
func (l *limitedListener) closeFresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if !c.heard.Load() {
			_ = c.raw.Close() // nothing was asked, nothing is lost
		}
	}
}

// Close stops Accept; the second call does nothing.
func (l *limitedListener) Close() error {
	l.close.Do(func() { l.closed = l.Listener.Close() })
	return l.closed
}

// Accept returns the next connection within the bound.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.max {
			return l.counted(conn), nil
		}
		l.open.Add(-1)
		select {
		case l.refusals <- struct{}{}:
			go func() {
				defer func() { <-l.refusals }()
				l.refuse(l.refused(conn))
			}()
		default:
			_ = conn.Close() // the client is told nothing, and the server has no time
		}
	}
}

// refused is a connection that is to be told that it is one too many. Securing it
// is part of the time that it has for that.
func (l *limitedListener) refused(conn net.Conn) net.Conn {
	if l.secures == nil {
		return conn
	}
	return tls.Server(conn, l.secures.config())
}

// counted wraps a connection so that its end is noticed. A TCP connection keeps
// its methods, which files are sent with.
func (l *limitedListener) counted(conn net.Conn) net.Conn {
	tcp, isTCP := conn.(*net.TCPConn)
	if isTCP {
		// The library would set these, if it saw the connection itself.
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlivePeriod, Interval: keepAlivePeriod})
	}
	plain := conn
	if prompt := promptly(conn); prompt != nil {
		plain = prompt
	}
	switch {
	case l.secures != nil:
		by := l.secures.current.Load()
		secure := tls.Server(plain, by.config)
		c := &countedTLS{Conn: secure, counted: counted{listener: l, raw: conn, conn: secure}, secured: by, shakes: l.shakes}
		l.begin(&c.counted)
		return c
	case isTCP:
		c := &countedTCP{TCPConn: tcp, plain: plain, counted: counted{listener: l, raw: conn, conn: conn}}
		l.begin(&c.counted)
		return c
	default:
		c := &countedConn{Conn: plain, counted: counted{listener: l, raw: conn, conn: conn}}
		l.begin(&c.counted)
		return c
	}
}

func (l *limitedListener) begin(c *counted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
}

func (l *limitedListener) end(c *counted) {
	l.open.Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// counted is one connection's share of the bound.
type counted struct {
	listener *limitedListener
	raw      net.Conn // as it was accepted
	conn     net.Conn // as HTTP is spoken on it
	closed   atomic.Bool
	heard    atomic.Bool // something was read
	watched
}

func (c *counted) share() *counted { return c }

func (c *counted) end() {
	if !c.closed.Swap(true) {
		c.listener.end(c)
	}
}

// hear takes note of n bytes that were read.
func (c *counted) hear(n int) {
	if n > 0 && !c.heard.Load() {
		c.heard.Store(true)
	}
}

type countedConn struct {
	net.Conn
	counted
}

// Read notes the first bytes.
func (c *countedConn) Read(p []byte) (int, error) {
	c.reads()
	n, err := c.Conn.Read(p)
	c.hear(n)
	return n, err
}

// SetReadDeadline notes how the HTTP library goes on.
func (c *countedConn) SetReadDeadline(t time.Time) error {
	c.setsDeadline()
	return c.Conn.SetReadDeadline(t)
}

// Close closes the connection and gives its place back.
func (c *countedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

type countedTCP struct {
	*net.TCPConn
	plain net.Conn // the same, prompt where that can be
	counted
}

// Read notes the first bytes.
func (c *countedTCP) Read(p []byte) (int, error) {
	c.reads()
	n, err := c.plain.Read(p)
	c.hear(n)
	return n, err
}

// Write writes all of p.
func (c *countedTCP) Write(p []byte) (int, error) { return c.plain.Write(p) }

// SetReadDeadline notes how the HTTP library goes on.
func (c *countedTCP) SetReadDeadline(t time.Time) error {
	c.setsDeadline()
	return c.TCPConn.SetReadDeadline(t)
}

// Close closes the connection and gives its place back.
func (c *countedTCP) Close() error {
	c.end()
	return c.TCPConn.Close()
}

// rawAnswer is a refusal for a connection that the HTTP library does not serve.
func (s *Server) rawAnswer(status int, is issue, headers string) []byte {
	id := s.opts.NewID()
	body := appendOutcome(nil, id, s.opts.Now(), is)
	head := "HTTP/1.1 " + strconv.Itoa(status) + " " + fasthttp.StatusMessage(status) + "\r\nConnection: close\r\nX-Request-Id: " + id + "\r\n" + headers +
		"Cache-Control: " + cacheControl + "\r\nX-Content-Type-Options: " + contentTypeOptions +
		"\r\nReferrer-Policy: " + referrerPolicy + "\r\nContent-Security-Policy: " + contentPolicy +
		"\r\nContent-Type: " + contentTypeAnswer + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	s.metrics.observe(rowNone, status, 0)
	return append([]byte(head), body...)
}

// refusePlain answers who asks in clear text where connections must be secure.
func (s *Server) refusePlain(conn net.Conn) {
	is := issue{severity: "error", code: codeInvalid, text: "This server speaks HTTPS only: ask for https:// at the same address."}
	if conn.SetDeadline(time.Now().Add(refusalTime)) == nil {
		_, _ = conn.Write(s.rawAnswer(fasthttp.StatusBadRequest, is, "")) // who has gone does not need it
	}
}

// refuseConnection answers when the client has begun to ask, since an answer
// before that is an error to most clients, and waits a moment for the client to
// hear it: closing with unread bytes would reset the connection.
func (s *Server) refuseConnection(conn net.Conn) {
	defer conn.Close()
	is := issue{severity: "error", code: codeThrottled, text: "Too many connections are open; try again."}
	answer := s.rawAnswer(fasthttp.StatusServiceUnavailable, is, "Retry-After: "+strconv.Itoa(retryAfterSeconds)+"\r\n")
	if conn.SetDeadline(time.Now().Add(refusalTime)) != nil {
		return
	}
	if _, err := conn.Read(make([]byte, writeBufferBytes)); err != nil {
		return
	}
	if _, err := conn.Write(answer); err != nil {
		return
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, headBytesMax)
	}
}

package httpapi

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// handshakeTimeout is what a client may take until its connection is secure; it
	// is two or three messages.
	handshakeTimeout = 10 * time.Second

	// handshakesMax bounds the connections that are not secure yet, so that who opens
	// connections and says nothing leaves places to others. With one more, the one
	// that has been at it longest is closed: who goes on at once is never that one.
	handshakesMax = 512
)

// handshakes are the connections that are being secured.
type handshakes struct {
	failures atomic.Uint64

	mu   sync.Mutex // guards what follows
	max  int
	open *list.List // of net.Conn, the oldest first
}

func newHandshakes() *handshakes { return &handshakes{max: handshakesMax, open: list.New()} }

// begin notes a connection; end takes it out.
func (h *handshakes) begin(raw net.Conn) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.open.PushBack(raw)
	if h.open.Len() > h.max {
		oldest := h.open.Front()
		h.open.Remove(oldest)
		_ = oldest.Value.(net.Conn).Close() // its handshake fails, and says so
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.open.Remove(at)
	}
}

// run secures a connection whose raw one is given.
func (h *handshakes) run(conn *tls.Conn, raw net.Conn) error {
	defer h.begin(raw)()
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	err := conn.HandshakeContext(ctx)
	if err != nil {
		h.failures.Add(1)
	}
	return err
}

// countedTLS is a secure connection. The handshake is done by whoever serves it
// first, and not where connections are accepted.
type countedTLS struct {
	*tls.Conn
	counted
	secured *securing // what config is of
	shakes  *handshakes
	shake   sync.Once
	failed  error
	proof   clientProof // of whoever serves it
}

// Handshake secures the connection, once. The HTTP library calls it first.
func (c *countedTLS) Handshake() error {
	c.shake.Do(func() {
		c.failed = c.shakes.run(c.Conn, c.raw)
		if plain := isPlainHTTP(c.failed); plain != nil {
			c.listener.refusePlain(plain)
		}
	})
	return c.failed
}

// Read notes the first bytes. After a failed handshake there is nothing to read,
// and nobody to answer.
func (c *countedTLS) Read(p []byte) (int, error) {
	if c.Handshake() != nil {
		return 0, io.EOF
	}
	c.reads()
	n, err := c.Conn.Read(p)
	c.hear(n)
	return n, err
}

// SetReadDeadline notes how the HTTP library goes on.
func (c *countedTLS) SetReadDeadline(t time.Time) error {
	c.setsDeadline()
	return c.Conn.SetReadDeadline(t)
}

// Close closes the connection and gives its place back.
func (c *countedTLS) Close() error {
	c.end()
	return c.Conn.Close()
}

// isPlainHTTP finds the connection of who speaks HTTP without TLS; nil: the
// handshake failed in another way.
func isPlainHTTP(err error) net.Conn {
	var plain tls.RecordHeaderError
	if !errors.As(err, &plain) {
		return nil
	}
	switch string(plain.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "OPTIO":
		return plain.Conn
	}
	return nil
}

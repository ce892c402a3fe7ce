package httpapi

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// promptConn is a connection of a socket whose reads and writes are no system calls to
// Go's scheduler. The socket never blocks, so each takes some microseconds and nobody has
// to take over the processor meanwhile. What the scheduler does before such a call takes
// longer than the call, where a server was idle before: it wakes the thread that watches
// for calls that block, on the other processor, which the client wants. Waiting for the
// other side is left to the connection, with its deadlines.
//
// That thread goes on sleeping, then, until a file is read or a timer comes, overdueLook at
// most: so long may two requests that only compute keep a third waiting, not 10 ms.
type promptConn struct {
	net.Conn
	in, out promptHalf
}

// promptBytesMax is the longest write that is made so: a processor of Go's, and
// whoever waits for all of them, waits for the copy. Longer ones are written as ever.
const promptBytesMax = 128 << 10

// promptly gives a connection that is prompt; nil: this one cannot be.
func promptly(conn net.Conn) *promptConn {
	socket, ok := conn.(syscall.Conn)
	if !ok || !canBePrompt {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	c := &promptConn{Conn: conn}
	c.in.begin(raw.Read, syscallRead)
	c.out.begin(raw.Write, syscallWrite)
	return c
}

// Read reads what is there, or waits for it.
func (c *promptConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return c.Conn.Read(p)
	}
	n, err := c.in.move(p, false)
	switch {
	case err != nil:
		return 0, c.failed("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all of p.
func (c *promptConn) Write(p []byte) (int, error) {
	if len(p) == 0 || len(p) > promptBytesMax {
		return c.Conn.Write(p)
	}
	n, err := c.out.move(p, true)
	if err != nil {
		return n, c.failed("write", err)
	}
	return n, nil
}

// failed words an error as the connection itself does.
func (c *promptConn) failed(op string, err error) error {
	if known, ok := err.(*net.OpError); ok {
		err = known.Err
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// promptHalf is one direction of a connection.
type promptHalf struct {
	// wait calls its argument until that returns true, each time the socket is ready.
	wait func(func(fd uintptr) bool) error
	call func(fd uintptr, p []byte) (int, syscall.Errno)
	try  func(fd uintptr) bool // made once, so that no call makes one

	mu    sync.Mutex // of one call at a time, as in the connection; guards what follows
	left  []byte
	moved int
	all   bool // wanted is all, and not what is there
	errno syscall.Errno
}

func (h *promptHalf) begin(wait func(func(fd uintptr) bool) error, call func(fd uintptr, p []byte) (int, syscall.Errno)) {
	h.wait, h.call, h.try = wait, call, h.once
}

// move moves bytes between p and the socket. Errors are the system's numbers, and the
// connection's own.
func (h *promptHalf) move(p []byte, all bool) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left, h.moved, h.all, h.errno = p, 0, all, 0
	err = h.wait(h.try)
	if err == nil && h.errno != 0 {
		err = h.errno
	}
	h.left = nil
	return h.moved, err
}

// once does as much as the socket takes now; false: it is to be waited for.
func (h *promptHalf) once(fd uintptr) (done bool) {
	for {
		n, errno := h.call(fd, h.left)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return false
		case errno != 0:
			h.errno = errno
			return true
		}
		h.moved, h.left = h.moved+n, h.left[n:]
		if !h.all || len(h.left) == 0 {
			return true
		}
	}
}

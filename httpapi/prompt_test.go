package httpapi

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// promptPair is a prompt connection and its other end.
func promptPair(t *testing.T) (*promptConn, *net.TCPConn) {
	t.Helper()
	if !canBePrompt {
		t.Skip("connections are not prompt here")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	other, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), other.Close() })
	prompt := promptly(conn)
	if prompt == nil {
		t.Fatal("a TCP connection is not prompt")
	}
	return prompt, other.(*net.TCPConn)
}

// TestPromptBytes sends much more than sockets hold, both ways at once, and in writes of
// both kinds.
func TestPromptBytes(t *testing.T) {
	prompt, other := promptPair(t)
	text := make([]byte, 6<<20)
	for i := range text {
		text[i] = byte(rand.Uint32())
	}
	send := func(to *net.TCPConn, write func([]byte) (int, error)) {
		for rest := text; len(rest) > 0; {
			step := min(len(rest), 1+rand.IntN(2*promptBytesMax))
			if n, err := write(rest[:step]); n != step || err != nil {
				t.Errorf("Write: %d of %d, %v", n, step, err)
				break
			}
			rest = rest[step:]
		}
		if err := to.CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	go send(prompt.Conn.(*net.TCPConn), prompt.Write)
	go send(other, other.Write)
	done := make(chan []byte, 1)
	go func() {
		got, err := io.ReadAll(other)
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	// ReadAll would take it for a connection that copies by itself.
	got, err := io.ReadAll(struct{ io.Reader }{prompt})
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("read %d bytes of %d, %v", len(got), len(text), err)
	}
	if got := <-done; !bytes.Equal(got, text) {
		t.Errorf("the other end read %d bytes of %d", len(got), len(text))
	}
}

// TestPromptErrors: errors are what the connection's own are.
func TestPromptErrors(t *testing.T) {
	room := make([]byte, 16)
	t.Run("deadline", func(t *testing.T) {
		prompt, other := promptPair(t)
		_ = prompt.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := prompt.Read(room)
		var network net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &network) || !network.Timeout() {
			t.Errorf("read beyond the deadline: %v", err)
		}
		_ = prompt.SetReadDeadline(time.Time{})
		if _, err := other.Write([]byte("later")); err != nil {
			t.Fatal(err)
		}
		if n, err := prompt.Read(room); string(room[:n]) != "later" || err != nil {
			t.Errorf("read after the deadline was taken back: %q, %v", room[:n], err)
		}
	})
	t.Run("a write that nobody takes", func(t *testing.T) {
		prompt, _ := promptPair(t)
		_ = prompt.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		var err error
		for err == nil {
			_, err = prompt.Write(make([]byte, promptBytesMax))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write beyond the deadline: %v", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		prompt, _ := promptPair(t)
		waiting := make(chan error, 1)
		go func() {
			_, err := prompt.Read(room)
			waiting <- err
		}()
		_ = prompt.Close()
		if err := <-waiting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of a closed connection: %v", err)
		}
		if _, err := prompt.Write(room); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write to a closed connection: %v", err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		prompt, other := promptPair(t)
		_ = other.SetLinger(0)
		_ = other.Close()
		if _, err := prompt.Read(room); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read of a connection that was reset: %v", err)
		}
		if _, err := prompt.Write(room); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a connection that was reset: %v", err)
		}
	})
}

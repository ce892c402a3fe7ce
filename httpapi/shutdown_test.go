package httpapi

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/query"
)

// A server that is told to stop while it starts must not serve for ever,
// whichever of the two comes first.
func TestShutdownMayComeBeforeServe(t *testing.T) {
	parameters, err := query.RegistryOfR4()
	if err != nil {
		t.Fatal(err)
	}
	f := func(when func(serve, shutdown func())) {
		t.Helper()
		s, err := New(Options{
			Store: &engine.Store{}, Jobs: &bulk.Manager{}, Parameters: parameters, Now: time.Now, NewID: func() string { return "id" },
			Logger: slog.New(slog.DiscardHandler), PagingKey: testKey(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		served := make(chan error, 1)
		when(func() { served <- s.Serve(ln) }, func() {
			if err := s.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
		select {
		case err := <-served:
			if err != nil {
				t.Error(err)
			}
		case <-ctx.Done():
			t.Fatal("Serve goes on after Shutdown")
		}
		if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			conn.Close()
			t.Error("the stopped server's address still takes connections")
		}
	}
	f(func(serve, shutdown func()) { shutdown(); serve() })
	for range 200 { // as close together as can be
		f(func(serve, shutdown func()) { go serve(); shutdown() })
	}
}

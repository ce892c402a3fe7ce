package httpapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

const timingResources = 2000

// newTiming makes a server with resources of 2 KB, and no listener.
func newTiming(b *testing.B) *Server {
	b.Helper()
	ctx := context.Background()
	store, err := engine.Open(ctx, engine.Options{FS: vfs.NewMem(1), Dir: "data", Now: time.Now, NewID: rand.Uint64, CatalogInMem: true, FreeBytesMin: -1})
	if err != nil {
		b.Fatal(err)
	}
	jobs, err := bulk.NewManager(ctx, bulk.Options{Store: store, Now: time.Now, NewID: rand.Uint64})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := jobs.Close(); err != nil {
			b.Error(err)
		}
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	s, err := New(Options{Store: store, Jobs: jobs, Now: time.Now, NewID: uuid.NewString})
	if err != nil {
		b.Fatal(err)
	}
	for i := range timingResources {
		s.timed(b, "PUT", fmt.Sprintf("/fhir/Patient/p%d", i), timingBody(i, 0), 201)
	}
	return s
}

func timingBody(i, n int) string {
	return fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","multipleBirthInteger":%d,"text":{"status":"generated","div":%q}}`, i, n, "<div>"+strings.Repeat("Lorem ipsum ", 160)+"</div>")
}

// timed handles one request without a network and returns the answer's size.
func (s *Server) timed(b *testing.B, method, path, body string, status int) int {
	var ctx fasthttp.RequestCtx
	ctx.Init(&fasthttp.Request{}, nil, nil)
	ctx.Request.Header.SetMethod(method)
	ctx.Request.Header.SetHost("localhost")
	ctx.Request.SetRequestURI(path)
	ctx.Request.Header.SetContentType(contentTypeFHIR)
	ctx.Request.SetBodyString(body)
	s.handle(&ctx)
	if got := ctx.Response.StatusCode(); got != status {
		b.Fatalf("%s %s: %d %.200s", method, path, got, ctx.Response.Body())
	}
	return len(ctx.Response.Body())
}

func benchmarkReads(b *testing.B, s *Server) {
	b.ReportAllocs()
	paths := make([]string, timingResources)
	for i := range paths {
		paths[i] = fmt.Sprintf("/fhir/Patient/p%d", i*7919%timingResources)
	}
	i := 0
	for b.Loop() {
		b.SetBytes(int64(s.timed(b, "GET", paths[i%timingResources], "", 200)))
		i++
	}
}

func BenchmarkReadFromHead(b *testing.B) { benchmarkReads(b, newTiming(b)) }

func BenchmarkReadFromRun(b *testing.B) {
	s := newTiming(b)
	if err := s.opts.Store.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	benchmarkReads(b, s)
}

func BenchmarkUpdate(b *testing.B) {
	s := newTiming(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		b.SetBytes(int64(s.timed(b, "PUT", fmt.Sprintf("/fhir/Patient/p%d", n%timingResources), timingBody(n%timingResources, n), 200)))
	}
}

func BenchmarkHistoryPage(b *testing.B) {
	s := newTiming(b)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(s.timed(b, "GET", "/fhir/_history?_count=100", "", 200)))
	}
}

// BenchmarkRefusal is the cost of everything but the store.
func BenchmarkRefusal(b *testing.B) {
	s := newTiming(b)
	b.ReportAllocs()
	for b.Loop() {
		s.timed(b, "GET", "/fhir/Nonsense/1", "", 404)
	}
}

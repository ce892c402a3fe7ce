package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

// FuzzExchange sends any request to a server with a store in memory: it must
// not panic, and every refusal must be an OperationOutcome.
func FuzzExchange(f *testing.F) {
	const patient = `{"resourceType":"Patient","id":"a"}`
	for _, seed := range [][6]string{
		{"GET", "/fhir/Patient/a", "", "If-None-Match", `W/"1"`, ""},
		{"PUT", "/fhir/Patient/a", "", "If-Match", `W/"1"`, patient},
		{"POST", "/fhir/Patient", "_pretty=true", "Prefer", "return=OperationOutcome", patient},
		{"DELETE", "/fhir/Patient/a", "", "If-Match", "*", ""},
		{"GET", "/fhir/_history", "_count=1&_since=2020-01-01T00:00:00+01:00&_sort=-_lastUpdated", "Accept", "*/*;q=0.1", ""},
		{"GET", "/fhir/Patient/a/_history/1", "_format=json", "If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", ""},
		{"GET", "/fhir/$export", "_type=Patient", "Accept", "application/fhir+json", ""},
		{"POST", "/fhir/$import", "", "Prefer", "respond-async", `{"resourceType":"Parameters","parameter":[{"name":"input","part":[{"name":"url","valueUri":"file:///x"}]}]}`},
		{"GET", "/fhir/_operations/export/1/a.ndjson", "", "Range", "bytes=0-1", ""},
		{"GET", "/fhir/metadata", "mode=full", "Accept-Encoding", "gzip", ""},
		{"PUT", "/fhir/Patient/a", "", "Content-Encoding", "gzip", "\x1f\x8b\x08"},
		{"POST", "/fhir/oauth/token", "", "Content-Type", "application/x-www-form-urlencoded", "grant_type=client_credentials"},
		{"GET", "/fhir/Patient", "name=a%2Cb&_has:Observation:patient:code=x&_count=1", "Host", "a.example:1", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4], seed[5])
	}
	s := newFuzzServer(f)
	f.Fuzz(func(t *testing.T, method, path, query, name, value, body string) {
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, nil, nil)
		ctx.Request.Header.SetMethod(method)
		ctx.Request.Header.SetHost("localhost")
		ctx.Request.SetRequestURI(path + "?" + query)
		ctx.Request.Header.SetContentType(contentTypeFHIR)
		ctx.Request.Header.Set(name, value)
		ctx.Request.SetBodyString(body)
		s.handle(&ctx)
		status := ctx.Response.StatusCode()
		if status == fasthttp.StatusInternalServerError {
			t.Fatalf("%s %s: %s", method, path, ctx.Response.Body())
		}
		if string(ctx.Response.Header.Peek("X-Content-Type-Options")) != contentTypeOptions || string(ctx.Response.Header.Peek("Cache-Control")) != cacheControl {
			t.Fatalf("%s %s: the headers are %s", method, path, ctx.Response.Header.String())
		}
		if len(ctx.Response.Header.ContentEncoding()) > 0 || ctx.Response.IsBodyStream() {
			return
		}
		if body := ctx.Response.Body(); status < 400 {
			if strings.Contains(string(ctx.Response.Header.ContentType()), "json") && len(body) > 0 && !json.Valid(body) {
				t.Fatalf("%s %s: %d %s", method, path, status, body)
			}
			return
		}
		if path == "/readyz" {
			return
		}
		var outcome struct{ ResourceType string }
		if err := json.Unmarshal(ctx.Response.Body(), &outcome); err != nil || outcome.ResourceType != "OperationOutcome" {
			t.Fatalf("%s %s: %d %s", method, path, status, ctx.Response.Body())
		}
	})
}

func newFuzzServer(f *testing.F) *Server {
	ctx := context.Background()
	store, err := engine.Open(ctx, engine.Options{
		FS: vfs.NewMem(1), Dir: "data", Now: time.Now, NewID: rand.Uint64, CatalogInMem: true, FreeBytesMin: -1,
	})
	if err != nil {
		f.Fatal(err)
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	jobs, err := bulk.NewManager(ctx, bulk.Options{Store: store, Now: time.Now, NewID: rand.Uint64, Logger: quiet})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := jobs.Close(); err != nil {
			f.Error(err)
		}
		if err := store.Close(); err != nil {
			f.Error(err)
		}
	})
	s, err := New(Options{Store: store, Jobs: jobs, Now: time.Now, NewID: func() string { return "id" }, Logger: quiet})
	if err != nil {
		f.Fatal(err)
	}
	return s
}

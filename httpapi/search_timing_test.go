package httpapi

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

// searchedServer serves the data directory that KILN_BENCH_DIR names, such as one
// that `kiln load` made of the benchmark's corpus.
func searchedServer(b *testing.B) *Server {
	b.Helper()
	dir := os.Getenv("KILN_BENCH_DIR")
	if dir == "" {
		b.Skip("KILN_BENCH_DIR is not set")
	}
	ctx := context.Background()
	store, err := engine.Open(ctx, engine.Options{FS: vfs.OS(), Dir: dir, Now: time.Now, NewID: rand.Uint64, MergeFanIn: -1})
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
	return s
}

// timedSearches are addresses over the corpus.
var timedSearches = []struct{ name, address string }{
	{"count of nothing", "/fhir/Observation?code=none&_summary=count"},
	{"count of a code", "/fhir/Observation?code=http://loinc.org%7C72514-3&_summary=count"},
	{"count of a code and date range", "/fhir/Observation?code=http://loinc.org%7C72514-3&date=ge2012&date=lt2014&_summary=count"},
	{"count of _has", "/fhir/Patient?_has:Observation:patient:code=http://loinc.org%7C72514-3&_summary=count"},
	{"count of a chain", "/fhir/Observation?patient.family=ba&code=http://loinc.org%7C72514-3&_summary=count"},
	{"count of a family", "/fhir/Patient?family=ba&_summary=count"},
	{"page of a code", "/fhir/Observation?code=http://loinc.org%7C72514-3&_count=50&_total=none"},
	{"page of a code by date", "/fhir/Observation?code=http://loinc.org%7C72514-3&_count=50&_total=none&_sort=-date"},
}

// BenchmarkSearches answers searches without a network, and over the loopback.
func BenchmarkSearches(b *testing.B) {
	s := searchedServer(b)
	for _, search := range timedSearches {
		b.Run(search.name+" alone", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.SetBytes(int64(s.timed(b, "GET", search.address, "", 200)))
			}
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go s.Serve(listener)
	defer s.Shutdown(context.Background())
	client := &fasthttp.HostClient{Addr: listener.Addr().String()}
	for _, search := range timedSearches {
		b.Run(search.name+" over the loopback", func(b *testing.B) {
			for b.Loop() {
				status, _, err := client.Get(nil, "http://"+client.Addr+search.address)
				if err != nil || status != 200 {
					b.Fatal(status, err)
				}
			}
		})
	}
}

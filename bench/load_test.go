package main

import (
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func TestLoadCountsRightAndWrongAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	door := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		if strings.HasSuffix(string(ctx.Path()), "/wrong") {
			ctx.SetStatusCode(500)
		}
		ctx.SetBodyString("ten bytes.")
	}}
	go door.Serve(listener)
	defer door.Shutdown()
	base := "http://" + listener.Addr().String() + "/fhir"
	f := func(paths ...string) *loadResult {
		t.Helper()
		result, err := load(t.Context(), base, loadSettings{2, 50 * time.Millisecond}, 1, func(i int) client {
			sent := 0
			return client{want: []int{200}, next: func(r *rand.Rand, request *fasthttp.Request) {
				request.SetRequestURI(base + paths[sent%len(paths)])
				sent++
			}}
		})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if r := f("/right"); r.wrong != 0 || r.bytes != int64(10*len(r.latencies)) {
		t.Errorf("%d answers of 10 bytes: counted %d bytes, %d wrong", len(r.latencies), r.bytes, r.wrong)
	}
	if r := f("/right", "/wrong"); r.wrong == 0 || r.example == nil {
		t.Errorf("wrong answers counted: %d, example %v", r.wrong, r.example)
	}
}

func TestPercentiles(t *testing.T) {
	r := &loadResult{latencies: make([]time.Duration, 1000)}
	for i := range r.latencies {
		r.latencies[i] = time.Duration(i)
	}
	f := func(p float64, want time.Duration) {
		t.Helper()
		if got := r.percentile(p); got != want {
			t.Errorf("percentile %v is %d, want %d", p, got, want)
		}
	}
	f(0, 0)
	f(50, 500)
	f(99.9, 999)
	f(100, 999)
}

func TestChangedBodiesDiffer(t *testing.T) {
	const body = `{"resourceType":"Patient","id":"a","contained":[{"id":"a"}]}`
	id := newID(rand.New(rand.NewPCG(1, 1)))
	f := func(n int, want string) {
		t.Helper()
		if got := string(changed(withID(nil, []byte(body), "a", id), n)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(1, `{"resourceType":"Patient","id":"`+id+`","contained":[{"id":"a"}],"implicitRules":"urn:kiln:bench:1"}`)
	f(20, `{"resourceType":"Patient","id":"`+id+`","contained":[{"id":"a"}],"implicitRules":"urn:kiln:bench:20"}`)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// loadSettings shape the clients.
type loadSettings struct {
	Concurrency int           `help:"Clients that each send one request after the other." default:"16"`
	For         time.Duration `help:"How long to measure." default:"10s"`
}

// client is one of the concurrent clients. next fills in its next request; the
// answer's status must be one of want.
type client struct {
	next func(r *rand.Rand, request *fasthttp.Request)
	want []int
	// answered, when set, is called with every right answer and how long it took.
	answered func(response *fasthttp.Response, took time.Duration)
}

// getting is a client that asks for one address after the other.
func getting(address func(r *rand.Rand) string) client {
	return client{want: []int{http.StatusOK}, next: func(r *rand.Rand, request *fasthttp.Request) { request.SetRequestURI(address(r)) }}
}

// loadResult is what all clients saw together.
type loadResult struct {
	took      time.Duration
	latencies []time.Duration // of right answers, ascending
	bytes     int64           // of the bodies received
	wrong     int64
	example   error // of a wrong answer
}

// requestTimeout ends a request that hangs; it counts as wrong.
const requestTimeout = 30 * time.Second

// load runs the clients against base until the time is over. Every client draws
// from its own seeded stream.
func load(ctx context.Context, base string, s loadSettings, seed uint64, makeClient func(i int) client) (*loadResult, error) {
	return loadThrough(ctx, newDoor(base, s.Concurrency), s, seed, makeClient)
}

// loadThrough runs the clients over the connections of a door.
func loadThrough(ctx context.Context, door *fasthttp.HostClient, s loadSettings, seed uint64, makeClient func(i int) client) (*loadResult, error) {
	defer door.CloseIdleConnections()
	parts := make([]loadResult, s.Concurrency)
	start := time.Now()
	end := start.Add(s.For)
	var running sync.WaitGroup
	for i := range parts {
		running.Go(func() {
			parts[i] = makeClient(i).run(ctx, door, end, rand.New(rand.NewPCG(seed, uint64(i))))
		})
	}
	running.Wait()
	all := &loadResult{took: time.Since(start)}
	all.add(parts...)
	if len(all.latencies) == 0 {
		return nil, errors.Join(errors.New("cannot measure: no right answer"), all.example, ctx.Err())
	}
	return all, ctx.Err()
}

// newDoor connects clients to the server of a base address.
func newDoor(base string, clients int) *fasthttp.HostClient {
	host, _, _ := strings.Cut(strings.TrimPrefix(base, "http://"), "/")
	return &fasthttp.HostClient{
		Addr:                host,
		MaxConns:            clients,
		ReadBufferSize:      16 << 10,
		WriteBufferSize:     16 << 10,
		ReadTimeout:         requestTimeout,
		WriteTimeout:        requestTimeout,
		MaxResponseBodySize: 64 << 20,
		// A write that is sent again would count twice.
		MaxIdemponentCallAttempts: 1,
	}
}

// add takes in what others saw in the same time.
func (r *loadResult) add(parts ...loadResult) {
	for i := range parts {
		r.latencies = append(r.latencies, parts[i].latencies...)
		r.bytes += parts[i].bytes
		r.wrong += parts[i].wrong
		if r.example == nil {
			r.example = parts[i].example
		}
	}
	slices.Sort(r.latencies)
}

func (r *loadResult) rate() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

func (c client) run(ctx context.Context, door *fasthttp.HostClient, end time.Time, r *rand.Rand) (result loadResult) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; now = time.Now() {
		c.send(door, request, response, r, time.Time{}, &result)
	}
	return result
}

// send sends one request, which counts from began on; the zero time: from when it is
// filled in.
func (c client) send(door *fasthttp.HostClient, request *fasthttp.Request, response *fasthttp.Response, r *rand.Rand, began time.Time, result *loadResult) {
	request.Reset()
	response.Reset()
	c.next(r, request)
	if began.IsZero() {
		began = time.Now()
	}
	err := door.DoTimeout(request, response, requestTimeout)
	took := time.Since(began)
	if err != nil || !slices.Contains(c.want, response.StatusCode()) {
		result.wrong++
		result.example = fmt.Errorf("%s %s: status %d: %.500s: %w", request.Header.Method(), request.RequestURI(), response.StatusCode(), response.Body(), errors.Join(err))
		return
	}
	result.latencies = append(result.latencies, took)
	result.bytes += int64(len(response.Body()))
	if c.answered != nil {
		c.answered(response, took)
	}
}

// percentile p of 100.
func (r *loadResult) percentile(p float64) time.Duration { return percentile(r.latencies, p) }

// percentile p of 100 of ascending latencies, at least one.
func percentile(latencies []time.Duration, p float64) time.Duration {
	return latencies[min(len(latencies)-1, int(float64(len(latencies))*p/100))]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (r *loadResult) figures(s loadSettings) []figure {
	seconds := r.took.Seconds()
	return []figure{
		{"clients", float64(s.Concurrency), "clients"},
		{"time", seconds, "s"},
		{"requests per second", r.rate(), perSecond("requests")},
		{"received", float64(r.bytes) / 1e6 / seconds, "MB/s"},
		{"median latency", millis(r.percentile(50)), "ms"},
		{"90 of 100 below", millis(r.percentile(90)), "ms"},
		{"99 of 100 below", millis(r.percentile(99)), "ms"},
		{"999 of 1000 below", millis(r.percentile(99.9)), "ms"},
		{"slowest", millis(r.latencies[len(r.latencies)-1]), "ms"},
		{"wrong answers", float64(r.wrong), "answers"},
	}
}

// reportLoad adds a load's figures, and fails when an answer was wrong: a fast
// error is no throughput.
func (b *bench) reportLoad(name string, s loadSettings, result *loadResult, more ...figure) error {
	b.report.add(name, append(result.figures(s), more...)...)
	if result.wrong > 0 {
		return fmt.Errorf("%s: %d wrong answers, one of them: %w", name, result.wrong, result.example)
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

type secureCommand struct {
	settings
	Concurrency int           `help:"Clients that each send one request after the other." default:"8"`
	For         time.Duration `help:"How long to measure the reads, and the creates, of each kind, in all rounds." default:"3s"`
	Rounds      int           `help:"Take turns this often between what is compared." default:"3"`
}

// secureKind is one way to ask a server, with what it took.
type secureKind struct {
	secureWay
	server         *server
	reads, creates secureResult
}

// secureResult is what clients saw, and what the server's threads ran meanwhile.
type secureResult struct {
	loadResult
	ran time.Duration
}

// perRequest is the server's processor time.
func (r *secureResult) perRequest() float64 {
	return float64(r.ran.Nanoseconds()) / 1e3 / float64(len(r.latencies))
}

// Run measures reads and durable creates on servers that ask for different proofs, in
// turns, and compares them with an open one over plain HTTP. All have the same data.
func (c *secureCommand) Run(ctx context.Context) error {
	b, cleanUp, err := c.setUp(ctx, "secure")
	if err != nil {
		return err
	}
	defer cleanUp()
	set, err := b.prepareData()
	if err != nil {
		return err
	}
	proofs, err := makeProofs(b.dir)
	if err != nil {
		return err
	}
	defer proofs.close()
	kinds, err := b.startSecured(ctx, set, proofs)
	if err != nil {
		return err
	}
	if err := c.measure(ctx, set, kinds); err != nil {
		return err
	}
	for _, s := range b.servers {
		if s.cmd.ProcessState == nil {
			if _, err := s.stop(); err != nil {
				return err
			}
		}
	}
	return c.tell(b, kinds)
}

// startSecured fills a store for each server while it is open, and starts it anew with
// its flags.
func (b *bench) startSecured(ctx context.Context, set *dataSet, proofs *proofs) (kinds []*secureKind, err error) {
	servers := map[string]*server{}
	for _, way := range proofs.ways() {
		name := strings.Join(way.flags, " ")
		s := servers[name]
		if s == nil {
			dir := filepath.Join(b.dir, fmt.Sprintf("store-%d", len(servers)))
			if s, err = b.start(ctx, dir, set.dir); err != nil {
				return nil, err
			}
			if _, _, err := s.runImport(ctx, set.files, "InitialLoad"); err != nil {
				return nil, err
			}
			if _, err := s.stop(); err != nil {
				return nil, err
			}
			flags := strings.Fields(strings.ReplaceAll(name, auditHere, dir+".audit"))
			if s, err = b.start(ctx, dir, set.dir, flags...); err != nil {
				return nil, err
			}
			servers[name] = s
		}
		kinds = append(kinds, &secureKind{secureWay: way, server: s})
	}
	return kinds, nil
}

// measure lets the kinds take turns, after a warm-up of each.
func (c *secureCommand) measure(ctx context.Context, set *dataSet, kinds []*secureKind) error {
	keys, err := set.sample(keysMax, c.Seed, false)
	if err != nil {
		return err
	}
	bodies, err := set.sample(bodiesMax, c.Seed, true)
	if err != nil {
		return err
	}
	for round := -1; round < c.Rounds; round++ {
		settings := loadSettings{c.Concurrency, c.For / time.Duration(c.Rounds)}
		for i, k := range kinds {
			// No two draw the same new ids, as some share a server.
			seed := c.Seed + uint64((round+1)*len(kinds)+i)
			reads, creates := &k.reads, &k.creates
			if round < 0 {
				settings.For, reads, creates = warmUp/4, &secureResult{}, &secureResult{}
			}
			if err := k.turn(ctx, settings, seed, reads, k.reading(keys)); err != nil {
				return err
			}
			if !k.creating {
				continue
			}
			if err := k.turn(ctx, settings, seed, creates, func() client { return (&writer{base: k.base(), bodies: bodies}).creating() }); err != nil {
				return err
			}
		}
	}
	return nil
}

// reading makes clients that read at random.
func (k *secureKind) reading(keys []sampled) func() client {
	return func() client {
		return client{want: []int{http.StatusOK}, next: func(r *rand.Rand, request *fasthttp.Request) {
			request.SetRequestURI(k.base() + "/" + keys[r.IntN(len(keys))].path)
		}}
	}
}

func (k *secureKind) base() string {
	if k.tls == nil {
		return k.server.base
	}
	return "https" + strings.TrimPrefix(k.server.base, "http")
}

// turn is one stretch of requests.
func (k *secureKind) turn(ctx context.Context, s loadSettings, seed uint64, total *secureResult, newClient func() client) error {
	door := newDoor(k.server.base, s.Concurrency)
	door.IsTLS, door.TLSConfig = k.tls != nil, k.tls
	pid := k.server.cmd.Process.Pid
	before := taskNanoseconds(pid)
	result, err := loadThrough(ctx, door, s, seed, func(int) client { return k.proving(newClient()) })
	if err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	total.ran += time.Duration(taskNanoseconds(pid) - before)
	total.addTime(result)
	return nil
}

// tell reports each kind, and how all compare with the first.
func (c *secureCommand) tell(b *bench, kinds []*secureKind) error {
	settings := loadSettings{Concurrency: c.Concurrency}
	var reads, creates []figure
	for _, k := range kinds {
		if err := b.reportLoad("reads: "+k.name, settings, &k.reads.loadResult, figure{"processor time of the server a request", k.reads.perRequest(), "µs"}); err != nil {
			return err
		}
		reads = k.reads.compare(reads, k.name, &kinds[0].reads)
		if !k.creating {
			continue
		}
		if err := b.reportLoad("durable creates: "+k.name, settings, &k.creates.loadResult, figure{"processor time of the server a request", k.creates.perRequest(), "µs"}); err != nil {
			return err
		}
		creates = k.creates.compare(creates, k.name, &kinds[0].creates)
	}
	b.report.add(fmt.Sprintf("reads to those of an open server, %d rounds taken in turn", c.Rounds), reads...)
	b.report.add(fmt.Sprintf("durable creates to those of an open server, %d rounds taken in turn", c.Rounds), creates...)
	return b.report.save(c.JSON)
}

// compare adds the ratios to what an open server does.
func (r *secureResult) compare(to []figure, name string, open *secureResult) []figure {
	return append(to,
		figure{name + ": rate", r.rate() / open.rate(), "times"},
		figure{name + ": processor time", r.perRequest() / open.perRequest(), "times"},
		figure{name + ": more processor time", r.perRequest() - open.perRequest(), "µs"})
}

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type secureCommand struct {
	settings
	Concurrency int           `help:"Clients that each send one request after the other." default:"8"`
	For         time.Duration `help:"How long to measure the reads, and the creates, of each kind, in all rounds." default:"3s"`
	Rounds      int           `help:"Take turns this often between what is compared." default:"3"`
}

// secureKind is one way to ask a server.
type secureKind struct {
	secureWay
	server *server
}

// Run measures reads and durable creates on servers that ask for different proofs, in
// turns, and compares them with an open one over plain HTTP. All have the same data.
func (c *secureCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "secure", func(b *bench) error {
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
		if err := c.measure(ctx, b, set, kinds); err != nil {
			return err
		}
		return b.stopServers()
	})
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
			if _, err := s.fill(ctx, set); err != nil {
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

// stopServers ends those that run.
func (b *bench) stopServers() error {
	for _, s := range b.servers {
		if s.cmd.ProcessState == nil {
			if _, err := s.stop(); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure lets the kinds take turns with reads, and those that create with creates.
func (c *secureCommand) measure(ctx context.Context, b *bench, set *dataSet, kinds []*secureKind) error {
	keys, err := set.sample(keysMax, c.Seed, false)
	if err != nil {
		return err
	}
	bodies, err := set.sample(bodiesMax, c.Seed, true)
	if err != nil {
		return err
	}
	settings := loadSettings{c.Concurrency, c.For}
	return settings.inTurns(c.Rounds, func(share loadSettings, round int) error {
		if err := b.compareSecured(ctx, share, round, "reads", kinds, func(k *secureKind) client { return reading(k.base(), keys, "") }); err != nil {
			return err
		}
		creating := slices.DeleteFunc(slices.Clone(kinds), func(k *secureKind) bool { return !k.creating })
		return b.compareSecured(ctx, share, round, "durable creates", creating, func(k *secureKind) client {
			return (&writer{base: k.base(), bodies: bodies}).creating()
		})
	})
}

func (k *secureKind) base() string {
	if k.tls == nil {
		return k.server.base
	}
	return "https" + strings.TrimPrefix(k.server.base, "http")
}

// compareSecured lets each kind have its turn, and compares it with the first.
func (b *bench) compareSecured(ctx context.Context, share loadSettings, round int, what string, kinds []*secureKind, newClient func(k *secureKind) client) error {
	var rates, processor []float64
	for i, k := range kinds {
		door := newDoor(k.server.base, share.Concurrency)
		door.IsTLS, door.TLSConfig = k.tls != nil, k.tls
		pid := k.server.cmd.Process.Pid
		before := taskNanoseconds(pid)
		seen, err := b.turn(ctx, share, round, stretch{
			name: what + ": " + k.name, door: door, seed: uint64(1000 * i), // some share a server
			clients: same(func() client { return k.proving(newClient(k)) }),
			more: func(seen *loadResult) []figure {
				return []figure{{processorOfRequest, float64(taskNanoseconds(pid)-before) / 1e3 / float64(len(seen.latencies)), "µs"}}
			},
		})
		if err != nil {
			return err
		}
		if round >= 0 {
			rates = append(rates, seen.rate())
			processor = append(processor, b.report.last(what+": "+k.name, processorOfRequest))
		}
	}
	if round >= 0 {
		b.report.addSecured(what, kinds, rates, processor)
	}
	return nil
}

const processorOfRequest = "processor time of the server a request"

// addSecured tells how all kinds but the first compare with it.
func (r *report) addSecured(what string, kinds []*secureKind, rates, processor []float64) {
	var ratios, more []figure
	for i, k := range kinds[1:] {
		ratios = append(ratios, figure{k.name, rates[i+1] / rates[0], "times"})
		more = append(more, figure{k.name, processor[i+1] - processor[0], "µs"})
	}
	r.add("comparison: "+what+", rate to that of an open server over plain HTTP", ratios...)
	r.add("comparison: "+what+", processor time of the server a request beyond that of an open server", more...)
}

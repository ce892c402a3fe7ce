package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

type readCommand struct {
	settings
	loadSettings
	Rounds int `help:"Take turns this often between what is compared." default:"5"`
}

// keysMax bounds the paths that the harness keeps.
const keysMax = 1_000_000

const (
	readAtRandom = "kiln: GET Type/id at random, clients on the same machine"
	readCached   = "kiln with --block-cache 2GiB: the same"
	readOne      = "kiln: GET of one resource of median size"
	readVersion  = "kiln: GET of its version (vread)"
	readBare     = "bare fasthttp handler: the same body from memory"
)

// Run measures GET Type/id over all of the data set, uniformly at random, with a cache
// of decoded blocks as it is by default and with one that holds them all, and
// of one resource, which a bare handler serves too, and of its version.
func (c *readCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "read", func(b *bench) error {
		return b.serving(ctx, true, func(s *server, set *dataSet) error { return c.measure(ctx, b, s, set) })
	})
}

// readKind is one of the things compared.
type readKind struct {
	stretch
	ratio string // in the comparison with the last kind
}

// measure lets the kinds take turns.
func (c *readCommand) measure(ctx context.Context, b *bench, s *server, set *dataSet) error {
	keys, err := set.sample(keysMax, c.Seed, false)
	if err != nil {
		return err
	}
	one, err := medianSized(set, c.Seed)
	if err != nil {
		return err
	}
	bare, err := b.startBare(ctx, one.body)
	if err != nil {
		return err
	}
	cached, err := b.start(ctx, filepath.Join(b.dir, "cached"), set.dir, "--block-cache", "2GiB")
	if err != nil {
		return err
	}
	if err := cached.fillAndRest(ctx, set); err != nil {
		return err
	}
	of := func(s *server, keys []sampled, suffix string) func(i int) client {
		return same(func() client { return reading(s.base, keys, suffix) })
	}
	kinds := []readKind{
		{stretch{name: readAtRandom, base: s.base, clients: of(s, keys, "")}, "any resource"},
		{stretch{name: readCached, base: cached.base, clients: of(cached, keys, "")}, rateCached},
		{stretch{name: readOne, base: s.base, clients: of(s, []sampled{one}, "")}, rateOfOne},
		{stretch{name: readVersion, base: s.base, clients: of(s, []sampled{one}, "/_history/1")}, "one version"},
		{stretch{name: readBare, base: bare.base, clients: of(bare, []sampled{one}, "")}, ""},
	}
	if err := c.inTurns(c.Rounds, func(share loadSettings, round int) error { return b.measureReads(ctx, share, round, kinds) }); err != nil {
		return err
	}
	b.report.add("the one resource", figure{"its body", float64(len(one.body)), "bytes"})
	used, err := cached.stop()
	if err != nil {
		return err
	}
	b.report.add(serverInAll+" with --block-cache 2GiB", used.figures()...)
	_, err = bare.stop()
	return err
}

// measureReads lets each kind have its turn, and compares them with the last one.
func (b *bench) measureReads(ctx context.Context, share loadSettings, round int, kinds []readKind) error {
	rates := make([]float64, len(kinds))
	for i := range kinds {
		seen, err := b.turn(ctx, share, round, kinds[i].stretch)
		if err != nil {
			return err
		}
		rates[i] = seen.rate()
	}
	if round >= 0 {
		b.report.add(readRatios, ratiosToLast(kinds, rates)...)
	}
	return nil
}

// ratiosToLast compares the rates of a round with that of the last kind.
func ratiosToLast(kinds []readKind, rates []float64) (figures []figure) {
	last := len(kinds) - 1
	for i := range last {
		figures = append(figures, figure{kinds[i].ratio, rates[i] / rates[last], "times"})
	}
	return figures
}

// reading is a client that reads resources at random.
func reading(base string, keys []sampled, suffix string) client {
	return getting(func(r *rand.Rand) string { return base + "/" + keys[r.IntN(len(keys))].path + suffix })
}

// medianSized draws some resources and takes the one in the middle by size.
func medianSized(set *dataSet, seed uint64) (sampled, error) {
	const drawn = 1001
	all, err := set.sample(drawn, seed, true)
	if err != nil {
		return sampled{}, err
	}
	if len(all) == 0 {
		return sampled{}, fmt.Errorf("cannot draw a resource of %q", set.dir)
	}
	slices.SortFunc(all, func(a, b sampled) int {
		return cmp.Or(len(a.body)-len(b.body), bytes.Compare(a.body, b.body))
	})
	return all[len(all)/2], nil
}

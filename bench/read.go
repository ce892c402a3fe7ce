package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/valyala/fasthttp"
)

type readCommand struct {
	settings
	loadSettings
	Rounds int `help:"Take turns this often between what is compared." default:"5"`
}

// keysMax bounds the paths that the harness keeps.
const keysMax = 1_000_000

// warmUp is how long requests run before they count.
const warmUp = time.Second

const (
	readAtRandom = "kiln: GET Type/id at random, clients on the same machine"
	readOne      = "kiln: GET of one resource of median size"
	readVersion  = "kiln: GET of its version (vread)"
	readBare     = "bare fasthttp handler: the same body from memory"
)

// Run measures GET Type/id over all of the data set, uniformly at random, and
// of one resource, which a bare handler serves too, and of its version.
func (c *readCommand) Run(ctx context.Context) error {
	b, cleanUp, err := c.setUp(ctx, "read")
	if err != nil {
		return err
	}
	defer cleanUp()
	s, _, set, err := b.startFilled(ctx)
	if err != nil {
		return err
	}
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
	kinds := []readKind{
		{name: readAtRandom, ratio: "any resource", server: s, keys: keys},
		{name: readOne, ratio: rateOfOne, server: s, keys: []sampled{one}},
		{name: readVersion, ratio: "one version", server: s, keys: []sampled{one}, suffix: "/_history/1"},
		{name: readBare, server: bare, keys: []sampled{one}},
	}
	if err := c.measure(ctx, b, kinds); err != nil {
		return err
	}
	if _, err := bare.stop(); err != nil {
		return err
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	b.report.add("kiln: the server in all, import included", append(used.figures(), figure{"body of the one resource", float64(len(one.body)), "bytes"})...)
	return b.report.save(c.JSON)
}

// readKind is one of the things compared.
type readKind struct {
	name   string
	ratio  string // in the comparison with the last kind
	server *server
	keys   []sampled
	suffix string // of the address
}

// measure lets the kinds take turns, after a warm-up of each.
func (c *readCommand) measure(ctx context.Context, b *bench, kinds []readKind) error {
	for round := -1; round < c.Rounds; round++ {
		rates := make([]float64, len(kinds))
		for i := range kinds {
			k := &kinds[i]
			turn := loadSettings{c.Concurrency, c.roundLength(c.Rounds)}
			if round < 0 {
				turn.For = warmUp
			}
			result, err := load(ctx, k.server.base, turn, c.Seed+uint64(round+1), k.client)
			if err != nil {
				return err
			}
			if rates[i] = result.rate(); round < 0 {
				continue
			}
			if err := b.reportLoad(k.name, turn, result); err != nil {
				return err
			}
		}
		if round >= 0 {
			b.report.add(readRatios, ratiosToLast(kinds, rates)...)
		}
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

func (k *readKind) client(int) client {
	return client{want: []int{http.StatusOK}, next: func(r *rand.Rand, request *fasthttp.Request) {
		request.SetRequestURI(k.server.base + "/" + k.keys[r.IntN(len(k.keys))].path + k.suffix)
	}}
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

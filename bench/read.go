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
	Rounds int `help:"Take turns this often between what is compared." default:"3"`
}

// keysMax bounds the paths that the harness keeps.
const keysMax = 1_000_000

// warmUp is how long requests run before they count.
const warmUp = time.Second

const (
	readAtRandom = "kiln: GET Type/id at random, clients on the same machine"
	readOne      = "kiln: GET of one resource of median size"
	readBare     = "bare fasthttp handler: the same body from memory"
)

// Run measures GET Type/id over all of the data set, uniformly at random, and
// of one resource, which a bare handler serves too.
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
		{name: readAtRandom, server: s, keys: keys},
		{name: readOne, server: s, keys: []sampled{one}},
		{name: readBare, server: bare, keys: []sampled{one}},
	}
	if err := c.measure(ctx, kinds); err != nil {
		return err
	}
	if _, err := bare.stop(); err != nil {
		return err
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	for i := range kinds {
		var more []figure
		if i == 0 {
			more = used.figures()
		}
		if err := b.reportLoad(kinds[i].name, c.loadSettings, &kinds[i].result, more...); err != nil {
			return err
		}
	}
	b.report.add(fmt.Sprintf("comparison, %d rounds taken in turn, a body of %d bytes", c.Rounds, len(one.body)),
		figure{"kiln's rate of one resource to the bare handler's", kinds[1].result.rate() / kinds[2].result.rate(), "times"},
		figure{"kiln's rate at random to the bare handler's", kinds[0].result.rate() / kinds[2].result.rate(), "times"})
	return b.report.save(c.JSON)
}

// readKind is one of the things compared.
type readKind struct {
	name   string
	server *server
	keys   []sampled
	result loadResult
}

// measure lets the kinds take turns, after a warm-up of each.
func (c *readCommand) measure(ctx context.Context, kinds []readKind) error {
	for round := -1; round < c.Rounds; round++ {
		for i := range kinds {
			k := &kinds[i]
			length := c.For / time.Duration(c.Rounds)
			if round < 0 {
				length = warmUp
			}
			result, err := load(ctx, k.server.base, loadSettings{c.Concurrency, length}, c.Seed+uint64(round+1), k.client)
			if err != nil {
				return err
			}
			if round >= 0 {
				k.result.addTime(result)
			}
		}
	}
	return nil
}

func (k *readKind) client(int) client {
	return client{want: []int{http.StatusOK}, next: func(r *rand.Rand, request *fasthttp.Request) {
		request.SetRequestURI(k.server.base + "/" + k.keys[r.IntN(len(k.keys))].path)
	}}
}

// medianSized draws some resources and takes the one in the middle by size.
func medianSized(set *dataSet, seed uint64) (sampled, error) {
	const drawn = 1001
	all, err := set.sample(drawn, seed, true)
	if err != nil {
		return sampled{}, err
	}
	slices.SortFunc(all, func(a, b sampled) int {
		return cmp.Or(len(a.body)-len(b.body), bytes.Compare(a.body, b.body))
	})
	return all[len(all)/2], nil
}

package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"
)

type readCommand struct {
	settings
	loadSettings
}

// keysMax bounds the paths that the harness keeps.
const keysMax = 1_000_000

// warmUp is how long requests run before they count.
const warmUp = time.Second

// Run measures GET Type/id over all of the data set, uniformly at random.
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
	makeClient := func(int) client {
		return client{want: []int{http.StatusOK}, next: func(r *rand.Rand, request *fasthttp.Request) {
			request.SetRequestURI(s.base + "/" + keys[r.IntN(len(keys))].path)
		}}
	}
	if _, err := load(ctx, s.base, loadSettings{c.Concurrency, warmUp}, c.Seed+1, makeClient); err != nil {
		return err
	}
	result, err := load(ctx, s.base, c.loadSettings, c.Seed, makeClient)
	if err != nil {
		return err
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	err = b.reportLoad("kiln: GET Type/id at random, clients on the same machine", c.loadSettings, result, used.figures()...)
	if err != nil {
		return err
	}
	return b.report.save(c.JSON)
}

package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"
)

type crudCommand struct {
	settings
	loadSettings
	Rounds int `help:"Measure this many times, on one server." default:"5"`
}

// crudShares of 100 requests; the rest are reads of what the client made.
const (
	crudCreates = 20
	crudUpdates = 20
	crudDeletes = 10
)

const crudRun = "kiln: 20 creates, 20 updates, 10 deletes and 50 reads of 100 requests, durable"

// Run measures clients that create, read, update and delete, each its own resources,
// in a store that holds the data. Writes are answered when they are on disk.
func (c *crudCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "crud", func(b *bench) error {
		return b.serving(ctx, true, func(s *server, set *dataSet) error {
			bodies, err := set.sample(bodiesMax, c.Seed, true)
			if err != nil {
				return err
			}
			clients := make([]*crudClient, c.Concurrency)
			for i := range clients {
				clients[i] = &crudClient{writer: writer{base: s.base, bodies: bodies}}
			}
			mix := stretch{name: crudRun, base: s.base, clients: func(i int) client { return clients[i].client() }}
			return c.inTurns(c.Rounds, func(share loadSettings, round int) error {
				_, err := b.turn(ctx, share, round, mix)
				return err
			})
		})
	})
}

// crudClient has resources of its own, so that it knows which answers are right.
type crudClient struct {
	writer
}

func (c *crudClient) client() client {
	creating, updating := c.creating(), c.updating()
	made := false // the request under way is a create
	return client{
		want: []int{http.StatusCreated, http.StatusOK, http.StatusNoContent},
		next: func(r *rand.Rand, request *fasthttp.Request) {
			n := r.IntN(100)
			made = n < crudCreates || len(c.made) == 0
			switch {
			case made:
				creating.next(r, request)
			case n < crudCreates+crudUpdates:
				updating.next(r, request)
			case n < crudCreates+crudUpdates+crudDeletes:
				at := r.IntN(len(c.made))
				request.Header.SetMethod(http.MethodDelete)
				request.SetRequestURI(c.base + "/" + c.made[at].path)
				c.made[at] = c.made[len(c.made)-1]
				c.made = c.made[:len(c.made)-1]
			default:
				request.SetRequestURI(c.base + "/" + c.made[r.IntN(len(c.made))].path)
			}
		},
		answered: func(response *fasthttp.Response, took time.Duration) {
			if made {
				creating.answered(response, took)
			}
		},
	}
}

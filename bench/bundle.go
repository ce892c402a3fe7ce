package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"
)

type bundleCommand struct {
	settings
	loadSettings
	Entries []int `help:"Measure transactions of so many creates." default:"1,10,100"`
	Rounds  int   `help:"Take turns this often between the sizes." default:"5"`
}

// transactionSeeds keeps the ids of one size apart from those of the others.
const transactionSeeds = 1000

// Run measures transaction Bundles of new resources. The server answers when all of
// one is on disk.
func (c *bundleCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "bundle", func(b *bench) error {
		return b.serving(ctx, false, func(s *server, set *dataSet) error {
			bodies, err := set.sample(bodiesMax, c.Seed, true)
			if err != nil {
				return err
			}
			return c.inTurns(c.Rounds, func(share loadSettings, round int) error {
				for _, n := range c.Entries {
					if _, err := b.turn(ctx, share, round, transactions(s.base, bodies, n)); err != nil {
						return err
					}
				}
				return nil
			})
		})
	})
}

func transactionsOf(n int) string {
	return "kiln: transactions of " + counted(n, "create") + ", durable"
}

// transactions are Bundles of n creates.
func transactions(base string, bodies []sampled, n int) stretch {
	return stretch{
		name: transactionsOf(n),
		base: base, seed: uint64(transactionSeeds * n),
		clients: same(func() client { return (&bundler{base: base, bodies: bodies, entries: n}).client() }),
		more: func(seen *loadResult) []figure {
			return []figure{{"resources per second", seen.rate() * float64(n), perSecond("resources")}}
		},
	}
}

// bundler is a client that sends transactions.
type bundler struct {
	base    string
	bodies  []sampled
	entries int
	text    []byte
}

func (t *bundler) client() client {
	return client{want: []int{http.StatusOK}, next: func(r *rand.Rand, request *fasthttp.Request) {
		t.text = append(t.text[:0], `{"resourceType":"Bundle","type":"transaction","entry":[`...)
		for i := range t.entries {
			if i > 0 {
				t.text = append(t.text, ',')
			}
			drawn := &t.bodies[r.IntN(len(t.bodies))]
			typeName, oldID, _ := strings.Cut(drawn.path, "/")
			id := newID(r)
			t.text = append(t.text, `{"resource":`...)
			t.text = withID(t.text, drawn.body, oldID, id)
			t.text = fmt.Appendf(t.text, `,"request":{"method":"PUT","url":"%s/%s"}}`, typeName, id)
		}
		t.text = append(t.text, "]}"...)
		request.Header.SetMethod(http.MethodPost)
		request.Header.SetContentType("application/fhir+json")
		request.Header.Set("Prefer", "return=minimal")
		request.SetRequestURI(t.base)
		request.SetBodyRaw(t.text)
	}}
}

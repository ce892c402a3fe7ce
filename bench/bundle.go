package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/valyala/fasthttp"
)

type bundleCommand struct {
	settings
	loadSettings
	Entries []int `help:"Measure transactions of so many creates." default:"1,10,100"`
	Rounds  int   `help:"Take turns this often between the sizes." default:"5"`
}

// Run measures transaction Bundles of new resources. The server answers when all of
// one is on disk.
func (c *bundleCommand) Run(ctx context.Context) error {
	b, cleanUp, err := c.setUp(ctx, "bundle")
	if err != nil {
		return err
	}
	defer cleanUp()
	set, err := b.prepareData()
	if err != nil {
		return err
	}
	bodies, err := set.sample(bodiesMax, c.Seed, true)
	if err != nil {
		return err
	}
	s, err := b.start(ctx, filepath.Join(b.dir, "store"), set.dir)
	if err != nil {
		return err
	}
	for round := -1; round < c.Rounds; round++ {
		if err := c.measureRound(ctx, b, s, bodies, round); err != nil {
			return err
		}
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	b.report.add("kiln: the server in all", used.figures()...)
	return b.report.save(c.JSON)
}

// measureRound lets each size have its turn; round -1 is a warm-up.
func (c *bundleCommand) measureRound(ctx context.Context, b *bench, s *server, bodies []sampled, round int) error {
	for _, n := range c.Entries {
		turn := loadSettings{c.Concurrency, c.roundLength(c.Rounds)}
		if round < 0 {
			turn.For = warmUp
		}
		result, err := load(ctx, s.base, turn, c.Seed+uint64(1000*n+round+1), func(int) client { return (&bundler{base: s.base, bodies: bodies, entries: n}).client() })
		if err != nil {
			return err
		}
		if round < 0 {
			continue
		}
		name := fmt.Sprintf("kiln: transactions of %d creates, durable", n)
		if err := b.reportLoad(name, turn, result, figure{"resources per second", result.rate() * float64(n), "1/s"}); err != nil {
			return err
		}
	}
	return nil
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

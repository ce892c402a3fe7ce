package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
)

type historyCommand struct {
	settings
	loadSettings
	Changed  int `help:"Resources that get more versions." default:"2000"`
	Versions int `help:"Versions that each of them gets on top of the first." default:"9"`
	Pages    int `help:"Pages of 100 of the system's history to read in each round." default:"500"`
	Rounds   int `help:"Measure this many times, on one server." default:"5"`
}

// Run measures GET Type/id/_history of resources with many versions, and the
// history of the system page by page.
func (c *historyCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "history", func(b *bench) error {
		return b.serving(ctx, true, func(s *server, set *dataSet) error {
			chosen, err := set.sample(c.Changed, c.Seed, true)
			if err != nil {
				return err
			}
			if err := addVersions(ctx, s, chosen, c.Versions); err != nil {
				return err
			}
			histories := stretch{
				name: fmt.Sprintf("kiln: GET Type/id/_history of %d versions, clients on the same machine", c.Versions+1), base: s.base,
				clients: same(func() client {
					return getting(func(r *rand.Rand) string {
						return s.base + "/" + chosen[r.IntN(len(chosen))].path + "/_history?_count=100"
					})
				}),
			}
			return c.inTurns(c.Rounds, func(share loadSettings, round int) error {
				if _, err := b.turn(ctx, share, round, histories); err != nil || round < 0 {
					return err
				}
				return b.measurePages(ctx, "kiln: GET _history?_count=100 page by page, one client", s.base+"/_history?_count=100", c.Pages)
			})
		})
	})
}

// addVersions puts other content over the chosen resources, not measured.
func addVersions(ctx context.Context, s *server, chosen []sampled, versions int) error {
	for n := range versions {
		for _, resource := range chosen {
			body := changed(bytes.Clone(resource.body), n+1)
			request, err := http.NewRequestWithContext(ctx, http.MethodPut, s.base+"/"+resource.path, bytes.NewReader(body))
			if err != nil {
				return err
			}
			request.Header.Set("Content-Type", "application/fhir+json")
			response, answer, err := exchange(request)
			if err != nil {
				return err
			}
			if response.StatusCode != http.StatusOK {
				return unexpected(response, answer)
			}
		}
	}
	return nil
}

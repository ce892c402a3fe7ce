package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

type historyCommand struct {
	settings
	loadSettings
	Changed  int `help:"Resources that get more versions." default:"2000"`
	Versions int `help:"Versions that each of them gets on top of the first." default:"9"`
	Pages    int `help:"Pages of 100 of the system's history to read." default:"500"`
}

// Run measures GET Type/id/_history of resources with many versions, then the
// history of the system page by page.
func (c *historyCommand) Run(ctx context.Context) error {
	b, cleanUp, err := c.setUp(ctx, "history")
	if err != nil {
		return err
	}
	defer cleanUp()
	s, _, set, err := b.startFilled(ctx)
	if err != nil {
		return err
	}
	chosen, err := set.sample(c.Changed, c.Seed, true)
	if err != nil {
		return err
	}
	if err := addVersions(ctx, s, chosen, c.Versions); err != nil {
		return err
	}
	result, err := load(ctx, s.base, c.loadSettings, c.Seed, func(int) client {
		return client{want: []int{http.StatusOK}, next: func(r *rand.Rand, request *fasthttp.Request) {
			request.SetRequestURI(s.base + "/" + chosen[r.IntN(len(chosen))].path + "/_history?_count=100")
		}}
	})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("kiln: GET Type/id/_history of %d versions, clients on the same machine", c.Versions+1)
	if err := b.reportLoad(name, c.loadSettings, result); err != nil {
		return err
	}
	if err := c.measurePages(ctx, b, s); err != nil {
		return err
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	b.report.add("kiln: the server in all, import included", used.figures()...)
	return b.report.save(c.JSON)
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

// bundle is the part of a history page that is followed.
type bundle struct {
	Link  []struct{ Relation, URL string }
	Entry []struct {
		FullURL string `json:"fullUrl"`
	}
}

// measurePages follows the next links with one client.
func (c *historyCommand) measurePages(ctx context.Context, b *bench, s *server) error {
	address := s.base + "/_history?_count=100"
	var pages, entries, size int
	start := time.Now()
	for address != "" && pages < c.Pages {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		response, body, err := exchange(request)
		if err != nil {
			return err
		}
		var page bundle
		if response.StatusCode != http.StatusOK {
			return unexpected(response, body)
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("cannot read a page of the history: %w", err)
		}
		pages, entries, size = pages+1, entries+len(page.Entry), size+len(body)
		address = page.next()
	}
	took := time.Since(start)
	b.report.add("kiln: GET _history?_count=100 page by page, one client",
		append(throughput(int64(entries), int64(size), took), figure{"pages", float64(pages), ""}, figure{"pages per second", float64(pages) / took.Seconds(), "1/s"})...)
	return nil
}

func (b *bundle) next() string {
	for _, link := range b.Link {
		if strings.EqualFold(link.Relation, "next") {
			return link.URL
		}
	}
	return ""
}

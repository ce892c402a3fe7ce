package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

type mixedCommand struct {
	settings
	Concurrency int           `help:"Clients that each send one request after the other." default:"32" aliases:"clients"`
	For         time.Duration `help:"How long to measure without the import, and at most beside it, in each round." default:"10s"`
	Rounds      int           `help:"Take turns this often between the clients alone and beside an import." default:"3"`
	Pause       time.Duration `help:"How long a client waits between an answer and its next request." default:"0s"`
	Copies      int           `help:"Import the data so many times in each round, each time under new ids, one job after the other." default:"3"`
}

// operation is what a client of bench mixed may do next.
type operation int

const (
	opCreate operation = iota
	opUpdate
	opRead
	opHistory
	opTypeHistory
	opSearch
	operations // how many there are
)

var operationNames = [operations]string{"PUT of a new id", "PUT of a new version", "GET Type/id", "GET Type/id/_history", "GET Type/_history", "a search"}

// operationShares of 100 requests.
var operationShares = [operations]int{20, 30, 35, 8, 2, 5}

// mixedSearches are what opSearch asks, by chance: terms that many have, and few;
// a sorted page; a chain.
var mixedSearches = [...]string{
	"Observation?code=http://loinc.org%7C8302-2&_count=20",
	"Observation?code=29463-7&date=ge2015&_summary=count",
	"Condition?_sort=-onset-date&_count=20",
	"Encounter?subject:Patient.name=anna&_count=20",
}

// Run measures the same clients by turns on one server: alone, and while jobs
// import as IncrementalLoad. What the import costs a request is the difference.
func (c *mixedCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "mixed", func(b *bench) error {
		m, err := c.prepare(ctx, b)
		if err != nil {
			return err
		}
		// What is not measured: connections, caches, and the first versions.
		if _, err := m.phase(ctx, c.Seed, warmUp); err != nil {
			return err
		}
		for round := range c.Rounds {
			if err := m.round(ctx, round); err != nil {
				return err
			}
		}
		used, err := m.server.stop()
		if err != nil {
			return err
		}
		b.report.add(serverInAll, used.figures()...)
		return nil
	})
}

// round measures the clients alone, when the imports before have left nothing to do, and
// then beside imports.
func (m *mixed) round(ctx context.Context, round int) error {
	if err := m.server.waitIdle(ctx); err != nil {
		return err
	}
	seed := m.Seed + uint64(2*round)
	alone, err := m.phase(ctx, seed+1, m.For)
	if err != nil {
		return err
	}
	if err := m.report("alone", alone); err != nil {
		return err
	}
	inputs := m.inputs[round*m.Copies:][:m.Copies]
	beside, err := m.phaseBeside(ctx, inputs, seed+2)
	if err != nil {
		return err
	}
	if err := m.report("beside an import", beside); err != nil {
		return err
	}
	m.compare(alone, beside)
	return nil
}

// mixed is the measurement under way.
type mixed struct {
	*mixedCommand
	bench   *bench
	server  *server
	inputs  []string // one job each
	clients []*mixedClient
}

func (c *mixedCommand) prepare(ctx context.Context, b *bench) (*mixed, error) {
	set, err := b.prepareData()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "copies")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	m := &mixed{mixedCommand: c, bench: b}
	if m.inputs, err = set.copies(c.Copies*c.Rounds, dir); err != nil {
		return nil, err
	}
	bodies, err := set.sample(bodiesMax, c.Seed, true)
	if err != nil {
		return nil, err
	}
	if m.server, err = b.start(ctx, filepath.Join(b.dir, "store"), dir); err != nil {
		return nil, err
	}
	for range c.Concurrency {
		m.clients = append(m.clients, &mixedClient{writer: writer{base: m.server.base, bodies: bodies}, pause: c.Pause})
	}
	return m, nil
}

// mixedResult is one phase.
type mixedResult struct {
	all    *loadResult
	took   [operations][]time.Duration // ascending
	others figure
}

func (m *mixed) phase(ctx context.Context, seed uint64, long time.Duration) (*mixedResult, error) {
	before := m.server.readCPU()
	all, err := load(ctx, m.server.base, loadSettings{m.Concurrency, long}, seed, func(i int) client { return m.clients[i].client() })
	if all == nil {
		return nil, err
	}
	result := &mixedResult{all: all, others: m.server.readCPU().others(before, all.took)}
	for _, c := range m.clients {
		for op := range c.took {
			result.took[op] = append(result.took[op], c.took[op]...)
			c.took[op] = nil
		}
	}
	for op := range result.took {
		slices.Sort(result.took[op])
	}
	return result, err
}

// phaseBeside runs the clients while the copies are imported, until the time or
// the copies end.
func (m *mixed) phaseBeside(ctx context.Context, inputs []string, seed uint64) (*mixedResult, error) {
	before, err := m.server.metrics(ctx)
	if err != nil {
		return nil, err
	}
	busy, end := context.WithTimeout(ctx, m.For)
	imported := make(chan error, 1)
	go func() {
		defer end()
		for _, path := range inputs {
			if _, _, err := m.server.runImport(busy, []string{path}, "IncrementalLoad"); err != nil {
				imported <- err
				return
			}
		}
		imported <- nil
	}()
	result, err := m.phase(busy, seed, m.For)
	end()
	jobErr := <-imported
	if ctx.Err() != nil || result == nil {
		return nil, errors.Join(ctx.Err(), err, jobErr)
	}
	if jobErr != nil && !errors.Is(jobErr, context.Canceled) && !errors.Is(jobErr, context.DeadlineExceeded) {
		return nil, jobErr
	}
	after, err := m.server.metrics(ctx)
	if err != nil {
		return nil, err
	}
	m.reportImport(result.all.took, before, after)
	return result, nil
}

// reportImport tells what the server's own counters say about the phase.
func (m *mixed) reportImport(took time.Duration, before, after map[string]float64) {
	moved := func(name string) float64 { return after[name] - before[name] }
	stage := func(name string) figure {
		return figure{name + ", on the clock", moved(`kiln_import_stage_seconds_total{stage="` + name + `"}`), "s"}
	}
	m.bench.report.add("kiln: $import IncrementalLoad beside the clients",
		figure{"measured", took.Seconds(), "s"},
		figure{"scanned per second", moved("kiln_import_scanned_lines_total") / took.Seconds(), perSecond("lines")},
		figure{"published", moved("kiln_import_loaded_lines_total"), "lines"},
		figure{"rounds", moved("kiln_import_rounds_total"), "rounds"},
		stage("scan"), stage("resolve"), stage("seal"), stage("publish"))
}

func (m *mixed) report(name string, r *mixedResult) error {
	m.bench.report.add("kiln: the clients "+name, figure{"measured", r.all.took.Seconds(), "s"}, r.others)
	for op, latencies := range r.took {
		if len(latencies) == 0 {
			continue
		}
		m.bench.report.add("kiln: "+operationNames[op]+", "+name,
			figure{"requests per second", float64(len(latencies)) / r.all.took.Seconds(), perSecond("requests")},
			figure{"median latency", millis(percentile(latencies, 50)), "ms"},
			figure{"99 of 100 below", millis(percentile(latencies, 99)), "ms"},
			figure{"999 of 1000 below", millis(percentile(latencies, 99.9)), "ms"},
			figure{"slowest", millis(latencies[len(latencies)-1]), "ms"})
	}
	if r.all.wrong > 0 {
		return fmt.Errorf("%s: %d wrong answers, one of them: %w", name, r.all.wrong, r.all.example)
	}
	return nil
}

// compare prints what the import adds to the 999th of 1000 requests.
func (m *mixed) compare(alone, beside *mixedResult) {
	var figures []figure
	for op := range operations {
		a, b := alone.took[op], beside.took[op]
		if len(a) > 0 && len(b) > 0 {
			figures = append(figures, figure{operationNames[op], millis(percentile(b, 99.9) - percentile(a, 99.9)), "ms"})
		}
	}
	m.bench.report.add("comparison: what the import adds to the time that 999 of 1000 requests stay below", figures...)
}

// mixedClient is one client: its own resources, and how long its requests took.
type mixedClient struct {
	writer
	pause time.Duration
	op    operation
	took  [operations][]time.Duration
}

func (c *mixedClient) client() client {
	creating, updating := c.creating(), c.updating()
	return client{
		want: []int{http.StatusCreated, http.StatusOK},
		next: func(r *rand.Rand, request *fasthttp.Request) {
			c.op = c.draw(r)
			switch c.op {
			case opCreate:
				creating.next(r, request)
			case opUpdate:
				updating.next(r, request)
			case opTypeHistory:
				typeName, _, _ := strings.Cut(c.made[r.IntN(len(c.made))].path, "/")
				request.SetRequestURI(c.base + "/" + typeName + "/_history?_count=20")
			case opSearch:
				request.SetRequestURI(c.base + "/" + mixedSearches[r.IntN(len(mixedSearches))])
			default:
				path := c.made[r.IntN(len(c.made))].path
				if c.op == opHistory {
					path += "/_history?_count=20"
				}
				request.SetRequestURI(c.base + "/" + path)
			}
		},
		answered: func(response *fasthttp.Response, took time.Duration) {
			if c.op == opCreate {
				creating.answered(response, took)
			}
			c.took[c.op] = append(c.took[c.op], took)
			time.Sleep(c.pause)
		},
	}
}

// draw chooses the next operation; the first must be a create.
func (c *mixedClient) draw(r *rand.Rand) operation {
	if len(c.made) == 0 {
		return opCreate
	}
	n := r.IntN(100)
	for op, share := range operationShares {
		if n < share {
			return operation(op)
		}
		n -= share
	}
	panic("BUG: the shares of operations are not 100")
}

// metrics reads the server's counters, by name with labels.
func (s *server) metrics(ctx context.Context) (map[string]float64, error) {
	text, err := get(ctx, strings.TrimSuffix(s.base, "/fhir")+"/metrics")
	if err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " ")
		if number, err := strconv.ParseFloat(value, 64); found && err == nil {
			values[name] = number
		}
	}
	return values, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

type mergeCommand struct {
	settings
	Copies   int           `help:"Fill the store with the data so often, each time under new ids: each import leaves a run or two." default:"12"`
	Rounds   int           `help:"Take turns this often between a store at rest and one that merges." default:"5"`
	For      time.Duration `help:"How long to measure each, at most: merges may end before." default:"3s"`
	Clients  int           `help:"Clients of each kind." default:"3"`
	Reads    float64       `help:"Reads a second, of all their clients." default:"200"`
	Searches float64       `help:"Searches a second." default:"100"`
	Creates  float64       `help:"Durable creates a second." default:"200"`
	Reindex  bool          `help:"Measure also while runs are indexed again for an added search parameter."`
}

// harnessProcessors lets the harness run so many threads of Go: one that waits for
// the disk must not keep answers from the clients. Set by this scenario, since with
// closed loops it would only take more from the server.
const harnessProcessors = 8

// mergePhase is what the server does beside the clients.
type mergePhase struct {
	name  string
	flags []string
	// begin makes the server begin; nil: it does so by itself.
	begin func(ctx context.Context, s *server) error
	busy  bool // it writes runs; measured as long as it does
}

var mergePhases = []mergePhase{
	{name: "at rest", flags: unmergedFlags},
	{name: "beside merges", flags: mergingFlags, busy: true},
	{name: "beside indexing again", flags: unmergedFlags, begin: addParameter, busy: true},
}

// Run measures the same requests by turns on two servers, each on a new copy of one
// store: one that leaves its many runs alone, and one that merges them.
func (c *mergeCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "merge", func(b *bench) error {
		runtime.GOMAXPROCS(harnessProcessors)
		m, err := c.prepare(ctx, b)
		if err != nil {
			return err
		}
		phases := mergePhases
		if !c.Reindex {
			phases = phases[:2]
		}
		for round := range c.Rounds {
			results := make([][]loadResult, len(phases)) // by phase and kind
			for i := range phases {
				if results[i], err = m.measure(ctx, &phases[i], uint64(round)); err != nil {
					return fmt.Errorf("cannot measure a store %s: %w", phases[i].name, err)
				}
			}
			m.compare(phases, results)
		}
		return nil
	})
}

// mergeBench is the measurement under way.
type mergeBench struct {
	*mergeCommand
	bench   *bench
	bare    *server
	store   string // is copied for each phase
	runs    int
	keys    []sampled
	bodies  []sampled
	subject []string // Patient/ID
	kinds   []string // what is measured, set by the first phase
}

func (c *mergeCommand) prepare(ctx context.Context, b *bench) (*mergeBench, error) {
	set, err := b.prepareData()
	if err != nil {
		return nil, err
	}
	m := &mergeBench{mergeCommand: c, bench: b}
	if m.keys, err = set.sample(keysMax, c.Seed, false); err != nil {
		return nil, err
	}
	for _, k := range m.keys {
		if strings.HasPrefix(k.path, "Patient/") {
			m.subject = append(m.subject, k.path)
		}
	}
	if len(m.subject) == 0 {
		return nil, errors.New("cannot search: the data has no patients")
	}
	if m.bodies, err = set.sample(bodiesMax, c.Seed, true); err != nil {
		return nil, err
	}
	if m.bare, err = b.startBare(ctx, m.bodies[0].body); err != nil {
		return nil, err
	}
	m.store, m.runs, err = b.manyRuns(ctx, set, c.Copies)
	return m, err
}

// measure does one phase of one round, on a copy of the store of its own.
func (m *mergeBench) measure(ctx context.Context, phase *mergePhase, round uint64) ([]loadResult, error) {
	dir := filepath.Join(m.bench.dir, "copy")
	if err := copyStore(m.store, dir); err != nil {
		return nil, err
	}
	s, err := m.bench.start(ctx, dir, m.bench.dir, phase.flags...)
	if err != nil {
		return nil, err
	}
	if phase.begin != nil {
		if err := phase.begin(ctx, s); err != nil {
			return nil, err
		}
	}
	seen, err := m.measureServer(ctx, s, phase, round)
	if err != nil {
		return nil, err
	}
	if _, err := s.stop(); err != nil {
		return nil, err
	}
	return seen, os.RemoveAll(dir)
}

// measureServer warms up and measures, until the time or what the server does ends.
func (m *mergeBench) measureServer(ctx context.Context, s *server, phase *mergePhase, round uint64) (seen []loadResult, err error) {
	syncs, closeFile, err := bareSyncs(filepath.Join(m.bench.dir, "synced"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeFile()) }()
	kinds := append(m.requests(s), m.bareRequests(), syncs)
	watch := newMergeWatch(s.dataDir)
	running, end := context.WithCancel(ctx)
	defer end()
	quiet := func() {}
	if phase.busy {
		quiet = end
	}
	go watch.follow(running, quiet)
	if _, err := pace(running, kinds, warmUp, m.Seed+2*round); err != nil {
		return nil, err
	}
	watch.reset()
	if seen, err = pace(running, kinds, m.For, m.Seed+2*round+1); err != nil {
		return nil, err
	}
	for i := range seen {
		if len(seen[i].latencies) == 0 {
			return nil, errors.Join(errors.New("no request was answered while it lasted: more --copies make it last longer"), ctx.Err())
		}
	}
	m.report(phase, kinds, seen, watch)
	return seen, ctx.Err()
}

// requests are what the clients ask for.
func (m *mergeBench) requests(s *server) []paced {
	return []paced{
		requests("GET Type/id at random", s.base, m.Reads, m.Clients, same(func() client { return reading(s.base, m.keys, "") })),
		requests("a search for a patient's Observations, 10 a page", s.base, m.Searches, m.Clients, same(func() client {
			return getting(func(r *rand.Rand) string {
				return s.base + "/Observation?_count=10&subject=" + url.QueryEscape(m.subject[r.IntN(len(m.subject))])
			})
		})),
		requests("PUT of a new resource, durable", s.base, m.Creates, m.Clients, same(func() client { return (&writer{base: s.base, bodies: m.bodies}).creating() })),
	}
}

// bareRequests are answered from memory by a process that does nothing else: the
// least that a request takes on this machine now.
func (m *mergeBench) bareRequests() paced {
	return requests("GET of a bare handler's body", m.bare.base, m.Reads, m.Clients, same(func() client {
		return getting(func(*rand.Rand) string { return m.bare.base })
	}))
}

// addedParameter is one that R4 does not have, of the type with most resources.
const addedParameter = `{"resourceType":"SearchParameter","id":"bench-issued","url":"urn:kiln:bench:issued","name":"issued","status":"active",` +
	`"description":"when it was issued","code":"issued","base":["Observation"],"type":"date","expression":"Observation.issued"}`

// addParameter makes the server index all runs again.
func addParameter(ctx context.Context, s *server) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, s.base+"/SearchParameter/bench-issued", strings.NewReader(addedParameter))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/fhir+json")
	response, text, err := exchange(request)
	if err == nil && response.StatusCode != http.StatusCreated {
		err = unexpected(response, text)
	}
	return err
}

// mergePercentiles are what is told of latencies.
var mergePercentiles = []struct {
	name string
	of   float64
}{{"median latency", 50}, {"95 of 100 below", 95}, {"99 of 100 below", 99}, {"999 of 1000 below", 99.9}}

// report tells what the server did in a phase beside the clients, and how long each kind
// of request took.
func (m *mergeBench) report(phase *mergePhase, kinds []paced, seen []loadResult, watch *mergeWatch) {
	written, busy := watch.counted()
	took := seen[0].took.Seconds()
	m.bench.report.add("kiln: a store of many runs "+phase.name,
		figure{"runs in the beginning", float64(m.runs), "runs"},
		figure{"measured", took, "s"},
		figure{"with a run being written", busy.Seconds(), "s"},
		figure{"written to runs", float64(written) / 1e6, "MB"},
		figure{"written to runs, a second", float64(written) / 1e6 / took, "MB/s"})
	m.kinds = m.kinds[:0]
	for i := range kinds {
		m.kinds = append(m.kinds, kinds[i].name)
		var figures []figure
		for _, percentile := range mergePercentiles {
			figures = append(figures, figure{percentile.name, millis(seen[i].percentile(percentile.of)), "ms"})
		}
		m.bench.report.add(kinds[i].name+", "+phase.name, figures...)
	}
}

// compare tells, for this round, how the 99th percentiles of phases are to those at rest.
func (m *mergeBench) compare(phases []mergePhase, results [][]loadResult) {
	for p := 1; p < len(phases); p++ {
		var figures []figure
		for kind, name := range m.kinds {
			ratio := float64(results[p][kind].percentile(99)) / float64(results[0][kind].percentile(99))
			figures = append(figures, figure{name, ratio, "times"})
		}
		m.bench.report.add("comparison: the time that 99 of 100 requests stay below, "+phases[p].name+", to that at rest", figures...)
	}
}

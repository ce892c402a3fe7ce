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

	"github.com/valyala/fasthttp"
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

// mergeResult is what one phase of all rounds showed.
type mergeResult struct {
	rounds  [][]loadResult // by round and kind
	written int64          // bytes of runs
	busy    time.Duration
	took    time.Duration
}

// Run measures the same requests by turns on two servers, each on a new copy of one
// store: one that leaves its many runs alone, and one that merges them.
func (c *mergeCommand) Run(ctx context.Context) error {
	b, cleanUp, err := c.setUp(ctx, "merge")
	if err != nil {
		return err
	}
	defer cleanUp()
	runtime.GOMAXPROCS(harnessProcessors)
	m, err := c.prepare(ctx, b)
	if err != nil {
		return err
	}
	phases := mergePhases
	if !c.Reindex {
		phases = phases[:2]
	}
	results := make([]mergeResult, len(phases))
	for round := range c.Rounds {
		for i := range phases {
			if err := m.measure(ctx, &phases[i], uint64(round), &results[i]); err != nil {
				return fmt.Errorf("cannot measure a store %s: %w", phases[i].name, err)
			}
		}
	}
	for i := range results {
		m.reportPhase(&phases[i], &results[i])
	}
	for kind := range m.kinds {
		m.reportKind(kind, phases, results)
	}
	return b.report.save(c.JSON)
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
func (m *mergeBench) measure(ctx context.Context, phase *mergePhase, round uint64, result *mergeResult) error {
	dir := filepath.Join(m.bench.dir, "copy")
	if err := copyStore(m.store, dir); err != nil {
		return err
	}
	s, err := m.bench.start(ctx, dir, m.bench.dir, phase.flags...)
	if err != nil {
		return err
	}
	if phase.begin != nil {
		if err := phase.begin(ctx, s); err != nil {
			return err
		}
	}
	if err := m.measureServer(ctx, s, phase, round, result); err != nil {
		return err
	}
	if _, err := s.stop(); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// measureServer warms up and measures, until the time or what the server does ends.
func (m *mergeBench) measureServer(ctx context.Context, s *server, phase *mergePhase, round uint64, result *mergeResult) (err error) {
	syncs, closeFile, err := bareSyncs(filepath.Join(m.bench.dir, "synced"))
	if err != nil {
		return err
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
		return err
	}
	watch.reset()
	seen, err := pace(running, kinds, m.For, m.Seed+2*round+1)
	if err != nil {
		return err
	}
	m.kinds = m.kinds[:0]
	for i := range kinds {
		m.kinds = append(m.kinds, kinds[i].name)
		if len(seen[i].latencies) == 0 {
			return errors.Join(errors.New("no request was answered while it lasted: more --copies make it last longer"), ctx.Err())
		}
	}
	written, busy := watch.counted()
	result.rounds = append(result.rounds, seen)
	result.written, result.busy, result.took = result.written+written, result.busy+busy, result.took+seen[0].took
	return ctx.Err()
}

// requests are what the clients ask for.
func (m *mergeBench) requests(s *server) []paced {
	get := func(address func(r *rand.Rand) string) func(int) client {
		return func(int) client {
			return client{want: []int{http.StatusOK}, next: func(r *rand.Rand, request *fasthttp.Request) {
				request.SetRequestURI(s.base + "/" + address(r))
			}}
		}
	}
	return []paced{
		requests("GET Type/id at random", s.base, m.Reads, m.Clients, get(func(r *rand.Rand) string { return m.keys[r.IntN(len(m.keys))].path })),
		requests("a search for a patient's Observations, 10 a page", s.base, m.Searches, m.Clients, get(func(r *rand.Rand) string {
			return "Observation?_count=10&subject=" + url.QueryEscape(m.subject[r.IntN(len(m.subject))])
		})),
		requests("PUT of a new resource, durable", s.base, m.Creates, m.Clients, func(int) client {
			w := &writer{base: s.base, bodies: m.bodies}
			return w.creating()
		}),
	}
}

// bareRequests are answered from memory by a process that does nothing else: the
// least that a request takes on this machine now.
func (m *mergeBench) bareRequests() paced {
	return requests("GET of a bare handler's body", m.bare.base, m.Reads, m.Clients, func(int) client {
		return client{want: []int{http.StatusOK}, next: func(_ *rand.Rand, request *fasthttp.Request) { request.SetRequestURI(m.bare.base) }}
	})
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

// reportPhase tells what the server did beside the clients.
func (m *mergeBench) reportPhase(phase *mergePhase, r *mergeResult) {
	m.bench.report.add(fmt.Sprintf("kiln: a store of %d runs %s, %d rounds", m.runs, phase.name, m.Rounds),
		figure{"measured", r.took.Seconds(), "s"},
		figure{"with a run being written", r.busy.Seconds(), "s"},
		figure{"written to runs", float64(r.written) / 1e6, "MB"},
		figure{"written to runs, a second", float64(r.written) / 1e6 / r.took.Seconds(), "MB/s"})
}

// mergePercentiles are what is told of latencies.
var mergePercentiles = []struct {
	name string
	of   float64
}{{"median", 50}, {"95 of 100 below", 95}, {"99 of 100 below", 99}, {"999 of 1000 below", 99.9}}

// reportKind tells how long one kind of request took in each phase, by the medians of
// all rounds, and how many times as long as at rest in the same round.
func (m *mergeBench) reportKind(kind int, phases []mergePhase, results []mergeResult) {
	of := func(phase, round int, percent float64) float64 {
		return millis(results[phase].rounds[round][kind].percentile(percent))
	}
	for p := range phases {
		var figures []figure
		var ratios []float64
		for _, percentile := range mergePercentiles {
			var all []float64
			for round := range results[p].rounds {
				all = append(all, of(p, round, percentile.of))
				if percentile.of == 99 {
					ratios = append(ratios, of(p, round, 99)/of(0, round, 99))
				}
			}
			figures = append(figures, figure{percentile.name, median(all), "ms"})
		}
		if p > 0 {
			low, high := spread(ratios)
			figures = append(figures, figure{ratioOfMedians, figures[2].Value / m.bench.report.figure(kindName(m.kinds[kind], &phases[0]), "99 of 100 below")[0], ""},
				figure{"the ratio by rounds: median", median(ratios), ""}, figure{"lowest", low, ""}, figure{"highest", high, ""})
		}
		m.bench.report.add(kindName(m.kinds[kind], &phases[p]), figures...)
	}
}

const ratioOfMedians = "99 of 100 to those at rest"

func kindName(kind string, phase *mergePhase) string { return kind + ", " + phase.name }

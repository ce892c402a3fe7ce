package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// grownResult is what one round showed of one store.
type grownResult struct {
	initial, incremental float64 // resources a second
	reads, searches      *loadResult
	calm                 *loadResult   // reads at a fixed rate, of the largest store only
	clean, killed        time.Duration // how long starts took
	heap, resident       float64       // MiB, after the reads
}

// noBallast leaves out the reserve, which would be copied for every run.
var noBallast = []string{"--ballast", "0", "--scrub-interval", "0"}

// round lets every size have its turn, and the import into an empty store.
func (g *grown) round(ctx context.Context, round int) error {
	empty, err := g.importInto(ctx, nil, g.more, "InitialLoad")
	if err != nil {
		return err
	}
	g.bench.report.add("kiln: $import InitialLoad into an empty store", figure{"resources per second", empty, perSecond("resources")})
	results := make([]grownResult, len(g.stores))
	for i := range g.stores {
		if err := g.measureRequests(ctx, &g.stores[i], uint64(round), &results[i]); err != nil {
			return err
		}
		if err := g.measureImports(ctx, &g.stores[i], &results[i]); err != nil {
			return err
		}
	}
	for i := range results {
		g.reportStore("kiln: "+g.stores[i].name(), &g.stores[i], &results[i])
	}
	last := len(results) - 1
	calm := results[last].calm
	g.bench.report.add(calmRun, figure{"median latency", millis(calm.percentile(50)), "ms"},
		figure{"99 of 100 below", millis(calm.percentile(99)), "ms"}, figure{"999 of 1000 below", millis(calm.percentile(99.9)), "ms"})
	g.reportStore(largestStore, &g.stores[last], &results[last])
	g.compare(empty, results)
	return nil
}

// compare tells the ratios of this round.
func (g *grown) compare(empty float64, results []grownResult) {
	var loaded []figure
	tenfold := false
	for i := range results {
		ratio := results[i].incremental / empty
		loaded = append(loaded, figure{fmt.Sprintf("%d times as much", g.stores[i].times), ratio, "times"})
		if g.stores[i].times >= 10 && !tenfold {
			tenfold = true
			loaded = append(loaded, figure{heldTenfold, ratio, "times"})
		}
	}
	g.bench.report.add(loadedRatios, loaded...)
	first, last := &results[0], &results[len(results)-1]
	middle := func(r *loadResult) float64 { return millis(r.percentile(50)) }
	g.bench.report.add(growthRatios,
		figure{"import rate", last.initial / first.initial, "times"},
		figure{"incremental import rate", last.incremental / first.incremental, "times"},
		figure{"median of reads", middle(last.reads) / middle(first.reads), "times"},
		figure{"99 of 100 of reads", millis(last.reads.percentile(99)) / millis(first.reads.percentile(99)), "times"},
		figure{"median of selective searches", middle(last.searches) / middle(first.searches), "times"})
}

func (g *grown) reportStore(name string, k *grownStore, r *grownResult) {
	g.bench.report.add(name, append([]figure{
		{"resources", k.resource, "resources"},
		{"NDJSON", float64(k.times) * float64(g.set.bytes) / 1e6, "MB"},
		{"initial import", r.initial, perSecond("resources")},
		{"incremental import, all new", r.incremental, perSecond("resources")},
		{"reads per second", r.reads.rate(), perSecond("requests")},
		{"median latency", millis(r.reads.percentile(50)), "ms"},
		{"99 of 100 below", millis(r.reads.percentile(99)), "ms"},
		{"searches for a patient's Observations per second", r.searches.rate(), perSecond("requests")},
		{"median latency of searches", millis(r.searches.percentile(50)), "ms"},
		{"99 of 100 searches below", millis(r.searches.percentile(99)), "ms"},
		{"start after a clean stop", r.clean.Seconds(), "s"},
		{"start after kill -9", r.killed.Seconds(), "s"},
		{"heap of the server", r.heap, "MiB"},
		{"resident memory of the server", r.resident, "MiB"},
	}, diskFigures(k.sizes, k.resource, "bytes a resource")...)...)
}

// onCopy starts a server on a new copy of a store; nil: on an empty one.
func (g *grown) onCopy(ctx context.Context, k *grownStore) (s *server, took time.Duration, err error) {
	dir := filepath.Join(g.bench.dir, "copy")
	if err := os.RemoveAll(dir); err != nil {
		return nil, 0, err
	}
	if k != nil {
		if err := copyStore(k.dir, dir); err != nil {
			return nil, 0, err
		}
	}
	start := time.Now()
	s, err = g.bench.start(ctx, dir, g.bench.dir, noBallast...)
	return s, time.Since(start), err
}

// importInto imports a file into a copy of a store, and gives the resources a second.
func (g *grown) importInto(ctx context.Context, k *grownStore, path, mode string) (rate float64, err error) {
	s, _, err := g.onCopy(ctx, k)
	if err != nil {
		return 0, err
	}
	if rate, err = s.importRate(ctx, path, mode); err != nil {
		return 0, err
	}
	_, err = s.stop()
	return rate, err
}

func (s *server) importRate(ctx context.Context, path, mode string) (float64, error) {
	if err := s.waitIdle(ctx); err != nil {
		return 0, err
	}
	result, took, err := s.runImport(ctx, []string{path}, mode)
	if err != nil {
		return 0, err
	}
	return float64(result.loaded()) / took.Seconds(), nil
}

// measureImports imports what the store does not have, in both modes, each into a copy
// of its own; and into the last one the same once more, and then new versions of it.
func (g *grown) measureImports(ctx context.Context, k *grownStore, r *grownResult) (err error) {
	if r.initial, err = g.importInto(ctx, k, g.more, "InitialLoad"); err != nil {
		return err
	}
	s, _, err := g.onCopy(ctx, k)
	if err != nil {
		return err
	}
	rates := make([]float64, 3)
	for i, path := range []string{g.more, g.again, g.newer} {
		if rates[i], err = s.importRate(ctx, path, "IncrementalLoad"); err != nil {
			return err
		}
	}
	r.incremental = rates[0]
	g.bench.report.add("kiln: $import IncrementalLoad into "+k.name(),
		figure{"all new", rates[0], perSecond("resources")}, figure{"the same once more", rates[1], perSecond("resources")}, figure{"a new version of each", rates[2], perSecond("resources")})
	_, err = s.stop()
	return err
}

// measureRequests starts a server on a copy, lets clients read, search and write, and
// kills it.
func (g *grown) measureRequests(ctx context.Context, k *grownStore, round uint64, r *grownResult) (err error) {
	s, took, err := g.onCopy(ctx, k)
	if err != nil {
		return err
	}
	r.clean = took
	if err := s.waitIdle(ctx); err != nil {
		return err
	}
	seed := g.Seed + round
	if r.reads, err = load(ctx, s.base, g.loadSettings, seed, func(int) client { return g.reader(s, k) }); err != nil {
		return err
	}
	metrics, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	r.heap, r.resident = metrics["go_memstats_heap_inuse_bytes"]/(1<<20), metrics["process_resident_memory_bytes"]/(1<<20)
	if k == &g.stores[len(g.stores)-1] {
		if r.calm, err = g.readCalmly(ctx, s, k, seed); err != nil {
			return err
		}
	}
	if r.searches, err = load(ctx, s.base, g.loadSettings, seed, func(int) client { return g.searcher(s, k) }); err != nil {
		return err
	}
	if r.killed, err = g.killed(ctx, s, seed); err != nil {
		return err
	}
	if wrong := r.reads.wrong + r.searches.wrong; wrong > 0 {
		return fmt.Errorf("cannot trust the figures: %d wrong answers: %w", wrong, errors.Join(r.reads.example, r.searches.example))
	}
	return nil
}

// calmReads a second are far below what the server can do: how long they take is theirs,
// and not that of the requests before them.
const calmReads, calmClients = 1000, 8

func (g *grown) readCalmly(ctx context.Context, s *server, k *grownStore, seed uint64) (*loadResult, error) {
	seen, err := pace(ctx, []paced{requests("reads at a fixed rate", s.base, calmReads, calmClients, func(int) client { return g.reader(s, k) })}, g.For, seed)
	if err == nil && len(seen[0].latencies) == 0 {
		err = errors.Join(errors.New("cannot measure reads at a fixed rate: there were none"), ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	return &seen[0], nil
}

// killed lets clients write, kills the server after it, and tells how long the next
// start takes, which reads their log.
func (g *grown) killed(ctx context.Context, s *server, seed uint64) (time.Duration, error) {
	bodies, err := g.set.sample(1000, g.Seed, true)
	if err != nil {
		return 0, err
	}
	written := loadSettings{g.Concurrency, g.For}
	if _, err := load(ctx, s.base, written, seed, func(int) client { return (&writer{base: s.base, bodies: bodies}).creating() }); err != nil {
		return 0, err
	}
	s.kill()
	start := time.Now()
	again, err := g.bench.start(ctx, s.dataDir, g.bench.dir, noBallast...)
	if err != nil {
		return 0, err
	}
	took := time.Since(start)
	_, err = again.stop()
	return took, err
}

// drawn draws one of the resources in one of the copies that a store has.
func (k *grownStore) drawn(r *rand.Rand, paths []string) string {
	return pathOfCopy(paths[r.IntN(len(paths))], r.IntN(k.times))
}

func (g *grown) reader(s *server, k *grownStore) client {
	return getting(func(r *rand.Rand) string { return s.base + "/" + k.drawn(r, g.keys) })
}

// searcher asks for the Observations of a patient. Each copy has its own patients, so
// it finds as many in every store.
func (g *grown) searcher(s *server, k *grownStore) client {
	return getting(func(r *rand.Rand) string {
		return s.base + "/Observation?_count=10&_total=none&subject=" + url.QueryEscape(k.drawn(r, g.patients))
	})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type growCommand struct {
	settings
	loadSettings
	Sizes []int `help:"Measure stores that hold the data so many times, each time under new ids, references too." default:"1,4,16"`
	Runs  int   `help:"Take turns this often between the sizes." default:"3"`
}

// grown is the measurement under way.
type grown struct {
	*growCommand
	bench *bench
	set   *dataSet
	// keys and patients are Type/id of the data; each copy has them under other ids.
	keys, patients []string
	// more is the data once more, under ids that no store has; newer has other content
	// under the same ids.
	more, newer string
	again       string       // the same as more
	stores      []grownStore // the smallest first
}

// grownStore is a store of some size that nobody has open; runs are measured on copies.
type grownStore struct {
	times    int // the data
	dir      string
	resource float64 // resources in it
	sizes    map[string]int64
}

// Run measures what depends on how much a store holds: imports, reads, searches,
// starts, memory and the room on disk. It fills one store job by job and keeps it at
// each of the sizes.
func (c *growCommand) Run(ctx context.Context) error {
	slices.Sort(c.Sizes)
	c.Sizes = slices.Compact(c.Sizes)
	if len(c.Sizes) == 0 || c.Sizes[0] < 1 {
		return fmt.Errorf("cannot measure sizes %v: each has to be 1 or more", c.Sizes)
	}
	return c.runBench(ctx, "grow", func(b *bench) error {
		g := &grown{growCommand: c, bench: b}
		if err := g.fill(ctx); err != nil {
			return err
		}
		for round := range c.Runs {
			if err := g.round(ctx, round); err != nil {
				return err
			}
		}
		return nil
	})
}

// fill makes the stores.
func (g *grown) fill(ctx context.Context) (err error) {
	b := g.bench
	if g.set, err = b.prepareData(); err != nil {
		return err
	}
	if err := g.sampleKeys(); err != nil {
		return err
	}
	dir, largest := filepath.Join(b.dir, "copies"), g.Sizes[len(g.Sizes)-1]
	if err := g.prepareInputs(dir, largest); err != nil {
		return err
	}
	store, s, before := filepath.Join(b.dir, "store"), (*server)(nil), 0.0
	var each []float64 // µs of processor time a resource, by job
	for n := range largest {
		// A request for the same files would be answered with the job that it made before.
		path := filepath.Join(dir, fmt.Sprintf("copy-%d.ndjson.zst", n))
		if err := g.set.copyAs(n, path, copyOptions{linked: true}); err != nil {
			return err
		}
		if s == nil {
			if s, err = b.start(ctx, store, dir); err != nil {
				return err
			}
		}
		cost, loaded, err := g.measureJob(ctx, s, n, path)
		if err != nil {
			return err
		}
		each, before = append(each, cost), before+loaded
		if err := os.Remove(path); err != nil {
			return err
		}
		if slices.Contains(g.Sizes, n+1) {
			if err := g.keep(ctx, s, n+1, before); err != nil {
				return err
			}
			s = nil
		}
	}
	b.report.add("comparison: the last job's processor time a resource to the first's", figure{"ratio", each[len(each)-1] / each[0], "times"})
	return os.RemoveAll(store)
}

// prepareInputs writes what is imported on top of a store.
func (g *grown) prepareInputs(dir string, number int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	g.more, g.newer = filepath.Join(dir, "more.ndjson.zst"), filepath.Join(dir, "newer.ndjson.zst")
	if err := g.set.copyAs(number, g.more, copyOptions{linked: true}); err != nil {
		return err
	}
	if err := g.set.copyAs(number, g.newer, copyOptions{linked: true, changed: true}); err != nil {
		return err
	}
	g.again = filepath.Join(dir, "again.ndjson.zst")
	return os.Link(g.more, g.again)
}

func (g *grown) sampleKeys() error {
	drawn, err := g.set.sample(keysMax, g.Seed, false)
	if err != nil {
		return err
	}
	for _, one := range drawn {
		g.keys = append(g.keys, one.path)
		if strings.HasPrefix(one.path, "Patient/") {
			g.patients = append(g.patients, one.path)
		}
	}
	if len(g.patients) == 0 {
		return errors.New("cannot search: the data has no patients")
	}
	return nil
}

// measureJob imports one copy while the store is filled.
func (g *grown) measureJob(ctx context.Context, s *server, n int, path string) (micros, loaded float64, err error) {
	before := s.readCPU()
	result, took, err := s.runImport(ctx, []string{path}, "InitialLoad")
	if err != nil {
		return 0, 0, err
	}
	after := s.readCPU()
	loaded = float64(result.loaded())
	micros = (after.server - before.server).Seconds() * 1e6 / loaded
	g.bench.report.add(fmt.Sprintf("kiln: $import InitialLoad, job %d", n+1),
		figure{"loaded", loaded, "lines"},
		figure{"resources per second", loaded / took.Seconds(), perSecond("resources")},
		figure{"processor time a resource", micros, "µs"},
		after.others(before, took))
	return micros, loaded, nil
}

// keep stops the server when it is idle, and keeps a copy of its store.
func (g *grown) keep(ctx context.Context, s *server, times int, resources float64) error {
	if err := s.waitIdle(ctx); err != nil {
		return err
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	sizes, err := diskBytes(s.dataDir)
	if err != nil {
		return err
	}
	kept := grownStore{times: times, dir: filepath.Join(g.bench.dir, fmt.Sprintf("store-%d", times)), resource: resources, sizes: sizes}
	g.bench.report.add(serverInAll+", which filled "+kept.name(), used.figures()...)
	g.stores = append(g.stores, kept)
	return copyStore(s.dataDir, kept.dir)
}

func (k *grownStore) name() string { return fmt.Sprintf("a store of %d times the data", k.times) }

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

type growCommand struct {
	settings
	Copies int    `help:"Import the data so many times, each under new ids, one job after the other." default:"10"`
	Mode   string `help:"Mode of the imports." default:"InitialLoad" enum:"InitialLoad,IncrementalLoad"`
}

// Run measures what a resource costs while the store grows: every job brings
// as much as the first, all of it new to the store.
func (c *growCommand) Run(ctx context.Context) error {
	b, cleanUp, err := c.setUp(ctx, "grow")
	if err != nil {
		return err
	}
	defer cleanUp()
	set, err := b.prepareData()
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "copies")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	paths, err := set.copies(c.Copies, dir)
	if err != nil {
		return err
	}
	s, err := b.start(ctx, filepath.Join(b.dir, "store"), dir)
	if err != nil {
		return err
	}
	var each []float64 // µs of processor time a resource, by job
	for i, path := range paths {
		cost, err := c.measureJob(ctx, b, s, i, path)
		if err != nil {
			return err
		}
		each = append(each, cost)
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	b.report.add("kiln: the server in all", used.figures()...)
	b.report.add("the last job's processor time a resource to the first's", figure{"ratio", each[len(each)-1] / each[0], ""})
	return b.report.save(c.JSON)
}

func (c *growCommand) measureJob(ctx context.Context, b *bench, s *server, i int, path string) (micros float64, err error) {
	before := s.readCPU()
	result, took, err := s.runImport(ctx, []string{path}, c.Mode)
	if err != nil {
		return 0, err
	}
	after := s.readCPU()
	loaded := float64(result.loaded())
	micros = (after.server - before.server).Seconds() * 1e6 / loaded
	b.report.add(fmt.Sprintf("kiln: $import %s, job %d", c.Mode, i+1),
		figure{"loaded", loaded, ""},
		figure{"resources per second", loaded / took.Seconds(), "1/s"},
		figure{"processor time", micros, "µs a resource"},
		after.others(before, took))
	return micros, nil
}

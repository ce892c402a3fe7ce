package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/valyala/fasthttp"
)

// warmUp is how long requests run before they count.
const warmUp = time.Second

// serverInAll begins the names of what a server took from its start to its end, which is
// compared with nothing.
const serverInAll = "kiln: the server in all"

// serving starts a server, lets it be measured, and tells what it took in all. filled:
// it has imported the data set, and what an import leaves to do is done.
func (b *bench) serving(ctx context.Context, filled bool, measure func(s *server, set *dataSet) error) error {
	set, err := b.prepareData()
	if err != nil {
		return err
	}
	s, err := b.start(ctx, filepath.Join(b.dir, "store"), set.dir)
	if err != nil {
		return err
	}
	name := serverInAll
	if filled {
		name += ", import included"
		if err := s.fillAndRest(ctx, set); err != nil {
			return err
		}
	}
	if err := measure(s, set); err != nil {
		return err
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	b.report.add(name, used.figures()...)
	return nil
}

// fillAndRest imports the data set into an empty store, and waits until what an import
// leaves to do is done.
func (s *server) fillAndRest(ctx context.Context, set *dataSet) error {
	if _, err := s.fill(ctx, set); err != nil {
		return err
	}
	return s.waitIdle(ctx)
}

// fill imports the data set into an empty store, and gives how many resources it has.
func (s *server) fill(ctx context.Context, set *dataSet) (loaded int64, err error) {
	result, took, err := s.runImport(ctx, set.files, "InitialLoad")
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(os.Stderr, "imported %d resources in %.1f s\n", result.loaded(), took.Seconds())
	return result.loaded(), nil
}

// inTurns calls turn for a warm-up, which is round -1, and then for each of some rounds,
// with its share of the time.
func (s *loadSettings) inTurns(rounds int, turn func(share loadSettings, round int) error) error {
	share := loadSettings{s.Concurrency, s.For / time.Duration(rounds)}
	if err := turn(loadSettings{s.Concurrency, min(warmUp, share.For)}, -1); err != nil {
		return err
	}
	for round := range rounds {
		if err := turn(share, round); err != nil {
			return err
		}
	}
	return nil
}

// stretch is what clients do for some time.
type stretch struct {
	name    string // in the report
	base    string
	seed    uint64               // another one for each stretch of a round that makes new ids
	door    *fasthttp.HostClient // nil: plain HTTP
	clients func(i int) client
	more    func(seen *loadResult) []figure // nil: nothing beside the load's figures
}

// turn lets clients do it and, but for the warm-up, reports what they saw.
func (b *bench) turn(ctx context.Context, s loadSettings, round int, what stretch) (*loadResult, error) {
	if what.door == nil {
		what.door = newDoor(what.base, s.Concurrency)
	}
	seen, err := loadThrough(ctx, what.door, s, b.Seed+what.seed+uint64(round+1), what.clients)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what.name, err)
	}
	if round < 0 {
		return seen, nil
	}
	var more []figure
	if what.more != nil {
		more = what.more(seen)
	}
	return seen, b.reportLoad(what.name, s, seen, more...)
}

// same gives every client the same work.
func same(one func() client) func(int) client { return func(int) client { return one() } }

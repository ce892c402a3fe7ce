package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// comparedClients are the numbers of clients that durable creates are compared at.
var comparedClients = []int{1, 8, 64}

const (
	insertSettings = "PostgreSQL with its default settings (fsync and synchronous_commit on): single-row inserts of jsonb with a GIN index (jsonb_path_ops, fastupdate), Unix socket"
	floorSync      = "floor: a bare write and fdatasync of 4 KiB, blocks reserved, one after the other"
	// allowance is what a create may take beside its fsync.
	allowance = 100 * time.Microsecond
)

// creates is the comparison under way.
type creates struct {
	*writeCommand
	bench    *bench
	server   *server
	database *postgres // nil: not compared
	bodies   []sampled
}

// compare makes the comparison of durable creates of the same bodies on a server and in
// PostgreSQL, in turns, and with the sync that a lone client waits for.
func (c *writeCommand) compare(ctx context.Context, b *bench, s *server, bodies []sampled) (*creates, error) {
	compared := &creates{writeCommand: c, bench: b, server: s, bodies: bodies}
	if !c.ComparePostgres {
		return compared, nil
	}
	if err := os.Chmod(b.dir, 0o755); err != nil { // the database's user goes there
		return nil, err
	}
	var err error
	if compared.database, err = startPostgres(ctx, b.dir, asItComes); err != nil {
		return nil, err
	}
	if _, err := compared.database.psql(ctx, insertTable); err != nil {
		compared.stop()
		return nil, err
	}
	return compared, nil
}

func (c *creates) stop() {
	if c.database != nil {
		c.database.stop()
	}
}

// round lets each number of clients have its turn; a warm-up (round -1) is not reported.
func (c *creates) round(ctx context.Context, length time.Duration, round int) error {
	if !c.ComparePostgres && !c.Floors {
		return nil
	}
	var ratios []figure
	for _, clients := range comparedClients {
		settings := loadSettings{clients, length}
		kiln, err := c.bench.turn(ctx, settings, round, stretch{
			name: fmt.Sprintf("kiln: PUT of new resources over HTTP, durable, clients: %d", clients), base: c.server.base, seed: c.seed(clients),
			clients: same(func() client { return (&writer{base: c.server.base, bodies: c.bodies}).creating() }),
		})
		if err != nil {
			return err
		}
		ratio, err := c.insert(ctx, settings, round, kiln)
		if err != nil {
			return err
		}
		if ratio > 0 {
			ratios = append(ratios, figure{counted(clients, "client"), ratio, "times"})
		}
		if clients == 1 && c.Floors && round >= 0 {
			if err := c.compareWithSync(ctx, kiln, length, round); err != nil {
				return err
			}
		}
	}
	if len(ratios) > 0 && round >= 0 {
		c.bench.report.add(createRatios, ratios...)
	}
	return nil
}

// seed keeps the new ids of one number of clients apart from those of the others.
func (c *creates) seed(clients int) uint64 { return uint64(1000 * clients) }

// insert lets PostgreSQL do the same, and gives how many times as often kiln did; 0:
// not compared.
func (c *creates) insert(ctx context.Context, s loadSettings, round int, kiln *loadResult) (ratio float64, err error) {
	if c.database == nil {
		return 0, nil
	}
	inserts, err := c.database.insertLoad(ctx, s, c.Seed+c.seed(s.Concurrency)+uint64(round+1), c.bodies)
	if err != nil || round < 0 {
		return 0, err
	}
	return kiln.rate() / inserts.rate(), c.bench.reportLoad(fmt.Sprintf("%s, clients: %d", insertSettings, s.Concurrency), s, inserts)
}

// compareWithSync measures the bare sync for as long as the lone client.
func (c *creates) compareWithSync(ctx context.Context, kiln *loadResult, length time.Duration, round int) error {
	syncs, err := syncLoad(ctx, filepath.Join(c.bench.dir, "synced"), length, c.Seed+uint64(round))
	if err != nil {
		return err
	}
	if err := c.bench.reportLoad(floorSync, loadSettings{1, length}, syncs); err != nil {
		return err
	}
	ratio := func(p float64) float64 {
		return float64(kiln.percentile(p)) / float64(syncs.percentile(p)+allowance)
	}
	c.bench.report.add(createFloor, figure{"by the medians", ratio(50), "times"}, figure{"by the 99 of 100 below", ratio(99), "times"})
	return nil
}

// syncLoad does nothing but bare syncs until the time is over.
func syncLoad(ctx context.Context, path string, length time.Duration, seed uint64) (*loadResult, error) {
	syncs, closeFile, err := bareSyncs(path)
	if err != nil {
		return nil, err
	}
	do, r, all := syncs.newClient(0), rand.New(rand.NewPCG(seed, 0)), &loadResult{}
	start := time.Now()
	var result loadResult
	for time.Since(start) < length && ctx.Err() == nil {
		do(r, time.Now(), &result)
	}
	all.took = time.Since(start)
	all.add(result)
	if err := closeFile(); err != nil {
		return nil, err
	}
	if len(all.latencies) == 0 {
		return nil, fmt.Errorf("cannot sync: %w", all.example)
	}
	return all, ctx.Err()
}

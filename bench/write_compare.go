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

// compareCreates measures durable creates of the same bodies on a server and in
// PostgreSQL, in turns, and the sync that a lone client waits for.
func (c *writeCommand) compareCreates(ctx context.Context, b *bench, set *dataSet, bodies []sampled) (err error) {
	compared := creates{writeCommand: c, bench: b, bodies: bodies}
	if c.ComparePostgres {
		if err := os.Chmod(b.dir, 0o755); err != nil { // the database's user goes there
			return err
		}
		if compared.database, err = startPostgres(ctx, b.dir, asItComes); err != nil {
			return err
		}
		defer compared.database.stop()
		if _, err := compared.database.psql(ctx, insertTable); err != nil {
			return err
		}
	}
	if compared.server, err = b.start(ctx, filepath.Join(b.dir, "compared"), set.dir); err != nil {
		return err
	}
	for round := range c.Rounds {
		if err := compared.round(ctx, round); err != nil {
			return err
		}
	}
	_, err = compared.server.stop()
	return err
}

// round lets each number of clients have its turn.
func (c *creates) round(ctx context.Context, round int) error {
	var ratios []figure
	for _, clients := range comparedClients {
		kiln, ratio, err := c.measureAt(ctx, clients, round)
		if err != nil {
			return err
		}
		if ratio > 0 {
			ratios = append(ratios, figure{fmt.Sprintf("%d clients", clients), ratio, "times"})
		}
		if clients > 1 || !c.Floors {
			continue
		}
		if err := c.compareWithSync(ctx, kiln, round); err != nil {
			return err
		}
	}
	if len(ratios) > 0 {
		c.bench.report.add(createRatios, ratios...)
	}
	return nil
}

// measureAt gives what kiln did with so many clients, and how many times as often as
// PostgreSQL; 0: not compared.
func (c *creates) measureAt(ctx context.Context, clients, round int) (kiln *loadResult, ratio float64, err error) {
	settings := loadSettings{clients, c.roundLength(c.Rounds)}
	seed := c.Seed + uint64(1000*clients+round)
	if kiln, err = load(ctx, c.server.base, settings, seed, func(int) client {
		return (&writer{base: c.server.base, bodies: c.bodies}).creating()
	}); err != nil {
		return nil, 0, err
	}
	if err := c.bench.reportLoad(fmt.Sprintf("kiln: PUT of new resources over HTTP, durable, clients: %d", clients), settings, kiln); err != nil {
		return nil, 0, err
	}
	if c.database == nil {
		return kiln, 0, nil
	}
	inserts, err := c.database.insertLoad(ctx, settings, seed, c.bodies)
	if err != nil {
		return nil, 0, err
	}
	return kiln, kiln.rate() / inserts.rate(), c.bench.reportLoad(fmt.Sprintf("%s, clients: %d", insertSettings, clients), settings, inserts)
}

// compareWithSync measures the bare sync for as long as the lone client.
func (c *creates) compareWithSync(ctx context.Context, kiln *loadResult, round int) error {
	settings := loadSettings{1, c.roundLength(c.Rounds)}
	syncs, err := syncLoad(ctx, filepath.Join(c.bench.dir, "synced"), settings.For, c.Seed+uint64(round))
	if err != nil {
		return err
	}
	if err := c.bench.reportLoad(floorSync, settings, syncs); err != nil {
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

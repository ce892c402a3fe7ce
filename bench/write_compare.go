package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// comparedClients are the numbers of clients that durable creates are compared at.
var comparedClients = []int{1, 8, 64}

const insertSettings = "PostgreSQL with its default settings (fsync and synchronous_commit on): single-row inserts of jsonb with a GIN index (jsonb_path_ops, fastupdate), Unix socket"

// comparePostgres measures durable creates of the same bodies on a server and in
// PostgreSQL, in turns.
func (c *writeCommand) comparePostgres(ctx context.Context, b *bench, set *dataSet, bodies []sampled) error {
	if err := os.Chmod(b.dir, 0o755); err != nil { // the database's user goes there
		return err
	}
	database, err := startPostgres(ctx, b.dir, asItComes)
	if err != nil {
		return err
	}
	defer database.stop()
	if _, err := database.psql(ctx, insertTable); err != nil {
		return err
	}
	s, err := b.start(ctx, filepath.Join(b.dir, "compared"), set.dir)
	if err != nil {
		return err
	}
	var ratios []figure
	for _, clients := range comparedClients {
		kiln, inserts, err := c.compareAt(ctx, clients, s, database, bodies)
		if err != nil {
			return err
		}
		settings := loadSettings{Concurrency: clients}
		if err := b.reportLoad(fmt.Sprintf("kiln: PUT of new resources over HTTP, durable, %d clients", clients), settings, kiln); err != nil {
			return err
		}
		if err := b.reportLoad(fmt.Sprintf("%s, %d clients", insertSettings, clients), settings, inserts); err != nil {
			return err
		}
		ratios = append(ratios, figure{fmt.Sprintf("kiln's creates to inserts, %d clients", clients), kiln.rate() / inserts.rate(), "times"})
	}
	b.report.add(fmt.Sprintf("comparison, %d rounds taken in turn", c.Rounds), ratios...)
	_, err = s.stop()
	return err
}

// compareAt lets both take turns with so many clients.
func (c *writeCommand) compareAt(ctx context.Context, clients int, s *server, database *postgres, bodies []sampled) (kiln, inserts *loadResult, err error) {
	kiln, inserts = &loadResult{}, &loadResult{}
	settings := loadSettings{clients, c.For / time.Duration(c.Rounds)}
	for round := range c.Rounds {
		seed := c.Seed + uint64(1000*clients+round)
		created, err := load(ctx, s.base, settings, seed, func(int) client {
			return (&writer{base: s.base, bodies: bodies}).creating()
		})
		if err != nil {
			return nil, nil, err
		}
		kiln.addTime(created)
		inserted, err := database.insertLoad(ctx, settings, seed, bodies)
		if err != nil {
			return nil, nil, err
		}
		inserts.addTime(inserted)
	}
	return kiln, inserts, nil
}

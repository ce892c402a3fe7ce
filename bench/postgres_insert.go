package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// insertTable is the least that a search needs: no key, no columns, and the
// smaller of the two GIN operator classes.
const insertTable = "create table inserts (doc jsonb not null); create index inserts_doc on inserts using gin (doc jsonb_path_ops)"

// insertLoad lets clients insert rows, each in a transaction of its own, as
// load lets clients send requests. Each has a connection over the Unix socket.
func (p *postgres) insertLoad(ctx context.Context, s loadSettings, seed uint64, bodies []sampled) (*loadResult, error) {
	connections := make([]*pgx.Conn, s.Concurrency)
	for i := range connections {
		var err error
		if connections[i], err = pgx.Connect(ctx, "host="+p.socket+" user=postgres dbname=postgres"); err != nil {
			return nil, err
		}
		defer connections[i].Close(ctx)
	}
	parts := make([]loadResult, s.Concurrency)
	start := time.Now()
	end := start.Add(s.For)
	var running sync.WaitGroup
	for i, conn := range connections {
		running.Go(func() {
			parts[i] = inserter{conn, bodies}.run(ctx, end, rand.New(rand.NewPCG(seed, uint64(i))))
		})
	}
	running.Wait()
	all := &loadResult{took: time.Since(start)}
	all.add(parts...)
	return all, ctx.Err()
}

type inserter struct {
	conn   *pgx.Conn
	bodies []sampled
}

func (c inserter) run(ctx context.Context, end time.Time, r *rand.Rand) (result loadResult) {
	var body []byte
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
		at := &c.bodies[r.IntN(len(c.bodies))]
		_, oldID, _ := strings.Cut(at.path, "/")
		body = withID(body[:0], at.body, oldID, newID(r))
		_, err := c.conn.Exec(ctx, "insert into inserts (doc) values ($1)", body) // prepared once
		took := time.Since(now)
		now = now.Add(took)
		if err != nil {
			result.wrong++
			result.example = err
			continue
		}
		result.latencies = append(result.latencies, took)
	}
	return result
}

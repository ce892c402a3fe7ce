package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/internal/vfs"
)

// paced is something that is done at a fixed mean rate by some clients.
type paced struct {
	name      string
	perSecond float64 // of all clients together
	clients   int
	// newClient makes a client, which does it once, counted from began on.
	newClient func(i int) func(r *rand.Rand, began time.Time, result *loadResult)
}

// pace does all of it side by side until the time is over or ctx ends, which is no
// error. Requests come at random moments. One that is due before its client has its
// last answer counts from when it was due: a server that stops for a while is not
// spared the requests that it keeps from being sent.
func pace(ctx context.Context, kinds []paced, length time.Duration, seed uint64) ([]loadResult, error) {
	results := make([]loadResult, len(kinds))
	start := time.Now()
	var running sync.WaitGroup
	var mu sync.Mutex
	for i, k := range kinds {
		for j := range k.clients {
			running.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i)<<32+uint64(j)))
				result := k.run(ctx, k.newClient(j), start.Add(length), r)
				mu.Lock()
				defer mu.Unlock()
				results[i].add(result)
			})
		}
	}
	running.Wait()
	for i := range results {
		results[i].took = time.Since(start)
		if r := &results[i]; r.wrong > 0 {
			return nil, fmt.Errorf("%s: %d wrong answers, one of them: %w", kinds[i].name, r.wrong, r.example)
		}
	}
	return results, nil
}

func (k *paced) run(ctx context.Context, do func(*rand.Rand, time.Time, *loadResult), end time.Time, r *rand.Rand) (result loadResult) {
	mean := float64(time.Second) * float64(k.clients) / k.perSecond
	due := time.Now()
	for {
		due = due.Add(time.Duration(r.ExpFloat64() * mean))
		if due.After(end) || ctx.Err() != nil {
			return result
		}
		began := due
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
			began = time.Now() // late by the harness's doing, not by the server's
		}
		do(r, began, &result)
	}
}

// requests are sent by clients of the server at base.
func requests(name, base string, perSecond float64, clients int, newClient func(i int) client) paced {
	return paced{name: name, perSecond: perSecond, clients: clients, newClient: func(i int) func(*rand.Rand, time.Time, *loadResult) {
		door, c := newDoor(base, 1), newClient(i)
		request, response := new(fasthttp.Request), new(fasthttp.Response)
		return func(r *rand.Rand, began time.Time, result *loadResult) {
			c.send(door, request, response, r, began, result)
		}
	}}
}

const (
	// syncsPerSecond of the bare file are few enough to disturb nothing.
	syncsPerSecond = 50
	syncBytes      = 4 << 10
	syncFileBytes  = 4 << 20
)

// bareSyncs writes the next page of a file that has its blocks, as a log does, and
// waits until it is on disk: the least that a durable write can take. What a merge adds to it is the disk's.
func bareSyncs(path string) (kind paced, closeFile func() error, err error) {
	fsys := vfs.OS()
	file, err := fsys.Create(path)
	if err != nil {
		return paced{}, nil, err
	}
	page := make([]byte, syncFileBytes)
	if _, err = file.WriteAt(page, 0); err == nil {
		err = file.Sync()
	}
	closeFile = func() error { return errors.Join(file.Close(), fsys.Remove(path)) }
	if err != nil {
		return paced{}, nil, errors.Join(err, closeFile())
	}
	kind = paced{name: "a bare write and fdatasync of 4 KiB", perSecond: syncsPerSecond, clients: 1}
	kind.newClient = func(int) func(*rand.Rand, time.Time, *loadResult) {
		next := int64(0)
		return func(_ *rand.Rand, began time.Time, result *loadResult) {
			_, err := file.WriteAt(page[:syncBytes], next)
			next = (next + syncBytes) % syncFileBytes
			if err = errors.Join(err, file.SyncData()); err != nil {
				result.wrong, result.example = result.wrong+1, err
				return
			}
			result.latencies = append(result.latencies, time.Since(began))
		}
	}
	return kind, closeFile, nil
}

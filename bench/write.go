package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

type writeCommand struct {
	settings
	loadSettings
	ComparePostgres bool `help:"Also compare durable creates with single-row inserts into PostgreSQL, at 1, 8 and 64 clients."`
	Floors          bool `help:"Also compare the creates of a lone client with bare syncs."`
	Rounds          int  `help:"Take turns this often between what is measured." default:"5"`
}

// bodiesMax is how many different bodies the clients send; ids are always new.
const bodiesMax = 20_000

// Run measures PUT of new resources, and PUT of other content over them, and compares.
// The server answers when the log is on disk.
func (c *writeCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "write", func(b *bench) error {
		return b.serving(ctx, false, func(s *server, set *dataSet) error { return c.measure(ctx, b, s, set) })
	})
}

func (c *writeCommand) measure(ctx context.Context, b *bench, s *server, set *dataSet) error {
	bodies, err := set.sample(bodiesMax, c.Seed, true)
	if err != nil {
		return err
	}
	compared, err := c.compare(ctx, b, s, bodies)
	if err != nil {
		return err
	}
	defer compared.stop()
	writers := make([]*writer, c.Concurrency)
	for i := range writers {
		writers[i] = &writer{base: s.base, bodies: bodies}
	}
	creates := stretch{name: "kiln: PUT of new resources, durable, clients on the same machine", base: s.base, clients: func(i int) client { return writers[i].creating() }}
	updates := stretch{name: "kiln: PUT of new versions, durable, clients on the same machine", base: s.base, clients: func(i int) client { return writers[i].updating() }}
	if err := c.inTurns(c.Rounds, func(share loadSettings, round int) error {
		for _, what := range []stretch{creates, updates} {
			if _, err := b.turn(ctx, share, round, what); err != nil {
				return err
			}
		}
		return compared.round(ctx, share.For, round)
	}); err != nil {
		return err
	}
	return b.reportVersions(ctx, s)
}

// reportVersions tells what the store takes for each version that was written.
func (b *bench) reportVersions(ctx context.Context, s *server) error {
	if err := s.waitIdle(ctx); err != nil {
		return err
	}
	metrics, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	sizes, err := diskBytes(s.dataDir)
	if err != nil {
		return err
	}
	b.report.add("kiln: the store in the end", diskFigures(sizes, metrics["kiln_store_versions"], "bytes a version")...)
	return nil
}

// writer is one client with the resources it made.
type writer struct {
	base    string
	bodies  []sampled
	body    []byte // of the request under way
	made    []written
	pending written
	changes int
}

type written struct {
	path string // Type/id
	body int    // index in bodies
}

func (w *writer) creating() client {
	return client{
		want: []int{http.StatusCreated},
		next: func(r *rand.Rand, request *fasthttp.Request) {
			at := r.IntN(len(w.bodies))
			typeName, oldID, _ := strings.Cut(w.bodies[at].path, "/")
			id := newID(r)
			w.pending = written{typeName + "/" + id, at}
			w.body = withID(w.body[:0], w.bodies[at].body, oldID, id)
			put(request, w.base, w.pending.path, w.body)
		},
		answered: func(*fasthttp.Response, time.Duration) { w.made = append(w.made, w.pending) },
	}
}

func (w *writer) updating() client {
	return client{want: []int{http.StatusOK}, next: func(r *rand.Rand, request *fasthttp.Request) {
		target := w.made[r.IntN(len(w.made))]
		_, oldID, _ := strings.Cut(w.bodies[target.body].path, "/")
		_, id, _ := strings.Cut(target.path, "/")
		w.changes++
		w.body = changed(withID(w.body[:0], w.bodies[target.body].body, oldID, id), w.changes)
		put(request, w.base, target.path, w.body)
	}}
}

func put(request *fasthttp.Request, base, path string, body []byte) {
	request.Header.SetMethod(http.MethodPut)
	request.Header.SetContentType("application/fhir+json")
	request.Header.Set("Prefer", "return=minimal")
	request.SetRequestURI(base + "/" + path)
	request.SetBodyRaw(body)
}

// newID draws a random UUID (RFC 9562, version 4) from the client's stream.
func newID(r *rand.Rand) string {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// withID appends body with another id. The first place that has the old one as
// the value of an "id" member is the resource's own in every data set used.
func withID(dst, body []byte, oldID, id string) []byte {
	old := []byte(`"id":"` + oldID + `"`)
	before, after, found := bytes.Cut(body, old)
	if !found {
		panic(fmt.Sprintf("BUG: no id %q in %.100s", oldID, body))
	}
	dst = append(dst, before...)
	dst = append(dst, `"id":"`+id+`"`...)
	return append(dst, after...)
}

// changed makes the content different from every version before.
func changed(body []byte, n int) []byte {
	end := bytes.LastIndexByte(body, '}')
	body = append(body[:end], `,"implicitRules":"urn:kiln:bench:`...)
	body = strconv.AppendInt(body, int64(n), 10)
	return append(body, `"}`...)
}

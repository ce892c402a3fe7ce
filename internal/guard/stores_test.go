package guard

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"

	"kiln/bulk"
	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/httpapi"
	"kiln/index"
	"kiln/internal/vfs"
)

const (
	storeRows   = 4000 // of the store that is read and searched
	commitsOnce = 50   // resources that one work commits, one after the other
	readsOnce   = 50   // requests that one work makes
)

// newStore opens an empty store in memory, with nothing done at random.
func newStore(tb testing.TB) *engine.Store {
	tb.Helper()
	var ids atomic.Uint64
	store := must(engine.Open(context.Background(), engine.Options{
		FS: vfs.NewMem(1), Dir: "/data", Now: newClock(), NewID: func() uint64 { return ids.Add(1) }, Logger: slog.New(slog.DiscardHandler),
		CatalogInMem: true, FreeBytesMin: -1, BallastBytes: -1, ScrubInterval: -1, MergeFanIn: -1,
	}))(tb)
	tb.Cleanup(func() {
		if err := store.Close(); err != nil {
			tb.Error(err)
		}
	})
	return store
}

// newClock goes on by a millisecond every time.
func newClock() func() time.Time {
	start, calls := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), atomic.Int64{}
	return func() time.Time { return start.Add(time.Duration(calls.Add(1)) * time.Millisecond) }
}

// observation is a resource with a code of ten, a status of two, and a text.
func observation(tb testing.TB, s *fhir.Scanner, id int, text string) engine.Change {
	tb.Helper()
	line := fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":%q,"code":{"coding":[{"system":"http://loinc.org","code":"c%d"}],"text":%q},`+
		`"subject":{"reference":"Patient/p%d"},"effectiveDateTime":"2024-03-%02dT10:00:00Z","valueQuantity":{"value":%d,"unit":"mg"}}`,
		id, []string{"final", "amended"}[id/7%2], id%10, text, id%90, id%28+1, id%300)
	r := must(s.Scan([]byte(line), nil))(tb)
	return engine.Change{Type: r.Type, ID: []byte(fmt.Sprintf("o%d", id)), IDAt: r.IDAt, Body: []byte(line), Splice: r.Splice}
}

// newFilledStore has storeRows resources in one run.
func newFilledStore(tb testing.TB) *engine.Store {
	tb.Helper()
	store, scanner := newStore(tb), fhir.NewScanner(fhir.ScannerOptions{})
	for i := 0; i < storeRows; i += 500 {
		var changes []engine.Change
		for j := range 500 {
			changes = append(changes, observation(tb, scanner, i+j, "a text"))
		}
		must(store.Commit(context.Background(), changes))(tb)
	}
	if err := store.Flush(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return store
}

func openCountAnd(tb testing.TB) func() { return openCount(tb, engine.And, storeRows/10/2) }
func openCountOr(tb testing.TB) func()  { return openCount(tb, engine.Or, storeRows/2+storeRows/10/2) }

// openCount asks for a code and, or or, a status.
func openCount(tb testing.TB, op engine.Op, about int) func() {
	n := must(newFilledStore(tb).Snapshot())(tb)
	tb.Cleanup(n.Release)
	table := must(search.Load())(tb)
	of := fhir.TypeByName([]byte("Observation"))
	token := func(param, code string) *engine.Expr {
		walks := must(index.TokenWalks(table.Param(of, param).Sources, index.Token{Code: []byte(code), AnySystem: true}))(tb)
		return &engine.Expr{Op: engine.Terms, Walks: walks}
	}
	q := &engine.Query{Types: []fhir.TypeCode{of}, Where: &engine.Expr{Op: op, Args: []*engine.Expr{token("code", "c3"), token("status", "final")}}}
	return func() {
		if found, err := n.Count(context.Background(), q); err != nil || int(found) < about*3/4 || int(found) > about*5/4 {
			tb.Fatalf("%d found, not about %d: %v", found, about, err)
		}
	}
}

func openGet(tb testing.TB) func() {
	store := newFilledStore(tb)
	of, ids := fhir.TypeByName([]byte("Observation")), [][]byte{}
	for i := range storeRows {
		ids = append(ids, []byte(fmt.Sprintf("o%d", i*7919%storeRows)))
	}
	return func() {
		for _, id := range ids {
			n, err := store.Snapshot()
			if err != nil {
				tb.Fatal(err)
			}
			if _, err := n.Get(of, id); err != nil {
				tb.Fatal(err)
			}
			n.Release()
		}
	}
}

func openCommit(tb testing.TB) func() {
	store, scanner := newStore(tb), fhir.NewScanner(fhir.ScannerOptions{})
	changes := []engine.Change{}
	for i := range commitsOnce {
		changes = append(changes, observation(tb, scanner, i, "a text"), observation(tb, scanner, i, "another one"))
	}
	turn := 0
	return func() {
		turn++
		for i := range commitsOnce {
			at := 2*i + turn%2
			if _, err := store.Commit(context.Background(), changes[at:at+1]); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// openHTTPRead asks a server over a connection in memory.
func openHTTPRead(tb testing.TB) func() {
	store := newFilledStore(tb)
	jobs := newJobs(tb, store, "")
	server := must(httpapi.New(httpapi.Options{Store: store, Jobs: jobs, Now: newClock(), NewID: func() string { return "b0f5b1f5-45a8-4a53-8cd3-2c7e4bd4a4e0" }, Logger: slog.New(slog.DiscardHandler)}))(tb)
	listener := fasthttputil.NewInmemoryListener()
	go func() { _ = server.Serve(listener) }()
	tb.Cleanup(func() {
		if err := server.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	conn := must(listener.Dial())(tb)
	request, answer := []byte("GET /fhir/Observation/o7 HTTP/1.1\r\nHost: localhost\r\n\r\n"), make([]byte, 4096)
	n := ask(tb, conn, request, answer, 1)
	return func() {
		for range readsOnce {
			ask(tb, conn, request, answer, n)
		}
	}
}

// ask sends a request and reads so many bytes of the answer, or what has come of it.
func ask(tb testing.TB, conn net.Conn, request, answer []byte, least int) int {
	if _, err := conn.Write(request); err != nil {
		tb.Fatal(err)
	}
	n, err := io.ReadAtLeast(conn, answer, least)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func newJobs(tb testing.TB, store *engine.Store, root string) *bulk.Manager {
	var ids atomic.Uint64
	opts := bulk.Options{Store: store, Now: newClock(), NewID: func() uint64 { return ids.Add(1) }, Logger: slog.New(slog.DiscardHandler), Workers: 1}
	if root != "" {
		opts.ImportRoots = []string{root}
	}
	jobs := must(bulk.NewManager(context.Background(), opts))(tb)
	tb.Cleanup(func() {
		if err := jobs.Close(); err != nil {
			tb.Error(err)
		}
	})
	return jobs
}

// openImport imports the sample into a store that has it: all but the writing.
func openImport(tb testing.TB) func() {
	root := tb.TempDir()
	name, text := filepath.Join(root, "sample.ndjson"), []byte{}
	for _, line := range sample(tb) {
		text = append(append(text, line...), '\n')
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		tb.Fatal(err)
	}
	jobs, turn := newJobs(tb, newStore(tb), root), 0
	return func() {
		turn++
		id := must(jobs.StartImport(context.Background(), &bulk.ImportRequest{
			Mode: bulk.IncrementalLoad, InputSource: fmt.Sprint(turn), Inputs: []bulk.ImportInput{{URL: name}},
		}))(tb)
		status := must(jobs.WaitImport(context.Background(), id))(tb)
		if status.State != bulk.Completed || len(status.Inputs) != 1 || status.Inputs[0].Loaded != sampleLines {
			tb.Fatalf("the import ends as %+v", status)
		}
	}
}

func openExport(tb testing.TB) func() {
	jobs := newJobs(tb, newFilledStore(tb), "")
	return func() {
		id := must(jobs.StartExport(context.Background(), &bulk.ExportRequest{}))(tb)
		status := must(jobs.WaitExport(context.Background(), id))(tb)
		if status.State != bulk.Completed || len(status.Files) != 1 || status.Files[0].Count != storeRows {
			tb.Fatalf("the export ends as %+v", status)
		}
		if err := jobs.DeleteExport(context.Background(), id); err != nil {
			tb.Fatal(err)
		}
	}
}

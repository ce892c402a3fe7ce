package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type searchCommand struct {
	settings
	Repetitions     int      `help:"Ask each question so many times in each round, each time with other values of the data." default:"60"`
	Rounds          int      `help:"Go through all questions this often." default:"1"`
	Row             []string `help:"Ask only the questions whose name contains one of these."`
	Store           string   `help:"Data directory that was filled with the same data before (kiln load): it is copied, and nothing is imported." type:"existingdir"`
	Against         string   `help:"Another binary of kiln, which answers the same questions in turn, from a copy of the same store." type:"existingfile"`
	ComparePostgres bool     `help:"Ask PostgreSQL the same after each question, on the same data with its indexes; answers that differ fail the run."`
	CompareDuckDB   bool     `help:"Ask DuckDB, too." name:"compare-duckdb"`
}

// warmUpRepetitions run before those that count: connections, prepared
// statements, caches.
const warmUpRepetitions = 10

// Run measures searches: the count, and the first page of 50 resources.
func (c *searchCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "search", func(b *bench) error {
		m := &searching{searchCommand: c, bench: b}
		defer m.stopOthers()
		if err := m.prepare(ctx); err != nil {
			return err
		}
		for round := range c.Rounds {
			if err := m.round(ctx, round); err != nil {
				return err
			}
		}
		used, err := m.servers[0].stop()
		if err != nil {
			return err
		}
		b.report.add(serverInAll, used.figures()...)
		return nil
	})
}

// round asks every question, and tells how the others compare.
func (m *searching) round(ctx context.Context, round int) error {
	m.ratios, m.shares, m.duckRatios, m.changes = nil, nil, nil, nil
	for i := range searchQuestions {
		if err := m.measure(ctx, &searchQuestions[i], round); err != nil {
			return err
		}
	}
	if m.Against != "" {
		m.bench.report.add("comparison: the other binary's median to kiln's", m.changes...)
	}
	if m.asker != nil {
		m.bench.report.add(searchRatios, m.ratios...)
		m.bench.report.add("comparison: processor time of PostgreSQL's server, with its thriftiest statement, to kiln's", m.shares...)
	}
	if len(m.duckRatios) > 0 {
		m.bench.report.add("comparison: DuckDB's median to kiln's", m.duckRatios...)
	}
	return m.bench.measurePages(ctx, downloadRun, m.servers[0].base+"/Observation?status=final&_count=1000&_total=none", downloadPages)
}

const (
	downloadRun = "kiln: search and download of the final Observations, 1000 a page, one client"
	// downloadPages bounds a round: more pages tell nothing new.
	downloadPages = 200
)

// searching is the measurement under way.
type searching struct {
	*searchCommand
	bench    *bench
	servers  []*server // that of the binary to measure, and the other one's
	values   *searchValues
	database *postgres // nil: not compared
	asker    *postgresAsker
	// PostgreSQL's to kiln's: of the medians, and of the processor times.
	ratios, shares []figure
	duck           *duckdb // nil: not compared
	duckRatios     []figure
	changes        []figure // the other binary's median to kiln's
}

func (m *searching) prepare(ctx context.Context) error {
	set, err := m.bench.prepareData()
	if err != nil {
		return err
	}
	if m.ComparePostgres || m.CompareDuckDB {
		if set, err = m.bench.unpackForAll(set); err != nil {
			return err
		}
	}
	if m.values, err = set.searchValues(m.Seed); err != nil {
		return err
	}
	if m.ComparePostgres {
		if err := m.startPostgres(ctx, set); err != nil {
			return err
		}
	}
	if m.CompareDuckDB {
		if err := m.startDuckDB(ctx, set); err != nil {
			return err
		}
	}
	return m.startServers(ctx, set)
}

// stopOthers ends what kiln is compared with.
func (m *searching) stopOthers() {
	if m.asker != nil {
		m.asker.close()
	}
	if m.database != nil {
		m.database.stop()
	}
	if m.duck != nil {
		m.duck.stop()
	}
}

// startServers fills the store and starts the server on it, and the other binary on
// a copy.
func (m *searching) startServers(ctx context.Context, set *dataSet) error {
	store := filepath.Join(m.bench.dir, "store")
	if m.Store != "" {
		if err := os.CopyFS(store, os.DirFS(m.Store)); err != nil {
			return fmt.Errorf("cannot copy the store: %w", err)
		}
	}
	s, err := m.bench.start(ctx, store, set.dir)
	if err != nil {
		return err
	}
	if m.Store == "" {
		if _, err := s.fill(ctx, set); err != nil {
			return err
		}
	}
	m.servers = []*server{s}
	if m.Against == "" {
		return nil
	}
	return m.startOther(ctx, store, set)
}

// startOther stops the server for as long as its store is copied.
func (m *searching) startOther(ctx context.Context, store string, set *dataSet) error {
	if _, err := m.servers[0].stop(); err != nil {
		return err
	}
	copied := store + "-other"
	if err := os.CopyFS(copied, os.DirFS(store)); err != nil {
		return fmt.Errorf("cannot copy the store: %w", err)
	}
	s, err := m.bench.start(ctx, store, set.dir)
	if err != nil {
		return err
	}
	other := *m.bench
	other.binary = m.Against
	o, err := other.start(ctx, copied, set.dir)
	m.bench.servers, m.servers = other.servers, []*server{s, o}
	return err
}

func (m *searching) startPostgres(ctx context.Context, set *dataSet) (err error) {
	start := time.Now()
	if m.database, err = startPostgres(ctx, m.bench.dir, forBulk); err != nil {
		return err
	}
	if _, err := m.database.copyFiles(ctx, set.files, 1, false); err != nil {
		return err
	}
	if _, err := m.database.psql(ctx, searchTables...); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "filled and indexed PostgreSQL in %.1f s\n", time.Since(start).Seconds())
	m.asker, err = m.database.asker(ctx)
	return err
}

// measured is what was seen of one way to ask a question.
type measured struct {
	name        string
	took        []time.Duration
	nanoseconds int64 // that the server ran on the processors
	// Of kiln's servers, what they took from memory.
	allocations, bytes float64
}

// hitsCounted is how many hits of a count's median answer come in a second of its median time.
const hitsCounted = "hits counted per second"

// kilnWay is a server of kiln and what is seen of it.
type kilnWay struct {
	*measured
	server *server
	door   *searchDoor
}

// count begins to count, or ends: what a server does between its requests is its
// own work too.
func (w *kilnWay) count(sign int64) error {
	allocations, bytes, err := w.server.allocated()
	w.nanoseconds += sign * taskNanoseconds(w.server.cmd.Process.Pid)
	w.allocations += float64(sign) * allocations
	w.bytes += float64(sign) * bytes
	return err
}

// measure asks one question, in turns with the other ways to ask it.
func (m *searching) measure(ctx context.Context, q *question, round int) error {
	if len(m.Row) > 0 && !slices.ContainsFunc(m.Row, func(part string) bool { return containsFold(q.name, part) }) {
		return nil
	}
	// Every question has its own stream, so that leaving some out changes no other.
	r := rand.New(rand.NewPCG(m.Seed+uint64(round), stringSeed(q.name)))
	var kilns []kilnWay
	for i, s := range m.servers {
		name := []string{"kiln", "the other binary"}[i]
		kilns = append(kilns, kilnWay{&measured{name: name}, s, newSearchDoor(s.base)})
		defer kilns[i].door.close()
	}
	var others []measured
	for _, s := range q.statements {
		if m.asker != nil {
			others = append(others, measured{name: "PostgreSQL, " + s.name})
		}
	}
	duck, hits := measured{name: "DuckDB"}, []float64(nil)
	for i := range warmUpRepetitions + m.Repetitions {
		if i == warmUpRepetitions {
			for _, k := range kilns {
				if err := k.count(-1); err != nil {
					return err
				}
			}
		}
		values := m.values.draw(r)
		found, err := askKilns(q, kilns, values, i)
		if err == nil {
			err = m.askPostgres(ctx, q, others, values, found, i >= warmUpRepetitions)
		}
		if err == nil {
			err = m.askDuckDB(q, &duck, values, found, i >= warmUpRepetitions)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		hits = append(hits, float64(found.count))
	}
	for _, k := range kilns {
		if err := k.count(1); err != nil {
			return err
		}
	}
	m.reportQuestion(q, kilns, others, &duck, hits[warmUpRepetitions:])
	return nil
}

// askKilns asks each server once, another one first each time.
func askKilns(q *question, kilns []kilnWay, values asked, turn int) (first answer, err error) {
	for i := range kilns {
		k := &kilns[(turn+i)%len(kilns)]
		found, took, err := k.door.ask(q, values)
		if err != nil {
			return first, err
		}
		if turn >= warmUpRepetitions {
			k.took = append(k.took, took)
		}
		if i > 0 && !found.equal(first) {
			return first, fmt.Errorf("answers differ for %v: %v of %s, %v", values, found, k.name, first)
		}
		first = found
	}
	return first, nil
}

// askPostgres asks the same in each way.
func (m *searching) askPostgres(ctx context.Context, q *question, ways []measured, values asked, found answer, counts bool) error {
	for i := range ways {
		way, s := &ways[i], &q.statements[i]
		before := taskNanoseconds(m.asker.pid)
		other, took, err := m.asker.ask(ctx, q, s, values)
		if err != nil {
			return err
		}
		if !found.equal(other) {
			return fmt.Errorf("answers differ for %v: kiln %v, %s %v", values, found, way.name, other)
		}
		if counts {
			way.took = append(way.took, took)
			way.nanoseconds += taskNanoseconds(m.asker.pid) - before
		}
	}
	return nil
}

func (m *searching) reportQuestion(q *question, kilns []kilnWay, others []measured, duck *measured, hits []float64) {
	var figures []figure
	var ways []*measured
	for _, k := range kilns {
		ways = append(ways, k.measured)
	}
	for i := range others {
		ways = append(ways, &others[i])
	}
	var medians, processor []float64
	for i, way := range ways {
		slices.Sort(way.took)
		n := float64(len(way.took))
		medians = append(medians, millis(percentile(way.took, 50)))
		processor = append(processor, float64(way.nanoseconds)/n/1e6)
		figures = append(figures,
			figure{way.name + ": median", medians[i], "ms"},
			figure{way.name + ": 99 of 100 below", millis(percentile(way.took, 99)), "ms"},
			figure{way.name + ": processor time", processor[i], "ms a request"})
		if i < len(kilns) {
			figures = append(figures,
				figure{way.name + ": allocations", way.allocations / n, "allocations a request"},
				figure{way.name + ": allocated", way.bytes / n / 1e3, "kB a request"})
		}
	}
	figures = append(figures, m.duckFigures(q, duck, medians[0])...)
	figures = append(figures, figure{"found, median", median(hits), "resources"})
	if strings.HasSuffix(q.address, asCount) {
		figures = append(figures, figure{hitsCounted, median(hits) / medians[0] * 1e3, perSecond("hits")})
	}
	if len(kilns) > 1 {
		m.changes = append(m.changes, figure{q.name, medians[1] / medians[0], "times"})
	}
	if len(others) > 0 {
		m.ratios = append(m.ratios, figure{q.name, slices.Min(medians[len(kilns):]) / medians[0], "times"})
		m.shares = append(m.shares, figure{q.name, slices.Min(processor[len(kilns):]) / processor[0], "times"})
	}
	m.bench.report.add(q.name, figures...)
}

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

type searchCommand struct {
	settings
	Repetitions     int    `help:"Ask each question so many times, each time with other values of the data." default:"60"`
	Only            string `help:"Ask only the questions whose name contains this."`
	ComparePostgres bool   `help:"Ask PostgreSQL the same after each question, on the same data with its indexes; answers that differ fail the run."`
}

// warmUpRepetitions run before those that count: connections, prepared
// statements, caches.
const warmUpRepetitions = 10

// Run measures searches: the count, and the first page of 50 resources.
func (c *searchCommand) Run(ctx context.Context) error {
	b, cleanUp, err := c.setUp(ctx, "search")
	if err != nil {
		return err
	}
	defer cleanUp()
	m, err := c.prepare(ctx, b)
	if err != nil {
		return err
	}
	if m.database != nil {
		defer m.database.stop()
	}
	for i := range searchQuestions {
		if err := m.measure(ctx, &searchQuestions[i]); err != nil {
			return err
		}
	}
	if m.asker != nil {
		b.report.add("comparison: PostgreSQL's median, of its fastest statement, to kiln's", m.ratios...)
		b.report.add("comparison: processor time of PostgreSQL's server, with its thriftiest statement, to kiln's", m.shares...)
	}
	if m.asker != nil {
		m.asker.close()
	}
	used, err := m.server.stop()
	if err != nil {
		return err
	}
	b.report.add("kiln: the server in all", used.figures()...)
	return b.report.save(c.JSON)
}

// searching is the measurement under way.
type searching struct {
	*searchCommand
	bench    *bench
	server   *server
	values   *searchValues
	database *postgres // nil: not compared
	asker    *postgresAsker
	// PostgreSQL's to kiln's: of the medians, and of the processor times.
	ratios, shares []figure
}

func (c *searchCommand) prepare(ctx context.Context, b *bench) (*searching, error) {
	set, err := b.prepareData()
	if err != nil {
		return nil, err
	}
	if c.ComparePostgres {
		if set, err = b.unpackForAll(set); err != nil {
			return nil, err
		}
	}
	m := &searching{searchCommand: c, bench: b}
	if m.values, err = set.searchValues(c.Seed); err != nil {
		return nil, err
	}
	if c.ComparePostgres {
		if err := m.startPostgres(ctx, set); err != nil {
			return nil, err
		}
	}
	if m.server, err = b.start(ctx, filepath.Join(b.dir, "store"), set.dir); err != nil {
		return nil, err
	}
	result, took, err := m.server.runImport(ctx, set.files, "InitialLoad")
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "imported %d resources in %.1f s\n", result.loaded(), took.Seconds())
	return m, nil
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
}

// measure asks one question, in turns with the statements it is compared with.
func (m *searching) measure(ctx context.Context, q *question) error {
	if !containsFold(q.name, m.Only) {
		return nil
	}
	door := newSearchDoor(m.server.base)
	defer door.close()
	// Every question has its own stream, so that leaving some out changes no other.
	r := rand.New(rand.NewPCG(m.Seed, stringSeed(q.name)))
	ways := []measured{{name: "kiln"}}
	for _, s := range q.statements {
		ways = append(ways, measured{name: "PostgreSQL, " + s.name})
	}
	if m.asker == nil {
		ways = ways[:1]
	}
	var hits []float64
	for i := range warmUpRepetitions + m.Repetitions {
		if i == warmUpRepetitions {
			// What it does between its requests is its own work too.
			ways[0].nanoseconds = -taskNanoseconds(m.server.cmd.Process.Pid)
		}
		found, err := m.askAll(ctx, q, door, r, ways, i >= warmUpRepetitions)
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		hits = append(hits, float64(found))
	}
	ways[0].nanoseconds += taskNanoseconds(m.server.cmd.Process.Pid)
	m.reportQuestion(q, ways, hits[warmUpRepetitions:])
	return nil
}

// askAll asks a question once in each way, for the same values.
func (m *searching) askAll(ctx context.Context, q *question, door *searchDoor, r *rand.Rand, ways []measured, counts bool) (found int64, err error) {
	values := m.values.draw(r)
	first, took, err := door.ask(q, values)
	if err != nil {
		return 0, err
	}
	if counts {
		ways[0].took = append(ways[0].took, took)
	}
	for i := range ways[1:] {
		way, s := &ways[1+i], &q.statements[i]
		before := taskNanoseconds(m.asker.pid)
		other, took, err := m.asker.ask(ctx, q, s, values)
		if err != nil {
			return 0, err
		}
		if !first.equal(other) {
			return 0, fmt.Errorf("answers differ for %v: kiln %v, %s %v", values, first, way.name, other)
		}
		if counts {
			way.took = append(way.took, took)
			way.nanoseconds += taskNanoseconds(m.asker.pid) - before
		}
	}
	return first.count, nil
}

func (m *searching) reportQuestion(q *question, ways []measured, hits []float64) {
	var figures []figure
	var medians, processor []float64
	for i := range ways {
		way := &ways[i]
		slices.Sort(way.took)
		medians = append(medians, millis(percentile(way.took, 50)))
		processor = append(processor, float64(way.nanoseconds)/float64(len(way.took))/1e6)
		figures = append(figures,
			figure{way.name + ": median", medians[i], "ms"},
			figure{way.name + ": 99 of 100 below", millis(percentile(way.took, 99)), "ms"},
			figure{way.name + ": processor time", processor[i], "ms a request"})
	}
	figures = append(figures, figure{"found, median", median(hits), ""})
	if len(ways) > 1 {
		m.ratios = append(m.ratios, figure{q.name, slices.Min(medians[1:]) / medians[0], "times"})
		m.shares = append(m.shares, figure{q.name, slices.Min(processor[1:]) / processor[0], "times"})
	}
	m.bench.report.add(q.name, figures...)
}

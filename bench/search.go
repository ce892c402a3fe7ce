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
	b.report.add("comparison: PostgreSQL's median, of its fastest statement, to kiln's", m.ratios...)
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
	ratios   []figure
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

// measure asks one question, in turns with the statements it is compared with.
func (m *searching) measure(ctx context.Context, q *question) error {
	if !containsFold(q.name, m.Only) {
		return nil
	}
	door := newSearchDoor(m.server.base)
	defer door.close()
	// Every question has its own stream, so that leaving some out changes no other.
	r := rand.New(rand.NewPCG(m.Seed, stringSeed(q.name)))
	took := make([][]time.Duration, 1+len(q.statements))
	hits := make([]float64, 0, m.Repetitions)
	for i := range warmUpRepetitions + m.Repetitions {
		asked := m.values.draw(r)
		answer, lasted, err := door.ask(q, asked)
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		if i >= warmUpRepetitions {
			hits = append(hits, float64(answer.count))
			took[0] = append(took[0], lasted)
		}
		if m.asker == nil {
			continue
		}
		for j := range q.statements {
			other, lasted, err := m.asker.ask(ctx, q, &q.statements[j], asked)
			if err != nil {
				return fmt.Errorf("%s: %w", q.name, err)
			}
			if !answer.equal(other) {
				return fmt.Errorf("cannot compare %q with %v: kiln answers %v, PostgreSQL (%s) %v", q.name, asked, answer, q.statements[j].name, other)
			}
			if i >= warmUpRepetitions {
				took[1+j] = append(took[1+j], lasted)
			}
		}
	}
	m.reportQuestion(q, took, hits)
	return nil
}

func (m *searching) reportQuestion(q *question, took [][]time.Duration, hits []float64) {
	var figures []figure
	medians := make([]float64, 0, len(took))
	for i, all := range took {
		if len(all) == 0 {
			continue
		}
		name := "kiln"
		if i > 0 {
			name = "PostgreSQL, " + q.statements[i-1].name
		}
		slices.Sort(all)
		medians = append(medians, millis(percentile(all, 50)))
		figures = append(figures,
			figure{name + ": median", millis(percentile(all, 50)), "ms"},
			figure{name + ": 99 of 100 below", millis(percentile(all, 99)), "ms"})
	}
	figures = append(figures, figure{"found, median", median(hits), ""})
	if len(medians) > 1 {
		ratio := slices.Min(medians[1:]) / medians[0]
		figures = append(figures, figure{"PostgreSQL's fastest to kiln", ratio, "times"})
		m.ratios = append(m.ratios, figure{q.name, ratio, "times"})
	}
	m.bench.report.add(q.name, figures...)
}

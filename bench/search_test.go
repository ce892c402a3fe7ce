package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/bench/synth"
)

// generatedSearchSet is a small data set, where the database's user may read it.
func generatedSearchSet(t *testing.T) *dataSet {
	t.Helper()
	dir, err := os.MkdirTemp("", "kiln-bench-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := synth.WriteFiles(synth.Options{Seed: 3, Patients: 12}, data); err != nil {
		t.Fatal(err)
	}
	set, err := openDataSet(data)
	if err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.Mkdir(plain, 0o755); err != nil {
		t.Fatal(err)
	}
	if set, err = set.unpack(plain); err != nil {
		t.Fatal(err)
	}
	return set
}

func TestQuestionsAskForDrawnValues(t *testing.T) {
	values, err := generatedSearchSet(t).searchValues(1)
	if err != nil {
		t.Fatal(err)
	}
	drawn := values.draw(rand.New(rand.NewPCG(1, 1)))
	for i := range searchQuestions {
		q := &searchQuestions[i]
		texts := []string{q.address}
		for _, s := range q.statements {
			texts = append(texts, s.sql)
		}
		for _, text := range texts {
			for _, name := range valueName.FindAllString(text, -1) {
				if drawn[strings.Trim(name, "{}")] == "" {
					t.Errorf("%s: no value for %s", q.name, name)
				}
			}
		}
		if address := q.filled(drawn); strings.ContainsAny(address, "{}|") {
			t.Errorf("%s: address %s", q.name, address)
		}
	}
}

func TestStatementsNumberTheirParameters(t *testing.T) {
	s := statement{sql: "a = {a} and b = {b-c} and c = {a}"}
	sql, arguments := s.prepared(asked{"a": "1", "b-c": "2"})
	if sql != "a = $1 and b = $2 and c = $1" || len(arguments) != 2 || arguments[0] != "1" || arguments[1] != "2" {
		t.Errorf("%q with %v", sql, arguments)
	}
}

func TestAnswersDifferByCountKindAndOrder(t *testing.T) {
	at := func(hours int) time.Time { return time.Date(2020, 1, 1, hours, 0, 0, 0, time.UTC) }
	f := func(a, b answer, equal bool) {
		t.Helper()
		if a.equal(b) != equal || b.equal(a) != equal {
			t.Errorf("%v and %v: equal is not %v", a, b, equal)
		}
	}
	f(answer{count: 3}, answer{count: 3}, true)
	f(answer{count: 3}, answer{count: 2}, false)
	f(answer{count: 3, included: 1}, answer{count: 3, included: 2}, true)
	f(answer{count: 3, included: 1}, answer{count: 3}, false)
	f(answer{count: 2, dates: []time.Time{at(1), at(2)}}, answer{count: 2, dates: []time.Time{at(1), at(2).In(time.FixedZone("", 60))}}, true)
	f(answer{count: 2, dates: []time.Time{at(1), at(2)}}, answer{count: 2, dates: []time.Time{at(2), at(1)}}, false)
}

// TestStatementsAgree asks PostgreSQL every question on generated data: ways to
// ask the same must agree, and some answers must not be empty.
func TestStatementsAgree(t *testing.T) {
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) == 0 {
		t.Skip("no PostgreSQL here")
	}
	set := generatedSearchSet(t)
	values, err := set.searchValues(1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := startPostgres(t.Context(), filepath.Dir(filepath.Dir(set.files[0])), forBulk)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if _, err := p.copyFiles(t.Context(), set.files, 1, false); err != nil {
		t.Fatal(err)
	}
	if _, err := p.psql(t.Context(), searchTables...); err != nil {
		t.Fatal(err)
	}
	asker, err := p.asker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer asker.close()
	drawn := values.draw(rand.New(rand.NewPCG(1, 1)))
	for i := range searchQuestions {
		q := &searchQuestions[i]
		var first answer
		for j := range q.statements {
			a, _, err := asker.ask(t.Context(), q, &q.statements[j], drawn)
			if err != nil {
				t.Fatalf("%s, %s: %v", q.name, q.statements[j].name, err)
			}
			if j == 0 {
				first = a
			}
			if !a.equal(first) || a.count == 0 && !strings.Contains(q.name, "chained") {
				t.Errorf("%s, %s: %+v, first %+v", q.name, q.statements[j].name, a, first)
			}
		}
	}
}

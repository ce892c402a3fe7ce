package main

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/valyala/fasthttp"
)

func TestScenariosAreCommandsWithTheirFlags(t *testing.T) {
	f := func(c *allCommand, s *scenario) {
		t.Helper()
		arguments := c.arguments(s, nil)
		if arguments == nil {
			return
		}
		parser, err := kong.New(&commands{}, kong.Exit(func(int) { t.Error("the parser ended the program") }))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(arguments); err != nil {
			t.Errorf("%q: %v", arguments, err)
		}
	}
	for i := range scenarios {
		f(&allCommand{Short: true}, &scenarios[i])
		f(&allCommand{Data: t.TempDir()}, &scenarios[i])
	}
}

func TestWhatIsMissingIsNotComparedWith(t *testing.T) {
	s := &scenario{"import", "--runs 3 --compare-postgres --compare-duckdb", "--runs 5 --compare-duckdb"}
	f := func(c allCommand, missing []string, want string) {
		t.Helper()
		if got := strings.Join(c.arguments(s, missing), " "); got != want {
			t.Errorf("%+v without %q: %q, want %q", c, missing, got, want)
		}
	}
	f(allCommand{Short: true}, nil, "import --runs 3 --compare-postgres --compare-duckdb --patients "+shortPatients)
	f(allCommand{Short: true}, []string{withPostgres}, "import --runs 3 --compare-duckdb --patients "+shortPatients)
	f(allCommand{Data: "d"}, []string{withDuckDB}, "import --runs 5 --data d")
	f(allCommand{Only: []string{"export"}}, nil, "")
}

// A goal that names what no bench reports would stay "not measured" for ever.
func TestGoalsAreOfBenchesThatRun(t *testing.T) {
	for _, g := range goals {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == g.benchmark }) {
			t.Errorf("%s: no bench %s", g.claim, g.benchmark)
		}
		if g.atLeast > 0 && g.atMost > 0 {
			t.Errorf("%s: it has two bounds", g.claim)
		}
		if g.unit == "" {
			t.Errorf("%s: it has no unit", g.claim)
		}
	}
	for _, s := range scenarios {
		if benchNotes[s.name] == "" {
			t.Errorf("nothing tells readers of %s what is on disk when", s.name)
		}
	}
}

func TestTransactionsHaveNewResources(t *testing.T) {
	bodies := []sampled{{path: "Patient/a", body: []byte(patientLine)}}
	next := (&bundler{base: "http://x/fhir", bodies: bodies, entries: 3}).client().next
	seen := map[string]bool{}
	var request fasthttp.Request
	r := rand.New(rand.NewPCG(1, 1))
	for range 2 {
		next(r, &request)
		var sent struct {
			Type  string
			Entry []struct {
				Resource struct{ ResourceType, ID string }
				Request  struct{ Method, URL string }
			}
		}
		if err := json.Unmarshal(request.Body(), &sent); err != nil || sent.Type != "transaction" || len(sent.Entry) != 3 {
			t.Fatalf("sent %s: %v", request.Body(), err)
		}
		for _, e := range sent.Entry {
			if e.Request.URL != "Patient/"+e.Resource.ID || e.Request.Method != "PUT" || seen[e.Resource.ID] {
				t.Errorf("entry %+v", e)
			}
			seen[e.Resource.ID] = true
		}
	}
}

func TestDuckDBIsAskedTheSameQuestions(t *testing.T) {
	drawn := (&searchValues{
		observations: []observationValues{{EffectiveDateTime: "2020-01-01T00:00:00Z", Code: struct{ Coding []coding }{[]coding{{"s", "c"}}}}},
		families:     []string{"ab"},
	}).draw(rand.New(rand.NewPCG(1, 1)))
	for name, sql := range duckdbStatements {
		if !slices.ContainsFunc(searchQuestions, func(q question) bool { return q.name == name }) {
			t.Errorf("there is no question %q", name)
		}
		for _, value := range valueName.FindAllString(sql, -1) {
			if _, there := drawn[strings.Trim(value, "{}")]; !there {
				t.Errorf("%s: no value for %s", name, value)
			}
		}
	}
}

func TestDuckDBAnswersAreRead(t *testing.T) {
	f := func(q question, rows [][]any, want answer, right bool) {
		t.Helper()
		got, err := q.duckdbAnswer(&duckdbAnswer{Rows: rows})
		if (err == nil) != right || right && !got.equal(want) {
			t.Errorf("%v: %+v, %v", rows, got, err)
		}
	}
	count, page := question{address: "Patient?x" + asCount}, question{address: "Patient?x" + asPage}
	f(count, [][]any{{"7"}}, answer{count: 7}, true)
	f(count, [][]any{{float64(7)}}, answer{count: 7}, true)
	f(count, [][]any{{"7"}, {"8"}}, answer{}, false)
	f(page, [][]any{{false, "{}"}, {false, "{}"}}, answer{count: 2}, true)
	f(page, [][]any{{false, nil}}, answer{}, false)
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// holding is a resource that contains patients of some names.
func holding(id string, families ...string) Change {
	var list []string
	for i, family := range families {
		list = append(list, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","name":[{"family":%q}]}`, i, family))
	}
	body := fmt.Appendf(nil, `{"resourceType":"Basic","id":"%s","contained":[%s]}`, id, strings.Join(list, ","))
	at := uint32(len(`{"resourceType":"Basic","id":"`))
	return Change{Type: fhir.TypeByName([]byte("Basic")), ID: []byte(id), IDAt: at, Body: body, Splice: fhir.Splice{At: at + uint32(len(id)) + 1}}
}

// containedPage reads one page: "Basic/a" or "Basic/a#p0" for each match.
func containedPage(t *testing.T, n *Snapshot, q *ContainedQuery) (found string, page Page) {
	t.Helper()
	var all []string
	page, err := n.SearchContained(context.Background(), q, func(v *Version, part *Part) error {
		name := fmt.Sprintf("%v/%s", v.Type, v.ID)
		if part != nil {
			name += "#" + part.ID
		}
		all = append(all, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " "), page
}

// A page reads only so much; then it ends with what it found, and the next one goes on
// behind all that was read. Counting that much is refused.
func TestPagesOfContainedResourcesReadSoMuch(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	mustCommit(t, s, holding("first", "Needle"))
	const rows = 2*containedRowsMax + 2000 // pages end with a chunk
	for i := 0; i < rows; i += 100 {
		var changes []Change
		for k := range 100 {
			changes = append(changes, holding(fmt.Sprintf("h%d", i+k), "Hay"))
		}
		mustCommit(t, s, changes...)
	}
	mustCommit(t, s, patientNamed("own", "Needle"), holding("last", "Hay", "Needle", "Needle"))
	n := mustSnapshot(t, s)
	defer n.Release()
	q := &ContainedQuery{Query: *familyQuery(t, "needle"), Own: true, Parts: true}
	q.Limit = 10
	var got []string
	for range 9 {
		found, page := containedPage(t, n, q)
		if got = append(got, found); !page.More {
			break
		}
		q.After, q.AsOf = page.Next, page.AsOf
	}
	if want := "Basic/first#p0||Patient/own Basic/last#p1 Basic/last#p2"; strings.Join(got, "|") != want {
		t.Errorf("pages %q, want %q", got, want)
	}
	if total, err := n.CountContained(context.Background(), q, rows+2); total != 4 || err != nil {
		t.Errorf("counted %d, error %v", total, err)
	}
	if _, err := n.CountContained(context.Background(), q, rows+1); !errors.Is(err, ErrContainedCount) {
		t.Errorf("counting what would read too much: error %v", err)
	}
	mustClose(t, s)
}

// What a term does not hold, what a contained resource lacks, and what cannot be one.
func TestOddContainedResources(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	long := strings.Repeat("x", 2000)
	odd := holding("odd")
	odd.Body = []byte(strings.Replace(string(odd.Body), `[]`, `[{"resourceType":"Patient","name":[{"family":"noid"}]},{"resourceType":"Patient","id":"a","name":[{"family":"noid"}],"id":"b"},`+
		`{"resourceType":"Unheard","id":"c"},7,{"id":"d"},{"resourceType":"Patient","id":"e","contained":[{"resourceType":"Patient","id":"f","name":[{"family":"noid"}]}]}]`, 1))
	one := holding("one")
	one.Body = []byte(strings.Replace(string(one.Body), `[]`, `{"resourceType":"Patient","id":"alone","name":[{"family":"Alone"}]}`, 1))
	mustCommit(t, s, holding("long", long+"Needle", long+"Hay"), odd, one)
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	sources := table.Param(patient, "family").Sources
	for _, when := range []string{"in the head", "in a run"} {
		n := mustSnapshot(t, s)
		f := func(where *Expr, want string) {
			t.Helper()
			q := &ContainedQuery{Query: Query{Types: []fhir.TypeCode{patient}, Where: where}, Parts: true}
			if got, _ := containedPage(t, n, q); got != want {
				t.Errorf("%s: found %q, want %q", when, got, want)
			}
		}
		f(&Expr{Op: Terms, Walks: index.StringContainsWalks(sources, []byte("NEEDLE"))}, "Basic/long#p0")
		f(familyQuery(t, "noid").Where, "Basic/odd#")
		f(familyQuery(t, "alone").Where, "Basic/one#alone")
		f(&Expr{Op: Keys, Keys: []Key{{patient, []byte("e")}, {patient, []byte("a")}, {patient, []byte("p1")}}}, "Basic/long#p1 Basic/odd#e")
		n.Release()
		mustFlush(t, s)
	}
	mustClose(t, s)
}

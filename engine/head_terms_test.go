package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// patientNamed is a change that writes a Patient with a family name.
func patientNamed(id, family string) Change {
	body := fmt.Appendf(nil, `{"resourceType":"Patient","id":"%s","name":[{"family":"%s"}]}`, id, family)
	at := uint32(len(`{"resourceType":"Patient","id":"`))
	return Change{Type: fhir.TypeByName([]byte("Patient")), ID: []byte(id), IDAt: at, Body: body, Splice: fhir.Splice{At: at + uint32(len(id)) + 1}}
}

// familyTerm is the field and the term of a family name.
func familyTerm(t *testing.T, family string) (index.Param, []byte) {
	t.Helper()
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	p := table.Param(fhir.TypeByName([]byte("Patient")), "family")
	return index.Param(p.Sources[0].Field.Number), index.AppendString(nil, []byte(family), index.NewFolder())
}

// named gives the entry numbers of the versions in the head with a family name.
func named(t *testing.T, n *Snapshot, family string) (numbers []uint64) {
	t.Helper()
	p, value := familyTerm(t, family)
	for _, g := range n.view.gens {
		count := g.countAt(n.lsn)
		err := n.withHeadTerms(context.Background(), g, count, func(terms *index.MemoryTerms) error {
			for _, o := range terms.Postings(p, value, index.Ordinal(count)).ToArray() {
				numbers = append(numbers, g.base+uint64(o))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return numbers
}

func TestHeadIsSearchedAtTheSnapshot(t *testing.T) {
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	f := func(n *Snapshot, family string, want ...uint64) {
		t.Helper()
		if got := named(t, n, family); !slices.Equal(got, want) {
			t.Errorf("%s is in the head's versions %v, want %v", family, got, want)
		}
	}
	mustCommit(t, s, patientNamed("a", "Chalmers"))
	first := mustSnapshot(t, s)
	mustCommit(t, s, patientNamed("b", "Chalmers"))
	mustCommit(t, s, patientNamed("a", "Windsor"))
	second := mustSnapshot(t, s)
	f(second, "Chalmers", 0, 1)
	mustCommit(t, s, Change{Type: fhir.TypeByName([]byte("Patient")), ID: []byte("b"), Delete: true})
	mustCommit(t, s, patientNamed("c", "Windsor"))
	third := mustSnapshot(t, s)
	f(first, "Chalmers", 0)
	f(first, "Windsor")
	f(second, "Windsor", 2)
	f(third, "Windsor", 2, 4)
	f(third, "Nobody")
	for _, n := range []*Snapshot{first, second, third} {
		n.Release()
	}
	mustClose(t, s)
	s = mustOpen(t, testOptions(fsys, 1))
	n := mustSnapshot(t, s)
	f(n, "Chalmers", 0, 1)
	f(n, "Windsor", 2, 4)
	n.Release()
	checkFlushedTerms(t, s)
	mustClose(t, s)
}

// checkFlushedTerms flushes and finds the head's terms in the run.
func checkFlushedTerms(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	n := mustSnapshot(t, s)
	defer n.Release()
	if got := named(t, n, "Windsor"); len(got) > 0 {
		t.Errorf("an empty head has versions %v", got)
	}
	p, value := familyTerm(t, "Windsor")
	rows, err := n.view.runs[0].run.Postings(p, value)
	if err != nil || !slices.Equal(rows.ToArray(), []uint32{2, 4}) {
		t.Errorf("the run has the name in rows %v (%v)", rows, err)
	}
	if v := n.view.runs[0].run.Extraction(); v != index.ExtractionVersion {
		t.Errorf("the run's terms are of extraction %d", v)
	}
	table, _ := search.Load()
	deceased := index.Param(table.Param(fhir.TypeByName([]byte("Patient")), "deceased").Sources[0].Field.Number)
	rows, err = n.view.runs[0].run.Postings(deceased, index.AppendToken(nil, nil, []byte("false")))
	if err != nil || rows.Contains(3) || rows.GetCardinality() != 4 {
		t.Errorf("the run has deceased=false in rows %v (%v): a deleted version has no terms", rows, err)
	}
}

func TestCommitRefusesWhatCannotBeFound(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	c := patientNamed("a", "x")
	c.Type = fhir.TypeByName([]byte("Observation"))
	c.Body = []byte(`{"resourceType":"Observation","id":"a","valueQuantity":{"value":1e99999999999999999999}}`)
	c.IDAt = uint32(len(`{"resourceType":"Observation","id":"`))
	if _, err := s.Commit(context.Background(), []Change{c}); !errors.Is(err, ErrUnindexable) {
		t.Errorf("error %v", err)
	}
	mustClose(t, s)
}

// patientWithNames is a Patient of few bytes and many terms.
func patientWithNames(t *testing.T, id string, names int) Change {
	t.Helper()
	var given []string
	for i := range names {
		given = append(given, fmt.Sprintf(`"%s%d"`, id, i))
	}
	c := patientNamed(id, "x")
	c.Body = fmt.Appendf(nil, `{"resourceType":"Patient","id":"%s","name":[{"given":[%s]}]}`, id, strings.Join(given, ","))
	return c
}

// TestHeadIsFlushedWhenItsTermsAreMany: whether a search has made them or not.
func TestHeadIsFlushedWhenItsTermsAreMany(t *testing.T) {
	opts := testOptions(vfs.NewMem(1), 1)
	opts.HeadBytes = 64 << 10
	s := mustOpen(t, opts)
	for i := range 200 {
		mustCommit(t, s, patientWithNames(t, fmt.Sprint("p", i), 100))
		n := mustSnapshot(t, s)
		if i%3 == 0 {
			named(t, n, "x")
		}
		g := n.view.gens[0]
		if took := g.terms.bytes.Load(); took > 3*headTermsShare*opts.HeadBytes {
			t.Fatalf("the terms of a generation of %d bytes take %d bytes", g.bytes.Load(), took)
		}
		if g.terms.bytes.Load() > g.termsCost.Load()*3/2+64<<10 {
			t.Errorf("the terms take %d bytes and were estimated at %d", g.terms.bytes.Load(), g.termsCost.Load())
		}
		n.Release()
	}
	if st := s.Stats(); st.Runs < 3 {
		t.Errorf("%d runs and a head of %d bytes, %d of terms", st.Runs, st.HeadBytes, st.HeadTermsBytes)
	}
	mustClose(t, s)
}

// TestOldSnapshotsSearchWhatWasFlushed: its terms are let go, and made again for
// who still asks.
func TestOldSnapshotsSearchWhatWasFlushed(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	mustCommit(t, s, patientNamed("a", "Chalmers"), patientNamed("b", "Windsor"))
	n := mustSnapshot(t, s)
	for range 2 {
		if got := named(t, n, "Windsor"); !slices.Equal(got, []uint64{1}) {
			t.Errorf("found in the head's versions %v", got)
		}
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.HeadTermsBytes != 0 {
		t.Errorf("an empty head has %d bytes of terms", st.HeadTermsBytes)
	}
	n.Release()
	mustClose(t, s)
}

// TestSearchesWaitForTermsAsLongAsTheyMay: behind another that makes them.
func TestSearchesWaitForTermsAsLongAsTheyMay(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	mustCommit(t, s, patientNamed("a", "Chalmers"))
	n := mustSnapshot(t, s)
	users := n.view.gens[0].terms.users
	if err := users.Acquire(context.Background(), headTermsUsers); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() {
		_, err := n.Search(ctx, familyQuery(t, "chal"), func(*Version) error { return nil })
		failed <- err
	}()
	mustCommit(t, s, patientNamed("b", "Chalmers")) // commits do not wait
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("a search whose time is over: %v", err)
	}
	users.Release(headTermsUsers)
	if got := named(t, n, "Chalmers"); !slices.Equal(got, []uint64{0}) {
		t.Errorf("found in the head's versions %v", got)
	}
	n.Release()
	mustClose(t, s)
}

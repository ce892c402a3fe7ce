package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// makeForeign rewrites a run's footer, so that its terms are by the rules of a
// version. See index/footer.go for the places.
func makeForeign(t *testing.T, fsys *vfs.Mem, meta index.RunMeta, version uint32) {
	t.Helper()
	f, err := fsys.OpenWrite("/data/runs/" + runFileName(uint64(meta.ID)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	footer := make([]byte, 256)
	at := meta.Bytes - int64(len(footer))
	if _, err := f.ReadAt(footer, at); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	le.PutUint32(footer[192:], version)
	place := le.AppendUint64(le.AppendUint64(nil, uint64(meta.ID)), uint64(at))
	le.PutUint32(footer[252:], crc32.Checksum(append(place, footer[:252]...), crc32.MakeTable(crc32.Castagnoli)))
	if _, err := f.WriteAt(footer, at); err != nil {
		t.Fatal(err)
	}
}

// TestTermsByOtherRulesAnswerNothing: a run whose terms another version made is
// refused where they are needed, and only there; of the first version's only those of
// contained resources are missing.
func TestTermsByOtherRulesAnswerNothing(t *testing.T) {
	ctx := context.Background()
	f := func(version uint32, byName error) {
		t.Helper()
		fsys := vfs.NewMem(1)
		s := mustOpen(t, testOptions(fsys, 1))
		mustCommit(t, s, patientNamed("a", "Chalmers"), containing1("c"))
		mustFlush(t, s)
		meta := s.view.runs[0].run.Meta()
		mustClose(t, s)
		makeForeign(t, fsys, meta, version)
		s = mustOpen(t, testOptions(fsys, 1))
		mustCommit(t, s, patientNamed("b", "Chalmers"))
		n := mustSnapshot(t, s)
		g := func(name string, q *Query, count uint64, want error) {
			t.Helper()
			if _, err := n.Search(ctx, q, func(*Version) error { return nil }); !errors.Is(err, want) {
				t.Errorf("version %d: a search by %s: error %v", version, name, err)
			}
			if got, err := n.Count(ctx, q); !errors.Is(err, want) || err == nil && got != count {
				t.Errorf("version %d: a count by %s: %d, error %v", version, name, got, err)
			}
		}
		g("a name", familyQuery(t, "chal"), 2, byName)
		g("all but a name", &Query{Where: &Expr{Op: Not, Args: []*Expr{familyQuery(t, "chal").Where}}}, 1, byName)
		g("nothing", &Query{}, 3, nil)
		g("date", &Query{Where: &Expr{Op: Terms, Walks: index.LastUpdatedWalks(index.Gt, 0, 0)}}, 3, nil)
		contained := &ContainedQuery{Query: *familyQuery(t, "inner")}
		_, err := n.SearchContained(ctx, contained, func(*Version, *Part) error { return nil })
		if _, countErr := n.CountContained(ctx, contained, 9); !errors.Is(err, ErrReindex) || !errors.Is(countErr, ErrReindex) {
			t.Errorf("version %d: contained resources: errors %v and %v", version, err, countErr)
		}
		if due := s.Reindexing(); due.Runs != 1 || due.Contained || (due.Fields < 0) != (byName != nil) {
			t.Errorf("version %d: due is %+v", version, due)
		}
		n.Release()
		mustReindex(t, s)
		n = mustSnapshot(t, s)
		g("a name", familyQuery(t, "chal"), 2, nil)
		if total, err := n.CountContained(ctx, contained, 9); total != 1 || err != nil || !s.Reindexing().Contained {
			t.Errorf("version %d: %d contained resources are found in the end, error %v", version, total, err)
		}
		n.Release()
		mustClose(t, s)
	}
	f(0, ErrReindex)
	f(1, nil)
	f(index.ExtractionVersion+1, ErrReindex)
}

// containing1 is a resource that contains a patient.
func containing1(id string) Change {
	body := fmt.Appendf(nil, `{"resourceType":"Basic","id":"%s","contained":[{"resourceType":"Patient","id":"p","name":[{"family":"Inner"}]}]}`, id)
	at := uint32(len(`{"resourceType":"Basic","id":"`))
	return Change{Type: fhir.TypeByName([]byte("Basic")), ID: []byte(id), IDAt: at, Body: body, Splice: fhir.Splice{At: at + uint32(len(id)) + 1}}
}

// TestSearchesAreBoundedInMemory: what a search keeps is counted.
func TestSearchesAreBoundedInMemory(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	mustCommit(t, s, patientNamed("a", "Chalmers"))
	n := mustSnapshot(t, s)
	for _, used := range []uint64{0, queryBytesMax} {
		search, err := n.newSearch(context.Background(), familyQuery(t, "chal"))
		if err != nil {
			t.Fatal(err)
		}
		search.bytes = used
		_, err = search.inStoreOrder(func(*Version) error { return nil })
		if errors.Is(err, ErrQueryTooLarge) != (used > 0) {
			t.Errorf("a search that has used %d bytes: error %v", used, err)
		}
	}
	n.Release()
	mustClose(t, s)
}

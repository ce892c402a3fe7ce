package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"kiln/index"
	"kiln/internal/vfs"
)

// makeForeign rewrites the newest run's footer, so that its terms are by the
// rules of another version. See index/footer.go for the places.
func makeForeign(t *testing.T, fsys *vfs.Mem, meta index.RunMeta) {
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
	le.PutUint32(footer[192:], index.ExtractionVersion-1)
	place := le.AppendUint64(le.AppendUint64(nil, uint64(meta.ID)), uint64(at))
	le.PutUint32(footer[252:], crc32.Checksum(append(place, footer[:252]...), crc32.MakeTable(crc32.Castagnoli)))
	if _, err := f.WriteAt(footer, at); err != nil {
		t.Fatal(err)
	}
}

// TestTermsByOtherRulesAnswerNothing: a run whose terms another version made is
// refused where they are needed, and only there.
func TestTermsByOtherRulesAnswerNothing(t *testing.T) {
	ctx, fsys := context.Background(), vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	mustCommit(t, s, patientNamed("a", "Chalmers"))
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	meta := s.view.runs[0].run.Meta()
	mustClose(t, s)
	makeForeign(t, fsys, meta)
	s = mustOpen(t, testOptions(fsys, 1))
	mustCommit(t, s, patientNamed("b", "Chalmers"))
	n := mustSnapshot(t, s)
	f := func(name string, q *Query, want error) {
		t.Helper()
		if _, err := n.Search(ctx, q, func(*Version) error { return nil }); !errors.Is(err, want) {
			t.Errorf("a search by %s: error %v", name, err)
		}
		if _, err := n.Count(ctx, q); !errors.Is(err, want) {
			t.Errorf("a count by %s: error %v", name, err)
		}
	}
	f("a name", familyQuery(t, "chal"), ErrReindex)
	f("all but a name", &Query{Where: &Expr{Op: Not, Args: []*Expr{familyQuery(t, "chal").Where}}}, ErrReindex)
	f("nothing", &Query{}, nil)
	f("date", &Query{Where: &Expr{Op: Terms, Walks: index.LastUpdatedWalks(index.Gt, 0, 0)}}, nil)
	n.Release()
	mustClose(t, s)
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

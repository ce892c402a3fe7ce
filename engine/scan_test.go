package engine

import (
	"context"
	"fmt"
	"testing"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// TestScanPartsShareARun: a run with more ordinals than one part takes is cut,
// and every row comes once.
func TestScanPartsShareARun(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.NewRun()
	if err != nil {
		t.Fatal(err)
	}
	const rows = 2*scanPartOrdinals + 5
	for i := range rows {
		body := fmt.Sprintf(`{"resourceType":"Patient","id":"%d"}`, i)
		if _, err := b.Append(patient, fmt.Append(nil, i), 32, []byte(body), fhir.Splice{At: 10}); err != nil {
			t.Fatal(err)
		}
	}
	b.SortKeys()
	kept := 0
	for o := range index.Ordinal(rows) {
		if o >= scanPartOrdinals/2 && o < scanPartOrdinals*7/4 { // a hole over a border
			b.Drop(o)
			continue
		}
		b.SetRow(o, index.Row{Type: patient, VersionID: 1, LastUpdated: g.Instant()})
		kept++
	}
	meta, err := b.Seal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Add(meta, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.Publish(context.Background(), 1, nil, nil); err != nil {
		t.Fatal(err)
	}
	n := mustSnapshot(t, s)
	parts, err := n.ScanParts(context.Background(), ScanQuery{})
	if err != nil || len(parts) != 2 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	seen := map[string]bool{}
	for i := range parts {
		if err := parts[i].Run(context.Background(), func(v *Version) error { seen[string(v.ID)] = true; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != kept || parts[0].Rows()+parts[1].Rows() != uint64(kept) {
		t.Fatalf("the parts have %d rows, %d of them different; want %d", parts[0].Rows()+parts[1].Rows(), len(seen), kept)
	}
	n.Release()
	mustClose(t, s)
}

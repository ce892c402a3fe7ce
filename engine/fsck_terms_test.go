package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// gendered is a write of a Patient.
func gendered(t *testing.T, id, gender string) Change {
	t.Helper()
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan(fmt.Appendf(nil, `{"resourceType":"Patient","id":%q,"gender":%q}`, id, gender), nil)
	if err != nil {
		t.Fatal(err)
	}
	return Change{Type: patient, ID: []byte(id), IDAt: r.IDAt, Body: r.Body, Splice: r.Splice}
}

// wrongTerms is a store with a run of four Patients, of which some have terms of another gender than their bodies.
func wrongTerms(t *testing.T, genders [4]string) *vfs.Mem {
	t.Helper()
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.NewRun()
	if err != nil {
		t.Fatal(err)
	}
	x := b.Extraction().NewExtractor(b)
	var rows []index.Ordinal
	for i, gender := range genders {
		c := gendered(t, fmt.Sprint("p", i), "male")
		if gender != "" {
			if _, err := x.Scan(gendered(t, "any", gender).Body); err != nil {
				t.Fatal(err)
			}
		}
		o, err := b.Append(c.Type, c.ID, c.IDAt, c.Body, c.Splice)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, o)
	}
	b.SortKeys()
	for _, o := range rows {
		b.SetRow(o, index.Row{Type: patient, VersionID: 1, LastUpdated: g.Instant()})
	}
	meta, err := b.Seal(context.Background())
	if err == nil {
		err = g.Add(meta, nil)
	}
	if err == nil {
		err = g.Publish(context.Background(), 1, nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	return fsys
}

// TestFsckComparesTermsWithBodies: a search would answer wrongly, while every checksum is right. A repair makes
// the terms anew and loses nothing.
func TestFsckComparesTermsWithBodies(t *testing.T) {
	f := func(genders [4]string, want string) {
		t.Helper()
		fsys := wrongTerms(t, genders)
		check := func(terms bool) (found []Problem) {
			t.Helper()
			err := Fsck(context.Background(), FsckOptions{FS: fsys, Dir: "/data", Terms: terms, Report: func(p Problem) { found = append(found, p) }})
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		if found := check(false); len(found) != 0 {
			t.Errorf("%q: without terms: %+v", genders, found)
		}
		found := check(true)
		if (len(found) == 0) != (want == "") || len(found) > 1 || want != "" && !strings.Contains(found[0].What, want) {
			t.Errorf("%q: %+v", genders, found)
		}
		lost := 0
		summary, err := Repair(context.Background(), RepairOptions{FS: fsys, Dir: "/data", NewID: func() uint64 { return 815 }, SegmentBytes: 12 << 10, Terms: true,
			Report: func(f Finding) error {
				if f.Kind == FoundLost || f.Kind == FoundLostRecords || f.Kind == FoundDoubt {
					lost++
				}
				return nil
			}})
		if err != nil || lost != 0 || summary.Sound != (want == "") {
			t.Errorf("%q: repair: %+v, %d lost, %v", genders, summary, lost, err)
		}
		if found := check(true); len(found) != 0 {
			t.Errorf("%q: after a repair: %+v", genders, found)
		}
	}
	f([4]string{"male", "male", "male", "male"}, "")
	f([4]string{"male", "female", "male", "male"}, "rows 1 to 1 are not those of their bodies")
	f([4]string{"male", "male", "", ""}, "rows 2 to 3 are not those of their bodies")
}

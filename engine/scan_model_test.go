package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// TestScansAgreeWithAPlainReading compares scans with everything that was
// written: in the head, in runs, merged, opened again, and as of older LSNs.
func TestScansAgreeWithAPlainReading(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m, fsys := newSearchModel(t, seed), vfs.NewMem(seed)
			s := mustOpen(t, mergingOptions(fsys, seed))
			m.purges = true
			m.commit(t, s)
			for i := range 60 {
				when := "after an import of histories"
				if i%6 == 5 {
					m.ingestHistory(t, s, i)
				} else {
					s, when = m.step(t, s, fsys)
				}
				s.readThrough = m.rng.IntN(4) == 0
				m.checkScans(t, s, when, 8)
				s.readThrough = false
			}
			mustClose(t, s)
		})
	}
}

// ingestHistory imports resources with all their versions at once: some deleted,
// some with negative numbers, some without a current one. Some get one more.
func (m *searchModel) ingestHistory(t *testing.T, s *Store, round int) {
	t.Helper()
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.NewRun()
	if err != nil {
		t.Fatal(err)
	}
	x, superseded := s.Extraction().NewExtractor(b), roaring.New()
	rows := map[index.Ordinal]index.Row{}
	for range 1 + m.rng.IntN(3) {
		of := searchVersion{searchDoc: m.doc()}
		of.id = fmt.Sprint("h", round, "-", len(rows))
		last, ordinal := int64(0), index.Ordinal(0)
		for i, version := range m.rng.Perm(5) {
			v := searchVersion{searchDoc: m.doc(), version: int64(version - 1), deleted: m.rng.IntN(3) == 0}
			if v.version == 0 || i > 3 {
				continue
			}
			for v.typ != of.typ {
				v.searchDoc = m.doc()
			}
			v.id = of.id
			o := m.appendVersion(t, b, x, &v)
			rows[o] = index.Row{Type: v.typ, VersionID: v.version, LastUpdated: fhir.Instant{Milli: 1e12 + v.version*1000}}
			if v.deleted {
				row := rows[o]
				row.Flags |= index.FlagDeleted
				rows[o] = row
			}
			superseded.Add(uint32(o))
			if v.version > last {
				last, ordinal = v.version, o
			}
			m.versions = append(m.versions, v)
		}
		if last > 0 {
			superseded.Remove(uint32(ordinal))
		}
	}
	b.SortKeys()
	for o, row := range rows {
		b.SetRow(o, row)
	}
	meta, err := b.Seal(context.Background())
	if err == nil {
		err = g.Add(meta, superseded)
	}
	if err == nil {
		err = g.Publish(context.Background(), 1, takeNext, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.date(t, s)
}

// appendVersion adds a version's body, and its terms if it is no deletion.
func (m *searchModel) appendVersion(t *testing.T, b *index.Builder, x *index.Extractor, v *searchVersion) index.Ordinal {
	t.Helper()
	if !v.deleted {
		if _, err := x.Scan(v.json()); err != nil {
			t.Fatal(err)
		}
	}
	c := v.change(t)
	o, err := b.Append(c.Type, c.ID, c.IDAt, c.Body, c.Splice)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// modelScan is a scan with its plain meaning.
type modelScan struct {
	query ScanQuery
	takes func(v *searchVersion) bool // of Of
}

func (m *searchModel) scan(t *testing.T) *modelScan {
	t.Helper()
	milli := func() int64 { return m.versions[m.rng.IntN(len(m.versions))].milli + oneOf(m.rng, int64(-1), 0, 1) }
	s := &modelScan{query: ScanQuery{Versions: ScanVersions(m.rng.IntN(int(ScanDeletions) + 1))}}
	if m.rng.IntN(3) == 0 {
		s.query.SinceMilli = milli()
	}
	if m.rng.IntN(3) == 0 {
		s.query.UntilMilli = milli()
	}
	var takes []func(v *searchVersion) bool
	for range m.rng.IntN(4) {
		of := ScanOf{Types: oneOf(m.rng, nil, []fhir.TypeCode{patient}, []fhir.TypeCode{observation}, []fhir.TypeCode{patient, observation})}
		matches := func(*searchVersion) bool { return true }
		if m.rng.IntN(4) > 0 {
			of.Where, matches = m.expr(t, 2)
		}
		s.query.Of = append(s.query.Of, of)
		takes = append(takes, func(v *searchVersion) bool {
			content := *v
			if v.deleted {
				content.searchDoc = searchDoc{typ: v.typ, id: v.id}
			}
			return (len(of.Types) == 0 || slices.Contains(of.Types, v.typ)) && matches(&content)
		})
	}
	s.takes = func(v *searchVersion) bool {
		return len(takes) == 0 || slices.ContainsFunc(takes, func(f func(*searchVersion) bool) bool { return f(v) })
	}
	return s
}

// wantScan is what a scan delivers as of an LSN, sorted.
func (m *searchModel) wantScan(s *modelScan, asOf uint64) (lines []string) {
	newest := map[string]int64{}
	for _, v := range m.versions {
		if key := v.typ.String() + "/" + v.id; v.lsn <= asOf {
			newest[key] = max(newest[key], v.version)
		}
	}
	for _, v := range m.versions {
		kind, q := s.query.Versions, &s.query
		current := newest[v.typ.String()+"/"+v.id] == v.version
		wanted := v.lsn <= asOf && (current || kind == ScanAll || kind == ScanAllOrDeleted) &&
			(v.deleted || kind != ScanDeletions) && (!v.deleted || kind != ScanCurrent && kind != ScanAll) &&
			(q.SinceMilli == 0 || v.milli >= q.SinceMilli) && (q.UntilMilli == 0 || v.milli < q.UntilMilli)
		if wanted && s.takes(&v) {
			lines = append(lines, fmt.Sprintf("%v/%s/%d at %d, %t", v.typ, v.id, v.version, v.lsn, v.deleted))
		}
	}
	slices.Sort(lines)
	return lines
}

// checkScans compares scans with the model.
func (m *searchModel) checkScans(t *testing.T, s *Store, when string, scans int) {
	t.Helper()
	n := mustSnapshot(t, s)
	defer n.Release()
	for range scans {
		q := m.scan(t)
		asOf := n.lsn
		if m.rng.IntN(2) == 0 {
			asOf = 1 + m.rng.Uint64N(n.lsn)
			q.query.AsOf = asOf
		}
		c, err := n.Scan(context.Background(), q.query)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		got, want := m.readScan(t, c), m.wantScan(q, asOf)
		if !slices.Equal(got, want) {
			t.Fatalf("%s, as of %d of %d: %+v of %v\ngives %v\nwant  %v", when, asOf, n.lsn, q.query, describeOf(q.query.Of), got, want)
		}
		if rows := c.Rows(); rows < uint64(len(got)) || (asOf == n.lsn && rows != uint64(len(got))) {
			t.Fatalf("%s, as of %d of %d: the scan counts %d and gives %d", when, asOf, n.lsn, rows, len(got))
		}
	}
}

func describeOf(of []ScanOf) (texts []string) {
	for _, o := range of {
		texts = append(texts, fmt.Sprint(o.Types, describe(o.Where)))
	}
	return texts
}

// readScan reads a scan range by range: they cover all LSNs, each once.
func (m *searchModel) readScan(t *testing.T, c *Scan) (lines []string) {
	t.Helper()
	most := 1 + m.rng.IntN(8)
	ranges, err := c.Ranges(1+m.rng.Uint64N(20), most)
	if err != nil || len(ranges) > most+1 {
		t.Fatalf("%d ranges, at most %d: %v", len(ranges), most, err)
	}
	end := uint64(0)
	for i, r := range ranges {
		if r.From != end || (r.To == 0) != (i == len(ranges)-1) {
			t.Fatalf("ranges are %v", ranges)
		}
		end = r.To
		parts, err := c.Parts(r)
		if err != nil {
			t.Fatal(err)
		}
		for j := range parts {
			given, rows := uint64(0), parts[j].Rows()
			err := parts[j].Run(context.Background(), func(v *Version) error {
				if given++; v.LSN < r.From || (r.To > 0 && v.LSN >= r.To) {
					return fmt.Errorf("LSN %d is not in %v", v.LSN, r)
				}
				lines = append(lines, fmt.Sprintf("%v/%s/%d at %d, %t", v.Type, v.ID, v.VersionID, v.LSN, v.Deleted))
				return m.checkBody(t, v)
			})
			if err != nil || given > rows || rows == 0 {
				t.Fatalf("a part counts %d and gives %d: %v", rows, given, err)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func (m *searchModel) checkBody(t *testing.T, v *Version) error {
	for i := range m.versions {
		of := &m.versions[i]
		if of.typ == v.Type && of.id == string(v.ID) && of.version == v.VersionID && !of.deleted {
			if c := of.change(t); string(c.Body) != string(v.Body) {
				return fmt.Errorf("the body is %s, want %s", v.Body, c.Body)
			}
		}
	}
	return nil
}

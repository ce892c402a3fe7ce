package query

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// modelVersion is a version that was written.
type modelVersion struct {
	typ, id string
	body    []byte
	tree    map[string]any
	deleted bool
	version int64
	lsn     uint64
	milli   int64
	in      *modelVersion // what contains it; nil: it stands for itself
}

func (v *modelVersion) code() fhir.TypeCode { return fhir.TypeByName([]byte(v.typ)) }

// searchModel writes random resources into a store and holds all of them.
type searchModel struct {
	*testing.T
	rng      *rand.Rand
	fsys     *vfs.Mem
	store    *engine.Store
	clock    atomic.Int64   // milliseconds
	versions []modelVersion // in the order of the store
	ids      int            // how many ids a type has
	// containing: resources contain others.
	containing bool
}

// modelBase is the server's address.
const modelBase = "http://x/fhir"

func newSearchModel(t *testing.T, seed uint64) *searchModel {
	t.Helper()
	m := &searchModel{T: t, rng: rand.New(rand.NewPCG(seed, 7)), fsys: vfs.NewMem(seed)}
	m.clock.Store(time.Date(2021, 6, 15, 0, 0, 0, 0, time.UTC).UnixMilli())
	m.ids = 6 + m.rng.IntN(40)
	m.open()
	return m
}

// open opens the store: small heads are flushed and runs merged in the
// background, at any time.
func (m *searchModel) open() {
	m.Helper()
	store, err := engine.Open(context.Background(), engine.Options{
		FS: m.fsys, Dir: "/data", NewID: rand.New(rand.NewPCG(m.rng.Uint64(), 1)).Uint64, CatalogInMem: true, FreeBytesMin: -1,
		SegmentBytes: 1 << 16, HeadBytes: oneOf(m.rng, int64(8<<10), 1<<20), MergeFanIn: 2,
		Now: func() time.Time { return time.UnixMilli(m.clock.Add(1)) },
	})
	if err != nil {
		m.Fatal(err)
	}
	m.store = store
}

func (m *searchModel) close() {
	m.Helper()
	if err := m.store.Close(); err != nil {
		m.Fatal(err)
	}
}

func oneOf[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// step does something at random that a store may meet, and tells what.
func (m *searchModel) step() string {
	m.Helper()
	switch k := m.rng.IntN(20); {
	case k < 10:
		for range 1 + m.rng.IntN(8) {
			m.commit()
		}
		return "after commits"
	case k < 14:
		m.ingest()
		return "after an import"
	case k < 18:
		if err := m.store.Flush(context.Background()); err != nil {
			m.Fatal(err)
		}
		return "after a flush"
	}
	m.close()
	m.open()
	return "after opening again"
}

// random is a new state of a resource, or its deletion.
func (m *searchModel) random() modelVersion {
	m.Helper()
	tree := m.resource()
	if m.containing {
		m.addContained(tree)
	}
	body, err := json.Marshal(tree)
	if err != nil {
		m.Fatal(err)
	}
	v := modelVersion{typ: tree["resourceType"].(string), id: tree["id"].(string), body: body}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&v.tree); err != nil {
		m.Fatal(err)
	}
	return v
}

func (m *searchModel) change(v *modelVersion) engine.Change {
	m.Helper()
	if v.deleted {
		return engine.Change{Type: v.code(), ID: []byte(v.id), Delete: true}
	}
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan(v.body, nil)
	if err != nil {
		m.Fatalf("cannot scan %s: %v", v.body, err)
	}
	return engine.Change{Type: v.code(), ID: []byte(v.id), IDAt: r.IDAt, Body: r.Body, Splice: r.Splice}
}

// commit writes and deletes a few resources in one record.
func (m *searchModel) commit() {
	m.Helper()
	var changes []engine.Change
	var written []modelVersion
	for range 1 + m.rng.IntN(4) {
		v := m.random()
		v.deleted = m.rng.IntN(8) == 0
		if slices.ContainsFunc(written, func(o modelVersion) bool { return o.typ == v.typ && o.id == v.id }) {
			continue
		}
		changes, written = append(changes, m.change(&v)), append(written, v)
	}
	out, err := m.store.Commit(context.Background(), changes)
	if err != nil {
		m.Fatal(err)
	}
	for i, c := range out {
		if !c.Unchanged && c.VersionID > 0 {
			written[i].version = c.VersionID
			m.versions = append(m.versions, written[i])
		}
	}
	m.date()
}

// ingest imports a new version of some resources as one or two runs.
func (m *searchModel) ingest() {
	m.Helper()
	g, err := m.store.BeginIngest(context.Background())
	if err != nil {
		m.Fatal(err)
	}
	keys := map[string]bool{}
	for range 1 + m.rng.IntN(2) {
		m.ingestRun(g, keys)
	}
	if err := g.Publish(context.Background(), 1, nil, nil); err != nil {
		m.Fatal(err)
	}
	m.date()
}

func (m *searchModel) ingestRun(g *engine.Ingest, keys map[string]bool) {
	m.Helper()
	b, err := m.store.NewRun()
	if err != nil {
		m.Fatal(err)
	}
	x, rows := m.store.Extraction().NewExtractor(b), map[index.Ordinal]index.Row{}
	for len(rows) == 0 || m.rng.IntN(m.ids) > 0 {
		v := m.random()
		if key := v.typ + "/" + v.id; !keys[key] {
			keys[key] = true
			o, row := m.ingestRow(g, b, x, &v)
			rows[o] = row
			v.version = row.VersionID
			m.versions = append(m.versions, v)
		}
	}
	b.SortKeys()
	for o, row := range rows {
		b.SetRow(o, row)
	}
	meta, err := b.Seal(context.Background())
	if err == nil {
		err = g.Add(meta, nil)
	}
	if err != nil {
		m.Fatal(err)
	}
}

func (m *searchModel) ingestRow(g *engine.Ingest, b *index.Builder, x *index.Extractor, v *modelVersion) (index.Ordinal, index.Row) {
	m.Helper()
	if _, err := x.Scan(v.body); err != nil {
		m.Fatal(err)
	}
	c := m.change(v)
	o, err := b.Append(c.Type, c.ID, c.IDAt, c.Body, c.Splice)
	if err != nil {
		m.Fatal(err)
	}
	row := index.Row{Type: c.Type, VersionID: 1, LastUpdated: g.Instant()}
	key := index.AppendKey(nil, c.Type, c.ID)
	versions, err := g.Snapshot().KeyLookup().Versions(key)
	if err != nil {
		m.Fatal(err)
	}
	if len(versions) > 0 {
		row.VersionID = versions[0].VersionID + 1
		row.LastUpdated.Milli = max(row.LastUpdated.Milli, versions[0].LastUpdated.Milli+1)
		g.Supersede(key, versions[0].Place)
	}
	return o, row
}

// date fills in what the store gave to the versions written last.
func (m *searchModel) date() {
	m.Helper()
	n := m.snapshot()
	defer n.Release()
	for i := len(m.versions) - 1; i >= 0 && m.versions[i].lsn == 0; i-- {
		v := &m.versions[i]
		stored, err := n.Vread(v.code(), []byte(v.id), v.version)
		if err != nil {
			m.Fatalf("version %d of %s/%s: %v", v.version, v.typ, v.id, err)
		}
		v.lsn, v.milli = stored.LSN, stored.LastUpdated.Milli
	}
}

func (m *searchModel) snapshot() *engine.Snapshot {
	m.Helper()
	n, err := m.store.Snapshot()
	if err != nil {
		m.Fatal(err)
	}
	return n
}

// current is what a search may find, in the store's order.
func (m *searchModel) current() (all []*modelVersion) {
	newest := map[string]int64{}
	for i := range m.versions {
		key := m.versions[i].typ + "/" + m.versions[i].id
		newest[key] = max(newest[key], m.versions[i].version)
	}
	for i := range m.versions {
		v := &m.versions[i]
		if !v.deleted && newest[v.typ+"/"+v.id] == v.version {
			all = append(all, v)
		}
	}
	return all
}

package engine

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// lookups is a random store, old snapshots of it, and what was compared on them.
type lookups struct {
	t    *testing.T
	s    *Store
	rng  *rand.Rand
	held []*Snapshot
	seen map[string]int
}

const lookupIDs = 4

func (l *lookups) id() string { return fmt.Sprint("r", l.rng.IntN(lookupIDs)) }

// TestCurrentIsTheFirstOfAllVersions compares the look-up of current versions with
// that of all versions, on stores that random writes, imports with negative and
// with racing versions, purges, flushes and merges leave, and on snapshots from before.
func TestCurrentIsTheFirstOfAllVersions(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(40) {
		opts := testOptions(vfs.NewMem(1), 1)
		opts.MergeFanIn = 2
		l := &lookups{t: t, s: mustOpen(t, opts), rng: rand.New(rand.NewPCG(seed, 3)), seen: seen}
		for range 40 {
			l.step()
			l.check()
		}
		for _, n := range l.held {
			n.Release()
		}
		mustClose(t, l.s)
	}
	for _, kind := range []string{"none", "only negative", "current", "deleted", "negative below", "in the head", "in a run", "two generations", "void", "many versions in one run"} {
		if seen[kind] == 0 {
			t.Errorf("no key was seen with: %s", kind)
		}
	}
}

func (l *lookups) step() {
	l.t.Helper()
	switch l.rng.IntN(12) {
	case 0, 1, 2:
		l.commit()
	case 3:
		mustCommit(l.t, l.s, Change{Type: patient, ID: []byte(l.id()), Delete: true})
	case 4, 5, 6:
		l.importSome()
	case 7:
		mustPurge(l.t, l.s, l.id(), PurgeAll)
	case 8:
		mustPurge(l.t, l.s, l.id(), PurgeHistory)
	case 9:
		l.commit()
		flushWith(l.t, l.s, func() { l.commit(); l.check() })
	case 10:
		merged(l.t, l.s)
	default:
		l.held = append(l.held, mustSnapshot(l.t, l.s))
	}
}

// commit writes some resources, now and then one of them often.
func (l *lookups) commit() {
	for range 1 + l.rng.IntN(3) {
		mustCommit(l.t, l.s, write(l.t, patient, l.id(), fmt.Sprint(l.rng.Uint64())))
	}
	if l.rng.IntN(8) == 0 {
		id := l.id()
		for range 20 {
			mustCommit(l.t, l.s, write(l.t, patient, id, fmt.Sprint(l.rng.Uint64())))
		}
	}
}

// importSome imports the next version of some resources, a negative one of others,
// or both, while others are written.
func (l *lookups) importSome() {
	l.t.Helper()
	g, err := l.s.BeginIngest(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	b, err := l.s.NewRun()
	if err != nil {
		l.t.Fatal(err)
	}
	rows, superseded, lookup := map[index.Ordinal]index.Row{}, roaring.New(), g.Snapshot().KeyLookup()
	add := func(id string, version int64) {
		c := write(l.t, patient, id, fmt.Sprint(l.rng.Uint64()))
		o, err := b.Append(c.Type, c.ID, c.IDAt, c.Body, c.Splice)
		if err != nil {
			l.t.Fatal(err)
		}
		row := index.Row{Type: patient, VersionID: version, LastUpdated: fhir.Instant{Milli: l.rng.Int64N(1e12), OffsetMinutes: fhir.OffsetZ}}
		if l.rng.IntN(5) == 0 {
			row.Flags = index.FlagDeleted
		}
		if rows[o] = row; version < 0 {
			superseded.Add(uint32(o))
		}
	}
	for i := range lookupIDs {
		id := fmt.Sprint("r", i)
		versions, err := lookup.Versions(index.AppendKey(nil, patient, []byte(id)))
		if err != nil {
			l.t.Fatal(err)
		}
		what, highest, lowest := l.rng.IntN(6), int64(0), int64(0)
		if len(versions) > 0 {
			highest, lowest = max(0, versions[0].VersionID), min(0, versions[len(versions)-1].VersionID)
		}
		if what == 0 || what == 1 {
			add(id, lowest-1)
		}
		if what == 1 || what == 2 {
			add(id, highest+1+l.rng.Int64N(2))
			if highest > 0 {
				g.Supersede(nil, versions[0].Place)
			}
		}
	}
	l.publish(g, b, rows, superseded)
}

func (l *lookups) publish(g *Ingest, b *index.Builder, rows map[index.Ordinal]index.Row, superseded *roaring.Bitmap) {
	l.t.Helper()
	b.SortKeys()
	for o, row := range rows {
		b.SetRow(o, row)
	}
	meta, err := b.Seal(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	if err := g.Add(meta, superseded); err != nil {
		l.t.Fatal(err)
	}
	if l.rng.IntN(3) == 0 {
		l.commit()
	}
	if err := g.Publish(context.Background(), 1, l.resolve, nil); err != nil {
		l.t.Fatal(err)
	}
}

// resolve drops rows of conflicts, or numbers them again.
func (l *lookups) resolve(conflicts []Conflict) error {
	for _, c := range conflicts {
		highest := int64(0)
		if len(c.Versions) > 0 {
			highest = max(0, c.Versions[0].VersionID)
		}
		for i := range c.Rows {
			if l.rng.IntN(3) == 0 {
				c.Rows[i].Drop = true
			} else if c.Rows[i].VersionID > 0 && c.Rows[i].VersionID <= highest {
				c.Rows[i].VersionID = highest + 1
			}
		}
	}
	return nil
}

// check compares the look-ups on all snapshots, one that was probed before and
// goes on, and in any order.
func (l *lookups) check() {
	l.t.Helper()
	now := mustSnapshot(l.t, l.s)
	defer now.Release()
	var keys [][]byte
	for i := range lookupIDs + 1 { // and one that is never there
		keys = append(keys, index.AppendKey(nil, patient, fmt.Appendf(nil, "r%d", i)))
	}
	for _, n := range append(slices.Clone(l.held), now) {
		lookup, only := n.KeyLookup(), n.KeyLookup()
		lookup.Probe(keys)
		only.Probe(keys)
		for i, key := range keys {
			all, err := lookup.Probed(i, key)
			if err != nil {
				l.t.Fatal(err)
			}
			all = slices.Clone(all)
			want := slices.DeleteFunc(slices.Clone(all), func(v KeyVersion) bool { return !v.Current })
			l.see(n, key, all)
			for _, k := range []*KeyLookup{lookup, only, n.KeyLookup()} {
				k.Probe(keys)
				got, err := k.Current(i, key)
				if err != nil || !slices.Equal(got, want) {
					l.t.Fatalf("the current version of %q is %+v, %v; want the first of %+v", key, got, err, all)
				}
			}
			l.checkGet(n, key, want)
		}
	}
}

// checkGet: what is served is the same version.
func (l *lookups) checkGet(n *Snapshot, key []byte, want []KeyVersion) {
	l.t.Helper()
	f, err := n.current(key)
	if err != nil || f.ok() != (len(want) == 1) || f.ok() && (f.versionID != want[0].VersionID || f.place() != want[0].Place) {
		l.t.Fatalf("the current version of %q is %+v, %v; want %+v", key, f, err, want)
	}
}

// see counts what a key looks like.
func (l *lookups) see(n *Snapshot, key []byte, all []KeyVersion) {
	places, generations := map[index.RunID]int{}, map[*headGen]bool{}
	for _, v := range all {
		places[v.Place.Run]++
		for _, g := range n.view.gens {
			if number := uint64(v.Place.Ordinal); v.Place.Run == 0 && number >= g.base && number < g.base+uint64(g.count.Load()) {
				generations[g] = true
			}
		}
	}
	note := func(is bool, kind string) {
		if is {
			l.seen[kind]++
		}
	}
	note(len(all) == 0, "none")
	note(len(generations) == 2, "two generations")
	note(slices.ContainsFunc(n.view.runs, func(r *runState) bool {
		found, err := r.run.Lookup(nil, key)
		return err == nil && slices.ContainsFunc(found, func(f index.Found) bool { return r.isVoid(f.Ordinal, n.lsn) })
	}), "void")
	if len(all) == 0 {
		return
	}
	first, last := all[0], all[len(all)-1]
	note(first.VersionID < 0, "only negative")
	note(first.Current, "current")
	note(first.Current && first.Deleted, "deleted")
	note(first.Current && last.VersionID < 0, "negative below")
	note(first.Current && first.Place.Run == 0, "in the head")
	note(first.Current && first.Place.Run != 0, "in a run")
	delete(places, 0)
	note(len(places) > 0 && slices.Max(slices.Collect(maps.Values(places))) >= 20, "many versions in one run")
}

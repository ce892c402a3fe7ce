package backup

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/vfs"
	"kiln/query"
)

var (
	patient = fhir.TypeByName([]byte("Patient"))
	genders = []string{"male", "female", "other", "unknown"}
)

// world is a store, what was written to it, and where it is backed up to.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	fs     *vfs.Mem // of the store
	opts   engine.Options
	store  *engine.Store
	disk   *vfs.Mem // of the target
	target Target

	versions map[string]*told // every version that was ever acknowledged, by name
	last     map[string]int64 // the newest version of each id
	gone     map[string]bool  // ids whose newest version is a deletion
}

// told is a version as its writer knows it.
type told struct {
	id      string
	version int64
	body    string // "": a deletion
	lsn     uint64
	milli   int64
	purged  uint64 // it was gone at this LSN at the latest; 0: it is there
}

func newWorld(t *testing.T, seed uint64, change func(*engine.Options)) *world {
	t.Helper()
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 3)), fs: vfs.NewMem(seed), disk: vfs.NewMem(seed + 1),
		versions: map[string]*told{}, last: map[string]int64{}, gone: map[string]bool{},
	}
	w.target = NewDirTarget(w.disk, "/backups")
	w.opts = storeOptions(w.fs, "/data", seed)
	if change != nil {
		change(&w.opts)
	}
	w.open()
	t.Cleanup(w.close)
	return w
}

// storeOptions are of a small store whose clock moves by a millisecond a call.
func storeOptions(fsys vfs.FS, dir string, seed uint64) engine.Options {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var calls, ids atomic.Int64
	ids.Store(int64(seed) << 20)
	return engine.Options{
		FS: fsys, Dir: dir, NewID: func() uint64 { return uint64(ids.Add(1)) * 0x9E3779B97F4A7C15 },
		PrepareInline: true, CatalogInMem: true, FreeBytesMin: -1, SegmentBytes: 1 << 15, HeadBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
		Now:    func() time.Time { return start.Add(time.Duration(calls.Add(1)) * time.Millisecond) },
	}
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.store, err = engine.Open(context.Background(), w.opts); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close() {
	if w.store == nil {
		return
	}
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
	w.store = nil
}

func patientChange(t testing.TB, id, gender, text string) engine.Change {
	t.Helper()
	src := fmt.Sprintf(`{"resourceType":"Patient","id":%q,"language":%q,"gender":%q}`, id, text, gender)
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(src), nil)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Change{Type: patient, ID: []byte(id), IDAt: r.IDAt, Body: r.Body, Splice: r.Splice}
}

// write commits a new state of some resource, or deletes it.
func (w *world) write() {
	w.t.Helper()
	id := fmt.Sprintf("p%d", w.rng.IntN(12))
	change := engine.Change{Type: patient, ID: []byte(id), Delete: true}
	if w.last[id] == 0 || w.gone[id] || w.rng.IntN(5) > 0 {
		change = patientChange(w.t, id, genders[w.rng.IntN(len(genders))], fmt.Sprint(w.rng.Uint64()))
	}
	w.commit(change)
}

func (w *world) commit(change engine.Change) {
	w.t.Helper()
	done, err := w.store.Commit(context.Background(), []engine.Change{change})
	if err != nil {
		w.t.Fatal(err)
	}
	id, c := string(change.ID), done[0]
	if c.Unchanged {
		return
	}
	w.versions[versionName(id, c.VersionID, c.LSN)] = &told{id: id, version: c.VersionID, body: string(change.Body), lsn: c.LSN, milli: c.LastUpdated.Milli}
	w.last[id], w.gone[id] = c.VersionID, change.Delete
}

// versionName has the LSN too: after a hard delete numbers begin again.
func versionName(id string, version int64, lsn uint64) string {
	return fmt.Sprintf("%s/%d@%d", id, version, lsn)
}

func (w *world) lsn() uint64 {
	w.t.Helper()
	snap, err := w.store.Snapshot()
	if err != nil {
		w.t.Fatal(err)
	}
	defer snap.Release()
	return snap.LSN()
}

// purge takes all versions of a resource out.
func (w *world) purge(id string) {
	w.t.Helper()
	if _, err := w.store.Purge(context.Background(), patient, []byte(id), engine.PurgeAll, engine.Precondition{}); err != nil {
		w.t.Fatal(err)
	}
	for _, v := range w.versions {
		if v.id == id && v.purged == 0 {
			v.purged = w.lsn()
		}
	}
	delete(w.last, id)
}

func (w *world) flush() {
	w.t.Helper()
	if err := w.store.Flush(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) backup() *Result {
	w.t.Helper()
	result, err := Run(context.Background(), Options{Store: w.store, FS: w.fs, Target: w.target, Kiln: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(result.Warnings) > 0 {
		w.t.Fatalf("warnings: %q", result.Warnings)
	}
	return result
}

// restore makes a store of a moment on a disk of its own and compares it with
// what was written up to its LSN.
func (w *world) restore(at Moment) *Restored {
	w.t.Helper()
	result, err := w.tryRestore(at)
	if err != nil {
		w.t.Fatalf("cannot restore %+v: %v", at, err)
	}
	return result
}

func (w *world) tryRestore(at Moment) (*Restored, error) {
	w.t.Helper()
	disk := vfs.NewMem(w.rng.Uint64())
	result, err := Restore(context.Background(), w.restoreOptions(disk, at))
	if err == nil {
		w.compare(disk, result.LSN)
	}
	return result, err
}

func (w *world) restoreOptions(disk vfs.FS, at Moment) RestoreOptions {
	return RestoreOptions{
		Source: w.target, FS: disk, Dir: "/restored", At: at, Check: true, SegmentBytes: 1 << 15, NewID: w.opts.NewID,
	}
}

// compare opens a restored store and reads it through every door.
func (w *world) compare(disk vfs.FS, lsn uint64) {
	w.t.Helper()
	store, err := engine.Open(context.Background(), storeOptions(disk, "/restored", lsn+1000))
	if err != nil {
		w.t.Fatalf("cannot open what was restored: %v", err)
	}
	defer store.Close()
	if store.ID() == w.store.ID() {
		w.t.Error("the restored store has the id of the one that was backed up")
	}
	compareState(w.t, store, lsn, w.at(lsn))
	// It goes on by itself.
	done, err := store.Commit(context.Background(), []engine.Change{patientChange(w.t, "later", "male", "x")})
	if err != nil || done[0].LSN <= lsn {
		w.t.Errorf("a write after the restore gives %+v, %v", done, err)
	}
}

// at is what the store has at an LSN.
func (w *world) at(lsn uint64) map[string]*told {
	state := maps.Clone(w.versions)
	maps.DeleteFunc(state, func(_ string, v *told) bool { return v.lsn > lsn || v.purged != 0 && v.purged <= lsn })
	return state
}

func compareState(t *testing.T, store *engine.Store, lsn uint64, want map[string]*told) {
	t.Helper()
	snap, err := store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	if snap.LSN() != lsn {
		t.Errorf("the restored store is at LSN %d, want %d", snap.LSN(), lsn)
	}
	seen := 0
	_, _, err = snap.History(context.Background(), engine.HistoryQuery{}, func(v *engine.Version) error {
		seen++
		name := versionName(string(v.ID), v.VersionID, v.LSN)
		w := want[name]
		switch {
		case w == nil:
			return fmt.Errorf("version %s was never written, or was purged", name)
		case v.Deleted != (w.body == ""), w.body != "" && string(v.Body) != w.body, v.LastUpdated.Milli != w.milli:
			return fmt.Errorf("version %s is %+v, want %+v", name, v, w)
		}
		return nil
	})
	if err != nil || seen != len(want) {
		t.Fatalf("at LSN %d: %d versions, want %d; %v", lsn, seen, len(want), err)
	}
	compareSearches(t, snap, want)
}

// compareSearches asks for every gender and compares with the newest versions.
func compareSearches(t *testing.T, snap *engine.Snapshot, versions map[string]*told) {
	t.Helper()
	current := map[string]*told{}
	for _, v := range versions {
		if c := current[v.id]; c == nil || v.lsn > c.lsn || v.lsn == c.lsn && v.version > c.version {
			current[v.id] = v
		}
	}
	for _, gender := range genders {
		want := map[string]string{}
		for id, v := range current {
			if strings.Contains(v.body, `"gender":"`+gender+`"`) {
				want[id] = v.body
			}
		}
		search, err := query.Parse([]fhir.TypeCode{patient}, []query.Parameter{{Name: "gender", Value: gender}}, query.Options{})
		if err != nil {
			t.Fatal(err)
		}
		matches, err := search.First(context.Background(), snap, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for i := range matches {
			got[string(matches[i].ID)] = string(matches[i].Body)
		}
		if len(matches) != len(got) || !maps.Equal(got, want) {
			t.Errorf("gender=%s finds %d, want %d: %v", gender, len(matches), len(want), slices.Sorted(maps.Keys(got)))
		}
	}
}

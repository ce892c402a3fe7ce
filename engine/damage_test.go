package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cespare/xxhash/v2"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

// The tests of damage take a small store that has everything, change some bytes of a
// copy, and ask everything: an answer is right, or an error that says what is
// damaged. KILN_FLIPS=n changes every n-th byte, otherwise some, from a place that
// SEED moves.

// damageStore is the store and what it answers.
type damageStore struct {
	fs    *vfs.Mem
	opts  Options
	model *simModel
	want  []string
	// encrypted: all of it is.
	encrypted bool
}

func (d *damageStore) on(fsys vfs.FS) vfs.FS { return onDisk(fsys, d.encrypted) }

// newDamageStore runs the simulation's interactions, without its faults, until every
// record and every kind of run is there.
func newDamageStore(t testing.TB, seed uint64) *damageStore { return newDamageStoreOf(t, seed, false) }

func newDamageStoreOf(t testing.TB, seed uint64, encrypted bool) *damageStore {
	t.Helper()
	shared, err := newSimShared()
	if err != nil {
		t.Fatal(err)
	}
	m := &sim{
		rng: rand.New(rand.NewPCG(seed, 7)), log: func(string, ...any) {}, fs: vfs.NewMem(seed), model: newSimModel(), digest: xxhash.New(),
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), fields: newSimFields(seed), simShared: shared,
		encrypted: encrypted,
	}
	m.opts = m.options()
	m.opts.SegmentBytes, m.opts.HeadBytes, m.opts.MergeFanIn, m.opts.MergeBytesMax, m.opts.BlockBytes = 12<<10, 1<<20, 2, 1<<30, 300
	m.s = mustOpen(t, m.opts)
	err = errors.Join(m.addField(0), m.commit(), m.ingest(0), m.commit(), m.ingest(0), m.flush())
	for range 6 {
		err = errors.Join(err, m.commit(), m.ingest(0), m.commit(), m.purge())
	}
	err = errors.Join(err, m.flush(), m.ingest(0), m.mergeWhole(), m.flush(), m.addField(1), m.reindexWhole(), m.commit(),
		m.purge(), m.ingest(0), m.mergeWhole(), m.commit(), m.purge(), m.commit(), m.group(), m.commit())
	if err != nil {
		t.Fatalf("the store cannot be made: %v", err)
	}
	m.stop()
	d := &damageStore{fs: m.fs.CrashClone(1), opts: m.opts, model: m.model, encrypted: encrypted}
	d.opts.Now = func() time.Time { return time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC) }
	d.opts.NewID = func() uint64 { return 4711 }
	if d.want, err = d.ask(d.fs.CrashClone(1)); err != nil {
		t.Fatal(err)
	}
	return d
}

func (m *sim) addField(i int) error {
	fields, err := newFields(&simDefinitions[i])
	if err != nil {
		return err
	}
	return m.s.DefineFields(context.Background(), fields)
}

func (m *sim) mergeWhole() error {
	_, err := m.s.mergeOnce(context.Background(), mergeSmall)
	return err
}

func (m *sim) reindexWhole() error {
	_, err := m.s.reindexOnce(context.Background())
	return err
}

// damageSeed makes a store with all that TestDamageStoreHasEverything asks for.
const damageSeed = 3

func TestDamageStoreHasEverything(t *testing.T) {
	d := newDamageStore(t, damageSeed)
	kinds := map[wal.RecordType]int{}
	sum, err := wal.Dump(context.Background(), d.fs, "/data/log", func(r wal.Record) error { kinds[r.Type]++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for typ := wal.TypeCommit; typ <= wal.TypeFields; typ++ {
		if kinds[typ] == 0 {
			t.Errorf("the log has no record of type %d", typ)
		}
	}
	opts := d.opts
	opts.FS = d.fs.CrashClone(1)
	s := mustOpen(t, opts)
	defer mustClose(t, s)
	runs, void, superseded := map[ingestKind]int{}, 0, 0
	for _, r := range s.view.runs {
		runs[r.kind]++
		void += int(roaringCount(r.voidAt(s.visible)))
		superseded += int(r.superseded(s.visible).GetCardinality())
	}
	if runs[ingestImport] == 0 || runs[ingestFlush] == 0 || runs[ingestMerged] == 0 || void == 0 || superseded == 0 || sum.Segments < 2 ||
		len(s.checkpoints) != 2 || s.view.active().count.Load() < 3 {
		t.Errorf("runs %v, %d void rows, %d superseded, %d segments, %d checkpoints, %d versions in the head",
			runs, void, superseded, sum.Segments, len(s.checkpoints), s.view.active().count.Load())
	}
}

// ask opens a store and gives the answer to every question, in the same order each
// time; an answer may be an error. The error is that of opening, or what is no
// named error at all.
func (d *damageStore) ask(fsys *vfs.Mem) (answers []string, err error) {
	opts := d.opts
	opts.FS, opts.Logger = d.on(fsys), discardLogger()
	s, err := Open(context.Background(), opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	n, err := s.Snapshot()
	if err != nil {
		return nil, err
	}
	defer n.Release()
	q := &questions{n: n}
	for _, typ := range simTypes {
		for i := range simIDs + 1 {
			q.key(simKey{typ, string(rune('a' + i))})
		}
	}
	q.histories()
	q.scans()
	q.searches()
	for job := range uint64(8) {
		q.answer(string(s.Progress(job)), nil)
	}
	return q.answers, nil
}

// questions collects answers.
type questions struct {
	n       *Snapshot
	answers []string
}

func (q *questions) answer(text string, err error) {
	if errors.Is(err, ErrNotFound) {
		text, err = text+"not found", nil
	}
	if err != nil {
		text = damageMark + err.Error()
		if !isNamed(err) {
			text = "an error that names nothing: " + err.Error()
		}
	}
	q.answers = append(q.answers, text)
}

// damageMark begins an answer that is a named error.
const damageMark = "damage: "

// isNamed tells whether an error says what is damaged.
func isNamed(err error) bool {
	var corrupt *vfs.CorruptError
	return errors.As(err, &corrupt) && corrupt.File != "" && corrupt.What != "" ||
		errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrForeign)
}

func (q *questions) version(v *Version) string {
	return fmt.Sprintf("%s lsn %d %t %t %t\n", v.AppendJSON(nil), v.LSN, v.Deleted, v.Created, v.Posted)
}

func (q *questions) one(v Version, err error) {
	if err != nil {
		q.answer("", err)
		return
	}
	q.answer(q.version(&v), nil)
}

// many collects the versions that a walk delivers.
func (q *questions) many(walk func(fn func(*Version) error) error) {
	var b strings.Builder
	err := walk(func(v *Version) error { b.WriteString(q.version(v)); return nil })
	q.answer(b.String(), err)
}

func (q *questions) key(k simKey) {
	q.one(q.n.Get(k.typ, []byte(k.id)))
	for version := int64(-12); version < 16; version++ {
		q.one(q.n.Vread(k.typ, []byte(k.id), version))
	}
	versions, err := q.n.KeyLookup().Versions(k.key())
	text := fmt.Sprint(versions)
	for _, v := range versions {
		var body Version
		if body, err = q.n.BodyAt(k.key(), v); err != nil {
			break
		}
		text += string(body.Body)
	}
	q.answer(text, err)
	q.history(HistoryQuery{Type: k.typ, ID: []byte(k.id)})
}

func (q *questions) history(h HistoryQuery) {
	q.many(func(fn func(*Version) error) error {
		_, _, err := q.n.History(context.Background(), h, fn)
		return err
	})
	total, err := q.n.HistoryTotal(context.Background(), h)
	q.answer(fmt.Sprint(total), err)
}

func (q *questions) histories() {
	milli := time.Date(2026, 1, 1, 0, 0, 0, int(20*time.Millisecond), time.UTC).UnixMilli()
	for _, h := range []HistoryQuery{{}, {OldestFirst: true}, {Type: simTypes[0]}, {SinceMilli: milli}, {BeforeMilli: milli}, {LSN: q.n.LSN()/2 + 1},
		{Among: someMembers([]simKey{{simTypes[0], "a"}, {simTypes[1], "b"}, {simTypes[1], "c"}})}} {
		q.history(h)
	}
}

func (q *questions) scans() {
	for versions := ScanCurrent; versions <= ScanDeletions; versions++ {
		for _, asOf := range []uint64{0, q.n.LSN()/2 + 1} {
			q.many(func(fn func(*Version) error) error {
				parts, err := q.n.ScanParts(context.Background(), ScanQuery{Versions: versions, AsOf: asOf})
				for i := 0; err == nil && i < len(parts); i++ {
					err = parts[i].Run(context.Background(), fn)
				}
				return err
			})
		}
	}
}

// searches asks by reference, by added fields, by prefix and by what is not.
func (q *questions) searches() {
	exprs := []*Expr{nil}
	for value := range simValues {
		for _, f := range q.n.s.Fields() {
			walk := index.Walk{Param: index.Param(f.Number), From: index.AppendToken(nil, nil, fmt.Appendf(nil, "n%d", value)), Exact: true}
			e := &Expr{Op: Terms, Walks: []index.Walk{walk}}
			exprs = append(exprs, e, &Expr{Op: Not, Args: []*Expr{e}})
		}
	}
	exprs = append(exprs, &Expr{Op: Terms, Walks: []index.Walk{{Param: index.ParamLastUpdated}}}, &Expr{Op: Terms, Walks: []index.Walk{{Param: index.ParamType}}})
	for _, e := range exprs {
		count, err := q.n.Count(context.Background(), &Query{Where: e})
		q.answer(fmt.Sprint(count), err)
		q.many(func(fn func(*Version) error) error {
			_, err := q.n.Search(context.Background(), &Query{Where: e}, fn)
			return err
		})
	}
}

// verdict compares a damaged store's answers: "" is right, "error" a named error
// somewhere and the rest right; anything else must not be.
func (d *damageStore) verdict(answers []string, err error) string {
	if err != nil {
		if isNamed(err) {
			return "error"
		}
		return "it does not open, and names nothing: " + err.Error()
	}
	verdict := ""
	for i, got := range answers {
		switch {
		case i >= len(d.want):
			return fmt.Sprintf("more answers than there are questions: %q", got)
		case strings.HasPrefix(got, damageMark):
			verdict = "error"
		case got != d.want[i]:
			return fmt.Sprintf("answer %d of %d is %q, want %q", i, len(d.want), got, d.want[i])
		}
	}
	return verdict
}

// writeOn goes on with the store: a new resource, a new version, a flush, a merge,
// and a start that finds all of it. It tells what was wrong, errors that name
// damage aside.
func (d *damageStore) writeOn(t *testing.T, fsys *vfs.Mem) error {
	opts := d.opts
	opts.FS, opts.Logger = d.on(fsys), discardLogger()
	s, err := Open(context.Background(), opts)
	if err != nil {
		return err
	}
	out, err := s.Commit(context.Background(), []Change{write(t, patient, "new", "one"), write(t, patient, "a", "another")})
	if err == nil {
		err = s.Flush(context.Background())
	}
	for more := true; more && err == nil; {
		more, err = s.mergeOnce(context.Background(), mergeSmall)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return unnamed(err)
	}
	if s, err = Open(context.Background(), opts); err != nil {
		return err
	}
	defer s.Close()
	n := mustSnapshot(t, s)
	defer n.Release()
	for i, id := range []string{"new", "a"} {
		v, err := n.Get(patient, []byte(id))
		if err != nil || v.VersionID != out[i].VersionID {
			return fmt.Errorf("%s is %+v, %v; %+v was acknowledged", id, v, err, out[i])
		}
	}
	return nil
}

func unnamed(err error) error {
	if isNamed(err) {
		return nil
	}
	return err
}

// flipCount is a line of the table.
type flipCount struct{ flips, right, named, wrong int }

// change is one way to damage a file.
type change struct {
	name  string
	apply func(content []byte, at int) []byte
}

var flipBit = change{"flip", func(b []byte, at int) []byte { b[at] ^= 1 << (uint(at) * 7 % 8); return b }}

// otherChanges are those of the longer form.
var otherChanges = []change{
	{"zero", func(b []byte, at int) []byte { b[at] = 0; return b }},
	{"ones", func(b []byte, at int) []byte { b[at] = 0xff; return b }},
	{"sector", func(b []byte, at int) []byte { clear(b[at/512*512 : min(len(b), at/512*512+512)]); return b }},
	{"cut", func(b []byte, at int) []byte { return b[:at] }},
}

// flipPlaces are the offsets of a file that are changed.
func flipPlaces(content []byte, all bool, share int) (places []int) {
	stride := max(1, len(content)/share)
	if all {
		stride = int(envNumber("KILN_FLIPS", 1))
	}
	for at := int(envNumber("SEED", 1)) * 31 % stride; at < len(content); at += stride {
		places = append(places, at)
	}
	return places
}

func everyFlip() bool { return os.Getenv("KILN_FLIPS") != "" }

// fileKind is the line of the table that a file counts in.
func fileKind(name string) string {
	if kind := path.Base(path.Dir(name)); kind != "data" {
		return kind
	}
	return path.Base(name)
}

// eachFlip calls fn for each damage that is to be tried, with the damaged copy.
func (d *damageStore) eachFlip(t *testing.T, all bool, share int, fn func(name, what string, fsys *vfs.Mem)) {
	t.Helper()
	files := tree(t, d.fs, "/data")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := []byte(files[name])
		changes := []change{flipBit}
		if everyFlip() {
			changes = append(changes, otherChanges...)
		}
		for i, c := range changes {
			for _, at := range flipPlaces(content, all && i == 0, max(1, share/len(files))) {
				changed := c.apply(slices.Clone(content), at)
				if string(changed) == string(content) {
					continue
				}
				fsys := d.fs.CrashClone(1)
				overwrite(t, fsys, name, string(changed))
				fn(name, fmt.Sprintf("%s with a %s at %d of %d", name, c.name, at, len(content)), fsys)
			}
		}
	}
}

// TestFlips is the table of flips: tried, right answers, named errors, others.
func TestFlips(t *testing.T) {
	flips(t, newDamageStore(t, damageSeed), 80)
}

func TestFlipsOfAnEncryptedStore(t *testing.T) {
	flips(t, newDamageStoreOf(t, damageSeed, true), 30)
}

func flips(t *testing.T, d *damageStore, share int) {
	table := map[string]*flipCount{}
	d.eachFlip(t, everyFlip(), share, func(name, what string, fsys *vfs.Mem) {
		n := table[fileKind(name)]
		if n == nil {
			n = &flipCount{}
			table[fileKind(name)] = n
		}
		n.flips++
		answers, err := d.ask(fsys)
		verdict := d.verdict(answers, err)
		if err == nil && verdict != "error" {
			if writeErr := d.writeOn(t, fsys); writeErr != nil {
				verdict = "then " + writeErr.Error()
			}
		}
		switch verdict {
		case "":
			n.right++
		case "error":
			n.named++
		default:
			n.wrong++
			t.Errorf("%s: %s", what, verdict)
		}
	})
	for kind, n := range table {
		t.Logf("%-12s %6d tried, %6d right answers, %6d named errors, %d others", kind, n.flips, n.right, n.named, n.wrong)
	}
}

func roaringCount(b *roaring.Bitmap) uint64 {
	if b == nil {
		return 0
	}
	return b.GetCardinality()
}

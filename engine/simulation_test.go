package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// The simulation runs a random sequence of interactions on a file system that
// loses power, fails and fills up, and compares every answer with a map. A
// seed decides everything, so a failing one is run again with
//
//	SEED=<seed> go test ./engine -run Simulation -v
//
// SEEDS says how many seeds to run, from SEED_FROM on.
func TestSimulation(t *testing.T) {
	if seed := os.Getenv("SEED"); seed != "" {
		n, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if err := simulate(n, t.Logf); err != nil {
			t.Fatalf("seed %d: %v", n, err)
		}
		return
	}
	seeds, from := envNumber("SEEDS", seedsDefault), envNumber("SEED_FROM", 1)
	var next atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := from + next.Add(1) - 1; seed < from+seeds; seed = from + next.Add(1) - 1 {
				if err := simulate(seed, func(string, ...any) {}); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
	workers.Wait()
}

// Seeds that ever failed are run every time. These found the power gone
// where the simulation itself had not reckoned with it.
func TestSimulationOfSeedsThatFailed(t *testing.T) {
	for _, seed := range []uint64{5885, 5957, 8322, 9808, 20670} {
		if err := simulate(seed, t.Logf); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func envNumber(name string, fallback uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return fallback
}

var simTypes = []fhir.TypeCode{fhir.TypeByName([]byte("Patient")), fhir.TypeByName([]byte("Observation"))}

const simIDs = 5

// sim is one run of the simulation.
type sim struct {
	rng   *rand.Rand
	log   func(string, ...any)
	fs    *vfs.Mem
	opts  Options
	s     *Store
	model *simModel
	// maybe are the models that writes of unknown outcome may have left: a group
	// of requests can be there up to any of them.
	maybe []*simModel
	held  []heldSnapshot
	// merges are built and not published.
	merges []simMerge
	// keep is above 0 while purges would wait for ever, for an import round of
	// this very goroutine.
	keep   int
	purged map[string]bool // versions by simName, since a paging began
	now    time.Time
	late   int64 // the last negative version id that was given
	job    uint64
	fields simFields
}

type heldSnapshot struct {
	n     *Snapshot
	model *simModel
}

type simMerge struct {
	m    *merge
	meta index.RunMeta
}

// errRestart says that the process has to end: the power went, or the log is poisoned.
var errRestart = errors.New("restart")

func simulate(seed uint64, log func(string, ...any)) (err error) {
	m := &sim{
		rng: rand.New(rand.NewPCG(seed, 7)), log: log, fs: vfs.NewMem(seed), model: newSimModel(),
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), fields: newSimFields(seed),
	}
	defer func() {
		if p := recover(); p != nil {
			panic(fmt.Sprintf("seed %d: %v", seed, p))
		}
		m.stop()
	}()
	if err := m.restart(); err != nil {
		return err
	}
	for step := range 60 {
		err := m.changeFields()
		if err == nil {
			err = m.step()
		}
		m.log("step %d: %v", step, err)
		if errors.Is(err, errRestart) {
			m.crash()
			err = m.restart()
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
	}
	m.fs.SetHook(nil)
	m.stop()
	if err := m.restart(); err != nil {
		return err
	}
	if err := m.indexAll(); err != nil {
		return err
	}
	m.stop()
	return Fsck(context.Background(), m.fs, m.opts.Dir, func(p Problem) { err = fmt.Errorf("fsck: %+v", p) })
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// options differ from start to start: the same data must be right under all.
func (m *sim) options() Options {
	return Options{
		FS: m.fs, Dir: "/data", NewID: m.rng.Uint64, PrepareInline: true, CatalogInMem: true, FreeBytesMin: -1,
		SegmentBytes: pick(m.rng, int64(8<<10), 16<<10, 64<<10), HeadBytes: pick(m.rng, int64(2<<10), 6<<10, 1<<20),
		CacheBytes: pick(m.rng, int64(4<<10), 1<<20),
		MergeFanIn: pick(m.rng, 2, 2, 3, 4, 8), MergeBytesMax: pick(m.rng, int64(6<<10), 16<<10, 1<<30),
		Logger: discardLogger(),
		Now: func() time.Time {
			// Sometimes the clock stands still, sometimes it goes back.
			m.now = m.now.Add(time.Duration(m.rng.IntN(8)-2) * time.Millisecond)
			return m.now
		},
	}
}

func (m *sim) stop() {
	for _, h := range m.held {
		h.n.Release()
	}
	m.held = nil
	for _, g := range m.merges {
		m.s.endMerge(g.m)
	}
	m.merges = nil
	for _, g := range m.fields.begun {
		m.s.endMerge(g)
	}
	m.fields.begun, m.fields.metas = nil, nil
	if m.s != nil {
		_ = m.s.Close() // the disk may be gone
		m.s = nil
	}
}

// crash ends the process; half the time the power goes with it.
func (m *sim) crash() {
	m.stop()
	m.fs.SetHook(nil)
	m.fs = m.fs.CrashClone(m.rng.Uint64())
}

// restart opens the store, through further power cuts, and settles what is
// unknown: all of the last write is there, or nothing of it.
func (m *sim) restart() error {
	for try := 0; ; try++ {
		m.opts = m.options()
		if try < 3 && m.rng.IntN(3) == 0 {
			m.fs.CutPowerAt(m.fs.Ops() + 1 + m.rng.Int64N(12))
		}
		var err error
		if m.s, err = Open(context.Background(), m.opts); err == nil {
			m.fs.SetHook(nil)
			break
		}
		m.log("open: %v", err)
		switch {
		case errors.Is(err, vfs.ErrPowerCut):
			m.crash()
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EIO):
			m.fs.SetHook(nil) // the disk is well again
		default:
			return fmt.Errorf("cannot open: %w", err)
		}
	}
	return m.settle()
}

func (m *sim) settle() error {
	n, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	defer n.Release()
	st, err := readState(n)
	if err != nil {
		return err
	}
	diff := m.matches(m.model, st)
	for _, model := range m.maybe {
		if diff == "" {
			break
		}
		other := m.matches(model, st)
		if other == "" {
			m.model, diff = model, ""
		} else {
			diff += "; or with what is unknown: " + other
		}
	}
	m.maybe = nil
	if diff != "" {
		return fmt.Errorf("after a restart: %s", diff)
	}
	m.model.adopt(st.model)
	if err := m.fields.check(m.s); err != nil {
		return fmt.Errorf("after a restart: %w", err)
	}
	if err := m.model.checkDoors(n, st, 1+m.rng.IntN(6)); err != nil {
		return fmt.Errorf("after a restart: %w", err)
	}
	return m.checkFiles(n)
}

// checkFiles: after a restart the runs' files are those of the store, no more.
func (m *sim) checkFiles(n *Snapshot) error {
	names, err := m.fs.List(m.opts.Dir + "/" + runsDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if id, ok := parseHexName(name, runSuffix); !ok || n.view.run(index.RunID(id)) == nil {
			return fmt.Errorf("after a restart: %q is left behind", name)
		}
	}
	if len(names) != len(n.view.runs) {
		return fmt.Errorf("after a restart: %d files of %d runs", len(names), len(n.view.runs))
	}
	return nil
}

func (m *sim) matches(model *simModel, st *simState) string {
	if diff := model.differs(st.model); diff != "" {
		return diff
	}
	return m.progressDiffers(model)
}

func (m *sim) progressDiffers(model *simModel) string {
	for job := range m.job + 1 {
		want, ok := model.progress[job]
		if got := m.s.Progress(job); string(got) != want || (got == nil) == ok {
			return fmt.Sprintf("progress of job %d is %q, want %q", job, got, want)
		}
	}
	return ""
}

// step does one random thing. errRestart asks for a restart.
func (m *sim) step() error {
	switch p := m.rng.IntN(100); {
	case p < 30:
		return m.commit()
	case p < 35:
		return m.merge()
	case p < 40:
		return m.purge()
	case p < 45:
		return m.group()
	case p < 60:
		return m.ingest(0)
	case p < 67:
		return m.flush()
	case p < 68:
		return m.cut()
	case p < 76:
		return m.hold()
	case p < 84:
		return m.checkHeld()
	case p < 86:
		return m.restartClean()
	case p < 88:
		return m.pageAcross()
	case p < 89:
		return m.scanAcross()
	case p < 92:
		m.fs.CutPowerAt(m.fs.Ops() + 1 + m.rng.Int64N(80))
	case p < 95:
		m.failSoon(vfs.OpSync, syscall.EIO)
	case p < 97:
		m.failSoon(vfs.OpWrite, pick(m.rng, syscall.EIO, syscall.ENOSPC))
	default:
		m.fillDisk()
	}
	return nil
}

// failSoon fails one call of a kind, some calls from now.
func (m *sim) failSoon(kind vfs.OpKind, err error) {
	left := 1 + m.rng.IntN(12)
	m.fs.SetHook(func(op vfs.Op) error {
		if op.Kind != kind {
			return nil
		}
		if left--; left == 0 {
			return err
		}
		return nil
	})
}

// fillDisk makes everything that needs space fail for a while.
func (m *sim) fillDisk() {
	left := 1 + m.rng.IntN(20)
	m.fs.SetHook(func(op vfs.Op) error {
		switch op.Kind {
		case vfs.OpCreate, vfs.OpPreallocate, vfs.OpWrite, vfs.OpMkdirAll:
			if left--; left >= 0 {
				return syscall.ENOSPC
			}
		}
		return nil
	})
}

// outcome sorts an error of a write. Only "outcome unknown" may leave the
// write behind; anything else promises that nothing was written.
func (m *sim) outcome(err error, with ...*simModel) error {
	switch {
	case err == nil:
		m.model = with[len(with)-1]
		return nil
	case errors.Is(err, ErrOutcomeUnknown):
		m.maybe = with
		return errRestart
	case errors.Is(err, ErrReadOnly), errors.Is(err, vfs.ErrPowerCut):
		return errRestart
	case errors.Is(err, ErrNoSpace), errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENOSPC):
		return nil
	}
	return err
}

func (m *sim) someKey() simKey {
	return simKey{pick(m.rng, simTypes...), string(rune('a' + m.rng.IntN(simIDs)))}
}

func (m *sim) body(k simKey) string {
	pad := ""
	if m.rng.IntN(20) == 0 {
		pad = fmt.Sprintf(`,"pad":"%0*d"`, 200+m.rng.IntN(1500), 0)
	}
	n := m.rng.IntN(simValues)
	return fmt.Sprintf(`{"resourceType":%q,"id":%q,%s,"x":{"reference":"Patient/%c"}%s}`, k.typ.String(), k.id, simValue(n), 'a'+rune(m.rng.IntN(simIDs)), pad)
}

// commit writes one to three changes and foretells the answer.
func (m *sim) commit() error {
	changes := m.changes()
	with, want, conflict := m.expect(m.model, changes)
	got, err := m.s.Commit(context.Background(), changes)
	if err := compareCommit(changes, with, got, err, want, conflict); err != nil {
		return err
	}
	var ce *ConflictError
	if errors.As(err, &ce) {
		return nil
	}
	return m.outcome(err, with)
}

// restartClean closes and opens the store. Sometimes the newest checkpoint rots
// in between: the older one and the log must give the same.
func (m *sim) restartClean() error {
	spare := len(m.s.checkpoints) >= 2
	m.stop()
	if !spare || m.rng.IntN(3) != 0 {
		return m.restart()
	}
	m.fs.SetHook(nil)
	dir := m.opts.Dir + "/" + checkpointsDir
	names, err := m.fs.List(dir)
	if errors.Is(err, vfs.ErrPowerCut) { // it went while the store closed
		return errRestart
	}
	if err != nil {
		return err
	}
	newest := ""
	for _, name := range names {
		if _, ok := parseHexName(name, checkpointSuffix); ok {
			newest = dir + "/" + name
		}
	}
	info, err := m.fs.Stat(newest)
	if err != nil {
		return err
	}
	if !m.fs.FlipBit(newest, m.rng.Int64N(info.Bytes), 3) {
		return fmt.Errorf("cannot flip a bit of %q", newest)
	}
	m.log("damaged %s", newest)
	if err := m.restart(); err != nil {
		return err
	}
	return errors.Join(m.fs.Remove(newest), m.fs.SyncDir(dir))
}

// pageAcross pages through the system's history as clients do: each page has a
// snapshot of its own, and anything may happen in between.
func (m *sim) pageAcross() error {
	first, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	q := HistoryQuery{LSN: first.LSN(), Count: 1 + m.rng.IntN(3), OldestFirst: first.LSN()%2 == 0}
	want := m.model.clone()
	if first.LSN()%3 == 0 {
		q.Among = someMembers(want.sortedKeys())
	}
	m.purged = map[string]bool{}
	first.Release()
	if q.LSN == 0 {
		return nil
	}
	seen := map[string]bool{}
	for more := true; more; {
		n, err := m.s.Snapshot()
		if err != nil {
			return err
		}
		q.After, more, err = n.History(context.Background(), q, func(v *Version) error {
			k := simKey{v.Type, string(v.ID)}
			name := simName(k, v.VersionID)
			if _, ok := want.keys[k][v.VersionID]; seen[name] || !ok || m.purged[name] || !q.has(k, simVersionOf(v), v.LSN) {
				return fmt.Errorf("%s comes twice, is newer than the first page, or was purged", name)
			}
			seen[name] = true
			return nil
		})
		n.Release()
		if errors.Is(err, vfs.ErrPowerCut) {
			return errRestart
		}
		if errors.Is(err, ErrCursorGone) && len(m.purged) > 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("paging the history: %w", err)
		}
		if err := m.meanwhile(m.rng.IntN(2)); err != nil {
			return err
		}
	}
	for k, versions := range want.keys {
		for id, v := range versions {
			if name := simName(k, id); q.isAmong(k, v) && !seen[name] && !m.purged[name] {
				return fmt.Errorf("paging the history left out %s", name)
			}
		}
	}
	return nil
}

// scanAcross reads a scan range by range as an export does that is interrupted
// again and again: each range on a snapshot of its own, as of the first one's LSN.
func (m *sim) scanAcross() error {
	first, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	q := ScanQuery{AsOf: first.LSN(), Versions: ScanVersions(m.rng.IntN(int(ScanDeletions) + 1))}
	want, seen := m.model.clone(), map[string]bool{}
	m.purged = map[string]bool{}
	c, err := first.Scan(context.Background(), q)
	var ranges []ScanRange
	if err == nil {
		ranges, err = c.Ranges(1+m.rng.Uint64N(4), 6)
	}
	first.Release()
	for i := 0; err == nil && i < len(ranges) && q.AsOf > 0; i++ {
		if err = m.meanwhile(m.rng.IntN(3)); err == nil && m.rng.IntN(4) == 0 {
			err = m.restartClean()
		}
		if err == nil {
			err = m.scanRange(q, ranges[i], seen)
		}
	}
	if errors.Is(err, vfs.ErrPowerCut) {
		return errRestart
	}
	if err != nil || q.AsOf == 0 {
		return err
	}
	for k, versions := range want.keys {
		cur, _ := want.current(k)
		for id, v := range versions {
			wanted := q.Versions.wants(simFlags(v)) && (id == cur.id || !q.Versions.ofCurrent())
			if name := simName(k, id); seen[name] != wanted && !m.purged[name] {
				return fmt.Errorf("a scan of %+v in %v gives %s: %t, want %t", q, ranges, name, seen[name], wanted)
			}
		}
	}
	return nil
}

// scanRange reads one range on a new snapshot.
func (m *sim) scanRange(q ScanQuery, r ScanRange, seen map[string]bool) error {
	n, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	defer n.Release()
	c, err := n.Scan(context.Background(), q)
	if err != nil {
		return err
	}
	parts, err := c.Parts(r)
	for i := 0; err == nil && i < len(parts); i++ {
		err = parts[i].Run(context.Background(), func(v *Version) error {
			name := simName(simKey{v.Type, string(v.ID)}, v.VersionID)
			if seen[name] || m.purged[name] || v.LSN > q.AsOf {
				return fmt.Errorf("%s comes twice, is newer than the scan, or was purged", name)
			}
			seen[name] = true
			return nil
		})
	}
	return err
}

func simFlags(v simVersion) index.Flags {
	if v.deleted {
		return index.FlagDeleted
	}
	return 0
}

func simName(k simKey, version int64) string {
	return fmt.Sprint(k.typ, "/", k.id, "/", version)
}

// group runs several requests as one group, all judged beforehand by an older
// state: what was written in between, and by each other, must count.
func (m *sim) group() error {
	var requests []*request
	for range 2 + m.rng.IntN(4) {
		r, err := newRequest(m.changes())
		if err != nil {
			return err
		}
		if err := m.s.plan(r); err != nil {
			return m.outcome(err, m.model)
		}
		requests = append(requests, r)
		if err := m.meanwhile(m.rng.IntN(3) / 2); err != nil {
			return err
		}
	}
	models := []*simModel{m.model}
	wants, conflicts := make([][]Committed, len(requests)), make([]int, len(requests))
	for i, r := range requests {
		var with *simModel
		with, wants[i], conflicts[i] = m.expect(models[i], r.changes)
		models = append(models, with)
	}
	err := m.s.inSlot(context.Background(), func() error {
		m.s.commitGroup(append([]*request{}, requests...))
		return nil
	})
	if err != nil {
		return err
	}
	for i, r := range requests {
		var ce *ConflictError
		if err == nil && !errors.As(r.err, &ce) {
			err = r.err // one of them may find the power gone while it reads
		}
		if cmp := compareCommit(r.changes, models[i+1], r.results, r.err, wants[i], conflicts[i]); cmp != nil {
			return fmt.Errorf("request %d of a group: %w", i, cmp)
		}
		for _, later := range models[i+2:] {
			later.adopt(models[i+1])
		}
	}
	return m.outcome(err, models...)
}

// compareCommit compares an answer with the expected one and takes the dates.
func compareCommit(changes []Change, with *simModel, got []Committed, err error, want []Committed, conflict int) error {
	var ce *ConflictError
	switch {
	case errors.As(err, &ce) && ce.Index != conflict:
		return fmt.Errorf("conflict at %d, want %d", ce.Index, conflict)
	case err == nil && conflict >= 0:
		return fmt.Errorf("no conflict, want one at %d", conflict)
	case err != nil:
		return nil
	}
	for i := range got {
		if got[i].VersionID != want[i].VersionID || got[i].Created != want[i].Created || got[i].Unchanged != want[i].Unchanged {
			return fmt.Errorf("change %d: %+v, want %+v", i, got[i], want[i])
		}
		k := simKey{changes[i].Type, string(changes[i].ID)}
		if v, ok := with.keys[k][got[i].VersionID]; ok {
			v.milli = got[i].LastUpdated.Milli
			with.keys[k][v.id] = v
		}
	}
	return nil
}

// changes makes one or a few random changes.
func (m *sim) changes() []Change {
	var changes []Change
	used := map[simKey]bool{}
	for range 1 + m.rng.IntN(10)/8*2 {
		if k := m.someKey(); !used[k] {
			used[k] = true
			changes = append(changes, m.change(k))
		}
	}
	return changes
}

func (m *sim) change(k simKey) Change {
	cur, _ := m.model.current(k)
	c := Change{Type: k.typ, ID: []byte(k.id), Delete: m.rng.IntN(4) == 0, Post: cur.id%3 == 1}
	if !c.Delete {
		r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(m.body(k)), nil)
		if err != nil {
			panic(err)
		}
		c.Body, c.IDAt, c.Splice = r.Body, r.IDAt, r.Splice
	}
	switch m.rng.IntN(8) {
	case 0:
		c.If.Absent = true
	case 1:
		c.If.Present = true
	case 2:
		c.If.HasVersion, c.If.Version = true, cur.id+int64(m.rng.IntN(2))
	}
	return c
}

// expect is the model after the changes, and what Commit answers; conflict is
// the index of the change whose precondition fails, or -1.
func (m *sim) expect(model *simModel, changes []Change) (with *simModel, want []Committed, conflict int) {
	with = model.clone()
	for i := range changes {
		c := &changes[i]
		k := simKey{c.Type, string(c.ID)}
		cur, found := with.current(k)
		live := found && !cur.deleted
		if (c.If.Absent && live) || (c.If.Present && !live) || (c.If.HasVersion && (!found || c.If.Version != cur.id)) {
			return model, nil, i
		}
		if (c.Delete && !live) || (!c.Delete && live && cur.body == string(c.Body)) {
			want = append(want, Committed{VersionID: cur.id, Unchanged: true})
			continue
		}
		v := simVersion{id: cur.id + 1, deleted: c.Delete, body: string(c.Body), created: !live, posted: c.Post && !c.Delete}
		if c.Delete {
			body, _, _ := fhir.StubBody(nil, k.typ, []byte(k.id))
			v.body = string(body)
		}
		with.put(k, v)
		want = append(want, Committed{VersionID: v.id, Created: !live})
	}
	return with, want, -1
}

// meanwhile does some writes between two steps of another one.
func (m *sim) meanwhile(count int) error {
	for range count {
		var err error
		switch m.rng.IntN(8) {
		case 0:
			err = m.flush()
		case 1:
			err = m.ingest(1)
		case 2, 3:
			err = m.merge()
		case 4:
			err = m.purge()
		default:
			err = m.commit()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// merge takes a step of some merge: the whole of one, its beginning, or the end
// or the giving up of one that began before, with anything in between.
func (m *sim) merge() error {
	if len(m.merges) > 0 && m.rng.IntN(3) != 0 {
		g := m.merges[0]
		m.merges = m.merges[1:]
		var err error
		if m.rng.IntN(8) == 0 {
			err = m.s.removeRun(g.meta.ID)
		} else {
			err = m.s.finishMerge(context.Background(), g.m, g.meta)
			m.log("merge finished %v", err)
		}
		m.s.endMerge(g.m)
		return m.outcome(err, m.model)
	}
	if m.rng.IntN(2) == 0 {
		more, err := m.s.mergeOnce(context.Background(), mergeSmall)
		m.log("merge whole %v %v", more, err)
		return m.outcome(err, m.model)
	}
	g, err := m.s.beginMerge(mergeSmall)
	if g == nil || err != nil {
		return m.outcome(err, m.model)
	}
	meta, err := m.s.buildMerge(context.Background(), g)
	if err != nil {
		m.s.endMerge(g)
		return m.outcome(err, m.model)
	}
	m.log("merge begun")
	m.merges = append(m.merges, simMerge{g, meta})
	return nil
}

// purge takes a resource out, or its history.
func (m *sim) purge() error {
	if m.keep > 0 {
		return nil
	}
	k, scope := m.someKey(), pick(m.rng, PurgeAll, PurgeHistory)
	cur, found := m.model.current(k)
	cond := Precondition{}
	if m.rng.IntN(4) == 0 {
		cond.HasVersion, cond.Version = true, cur.id+int64(m.rng.IntN(2))
	}
	with := m.model.clone()
	want := with.purge(k, scope)
	got, err := m.s.Purge(context.Background(), k.typ, []byte(k.id), scope, cond)
	m.log("purge %v of %v: %d, %v", scope, k, got, err)
	var ce *ConflictError
	switch conflict := cond.HasVersion && (!found || cond.Version != cur.id); {
	case errors.As(err, &ce) && conflict:
		return nil
	case errors.As(err, &ce) || err == nil && conflict:
		return fmt.Errorf("purge of %v under %+v: %v; the current version is %d", k, cond, err, cur.id)
	case err == nil && got != want:
		return fmt.Errorf("purge of %v took %d versions, want %d", k, got, want)
	}
	if err == nil && m.purged != nil {
		for id := range m.model.keys[k] {
			if _, ok := with.keys[k][id]; !ok {
				m.purged[simName(k, id)] = true
			}
		}
	}
	return m.outcome(err, with)
}

// cut takes a snapshot with its instant: everything in it is dated up to it,
// and everything later after it.
func (m *sim) cut() error {
	n, at, err := m.s.SnapshotAt(context.Background())
	if err != nil {
		return m.outcome(err, m.model)
	}
	defer n.Release()
	k := m.someKey()
	c := m.change(k)
	c.If = Precondition{}
	with, _, _ := m.expect(m.model, []Change{c})
	got, err := m.s.Commit(context.Background(), []Change{c})
	if err == nil && !got[0].Unchanged && got[0].LastUpdated.Milli <= at.Milli {
		return fmt.Errorf("a version after the cut at %d is dated %d", at.Milli, got[0].LastUpdated.Milli)
	}
	if err == nil && !got[0].Unchanged {
		v := with.keys[k][got[0].VersionID]
		v.milli = got[0].LastUpdated.Milli
		with.keys[k][v.id] = v
	}
	return m.outcome(err, with)
}

func (m *sim) flush() error {
	err := m.s.Flush(context.Background())
	if errors.Is(err, ErrOutcomeUnknown) {
		return errRestart
	}
	return m.outcome(err, m.model)
}

// hold takes a snapshot to look at later.
func (m *sim) hold() error {
	if len(m.held) >= 3 {
		return m.checkHeld()
	}
	n, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	m.held = append(m.held, heldSnapshot{n: n, model: m.model.clone()})
	return nil
}

// checkHeld looks at a held snapshot: it must show what was there when it was
// taken, whatever happened since.
func (m *sim) checkHeld() error {
	if len(m.held) == 0 {
		return nil
	}
	h := m.held[0]
	st, err := readState(h.n)
	if err == nil {
		if diff := h.model.differs(st.model); diff != "" {
			return fmt.Errorf("a held snapshot: %s", diff)
		}
		err = h.model.checkDoors(h.n, st, 1+m.rng.IntN(6))
	}
	if err != nil {
		if errors.Is(err, vfs.ErrPowerCut) {
			return errRestart
		}
		return fmt.Errorf("a held snapshot: %w", err)
	}
	h.n.Release()
	m.held = m.held[1:]
	return nil
}

// simRow is one row of an import as the simulation plans it.
type simRow struct {
	k       simKey
	v       simVersion
	late    bool // history with a negative version
	drop    bool
	ordinal index.Ordinal
}

// ingest is one import round of one or two runs, with other writes between its
// snapshot and its end.
func (m *sim) ingest(depth int) error {
	g, err := m.s.BeginIngest(context.Background())
	if err != nil {
		return m.outcome(err, m.model)
	}
	m.keep++
	defer func() { m.keep-- }()
	planned := m.model.clone()
	var runs []map[index.Ordinal]*simRow
	for range 1 + m.rng.IntN(2) {
		rows, err := m.buildRun(g, planned)
		if err != nil {
			return m.abandon(g, err)
		}
		runs = append(runs, rows)
	}
	if depth == 0 {
		if err := m.meanwhile(m.rng.IntN(4)); err != nil {
			return errors.Join(err, g.Abandon())
		}
	}
	if m.rng.IntN(12) == 0 {
		return m.abandon(g, nil)
	}
	return m.publish(g, runs)
}

func (m *sim) abandon(g *Ingest, err error) error {
	return m.outcome(errors.Join(err, g.Abandon()), m.model)
}

// publish foretells the result: rows of keys that nobody else wrote are as
// planned; the others are resolved against the present.
func (m *sim) publish(g *Ingest, runs []map[index.Ordinal]*simRow) error {
	with := m.model.clone()
	job := m.job
	if m.rng.IntN(3) == 0 {
		m.job++
		job = m.job
	}
	ids := map[index.RunID]int{}
	for i, r := range g.runs {
		ids[r.run.Meta().ID] = i
	}
	resolve := func(conflicts []Conflict) error {
		for i := range conflicts {
			m.resolve(with, &conflicts[i], func(p Place) *simRow { return runs[ids[p.Run]][p.Ordinal] })
		}
		return nil
	}
	delete(with.progress, job)
	progress := func() []byte {
		with.progress[job] = fmt.Sprint("at ", m.rng.Uint32())
		return []byte(with.progress[job])
	}
	if m.rng.IntN(6) == 0 {
		progress = nil // the job ends
	}
	err := g.Publish(context.Background(), job, resolve, progress)
	if err == nil || errors.Is(err, ErrOutcomeUnknown) {
		for _, rows := range runs {
			for _, row := range rows {
				if !row.drop {
					with.put(row.k, row.v)
				}
			}
		}
	}
	if err != nil {
		return errors.Join(m.outcome(err, with), ignoreIO(g.Abandon()))
	}
	return m.outcome(nil, with)
}

func ignoreIO(err error) error {
	if err == nil || errors.Is(err, vfs.ErrPowerCut) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return err
}

// resolve does what an import does with a key that was written meanwhile.
func (m *sim) resolve(with *simModel, c *Conflict, planned func(Place) *simRow) {
	scratch := with.clone()
	for i := range c.Rows {
		row := planned(c.Rows[i].Place)
		if row.late {
			continue // its number is nobody else's
		}
		cur, found := scratch.current(row.k)
		if found && cur.body == row.v.body && cur.deleted == row.v.deleted {
			row.drop, c.Rows[i].Drop = true, true
			continue
		}
		row.v.id = cur.id + 1
		row.v.milli = max(row.v.milli, cur.milli+1)
		c.Rows[i].VersionID, c.Rows[i].LastUpdated.Milli = row.v.id, row.v.milli
		scratch.put(row.k, row.v)
	}
}

// buildRun makes a run of random rows, resolved against planned, and adds it.
func (m *sim) buildRun(g *Ingest, planned *simModel) (map[index.Ordinal]*simRow, error) {
	b, err := m.s.NewRun()
	if err != nil {
		return nil, err
	}
	var rows []*simRow
	for range 1 + m.rng.IntN(6) {
		row := &simRow{k: m.someKey(), late: m.rng.IntN(5) == 0}
		row.v = simVersion{body: m.body(row.k), deleted: m.rng.IntN(6) == 0}
		r, err := b.Extraction().NewExtractor(b).Scan([]byte(row.v.body))
		if err != nil {
			return nil, errors.Join(err, b.Abort())
		}
		if row.v.deleted {
			b.DiscardTerms()
		}
		if row.ordinal, err = b.Append(row.k.typ, []byte(row.k.id), r.IDAt, r.Body, r.Splice); err != nil {
			return nil, errors.Join(err, b.Abort())
		}
		rows = append(rows, row)
	}
	b.SortKeys()
	kept, superseded := m.assign(g, b, planned, rows)
	meta, err := b.Seal(context.Background())
	if err != nil {
		return nil, errors.Join(err, b.Abort())
	}
	return kept, g.Add(meta, superseded)
}

// assign gives the rows their versions, as an import does while it resolves.
func (m *sim) assign(g *Ingest, b *index.Builder, planned *simModel, rows []*simRow) (map[index.Ordinal]*simRow, *roaring.Bitmap) {
	kept, superseded := map[index.Ordinal]*simRow{}, roaring.New()
	for _, row := range rows {
		cur, found := planned.current(row.k)
		switch {
		case row.late:
			m.late--
			row.v.id, row.v.milli = m.late, m.now.UnixMilli()-m.rng.Int64N(2000)
			superseded.Add(uint32(row.ordinal))
		case found && cur.body == row.v.body && cur.deleted == row.v.deleted:
			b.Drop(row.ordinal)
			continue
		default:
			row.v.id, row.v.milli = cur.id+1, max(g.Instant().Milli, cur.milli+1)
			if found {
				m.supersede(g, rows, superseded, row.k, cur.id)
			}
		}
		r := index.Row{Type: row.k.typ, VersionID: row.v.id, LastUpdated: fhir.Instant{Milli: row.v.milli, OffsetMinutes: fhir.OffsetZ}}
		if row.v.deleted {
			r.Flags = index.FlagDeleted
		}
		b.SetRow(row.ordinal, r)
		planned.put(row.k, row.v)
		kept[row.ordinal] = row
	}
	return kept, superseded
}

// supersede marks the version that a row follows: in the store, in this run,
// or in a run that was added before.
func (m *sim) supersede(g *Ingest, rows []*simRow, superseded *roaring.Bitmap, k simKey, id int64) {
	for _, row := range rows {
		if row.k == k && row.v.id == id {
			superseded.Add(uint32(row.ordinal))
			return
		}
	}
	for _, r := range g.runs {
		found, err := r.run.Lookup(nil, k.key())
		if err != nil {
			panic(err)
		}
		for _, f := range found {
			if f.VersionID == id {
				r.superseded.Add(uint32(f.Ordinal))
				return
			}
		}
	}
	versions, err := g.Snapshot().KeyLookup().Versions(k.key())
	if err != nil {
		panic(err)
	}
	for _, v := range versions {
		if v.VersionID == id {
			g.Supersede(k.key(), v.Place)
			return
		}
	}
	panic(fmt.Sprintf("version %d of %v is nowhere", id, k))
}

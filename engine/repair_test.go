package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"kiln/internal/vfs"
)

// repaired is what a repair of a damaged store told.
type repaired struct {
	summary  RepairSummary
	findings []Finding
}

func (d *damageStore) repair(fsys *vfs.Mem) (repaired, error) {
	var r repaired
	var err error
	r.summary, err = Repair(context.Background(), RepairOptions{
		FS: d.on(fsys), Dir: "/data", NewID: func() uint64 { return 815 }, SegmentBytes: 12 << 10, newExtraction: d.opts.newExtraction, builders: d.opts.builders,
		Report: func(f Finding) error { r.findings = append(r.findings, f); return nil },
		Encode: func(f Finding) ([]byte, error) { return fmt.Appendf(nil, "%+v", f), nil },
	})
	return r, err
}

// told tells whether a version's loss, or doubt about it, was reported.
func (r *repaired) told(k simKey, id int64, lsn uint64) (lost, doubt bool) {
	for _, f := range r.findings {
		named := f.Type == k.typ.String() && f.ID == k.id && (f.Version == id || f.Version == 0)
		switch f.Kind {
		case FoundLost:
			lost = lost || named || f.Type == "" // a row of which only the file is known
		case FoundLostRecords:
			lost = lost || lsn >= f.FromLSN && (f.ToLSN == 0 || lsn <= f.ToLSN)
		case FoundDoubt:
			doubt = doubt || named || f.Type == ""
		}
	}
	return lost, doubt
}

// checkRepaired holds a repaired store against what was in it: it is sound, each
// version is as it was or told of, and nothing is told that is not so.
func (d *damageStore) checkRepaired(fsys *vfs.Mem, r *repaired, lsns map[simKey]map[int64]uint64) error {
	if problems, err := fsckOf(d.on(fsys)); err != nil || len(problems) > 0 {
		return fmt.Errorf("fsck of the repaired store: %+v, %v", problems, err)
	}
	opts := d.opts
	opts.FS, opts.Logger = d.on(fsys), discardLogger()
	s, err := Open(context.Background(), opts)
	if err != nil {
		return fmt.Errorf("the repaired store does not open: %w", err)
	}
	defer s.Close()
	n, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer n.Release()
	gaps, doubts := map[simKey]map[int64]bool{}, false
	have := newSimModel()
	_, _, err = n.History(context.Background(), HistoryQuery{}, func(v *Version) error {
		k := simKey{v.Type, string(v.ID)}
		if v.Lost {
			if gaps[k] == nil {
				gaps[k] = map[int64]bool{}
			}
			gaps[k][v.VersionID] = true
			return nil
		}
		have.put(k, simVersionOf(v))
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range r.findings {
		doubts = doubts || f.Kind == FoundDoubt && f.Type == ""
	}
	if err := d.checkLosses(have, r, lsns); err != nil {
		return err
	}
	if !doubts { // a lost purge may bring back what was purged
		for k, versions := range have.keys {
			for id := range versions {
				if _, ok := d.model.keys[k][id]; !ok {
					return fmt.Errorf("%v version %d was never there", k, id)
				}
			}
		}
	}
	return d.checkCurrent(n, have, gaps, r)
}

func (d *damageStore) checkLosses(have *simModel, r *repaired, lsns map[simKey]map[int64]uint64) error {
	for k, versions := range d.model.keys {
		for id, want := range versions {
			got, ok := have.keys[k][id]
			lost, doubt := r.told(k, id, lsns[k][id])
			if doubt {
				got.created, got.posted = want.created, want.posted
			}
			if !ok && !lost {
				return fmt.Errorf("%v version %d is lost, and nothing tells", k, id)
			}
			if ok && got != want && !lost { // a purge and what came after it may be lost
				return fmt.Errorf("%v version %d is %+v, want %+v", k, id, got, want)
			}
			for _, f := range r.findings {
				if ok && f.Kind == FoundLost && f.Type == k.typ.String() && f.ID == k.id && f.Version == id {
					return fmt.Errorf("%v version %d is told to be lost, and is there", k, id)
				}
			}
		}
	}
	return nil
}

// checkCurrent: what reads as current was current, unless what took its place lay in
// records of which nothing is left but their LSNs.
func (d *damageStore) checkCurrent(n *Snapshot, have *simModel, gaps map[simKey]map[int64]bool, r *repaired) error {
	blind := false
	for _, f := range r.findings {
		blind = blind || f.Kind == FoundLostRecords || f.Kind == FoundDoubt && f.Type == ""
	}
	for k := range d.model.keys {
		want, ok := d.model.current(k)
		got, err := n.Get(k.typ, []byte(k.id))
		switch {
		case err != nil && ok && !blind && len(have.keys[k]) > 0:
			return fmt.Errorf("%v reads as %w", k, err)
		case err == nil && !got.Lost && got.VersionID != want.id && !blind:
			return fmt.Errorf("%v reads as version %d, %d was current", k, got.VersionID, want.id)
		case err == nil && got.Lost && !gaps[k][got.VersionID]:
			return fmt.Errorf("%v version %d is lost and in no history", k, got.VersionID)
		}
	}
	return nil
}

func fsckOf(fsys vfs.FS) (problems []Problem, err error) {
	err = Fsck(context.Background(), FsckOptions{FS: fsys, Dir: "/data", Report: func(p Problem) { problems = append(problems, p) }})
	return problems, err
}

// repairCount is a line of the table.
type repairCount struct{ flips, missed, repaired, lossless, lost, records int }

// TestRepairOfFlips damages a store at one place: fsck finds it, unless nothing
// stands there, and a repair makes a sound store and tells what is lost.
func TestRepairOfFlips(t *testing.T) {
	repairOfFlips(t, newDamageStore(t, damageSeed), 24)
}

func TestRepairOfFlipsOfAnEncryptedStore(t *testing.T) {
	repairOfFlips(t, newDamageStoreOf(t, damageSeed, true), 12)
}

func repairOfFlips(t *testing.T, d *damageStore, share int) {
	lsns := d.lsns(t)
	table := map[string]*repairCount{}
	if everyFlip() {
		share = 2000
	}
	d.eachFlip(t, false, share, func(name, what string, fsys *vfs.Mem) {
		n := table[fileKind(name)]
		if n == nil {
			n = &repairCount{}
			table[fileKind(name)] = n
		}
		n.flips++
		problems, err := fsckOf(d.on(fsys))
		if err != nil && !isNamed(err) {
			t.Errorf("%s: fsck: %v", what, err)
			return
		}
		if err == nil && len(problems) == 0 {
			n.missed++
			d.mustBeHarmless(t, what, fsys)
		}
		r, err := d.repair(fsys)
		if err != nil {
			t.Errorf("%s: repair: %v", what, err)
			return
		}
		if err := d.checkRepaired(fsys, &r, lsns); err != nil {
			t.Errorf("%s: %v\n%s", what, err, findingsText(r.findings))
			return
		}
		n.repaired++
		n.lost += r.summary.Lost
		n.records += r.summary.LostRecords
		if r.summary.Lost+r.summary.LostRecords == 0 {
			n.lossless++
		}
	})
	for kind, n := range table {
		t.Logf("%-12s %6d tried, %6d missed by fsck, %6d repaired, %6d of them without a loss; %d versions and %d stretches of the log lost",
			kind, n.flips, n.missed, n.repaired, n.lossless, n.lost, n.records)
	}
}

// mustBeHarmless: what fsck does not find changes no answer.
func (d *damageStore) mustBeHarmless(t *testing.T, what string, fsys *vfs.Mem) {
	t.Helper()
	answers, err := d.ask(fsys.CrashClone(1))
	if verdict := d.verdict(answers, err); verdict != "" {
		t.Errorf("%s: fsck finds nothing, and the store: %s %v", what, verdict, err)
	}
}

func findingsText(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "\t%+v\n", f)
	}
	return b.String()
}

// lsns are those of all versions.
func (d *damageStore) lsns(t *testing.T) map[simKey]map[int64]uint64 {
	t.Helper()
	opts := d.opts
	opts.FS = d.on(d.fs.CrashClone(1))
	s := mustOpen(t, opts)
	defer mustClose(t, s)
	n := mustSnapshot(t, s)
	defer n.Release()
	st, err := readState(n)
	if err != nil {
		t.Fatal(err)
	}
	return st.lsns
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
	"kiln/wal"
)

// Publish makes the round visible, whole, with one INGEST record that also
// holds the job's progress. resolve is called in the commit slot when there
// are conflicts (rows it keeps are re-written under their new version in the
// same record); progress is called last and its bytes become Progress(job).
// nil progress ends the job's entry. Publish with no runs only records progress.
//
// After ErrNoSpace, or another error that is not ErrOutcomeUnknown, nothing was
// published: Publish may be called again, or Abandon. The callbacks must not
// call Commit, Flush or Publish.
func (g *Ingest) Publish(ctx context.Context, job uint64, resolve func([]Conflict) error, progress func() []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != ingestOpen {
		return errIngestOver
	}
	keys := keySet{}
	checked, err := g.precheck(ctx, keys)
	if err != nil {
		return err
	}
	err = g.s.inSlot(ctx, func() error {
		return g.publish(ctx, keys, checked, job, resolve, progress)
	})
	if errors.Is(err, ErrOutcomeUnknown) {
		g.state = ingestUnknown
	}
	if err != nil {
		return fmt.Errorf("cannot publish the import round: %w", err)
	}
	g.end()
	return nil
}

// precheck looks for conflicts outside the slot, so that the slot has only the
// last moment to look at. It returns the LSN up to which it looked.
func (g *Ingest) precheck(ctx context.Context, keys keySet) (uint64, error) {
	snap, err := g.s.Snapshot()
	if err != nil {
		return 0, err
	}
	defer snap.Release()
	return snap.lsn, g.writtenSince(ctx, keys, snap, g.snap.lsn)
}

// publish is Publish in the slot.
func (g *Ingest) publish(ctx context.Context, keys keySet, checked uint64, job uint64, resolve func([]Conflict) error, progress func() []byte) error {
	s := g.s
	if err := s.refuseWrites(); err != nil {
		return err
	}
	snap, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Release()
	if err := g.writtenSince(ctx, keys, snap, checked); err != nil {
		return err
	}
	res, err := g.resolve(snap, keys, resolve)
	if err != nil {
		return err
	}
	rec := ingestRecord{kind: ingestImport, job: job, clock: s.clock.mark(), versions: res.versions}
	for _, v := range res.versions {
		rec.clock = max(rec.clock, v.lastUpdated.Milli)
	}
	marks, heads := g.finalMarks(res)
	for _, r := range g.runs {
		rec.runs = append(rec.runs, g.finalRun(r, res))
	}
	for _, id := range slices.Sorted(maps.Keys(marks)) {
		rec.marks = append(rec.marks, ingestMarks{run: id, ordinals: marks[id]})
	}
	for _, e := range heads {
		rec.heads = append(rec.heads, headPlace{lsn: e.lsn, index: e.index})
	}
	if progress != nil {
		rec.hasProgress, rec.progress = true, progress()
	}
	return g.write(&rec, res, heads)
}

// resolve asks the job about the conflicts, if there are any.
func (g *Ingest) resolve(snap *Snapshot, keys keySet, ask func([]Conflict) error) (*resolution, error) {
	if len(keys) == 0 {
		return settle(nil)
	}
	conflicts, err := g.conflicts(snap, keys)
	if err != nil {
		return nil, err
	}
	if ask == nil {
		return nil, fmt.Errorf("%d resources were written while they were imported", len(conflicts))
	}
	if err := ask(conflicts); err != nil {
		return nil, err
	}
	return settle(conflicts)
}

// finalRun is a run's part of the record, with the resolution's last word.
func (g *Ingest) finalRun(r *ingestedRun, res *resolution) ingestRun {
	id := r.run.Meta().ID
	superseded, void := r.superseded, roaring.New()
	if res.void[id] != nil {
		void = res.void[id]
	}
	if len(res.superseded) > 0 {
		superseded = superseded.Clone() // Publish may be called again
	}
	for p, yes := range res.superseded {
		if p.Run == id {
			setBit(superseded, uint32(p.Ordinal), yes)
		}
	}
	r.void = void
	return ingestRun{meta: r.run.Meta(), superseded: superseded, void: void}
}

func setBit(b *roaring.Bitmap, ordinal uint32, on bool) {
	if on {
		b.Add(ordinal)
	} else {
		b.Remove(ordinal)
	}
}

// finalMarks is what the record supersedes outside its own runs: what the round
// said, but for the conflicting keys, where the resolution decides. Places
// follow their version if a flush made it a row or a merge moved it.
func (g *Ingest) finalMarks(res *resolution) (map[index.RunID]*roaring.Bitmap, []*headEntry) {
	marks := map[index.RunID]*roaring.Bitmap{}
	for id, rows := range g.rows {
		at := g.s.follow(Place{Run: id})
		if marks[at.Run] == nil {
			marks[at.Run] = roaring.New()
		}
		marks[at.Run].Or(roaring.AddOffset(rows, uint32(at.Ordinal)))
	}
	heads := map[*headEntry]bool{}
	set := func(p Place, on bool) {
		row, e := g.s.locate(p)
		if e != nil {
			heads[e] = on
			return
		}
		if marks[row.Run] == nil {
			marks[row.Run] = roaring.New()
		}
		setBit(marks[row.Run], uint32(row.Ordinal), on)
	}
	for number := range g.heads {
		set(Place{Ordinal: index.Ordinal(number)}, true)
	}
	for p, on := range res.superseded {
		if !g.owns(p.Run) {
			set(p, on)
		}
	}
	return pruneMarks(marks), sortedHeads(heads)
}

func (g *Ingest) owns(id index.RunID) bool {
	return slices.ContainsFunc(g.runs, func(r *ingestedRun) bool { return r.run.Meta().ID == id })
}

func pruneMarks(marks map[index.RunID]*roaring.Bitmap) map[index.RunID]*roaring.Bitmap {
	for id, rows := range marks {
		if rows.IsEmpty() {
			delete(marks, id)
			continue
		}
		rows.RunOptimize()
	}
	return marks
}

func sortedHeads(heads map[*headEntry]bool) []*headEntry {
	var sorted []*headEntry
	for e, on := range heads {
		if on {
			sorted = append(sorted, e)
		}
	}
	slices.SortFunc(sorted, func(a, b *headEntry) int {
		if a.lsn != b.lsn {
			return int(int64(a.lsn) - int64(b.lsn))
		}
		return int(a.index) - int(b.index)
	})
	return sorted
}

// locate finds a place where it is now: in the head, in the run that a flush
// made, or where a merge moved it. Slot only.
func (s *Store) locate(p Place) (Place, *headEntry) {
	if p.Run != 0 {
		return s.follow(p), nil
	}
	if e := s.view.entry(uint32(p.Ordinal)); e != nil {
		return Place{}, e
	}
	for _, f := range s.flushes {
		if i := uint32(p.Ordinal) - uint32(f.base); uint64(i) < f.count {
			return s.follow(Place{Run: f.run.run.Meta().ID, Ordinal: index.Ordinal(i)}), nil
		}
	}
	panic(fmt.Sprintf("BUG: version %d of the head is nowhere", p.Ordinal))
}

// write appends the record and applies it. Slot only.
func (g *Ingest) write(rec *ingestRecord, res *resolution, heads []*headEntry) error {
	s := g.s
	for _, m := range rec.marks {
		if r := s.view.run(m.run); r == nil || m.ordinals.Maximum() >= r.run.Meta().Rows {
			return fmt.Errorf("the round supersedes rows of run %016x, which the store does not have", uint64(m.run))
		}
	}
	payload, err := rec.marshal()
	if err != nil {
		return err
	}
	placed, err := s.append([]wal.Entry{{Type: wal.TypeIngest, Payload: payload}})
	if err != nil {
		return err
	}
	lsn := uint64(placed[0].LSN)
	s.addRewritten(rec, res, len(payload), placed[0])
	for _, m := range rec.marks {
		s.view.run(m.run).supersedeAll(lsn, m.ordinals)
	}
	for _, e := range heads {
		e.supersede(lsn)
	}
	s.clock.restoreDated(rec.clock)
	g.apply(rec, lsn)
	return nil
}

// apply makes the written record visible.
func (g *Ingest) apply(rec *ingestRecord, lsn uint64) {
	s := g.s
	s.mu.Lock()
	progress := maps.Clone(s.progress)
	if rec.hasProgress {
		progress[rec.job] = rec.progress
	} else {
		delete(progress, rec.job)
	}
	s.progress = progress
	s.mu.Unlock()
	s.viewLSN = lsn
	if len(g.runs) == 0 {
		s.publish(lsn)
		return
	}
	var states []*runState
	for i, r := range g.runs {
		states = append(states, newRunState(r.run, lsn, ingestImport, r.run.Meta().ID, rec.runs[i].superseded, rec.runs[i].void, lsn))
	}
	s.install(s.view.with(states, s.view.gens), lsn)
	s.kickMerges()
	s.ingestsSinceCheckpoint++
	if s.ingestsSinceCheckpoint >= checkpointIngestsMax {
		kick(s.checkpointKick)
	}
}

// addRewritten puts the record's versions into the head. They are the end of
// its payload.
func (s *Store) addRewritten(rec *ingestRecord, res *resolution, payloadBytes int, placed wal.Placed) {
	at := payloadBytes
	for i := range rec.versions {
		at -= versionHeaderBytes + len(rec.versions[i].body)
	}
	entries := make([]headEntry, len(rec.versions))
	for i := range rec.versions {
		v := &rec.versions[i]
		at += versionHeaderBytes
		entries[i] = v.entry(res.keys[i], uint64(placed.LSN), uint32(i), shifted(placed.Position, uint32(at)))
		at += len(v.body)
	}
	s.view.active().add(entries)
}

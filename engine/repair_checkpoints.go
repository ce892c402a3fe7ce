package engine

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
	"kiln/wal"
)

// rivals are two checkpoints that do not agree, each with the log behind it. The older
// one is used: the log between them has checksums of its own, whereas the newer one
// has what a process kept in memory all that time. What it had otherwise is told
// version by version, since nobody can prove which of the two is right.
type rivals struct {
	newer *recovery // nil: the checkpoints agree, or there is nothing to compare
}

// distrust turns to the older checkpoint.
func (p *repair) distrust() error {
	last := len(p.r.checkpoints) - 1
	if !p.distrusted || last < 1 {
		return nil
	}
	dir := path.Join(p.r.dir, checkpointsDir)
	older, err := p.r.readCheckpoint(path.Join(dir, checkpointFileName(p.r.checkpoints[last-1].lsn)), p.format.storeID)
	if err != nil {
		return err // it was read a moment before
	}
	newer := &recovery{fs: p.r.fs, dir: p.r.dir, cache: p.r.cache, checkpoint: p.r.checkpoint}
	if newer.begin() == nil {
		p.rivals.newer = newer
	}
	p.r.checkpoint, p.r.checkpoints = *older, p.r.checkpoints[:last]
	return p.report(Finding{
		Kind: FoundDoubt, File: path.Join(dir, checkpointFileName(newer.checkpoint.lsn)), FromLSN: older.lsn + 1, ToLSN: newer.checkpoint.lsn,
		What: "it is not what the checkpoint before and the log give, and is not used; the versions that it has otherwise follow",
	})
}

// replay follows a record. Where that cannot be, the newer checkpoint is wrong, and has
// nothing to tell.
func (v *rivals) replay(p *repair, rec wal.Record) {
	if v.newer != nil && uint64(rec.LSN) > v.newer.checkpoint.flushed && v.newer.replay(p.ctx, rec) != nil {
		v.newer = nil
	}
}

// settleRivals takes up runs that only the newer checkpoint has, and reports what it
// has otherwise.
func (p *repair) settleRivals() error {
	newer := p.rivals.newer
	if newer == nil {
		return nil
	}
	p.r.clock, p.r.nextRun = max(p.r.clock, newer.clock), max(p.r.nextRun, newer.nextRun)
	for _, id := range slices.Sorted(maps.Keys(newer.metas)) {
		err := error(nil)
		if meta, ok := p.r.metas[id]; !ok || meta != newer.metas[id] {
			err = p.settleForeign(id, ok)
		} else {
			err = p.settleRows(id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settleForeign is for a run that the older checkpoint and the log do not have, or
// describe otherwise. Its file decides: it has a hash that descriptions name. What it
// has twice with others is left out later (isTwice).
func (p *repair) settleForeign(id index.RunID, described bool) error {
	meta, state := p.rivals.newer.metas[id], p.rivals.newer.runs[id]
	name := path.Join(p.path(runsDir), runFileName(uint64(id)))
	run, err := index.OpenRun(p.opts.FS, p.path(runsDir), meta, 0, p.r.cache)
	if err != nil {
		if stop := refusal(err); stop != nil {
			return stop
		}
		return p.report(Finding{Kind: FoundDoubt, File: name, What: "the newest checkpoint describes the run otherwise, and the file is not that one"})
	}
	if err := run.Close(); err != nil {
		return err
	}
	if described {
		delete(p.r.metas, id)
		delete(p.r.runs, id)
	}
	if err := p.r.addRun(meta, &checkpointRun{
		meta: meta, publishLSN: state.publishLSN, kind: state.kind, rank: state.rank,
		superseded: state.superseded(p.r.lastLSN), void: state.voidAt(p.r.lastLSN),
	}, p.r.lastLSN); err != nil {
		return err
	}
	return p.report(Finding{Kind: FoundDoubt, File: name, What: "only the newest checkpoint describes the run as its file is: it is taken for the store's, and what was purged of it may be back"})
}

// settleRows reports the rows of a run that the two have otherwise. Which version of a
// resource is current its numbers tell, whatever either says; what is void stays as the
// older one and the log have it.
func (p *repair) settleRows(id index.RunID) error {
	ours, theirs, lsn := p.r.runs[id], p.rivals.newer.runs[id], p.r.lastLSN
	run, err := index.OpenRun(p.opts.FS, p.path(runsDir), p.r.metas[id], 0, p.r.cache)
	if err != nil {
		return refusal(err) // it is told as a damaged run
	}
	defer run.Close()
	void, theirVoid := orEmpty(ours.voidAt(lsn)), orEmpty(theirs.voidAt(lsn))
	old, theirOld := orEmpty(ours.superseded(lsn)), orEmpty(theirs.superseded(lsn))
	for _, d := range []struct {
		rows *roaring.Bitmap
		what string
	}{
		{roaring.AndNot(void, theirVoid), "the newest checkpoint had it; by the one before and the log it was purged, or never became a version: it is left out"},
		{roaring.AndNot(theirVoid, void), "the newest checkpoint had it as purged, or as no version at all; by the one before and the log it is one: it is kept; purge it again if it was"},
		{roaring.AndNot(old, theirOld), "the newest checkpoint did not have it as superseded; the resource's numbers decide now"},
		{roaring.AndNot(theirOld, old), "the newest checkpoint had it as superseded; the resource's numbers decide now"},
	} {
		d.rows.And(run.Live())
		for it := d.rows.Iterator(); it.HasNext(); {
			if err := p.report(p.doubtfulRow(run, id, index.Ordinal(it.Next()), d.what)); err != nil {
				return err
			}
		}
	}
	return nil
}

// doubtfulRow names a row's version, if that can be read.
func (p *repair) doubtfulRow(run *index.Run, id index.RunID, o index.Ordinal, what string) Finding {
	f := Finding{Kind: FoundDoubt, File: path.Join(p.path(runsDir), runFileName(uint64(id))), What: what}
	row, err := run.Row(o)
	if err == nil {
		var stored index.Stored
		if stored, err = run.Body(o); err == nil {
			f.Type, f.ID, f.Version = row.Type.String(), string(stored.ID), row.VersionID
		}
	}
	if err != nil {
		f.What = fmt.Sprintf("row %d, which cannot be read: %s", o, what)
	}
	return f
}

package engine

import (
	"fmt"

	"kiln/fhir"
	"kiln/index"
	"kiln/wal"
)

// apply changes the state by one record, as the committer did when it wrote it.
func (r *recovery) apply(rec wal.Record) error {
	switch rec.Type {
	case wal.TypeCommit:
		return decodeCommit(rec.Payload, func(number uint32, v *versionRecord, bodyAt int) error {
			return r.applyVersion(rec, number, v, bodyAt)
		})
	case wal.TypeIngest:
		return r.applyIngest(rec)
	case wal.TypeCheckpoint:
		var c checkpointRecord
		return c.unmarshal(rec.Payload)
	case wal.TypeReplace:
		return r.applyReplace(rec)
	case wal.TypePurge:
		return r.applyPurge(rec)
	case wal.TypeFields:
		return r.applyFields(rec)
	}
	return fmt.Errorf("%w: record type %d is not known to this Kiln", ErrNewerFormat, rec.Type)
}

// included tells whether the checkpoint has the record's effects on the runs.
func (r *recovery) included(lsn uint64) bool { return lsn <= r.checkpoint.lsn }

func (r *recovery) applyVersion(rec wal.Record, number uint32, v *versionRecord, bodyAt int) error {
	if v.typ.String() == "" || !fhir.ValidID(v.id()) {
		return errBadVersion
	}
	lsn := uint64(rec.LSN)
	key := index.AppendKey(make([]byte, 0, keyBytesTypical), v.typ, v.id())
	e := v.entry(string(key), lsn, number, shifted(rec.Position, uint32(bodyAt)))
	if err := r.supersede(lsn, v.supersedes); err != nil {
		if r.lenient == nil {
			return err
		}
		r.lenient.missesPredecessor(&e, v.supersedes)
	}
	r.entries = append(r.entries, &e)
	if !r.included(lsn) {
		r.clock = max(r.clock, v.lastUpdated.Milli)
	}
	return nil
}

func (r *recovery) supersede(lsn uint64, p recordPlace) error {
	switch p.kind {
	case placeRun:
		if r.included(lsn) {
			return nil
		}
		run, meta := r.runs[index.RunID(p.a)], r.metas[index.RunID(p.a)]
		if run == nil || p.ordinal >= meta.Rows {
			return fmt.Errorf("it supersedes row %d of run %016x, which is not there", p.ordinal, p.a)
		}
		run.supersede(lsn, p.ordinal)
	case placeHead:
		return r.supersedeHead(lsn, headPlace{lsn: p.a, index: p.ordinal})
	}
	return nil
}

func (r *recovery) supersedeHead(lsn uint64, p headPlace) error {
	if e := r.find(p.lsn, p.index); e != nil {
		e.supersede(lsn)
		return nil
	}
	if r.included(lsn) && p.lsn <= r.flushed {
		return nil
	}
	return fmt.Errorf("it supersedes version %d of LSN %d, which is not there", p.index, p.lsn)
}

func (r *recovery) applyIngest(rec wal.Record) error {
	in, p, err := decodeIngest(rec.Payload)
	if err != nil {
		return err
	}
	lsn := uint64(rec.LSN)
	if in.kind == ingestFlush {
		r.dropFlushed(in.flushedUpTo)
	}
	for _, h := range in.heads {
		if err := r.supersedeHead(lsn, h); err != nil && r.lenient == nil {
			return err
		}
	}
	if !r.included(lsn) {
		if err := r.applyRuns(lsn, in); err != nil {
			return err
		}
		r.applyProgress(in)
		r.clock = max(r.clock, in.clock)
		r.viewLSN = lsn
	}
	return decodeVersions(rec.Payload, p.at, uint32(len(in.versions)), func(number uint32, v *versionRecord, bodyAt int) error {
		return r.applyVersion(rec, number, v, bodyAt)
	})
}

// dropFlushed forgets the head entries that a run took over.
func (r *recovery) dropFlushed(upto uint64) {
	n := 0
	for n < len(r.entries) && r.entries[n].lsn <= upto {
		n++
	}
	r.entries = r.entries[n:]
	r.flushed = max(r.flushed, upto)
}

func (r *recovery) applyRuns(lsn uint64, in *ingestRecord) error {
	for i := range in.runs {
		run := &in.runs[i]
		state := checkpointRun{publishLSN: lsn, kind: in.kind, rank: run.meta.ID, superseded: run.superseded, void: run.void}
		if err := r.addRun(run.meta, &state, lsn); err != nil {
			return err
		}
	}
	for _, m := range in.marks {
		run, meta := r.runs[m.run], r.metas[m.run]
		if run == nil || (!m.ordinals.IsEmpty() && m.ordinals.Maximum() >= meta.Rows) {
			if r.lenient.misses(m.run) {
				continue
			}
			return fmt.Errorf("it supersedes rows of run %016x, which are not there", uint64(m.run))
		}
		run.supersedeAll(lsn, m.ordinals)
	}
	return nil
}

func (r *recovery) applyProgress(in *ingestRecord) {
	if in.kind != ingestImport {
		return
	}
	if in.hasProgress {
		r.progress[in.job] = in.progress
	} else {
		delete(r.progress, in.job)
	}
}

// applyPurge takes versions out.
func (r *recovery) applyPurge(rec wal.Record) error {
	var in purgeRecord
	if err := in.unmarshal(rec.Payload); err != nil {
		return err
	}
	lsn := uint64(rec.LSN)
	for _, p := range in.heads {
		e := r.find(p.lsn, p.index)
		switch {
		case e != nil:
			e.purged = lsn
		case r.lenient.missesPurged(p):
		case !r.included(lsn) || p.lsn > r.flushed:
			return fmt.Errorf("it purges version %d of LSN %d, which is not there", p.index, p.lsn)
		}
	}
	if r.included(lsn) {
		return nil
	}
	for _, m := range in.runs {
		run, meta := r.runs[m.run], r.metas[m.run]
		if run == nil || m.ordinals.Maximum() >= meta.Rows {
			if r.lenient.missesPurgedRows(m) {
				continue
			}
			return fmt.Errorf("it purges rows of run %016x, which are not there", uint64(m.run))
		}
		run.purge(lsn, m.ordinals)
	}
	r.viewLSN = lsn
	return nil
}

// applyFields adds fields to the list.
func (r *recovery) applyFields(rec wal.Record) error {
	fields, err := unmarshalFields(rec.Payload)
	if err != nil || r.included(uint64(rec.LSN)) {
		return err
	}
	if err := followOn(len(r.fields), fields); err != nil {
		return err // a repair tells, and goes on: the runs are indexed again
	}
	r.fields = append(r.fields, fields...)
	return nil
}

// applyReplace puts a merged run in the place of its inputs.
func (r *recovery) applyReplace(rec wal.Record) error {
	var in replaceRecord
	if err := in.unmarshal(rec.Payload); err != nil {
		return err
	}
	if r.included(uint64(rec.LSN)) {
		return nil
	}
	var inputs []*runState
	var rows []uint32
	total := uint64(0)
	for _, id := range in.inputs {
		run := r.runs[id]
		if run == nil && r.lenient.missesReplaced(id) {
			continue
		}
		if run == nil {
			return fmt.Errorf("it replaces run %016x, which is not there", uint64(id))
		}
		if len(inputs) > 0 && (run.fromFlush() != inputs[0].fromFlush() || compareRuns(inputs[len(inputs)-1], run) >= 0) {
			return fmt.Errorf("it replaces runs that do not follow each other")
		}
		inputs, rows = append(inputs, run), append(rows, r.metas[id].Rows)
		total += uint64(r.metas[id].Rows)
	}
	if len(inputs) < len(in.inputs) {
		return r.replaceInPart(&in, inputs, uint64(rec.LSN))
	}
	if total != uint64(in.meta.Rows) {
		return fmt.Errorf("it replaces %d rows by %d", total, in.meta.Rows)
	}
	if _, ok := r.metas[in.meta.ID]; ok {
		return fmt.Errorf("run %016x is published twice", uint64(in.meta.ID))
	}
	for _, id := range in.inputs {
		delete(r.runs, id)
		delete(r.metas, id)
	}
	r.metas[in.meta.ID], r.runs[in.meta.ID] = in.meta, mergedState(inputs, rows, nil, uint64(rec.LSN))
	r.nextRun = max(r.nextRun, uint64(in.meta.ID)+1)
	r.viewLSN = uint64(rec.LSN)
	return nil
}

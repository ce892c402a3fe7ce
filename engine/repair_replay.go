package engine

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/wal"
)

// leniency is what a replay over gaps in the log notes: records that came through
// name what those between did.
type leniency struct {
	mentioned   map[index.RunID]bool // runs that nobody published
	replaced    map[index.RunID]bool // of those, such as a REPLACE took out
	purgedHeads map[headPlace]bool
	purgedRows  map[index.RunID]*roaring.Bitmap
	// predecessors are versions that are lost, because a later one superseded them.
	predecessors []gapVersion
}

func newLeniency() *leniency {
	return &leniency{
		mentioned: map[index.RunID]bool{}, replaced: map[index.RunID]bool{},
		purgedHeads: map[headPlace]bool{}, purgedRows: map[index.RunID]*roaring.Bitmap{},
	}
}

// gapVersion is a version that is lost, as far as it is known.
type gapVersion struct {
	key     string
	version int64 // 0: not known
	milli   int64
	place   headPlace // where it was, if that is known
	why     string
}

// misses notes a run, and tells whether a replay may go on without it.
func (l *leniency) misses(run index.RunID) bool {
	if l == nil {
		return false
	}
	l.mentioned[run] = true
	return true
}

// missesPredecessor notes what a version superseded.
func (l *leniency) missesPredecessor(e *headEntry, p recordPlace) {
	if p.kind == placeRun {
		l.misses(index.RunID(p.a))
		return
	}
	if e.versionID > 1 {
		l.predecessors = append(l.predecessors, gapVersion{
			key: e.key, version: e.versionID - 1, milli: e.lastUpdated.Milli - 1, place: headPlace{lsn: p.a, index: p.ordinal},
			why: fmt.Sprintf("the version after it, of LSN %d, names it", e.lsn),
		})
	}
}

func (l *leniency) missesPurged(p headPlace) bool {
	if l == nil {
		return false
	}
	l.purgedHeads[p] = true
	return true
}

func (l *leniency) missesPurgedRows(m ingestMarks) bool {
	if !l.misses(m.run) {
		return false
	}
	if l.purgedRows[m.run] == nil {
		l.purgedRows[m.run] = roaring.New()
	}
	l.purgedRows[m.run].Or(m.ordinals)
	return true
}

func (l *leniency) missesReplaced(run index.RunID) bool {
	if !l.misses(run) {
		return false
	}
	l.replaced[run] = true
	return true
}

// replaceInPart puts a merged run in the place of inputs of which some are not
// known. What was void in those the merge left out.
func (r *recovery) replaceInPart(in *replaceRecord, inputs []*runState, lsn uint64) error {
	run := checkpointRun{meta: in.meta, publishLSN: lsn, kind: ingestMerged, rank: in.meta.ID}
	if len(inputs) > 0 {
		last := inputs[len(inputs)-1]
		run.publishLSN, run.rank = max(last.publishLSN, 1), last.rank
		if last.fromFlush() {
			run.kind = ingestFlush
		}
	}
	for _, id := range in.inputs {
		delete(r.runs, id)
		delete(r.metas, id)
	}
	r.viewLSN = lsn
	return r.addRun(in.meta, &run, lsn)
}

// readLog replays what is left of the log.
func (p *repair) readLog() error {
	next := p.r.checkpoint.flushed + 1
	err := wal.Salvage(p.ctx, p.opts.FS, p.path(logDir), func(rec wal.Record) error {
		err := p.expect(next, uint64(rec.LSN))
		next = max(next, uint64(rec.LSN)+1)
		if err != nil || uint64(rec.LSN) <= p.r.checkpoint.flushed {
			return err
		}
		p.rivals.replay(p, rec)
		if err := p.r.replay(p.ctx, rec); err != nil {
			return p.unapplied(rec, err)
		}
		return nil
	}, func(d wal.Damage) error {
		err := p.expect(next, uint64(d.From))
		next = max(next, uint64(d.From), uint64(d.To)+1)
		return joined(err, func() error { return p.damagedLog(d) })
	})
	if err != nil {
		return err
	}
	if next <= p.r.checkpoint.lsn {
		return p.lostRecords(next, p.r.checkpoint.lsn, "", 0, "the log ends before the checkpoint")
	}
	return nil
}

func joined(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// expect reports records that are missing before one.
func (p *repair) expect(next, found uint64) error {
	if found <= next {
		return nil
	}
	if next == 1 && p.noCheckpoint {
		p.adoptAll = true
		return nil
	}
	return p.lostRecords(next, found-1, p.path(logDir), 0, "the log does not have them")
}

// unapplied reports a whole record that names what is lost, in a way that nothing
// of it can be used.
func (p *repair) unapplied(rec wal.Record, err error) error {
	if stop := refusal(err); stop != nil {
		return stop
	}
	p.lastLSN = max(p.lastLSN, uint64(rec.LSN))
	return p.report(Finding{Kind: FoundDoubt, File: p.path(logDir), What: err.Error(), FromLSN: uint64(rec.LSN), ToLSN: uint64(rec.LSN)})
}

// damagedLog reports a stretch of the log that is lost, and what can be read in it.
func (p *repair) damagedLog(d wal.Damage) error {
	p.lastLSN = max(p.lastLSN, uint64(d.To), uint64(d.From))
	from := max(uint64(d.From), p.r.checkpoint.flushed+1)
	if d.From == 0 || d.To != 0 && uint64(d.To) < from {
		return nil // no record is lost, or runs have what it did
	}
	if d.Type == wal.TypeCheckpoint {
		return nil // nobody needs it
	}
	if err := p.lostRecords(from, uint64(d.To), d.File, d.Offset, d.What+recordWord(d.Type)); err != nil || d.Payload == nil {
		return err
	}
	payload := bytes.Clone(d.Payload)
	p.damaged = append(p.damaged, damagedRecord{lsn: uint64(d.From), typ: d.Type, payload: payload})
	switch d.Type {
	case wal.TypeCommit:
		if len(payload) >= commitHeaderBytes {
			return p.legible(payload, commitHeaderBytes, d)
		}
	case wal.TypePurge:
		if uint64(d.From) > p.r.checkpoint.lsn || !p.purgeWasOfRuns(payload) {
			return p.report(Finding{Kind: FoundDoubt, File: d.File, Offset: d.Offset, FromLSN: uint64(d.From), ToLSN: uint64(d.To),
				What: "a purge is lost: versions that it took out may be back; purge them again"})
		}
	}
	return nil
}

// purgeWasOfRuns tells whether a purge that a checkpoint includes was of rows alone.
func (p *repair) purgeWasOfRuns(payload []byte) bool {
	var rec purgeRecord
	return rec.unmarshal(payload) == nil && len(rec.heads) == 0
}

func recordWord(t wal.RecordType) string {
	words := map[wal.RecordType]string{
		wal.TypeCommit: " of a COMMIT", wal.TypeIngest: " of an INGEST", wal.TypeReplace: " of a REPLACE",
		wal.TypePurge: " of a PURGE", wal.TypeCheckpoint: " of a CHECKPOINT", wal.TypeFields: " of FIELDS",
	}
	return words[t]
}

// damagedRecord is a record of which only the header is whole.
type damagedRecord struct {
	lsn     uint64
	typ     wal.RecordType
	payload []byte
}

// legible reads what can be read of the versions in a damaged record. Where a body's
// checksum holds the resource is certain, where the version before it is named the
// number is too: such versions become gaps. Others are told as they read.
func (p *repair) legible(payload []byte, at int, d wal.Damage) error {
	for number := uint32(0); at < len(payload); number++ {
		var v versionRecord
		n, err := v.unmarshal(payload[at:])
		if err != nil {
			return nil // nothing behind can be read
		}
		at += n
		if v.typ.String() == "" || !fhir.ValidID(v.id()) {
			continue
		}
		gap := gapVersion{
			key: string(index.AppendKey(nil, v.typ, v.id())), version: v.versionID, milli: v.lastUpdated.Milli,
			place: headPlace{lsn: uint64(d.From), index: number}, why: "its record is damaged",
		}
		switch sound := bodyCRC(v.body) == v.crc && bodyIs(&v); {
		case sound && v.supersedes.kind == placeNone && v.versionID == 1, p.follows(&v, gap.key):
			p.gaps = append(p.gaps, gap)
		case sound:
			gap.version = 0
			p.gaps = append(p.gaps, gap)
		default:
			if err := p.report(Finding{
				Kind: FoundDoubt, Type: v.typ.String(), ID: string(v.id()), Version: v.versionID, FromLSN: uint64(d.From), ToLSN: uint64(d.From),
				What: "can be read in a damaged record, and may not be what was written there",
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// bodyIs tells whether the body is of the type and id that the version says.
func bodyIs(v *versionRecord) bool {
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan(v.body, nil)
	return err == nil && r.Type == v.typ && bytes.Equal(r.ID, v.id())
}

// follows tells whether a damaged record's version names the version before it, of
// the same resource: then neither key nor number can be wrong.
func (p *repair) follows(v *versionRecord, key string) bool {
	switch v.supersedes.kind {
	case placeHead:
		e := p.r.find(v.supersedes.a, v.supersedes.ordinal)
		return e != nil && e.key == key && e.versionID == v.versionID-1
	case placeRun:
		meta, ok := p.r.metas[index.RunID(v.supersedes.a)]
		if !ok {
			return false
		}
		run, err := index.OpenRun(p.opts.FS, p.path(runsDir), meta, 0, nil)
		if err != nil {
			return false
		}
		defer run.Close()
		row, rowErr := run.Row(index.Ordinal(v.supersedes.ordinal))
		stored, err := run.Body(index.Ordinal(v.supersedes.ordinal))
		return rowErr == nil && err == nil && row.VersionID == v.versionID-1 && key == string(index.AppendKey(nil, row.Type, stored.ID))
	}
	return false
}

// pruneGaps leaves out what was purged later.
func (p *repair) pruneGaps() {
	p.gaps = append(p.gaps, p.r.lenient.predecessors...)
	p.gaps = slices.DeleteFunc(p.gaps, func(g gapVersion) bool {
		return p.r.lenient.purgedHeads[g.place]
	})
}

package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"kiln/index"
	"kiln/wal"
)

// RestorePlan follows the records of a log from a backup's description on, as an
// opening of the store would, without any file of it: which runs make up the
// store at an LSN, and what has to be known about them.
type RestorePlan struct {
	r    recovery
	next uint64 // the record that Apply wants
}

// NewRestorePlan begins at a description; name is what errors call it. The records
// from Flushed+1 follow, those up to its LSN too.
func NewRestorePlan(name string, checkpoint []byte) (*RestorePlan, error) {
	c, err := parseCheckpoint(name, checkpoint)
	if err != nil {
		return nil, err
	}
	p := &RestorePlan{r: recovery{dir: name, checkpoint: *c}, next: c.flushed + 1}
	if err := p.r.begin(); err != nil {
		return nil, fmt.Errorf("cannot use %q: %w", name, err)
	}
	return p, nil
}

// Next is the LSN of the record that Apply takes next.
func (p *RestorePlan) Next() uint64 { return p.next }

// LSN is of the last record applied, but not below the description's.
func (p *RestorePlan) LSN() uint64 { return p.r.lastLSN }

// IsWhole says that the records that the description needs were applied.
func (p *RestorePlan) IsWhole() bool { return p.next > p.r.checkpoint.lsn }

// Milli is the store's clock after the last record: milliseconds since 1970.
func (p *RestorePlan) Milli() int64 { return p.r.clock }

// RunsSince is the LSN of the last record that changed the list of runs.
func (p *RestorePlan) RunsSince() uint64 { return p.r.viewLSN }

// Runs are those of the store, by id.
func (p *RestorePlan) Runs() []index.RunMeta {
	metas := slices.Collect(maps.Values(p.r.metas))
	slices.SortFunc(metas, func(a, b index.RunMeta) int { return int(int64(a.ID) - int64(b.ID)) })
	return metas
}

// Apply takes the next record. Its payload is not kept.
func (p *RestorePlan) Apply(ctx context.Context, rec LogRecord) error {
	if rec.LSN != p.next {
		return fmt.Errorf("cannot replay the record of LSN %d: LSN %d should come", rec.LSN, p.next)
	}
	p.next++
	return p.r.replay(ctx, wal.Record{Type: wal.RecordType(rec.Type), LSN: wal.LSN(rec.LSN), Payload: rec.Payload})
}

// describe is the state at LSN as the checkpoint of a store of another id. An
// import's progress is left out: it counts error files that are not restored,
// and the same import begun again finds what it loaded.
func (p *RestorePlan) describe(storeID uint64) *checkpointFile {
	r, lsn := &p.r, p.LSN()
	c := &checkpointFile{storeID: storeID, lsn: lsn, flushed: r.flushed, clock: r.clock, nextRun: r.nextRun, fields: r.fields}
	if len(r.entries) == 0 {
		c.flushed = lsn
	}
	for _, meta := range p.Runs() {
		run := r.runs[meta.ID]
		c.runs = append(c.runs, checkpointRun{
			meta: meta, publishLSN: run.publishLSN, kind: run.kind, rank: run.rank,
			superseded: run.superseded(lsn), void: run.voidAt(lsn),
		})
	}
	return c
}

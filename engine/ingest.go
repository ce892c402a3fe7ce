package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// Ingest is one round of a bulk import on its way into the store. Steps:
// BeginIngest, (Add | Supersede)*, then Publish or Abandon. Add and Supersede
// are safe for concurrent use.
type Ingest struct {
	s       *Store
	snap    *Snapshot
	instant fhir.Instant

	// mu guards what follows until Publish or Abandon.
	mu   sync.Mutex
	runs []*ingestedRun // in the order of Add
	// heads and rows are versions of the snapshot that are no longer current:
	// numbers in the head, and ordinals by run.
	heads map[uint32]bool
	rows  map[index.RunID]*roaring.Bitmap
	state ingestState
}

// ingestedRun is a sealed run of the round.
type ingestedRun struct {
	run        *index.Run
	superseded *roaring.Bitmap
	void       *roaring.Bitmap
}

type ingestState uint8

const (
	ingestOpen ingestState = iota
	// ingestUnknown: the record may be in the log, so the run files stay.
	ingestUnknown
	ingestDone
)

var errIngestOver = errors.New("the ingest is over")

// BeginIngest takes the instant that the round's undated lines get and the
// snapshot it is resolved against; SnapshotAt waits until the Ingest is
// published or abandoned.
func (s *Store) BeginIngest(ctx context.Context) (*Ingest, error) {
	if s.opts.ReadOnly {
		return nil, ErrOpenedReadOnly
	}
	if err := s.ingests.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("cannot begin an import round: %w", err)
	}
	g := &Ingest{s: s, heads: map[uint32]bool{}, rows: map[index.RunID]*roaring.Bitmap{}}
	err := s.inSlot(ctx, func() error {
		g.instant = s.clock.date(s.clock.now(s.opts.Now()), false, fhir.Instant{})
		var err error
		g.snap, err = s.Snapshot()
		return err
	})
	if err != nil {
		s.ingests.Release(1)
		return nil, err
	}
	return g, nil
}

// Instant is the date of the round's undated lines.
func (g *Ingest) Instant() fhir.Instant { return g.instant }

// Snapshot is what the round is resolved against; it is released with the Ingest.
func (g *Ingest) Snapshot() *Snapshot { return g.snap }

// Add adds a sealed run with the ordinals that are not current in it from the
// start (nil: none). The Ingest owns both from here on.
func (g *Ingest) Add(meta index.RunMeta, superseded *roaring.Bitmap) error {
	run, err := index.OpenRun(g.s.opts.FS, g.s.path(runsDir), meta, 0, g.s.cache)
	if err != nil {
		return fmt.Errorf("cannot add run %016x: %w", uint64(meta.ID), err)
	}
	if superseded == nil {
		superseded = roaring.New()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != ingestOpen {
		return errors.Join(errIngestOver, run.Close())
	}
	g.runs = append(g.runs, &ingestedRun{run: run, superseded: superseded, void: roaring.New()})
	return nil
}

// Supersede marks a version of the snapshot as no longer current.
func (g *Ingest) Supersede(_ []byte, p Place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.Run == 0 {
		g.heads[uint32(p.Ordinal)] = true
		return
	}
	rows := g.rows[p.Run]
	if rows == nil {
		rows = roaring.New()
		g.rows[p.Run] = rows
	}
	rows.Add(uint32(p.Ordinal))
}

// Abandon gives up the round: its sealed runs are removed. After a Publish it
// does nothing, and after one with an unknown outcome the files stay.
func (g *Ingest) Abandon() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == ingestDone {
		return nil
	}
	var err error
	for _, r := range g.runs {
		err = errors.Join(err, r.run.Close())
		if g.state == ingestOpen {
			err = errors.Join(err, g.s.removeRun(r.run.Meta().ID))
		}
	}
	g.end()
	return err
}

// end lets go of what the round held. mu is held.
func (g *Ingest) end() {
	g.state = ingestDone
	g.snap.Release()
	g.s.ingests.Release(1)
}

// Progress is the last published progress of a job; nil when there is none.
func (s *Store) Progress(job uint64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress[job]
}

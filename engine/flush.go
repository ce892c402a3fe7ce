package engine

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/wal"
)

// A flush in steps, and what a crash after each leaves:
//
//  1. slot: the head turns over. Commits go to a new generation. (Memory only.)
//  2. the old generation is written as a run, sealed and durable. (An orphan
//     file; open removes it.)
//  3. slot: the old generation's superseded entries become the run's
//     superseded set, those purged since step 2 its void rows, one INGEST record publishes the run, and the run takes
//     the generation's place in the view. (Replay does the same.)
//  4. a checkpoint, a CHECKPOINT record, and the log is trimmed. (Either
//     checkpoint is good; the log is trimmed below the older.)
//
// When step 2 fails, or 3 finds no space, the generation stays and a later
// flush takes it up again.

// flushedRange says into which run a generation went, for places in the head
// that an import looked up before.
type flushedRange struct {
	base, count uint64
	run         *runState
}

// Flush moves the head into a run now, checkpoints and trims the log.
func (s *Store) Flush(ctx context.Context) error {
	if s.opts.ReadOnly {
		return ErrOpenedReadOnly
	}
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	if err := s.flushSealed(ctx); err != nil {
		return err
	}
	if err := s.inSlot(ctx, func() error { s.turnOver(); return nil }); err != nil {
		return err
	}
	if err := s.flushSealed(ctx); err != nil {
		return err
	}
	return s.checkpoint(ctx)
}

// turnOver begins a new generation if the last has entries and no other waits.
// Slot only.
func (s *Store) turnOver() {
	v := s.view
	if len(v.gens) > 1 || v.active().count.Load() == 0 {
		return
	}
	old := v.active()
	next := newHeadGen(old.base + uint64(old.count.Load()))
	s.sealedLSN = s.visible
	s.install(v.with(nil, []*headGen{old, next}), s.visible)
}

func (s *Store) turnOverIfFull() {
	v := s.view
	if s.opts.ReadOnly || len(v.gens) > 1 || !v.active().isFull(s.opts.HeadBytes) {
		return
	}
	s.turnOver()
	s.kickFlush()
}

// flushSealed flushes the generation that waits, if one does. flushMu is held.
func (s *Store) flushSealed(ctx context.Context) error {
	snap, err := s.Snapshot() // holds the log segments that are read here
	if err != nil {
		return err
	}
	defer snap.Release()
	if len(snap.view.gens) == 1 {
		return nil
	}
	err = s.withRelief(func() error { return s.flushGen(ctx, snap.view.gens[0]) })
	slotErr := s.inSlot(context.WithoutCancel(ctx), func() error {
		s.flushErr = err
		return nil
	})
	return errors.Join(err, slotErr)
}

func (s *Store) flushGen(ctx context.Context, g *headGen) error {
	meta, dropped, err := s.buildFlushRun(ctx, g)
	if err != nil {
		return fmt.Errorf("cannot write the head's run: %w", noSpace(err))
	}
	err = s.publishRun(ctx, meta, func(run *index.Run) (bool, error) { return s.publishFlush(g, run, dropped) })
	if err != nil {
		return fmt.Errorf("cannot publish the head's run: %w", err)
	}
	g.terms.drop()
	return nil
}

// publishRun opens a run that was written and lets publish, in the slot, make
// it part of the store. When publish says that it did not, the file is removed,
// unless the outcome is unknown.
func (s *Store) publishRun(ctx context.Context, meta index.RunMeta, publish func(*index.Run) (published bool, err error)) error {
	run, err := index.OpenRun(s.opts.FS, s.path(runsDir), meta, 0, s.cache)
	if err != nil {
		return errors.Join(err, s.removeRun(meta.ID))
	}
	published := false
	err = s.inSlot(ctx, func() error {
		var err error
		published, err = publish(run)
		return err
	})
	if published {
		return err
	}
	err = errors.Join(err, run.Close())
	if s.poison.Load() == nil {
		// Nothing names the file; after "unknown" the log may.
		err = errors.Join(err, s.removeRun(meta.ID))
	}
	return err
}

// buildFlushRun writes the generation as a run. Ordinals are entry numbers.
// dropped are those that were purged before; nothing of them is in the run.
func (s *Store) buildFlushRun(ctx context.Context, g *headGen) (meta index.RunMeta, dropped *roaring.Bitmap, err error) {
	b, err := s.newBuilder(s.Extraction())
	if err != nil {
		return meta, nil, err
	}
	if dropped, err = s.appendEntries(ctx, g, b); err != nil {
		return meta, nil, errors.Join(err, b.Abort())
	}
	b.SortKeys()
	for i := range uint32(g.count.Load()) {
		if dropped.Contains(i) {
			b.Drop(index.Ordinal(i))
		} else {
			b.SetRow(index.Ordinal(i), g.entry(int(i)).row())
		}
	}
	if meta, err = b.Seal(ctx); err != nil {
		return meta, nil, errors.Join(err, b.Abort())
	}
	return meta, dropped, nil
}

// appendEntries appends the generation's versions and tells which were purged.
func (s *Store) appendEntries(ctx context.Context, g *headGen, b *index.Builder) (purged *roaring.Bitmap, err error) {
	extractor := b.Extraction().NewExtractor(b)
	purged = roaring.New()
	var space []byte
	for i := range int(g.count.Load()) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e := g.entry(i)
		var o index.Ordinal
		if e.isPurgedAt(math.MaxUint64) {
			purged.Add(uint32(i))
			o, err = appendHole(b, e.typ)
		} else {
			o, err = s.appendEntry(b, extractor, e, &space)
		}
		if err != nil {
			return nil, err
		}
		if int(o) != i {
			panic(fmt.Sprintf("BUG: entry %d of the head became ordinal %d", i, o))
		}
	}
	return purged, nil
}

// appendHole takes the ordinal of a purged version, whose id it does not keep.
func appendHole(b *index.Builder, t fhir.TypeCode) (index.Ordinal, error) {
	id := []byte("purged")
	body, idAt, splice := fhir.StubBody(nil, t, id)
	return b.Append(t, id, idAt, body, splice)
}

// appendEntry appends a version, with its body in space.
func (s *Store) appendEntry(b *index.Builder, extractor *index.Extractor, e *headEntry, space *[]byte) (index.Ordinal, error) {
	v, err := s.readEntry(e, *space)
	if err != nil {
		return 0, err
	}
	*space = v.Body
	if _, err := extractor.Scan(v.Body); err != nil && !wasRead(err) {
		// The write path scanned the body before it was accepted. Should one
		// not scan all the same, it is kept, without search terms.
		s.opts.Logger.Error("a stored body does not scan; it is kept without terms", "lsn", e.lsn, "error", err)
		b.DiscardTerms()
	}
	if e.isDeleted() { // found by its key and date only
		b.DiscardTerms()
	}
	return b.Append(e.typ, v.ID, e.idAt, v.Body, e.splice)
}

// publishFlush is step 3. Slot only.
func (s *Store) publishFlush(g *headGen, run *index.Run, dropped *roaring.Bitmap) (published bool, err error) {
	if s.poison.Load() != nil {
		return false, ErrReadOnly
	}
	superseded, void := roaring.New(), roaring.New()
	for i := range int(g.count.Load()) {
		e := g.entry(i)
		if e.superseded != 0 {
			superseded.Add(uint32(i))
		}
		if e.purged != 0 && !dropped.Contains(uint32(i)) {
			void.Add(uint32(i))
		}
	}
	superseded.RunOptimize()
	rec := ingestRecord{
		kind: ingestFlush, clock: s.clock.mark(), flushedUpTo: s.sealedLSN,
		runs: []ingestRun{{meta: run.Meta(), superseded: superseded, void: void}},
	}
	payload, err := rec.marshal()
	if err != nil {
		return false, err
	}
	placed, err := s.append([]wal.Entry{{Type: wal.TypeIngest, Payload: payload}})
	if err != nil {
		return false, err
	}
	lsn := uint64(placed[0].LSN)
	state := newRunState(run, lsn, ingestFlush, run.Meta().ID, superseded, void, lsn)
	s.flushed, s.viewLSN = s.sealedLSN, lsn
	s.rememberFlush(flushedRange{base: g.base, count: uint64(g.count.Load()), run: state})
	s.install(s.view.with([]*runState{state}, s.view.gens[1:]), lsn)
	s.kickMerges()
	return true, nil
}

// rememberFlush notes where a generation went, and forgets the generations
// that no live view can have told a place of.
func (s *Store) rememberFlush(r flushedRange) {
	s.mu.Lock()
	oldest := s.view.gens[0].base
	for _, v := range s.views {
		oldest = min(oldest, v.gens[0].base)
	}
	s.mu.Unlock()
	for len(s.flushes) > 0 && s.flushes[0].base+s.flushes[0].count <= oldest {
		s.flushes = s.flushes[1:]
	}
	s.flushes = append(s.flushes, r)
}

// kickFlush asks the background loop for a flush.
func (s *Store) kickFlush() {
	s.flushDue.Store(true)
	kick(s.flushKick)
}

// kickTrim asks the background loop to trim the log.
func (s *Store) kickTrim() { kick(s.trimKick) }

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // a kick is waiting already
	}
}

// backgroundLoop flushes and trims when asked. In simulations there is none:
// Commit flushes before it returns.
func (s *Store) backgroundLoop() {
	for {
		select {
		case <-s.stopping:
			return
		case <-s.flushKick:
			s.flushInBackground()
		case <-s.checkpointKick:
			s.checkpointInBackground()
		case <-s.trimKick:
			if err := s.trimLog(); err != nil {
				s.opts.Logger.Error("cannot trim the log", "error", err)
			}
		}
	}
}

// flushInBackground flushes the waiting generation. A failure is kept in
// flushErr, where the committer sees it, and told to the log.
func (s *Store) flushInBackground() {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	s.flushDue.Store(false)
	err := s.flushSealed(s.ctx)
	if err == nil {
		err = s.checkpoint(s.ctx)
	}
	if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) {
		s.noteDamage(err, "a flush")
		s.opts.Logger.Error("cannot flush the head", "error", err)
	}
}

func (s *Store) checkpointInBackground() {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	err := s.checkpoint(s.ctx)
	if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) {
		s.opts.Logger.Error("cannot write a checkpoint", "error", err)
	}
}

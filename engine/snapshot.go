package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

// Version is one version as read. The slices may be shared with the block
// cache: do not modify them. They hold for ever, except in callbacks, where they
// hold until the callback returns.
type Version struct {
	Type        fhir.TypeCode
	ID          []byte
	VersionID   int64
	LastUpdated fhir.Instant
	LSN         uint64
	Deleted     bool
	Created     bool // there was no live version before; not known of imported ones
	Posted      bool // by a POST to the type; likewise
	// Lost says that the content was lost, with what damaged the store, and is not
	// known any more; Deleted is set too, so that nobody takes what is here for it.
	Lost   bool
	Body   []byte
	Splice fhir.Splice
}

// AppendJSON appends the resource as it is served: meta.versionId and
// meta.lastUpdated spliced into the body.
func (v *Version) AppendJSON(dst []byte) []byte {
	return fhir.AppendResource(dst, v.Body, v.Splice, v.VersionID, v.LastUpdated)
}

// AppendDeleted is AppendJSON with the mark by which $import knows a deletion.
// fhir.ErrNoPlace.
func (v *Version) AppendDeleted(dst []byte) ([]byte, error) {
	return fhir.AppendDeletedResource(dst, v.Body, v.Splice, v.VersionID, v.LastUpdated)
}

// Snapshot is the store as of one LSN. Safe for concurrent use until Release.
type Snapshot struct {
	s        *Store
	lsn      uint64
	view     *view
	released atomic.Bool
}

// Snapshot is the newest visible LSN with everything needed to read at it,
// however long. Release it soon: it holds log segments and runs on disk.
func (s *Store) Snapshot() (*Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil, ErrClosed
	}
	s.view.refs++
	s.snapshots[s.visible]++
	return &Snapshot{s: s, lsn: s.visible, view: s.view}, nil
}

// SnapshotAt is Snapshot plus its instant: no version it shows is dated later
// by this server's clock, and every version this server dates later is not
// in it. It waits for imports that are being sealed. Exports use it.
func (s *Store) SnapshotAt(ctx context.Context) (*Snapshot, fhir.Instant, error) {
	if err := s.ingests.Acquire(ctx, ingestsMax); err != nil {
		return nil, fhir.Instant{}, fmt.Errorf("cannot wait for running imports: %w", err)
	}
	defer s.ingests.Release(ingestsMax)
	var snap *Snapshot
	var at fhir.Instant
	err := s.inSlot(ctx, func() error {
		at = s.clock.cut(s.opts.Now())
		var err error
		snap, err = s.Snapshot()
		return err
	})
	return snap, at, err
}

// LSN is the newest record that the snapshot shows.
func (n *Snapshot) LSN() uint64 { return n.lsn }

// Release ends the snapshot. A second call does nothing.
func (n *Snapshot) Release() {
	if n.released.Swap(true) {
		return
	}
	s := n.s
	s.mu.Lock()
	if s.snapshots[n.lsn]--; s.snapshots[n.lsn] == 0 {
		delete(s.snapshots, n.lsn)
	}
	var gone retired
	if s.view != nil { // after Close everything is closed already
		gone = s.unref(n.view)
	}
	s.mu.Unlock()
	s.retire(gone)
}

// Get reads the current version, which may be a deleted one. ErrNotFound.
func (n *Snapshot) Get(t fhir.TypeCode, id []byte) (Version, error) {
	f, err := n.current(index.AppendKey(make([]byte, 0, keyBytesTypical), t, id))
	if err != nil {
		return Version{}, err
	}
	if !f.ok() {
		return Version{}, ErrNotFound
	}
	return n.read(f)
}

// keyBytesTypical holds a UUID's key and most others without growing.
const keyBytesTypical = 72

// Vread reads one version. ErrNotFound.
func (n *Snapshot) Vread(t fhir.TypeCode, id []byte, versionID int64) (Version, error) {
	var match found
	key := index.AppendKey(make([]byte, 0, keyBytesTypical), t, id)
	err := n.versions(key, func(f found) bool {
		if f.versionID == versionID {
			match = f
		}
		return !match.ok()
	})
	if err != nil {
		return Version{}, err
	}
	if !match.ok() {
		return Version{}, ErrNotFound
	}
	return n.read(match)
}

// found is where a version lies: a row of a run, or an entry of the head.
type found struct {
	run     *runState
	ordinal index.Ordinal
	entry   *headEntry
	// number is the entry's number since open, the low 32 bits.
	number    uint32
	versionID int64
}

func (f *found) ok() bool { return f.run != nil || f.entry != nil }

func (f *found) place() Place {
	if f.run != nil {
		return Place{Run: f.run.run.Meta().ID, Ordinal: f.ordinal}
	}
	return Place{Ordinal: index.Ordinal(f.number)}
}

// current is the key's version with the highest positive versionId.
func (n *Snapshot) current(key []byte) (found, error) {
	var best found
	for _, g := range n.view.gens {
		best.orHead(g, key, n.lsn)
	}
	hash := index.KeyHash(key)
	for _, r := range n.view.runs {
		if !r.run.MayContain(hash) {
			continue
		}
		if err := best.orRow(r, r.run.LookupCursor(), key, n.lsn); err != nil {
			return found{}, err
		}
	}
	return best, nil
}

// orHead makes f the key's current version in a generation of the head, if that
// one's number is higher.
func (f *found) orHead(g *headGen, key []byte, lsn uint64) {
	if i, e := g.current(key, lsn); e != nil && e.versionID > f.versionID {
		*f = found{entry: e, number: uint32(g.base) + uint32(i), versionID: e.versionID}
	}
}

// orRow makes f the key's row in a run with the highest versionId, if that is
// positive and higher. c is one of the run's cursors.
func (f *found) orRow(r *runState, c *index.LookupCursor, key []byte, lsn uint64) error {
	var space [1]index.Found
	for _, most := range [...]int{1, math.MaxInt} {
		rows, err := c.Highest(space[:0], key, most)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if r.isVoid(row.Ordinal, lsn) {
				continue
			}
			if row.VersionID > f.versionID {
				*f = found{run: r, ordinal: row.Ordinal, versionID: row.VersionID}
			}
			return nil
		}
		if len(rows) < most {
			return nil
		}
	}
	return nil
}

// versions calls fn for every version of key, in no order, until it returns false.
func (n *Snapshot) versions(key []byte, fn func(found) bool) error {
	more := true
	for _, g := range n.view.gens {
		g.versions(key, n.lsn, func(i int32, e *headEntry) bool {
			more = fn(found{entry: e, number: uint32(g.base) + uint32(i), versionID: e.versionID})
			return more
		})
		if !more {
			return nil
		}
	}
	return n.runVersions(key, fn)
}

func (n *Snapshot) runVersions(key []byte, fn func(found) bool) error {
	hash := index.KeyHash(key)
	var space [8]index.Found
	for _, r := range n.view.runs {
		if !r.run.MayContain(hash) {
			continue
		}
		rows, err := r.run.Lookup(space[:0], key)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if r.isVoid(row.Ordinal, n.lsn) {
				continue
			}
			if !fn(found{run: r, ordinal: row.Ordinal, versionID: row.VersionID}) {
				return nil
			}
		}
	}
	return nil
}

// row is the columns of a found version.
func (f *found) row() (index.Row, error) {
	if f.run != nil {
		return f.run.row(f.ordinal)
	}
	return f.entry.row(), nil
}

func (e *headEntry) row() index.Row {
	return index.Row{Type: e.typ, VersionID: e.versionID, LastUpdated: e.lastUpdated, LSN: e.lsn, Flags: e.flags}
}

// read reads a version into memory of its own.
func (n *Snapshot) read(f found) (Version, error) {
	if f.entry != nil {
		return n.s.readEntry(f.entry, nil)
	}
	row, err := f.run.row(f.ordinal)
	if err != nil {
		return Version{}, err
	}
	stored, err := f.run.run.Body(f.ordinal)
	if err != nil {
		return Version{}, err
	}
	return makeVersion(row, stored), nil
}

func makeVersion(row index.Row, stored index.Stored) Version {
	return Version{
		Type: row.Type, ID: stored.ID, VersionID: row.VersionID, LastUpdated: row.LastUpdated,
		LSN: row.LSN, Body: stored.Body, Splice: stored.Splice,
		Deleted: row.Flags&index.FlagDeleted != 0, Created: row.Flags&index.FlagCreated != 0, Posted: row.Flags&index.FlagPosted != 0,
		Lost: row.Flags&index.FlagLost != 0,
	}
}

// readEntry reads a head version's body from the log, into space when that is
// large enough, and verifies it.
func (s *Store) readEntry(e *headEntry, space []byte) (Version, error) {
	body := space[:0]
	if cap(body) < int(e.bodyBytes) {
		body = make([]byte, e.bodyBytes)
	}
	body = body[:e.bodyBytes]
	if err := s.log.ReadAt(body, e.at); errors.Is(err, wal.ErrClosed) {
		return Version{}, ErrClosed // of a commit that was being planned
	} else if err != nil {
		return Version{}, err
	}
	if bodyCRC(body) != e.crc {
		return Version{}, corruptBody(e.at, e.lsn)
	}
	return makeVersion(e.row(), index.Stored{ID: body[e.idAt : e.idAt+uint32(e.idBytes)], Body: body, Splice: e.splice}), nil
}

func corruptBody(at wal.Position, lsn uint64) error {
	return &vfs.CorruptError{
		File: fmt.Sprintf("%s, segment %d", logDir, at.Segment), Offset: int64(at.Offset) + int64(at.Inner),
		What: fmt.Sprintf("the body of a version of LSN %d fails its checksum", lsn),
	}
}

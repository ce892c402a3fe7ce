package engine

import (
	"context"
	"fmt"
	"sync/atomic"

	"kiln/fhir"
	"kiln/index"
	"kiln/wal"
)

// CommitBytesMax bounds the bodies of one Commit, and what is written around them.
const CommitBytesMax = wal.PayloadBytesMax

// Change is one write of a Commit. Body, IDAt and Splice come from a scan.
type Change struct {
	Type   fhir.TypeCode
	ID     []byte
	IDAt   uint32
	Body   []byte // for a delete: nil (the store writes a stub of resourceType and id)
	Splice fhir.Splice
	Delete bool
	Post   bool // by a POST to the type; histories tell
	If     Precondition
}

// Precondition limits a Change; the zero value is none.
type Precondition struct {
	Absent     bool  // no live version: create
	Present    bool  // some live version
	Version    int64 // the current version's id, when HasVersion
	HasVersion bool
}

// Committed is what became of a Change.
type Committed struct {
	VersionID   int64
	LastUpdated fhir.Instant
	Created     bool // there was no version, or the current one was deleted
	Unchanged   bool // same content, or delete of nothing: no new version
	LSN         uint64
}

// current is what is known of a resource's current version. The zero value is
// "there is none".
type current struct {
	found       bool
	deleted     bool
	same        bool // its content equals the change's
	versionID   int64
	lastUpdated fhir.Instant
	lsn         uint64
	// Where it lies: a run's row, or (with run nil) the head's (lsn, number).
	run     *runState
	ordinal index.Ordinal
	number  uint32
}

// request is one Commit on its way through the committer.
type request struct {
	changes []Change
	keys    []string
	// plans are the current versions as of snapLSN, in the order of changes.
	plans   []current
	snapLSN uint64
	bytes   int64
	terms   int64 // at most what the search terms cost
	// state decides the race between a caller that gives up and the committer.
	state   atomic.Int32
	results []Committed
	err     error
	done    chan struct{}
}

const (
	requestQueued int32 = iota
	requestTaken
	requestWithdrawn
)

// Commit writes all changes or none, durable on return. A failed
// precondition is a *ConflictError that wraps ErrPrecondition. Once the
// committer took the changes up, the end of ctx no longer matters: it takes as
// long as the disk does then.
func (s *Store) Commit(ctx context.Context, changes []Change) ([]Committed, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	r, err := newRequest(changes)
	if err != nil {
		return nil, err
	}
	if err := s.checkTerms(r); err != nil {
		return nil, err
	}
	if err := s.queued.Acquire(ctx, r.bytes); err != nil {
		return nil, fmt.Errorf("cannot queue the write: %w", err)
	}
	defer s.queued.Release(r.bytes)
	if err := s.plan(r); err != nil {
		return nil, err
	}
	if err := s.submit(ctx, r); err != nil {
		return nil, err
	}
	if s.opts.PrepareInline && s.flushDue.Load() {
		s.flushInBackground()
	}
	return r.results, r.err
}

// newRequest checks the changes and copies nothing: the caller keeps them
// unchanged until Commit returns.
func newRequest(changes []Change) (*request, error) {
	r := &request{
		changes: make([]Change, len(changes)),
		keys:    make([]string, len(changes)),
		plans:   make([]current, len(changes)),
		results: make([]Committed, len(changes)),
		done:    make(chan struct{}),
		bytes:   commitHeaderBytes,
	}
	seen := make(map[string]bool, len(changes))
	for i := range changes {
		c := changes[i]
		if err := c.check(); err != nil {
			return nil, err
		}
		if c.Delete {
			c.Body, c.IDAt, c.Splice = fhir.StubBody(nil, c.Type, c.ID)
		}
		r.changes[i] = c
		r.keys[i] = string(index.AppendKey(make([]byte, 0, keyBytesTypical), c.Type, c.ID))
		if seen[r.keys[i]] {
			return nil, fmt.Errorf("cannot commit %v/%s twice: %w", c.Type, c.ID, ErrSameKey)
		}
		seen[r.keys[i]] = true
		r.bytes += versionHeaderBytes + int64(len(c.Body))
	}
	if r.bytes > wal.PayloadBytesMax {
		return nil, fmt.Errorf("cannot commit %d bytes, at most %d: %w", r.bytes, wal.PayloadBytesMax, ErrTooLarge)
	}
	return r, nil
}

func (c *Change) check() error {
	if c.Type == 0 || c.Type.String() == "" || !fhir.ValidID(c.ID) {
		return fmt.Errorf("cannot commit %v/%q: not a resource's type and id", c.Type, c.ID)
	}
	if c.Delete {
		return nil
	}
	end := uint64(c.IDAt) + uint64(len(c.ID))
	if end > uint64(len(c.Body)) || string(c.Body[c.IDAt:end]) != string(c.ID) {
		return fmt.Errorf("cannot commit %v/%s: the id is not at offset %d of the body", c.Type, c.ID, c.IDAt)
	}
	if uint64(c.Splice.At) > uint64(len(c.Body)) {
		return fmt.Errorf("cannot commit %v/%s: the splice is outside the body", c.Type, c.ID)
	}
	return nil
}

// rowTermsCost is for the terms of date, type and deletion.
const rowTermsCost = 2 * index.TermCost

// checkTerms refuses what searches could not find: a search reads the terms of
// every version, so each must have them.
func (s *Store) checkTerms(r *request) error {
	x := s.extractor(noTerms{})
	defer s.keepExtractor(x)
	for i := range r.changes {
		c := &r.changes[i]
		if _, err := x.Scan(c.Body); err != nil {
			return fmt.Errorf("cannot commit %v/%s: %w", c.Type, c.ID, err)
		}
		if r.terms += x.Cost() + rowTermsCost; r.terms > index.TermsCostMax {
			return fmt.Errorf("cannot commit %d resources: %w: their search terms together need more than %d bytes", len(r.changes), ErrUnindexable, index.TermsCostMax)
		}
	}
	return nil
}

// plan looks up the current versions outside the slot.
func (s *Store) plan(r *request) error {
	snap, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Release()
	r.snapLSN = snap.lsn
	for i := range r.changes {
		if r.plans[i], err = snap.look([]byte(r.keys[i]), &r.changes[i]); err != nil {
			return err
		}
	}
	return nil
}

// look finds the current version of a key and compares its content.
func (n *Snapshot) look(key []byte, c *Change) (current, error) {
	f, err := n.current(key)
	if err != nil || !f.ok() {
		return current{}, err
	}
	row, err := f.row()
	if err != nil {
		return current{}, err
	}
	cur := current{
		found: true, deleted: row.Flags&index.FlagDeleted != 0, versionID: row.VersionID,
		lastUpdated: row.LastUpdated, lsn: row.LSN, run: f.run, ordinal: f.ordinal,
	}
	if f.entry != nil {
		cur.number = f.entry.index
	}
	if !c.Delete && !cur.deleted {
		old, err := n.read(f)
		if err != nil {
			return current{}, err
		}
		cur.same = fhir.EqualContent(old.Body, c.Body)
	}
	return cur, nil
}

// submit has the request committed: at once, or by the committer when it is its turn.
func (s *Store) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.commitAlone(r) {
		return nil
	}
	select {
	case s.commits <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopping:
		return ErrClosed
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		if r.state.CompareAndSwap(requestQueued, requestWithdrawn) {
			return ctx.Err()
		}
	case <-s.stopped:
		if r.state.CompareAndSwap(requestQueued, requestWithdrawn) {
			return ErrClosed
		}
	}
	<-r.done
	return nil
}

// verdict says what a change does to the current version.
type verdict uint8

const (
	verdictWrite verdict = iota
	verdictUnchanged
	verdictConflict
)

// flags are those of the version that a change makes after the current one.
func (c *Change) flags(cur *current) (flags index.Flags) {
	switch {
	case c.Delete:
		return index.FlagDeleted
	case !cur.found || cur.deleted:
		flags = index.FlagCreated
	}
	if c.Post {
		flags |= index.FlagPosted
	}
	return flags
}

// judge is the table of what a change does.
//
//	precondition fails                        -> conflict
//	delete of nothing or of a deleted version -> unchanged
//	same content as a live version            -> unchanged
//	anything else                             -> the next version
func (c *Change) judge(cur *current) verdict {
	live := cur.found && !cur.deleted
	switch {
	case c.If.Absent && live, c.If.Present && !live, c.If.HasVersion && (!cur.found || cur.versionID != c.If.Version):
		return verdictConflict
	case c.Delete && !live, !c.Delete && live && cur.same:
		return verdictUnchanged
	}
	return verdictWrite
}

package engine

import (
	"fmt"
	"math"

	"kiln/fhir"
	"kiln/wal"
)

// batch is a group of commits being framed. It is the committer's, reused.
type batch struct {
	arena   []byte // the payloads, one after the other
	records []batchRecord
	heads   []headEntry // of all records; of at only Inner is set
	marks   []batchMark
	// pending are the newest versions that this group made, by key: a later
	// request of the group is judged by them although nobody can read them yet.
	pending map[string]pendingVersion
	next    uint64 // LSN of the next record
	terms   int64  // what the search terms of all records cost
	now     int64
}

type batchRecord struct {
	from, to   int // in arena
	headsUntil int // the record's entries end here in heads
}

// batchMark is a version that a record of the group supersedes.
type batchMark struct {
	lsn uint64
	old current
}

type pendingVersion struct {
	cur  current
	body []byte
}

func (b *batch) reset(next uint64, now int64) {
	b.arena, b.records, b.heads, b.marks = b.arena[:0], b.records[:0], b.heads[:0], b.marks[:0]
	b.next, b.now, b.terms = next, now, 0
	if cap(b.arena) > 2*groupBytesMax {
		b.arena = nil // one huge record must not hold its memory for ever
	}
	if b.pending == nil {
		b.pending = map[string]pendingVersion{}
	}
	clear(b.pending)
}

// commitGroup judges, writes, applies, publishes and acknowledges a group.
// Every request gets its answer after the fsync, the refused ones too: they
// may have been judged by versions of this very group.
func (s *Store) commitGroup(group []*request) {
	if len(group) == 0 {
		return
	}
	err := s.refuseCommits()
	if err == nil {
		s.batch.reset(uint64(s.log.LastLSN())+1, s.clock.now(s.opts.Now()))
		for _, r := range group {
			r.err = s.judgeRequest(&s.batch, r)
		}
		err = s.writeBatch(&s.batch)
	}
	for _, r := range group {
		if err != nil {
			r.err = err
		}
		close(r.done)
	}
	clear(group)
	s.turnOverIfFull()
}

// judgeRequest decides a request and frames its record, if it makes versions.
func (s *Store) judgeRequest(b *batch, r *request) error {
	writes := 0
	for i := range r.changes {
		cur, err := s.recheck(b, r, i)
		if err != nil {
			return err
		}
		r.plans[i] = cur
		switch r.changes[i].judge(&cur) {
		case verdictConflict:
			return &ConflictError{Index: i, CurrentVersion: cur.versionID, CurrentDeleted: cur.deleted}
		case verdictWrite:
			if cur.versionID == math.MaxInt64 {
				return fmt.Errorf("cannot write %v/%s: %w", r.changes[i].Type, r.changes[i].ID, ErrVersionsExhausted)
			}
			writes++
		}
	}
	for i := range r.changes {
		cur := &r.plans[i]
		r.results[i] = Committed{VersionID: cur.versionID, LastUpdated: cur.lastUpdated, Unchanged: true, LSN: cur.lsn}
	}
	if writes > 0 {
		s.frame(b, r, writes)
	}
	return nil
}

// recheck is the current version as of this place in the order of commits: the
// caller's finding, unless something was written since.
func (s *Store) recheck(b *batch, r *request, i int) (current, error) {
	key, c := r.keys[i], &r.changes[i]
	if p, ok := b.pending[key]; ok {
		cur := p.cur
		cur.same = !c.Delete && !cur.deleted && fhir.EqualContent(p.body, c.Body)
		return cur, nil
	}
	if s.visible == r.snapLSN {
		return r.plans[i], nil
	}
	if s.viewLSN <= r.snapLSN {
		// No run joined: what was written since is still in the head.
		if !s.view.writtenAfter([]byte(key), r.snapLSN, s.visible) {
			return r.plans[i], nil
		}
	}
	snap, err := s.Snapshot()
	if err != nil {
		return current{}, err
	}
	defer snap.Release()
	return snap.look([]byte(key), c)
}

// frame appends the request's COMMIT record to the batch.
func (s *Store) frame(b *batch, r *request, writes int) {
	lsn := b.next
	b.next++
	b.terms += r.terms
	from := len(b.arena)
	b.arena = appendCommitHeader(b.arena, writes)
	number := uint32(0)
	for i := range r.changes {
		c, cur := &r.changes[i], r.plans[i]
		if c.judge(&cur) == verdictUnchanged {
			continue
		}
		v := versionRecord{
			typ: c.Type, idAt: c.IDAt, idBytes: uint8(len(c.ID)), splice: c.Splice,
			versionID: cur.versionID + 1, lastUpdated: s.clock.date(b.now, cur.found, cur.lastUpdated),
			supersedes: cur.place(), crc: bodyCRC(c.Body), body: c.Body,
		}
		v.flags = recordFlagsOf(c.flags(&cur))
		bodyAt := len(b.arena) - from + versionHeaderBytes
		b.arena = v.appendTo(b.arena)
		b.heads = append(b.heads, v.entry(r.keys[i], lsn, number, wal.Position{Inner: uint32(bodyAt)}))
		if cur.found {
			b.marks = append(b.marks, batchMark{lsn, cur})
		}
		b.pending[r.keys[i]] = pendingVersion{
			cur:  current{found: true, deleted: c.Delete, versionID: v.versionID, lastUpdated: v.lastUpdated, lsn: lsn, number: number},
			body: c.Body,
		}
		r.results[i] = Committed{VersionID: v.versionID, LastUpdated: v.lastUpdated, Created: !cur.found || cur.deleted, LSN: lsn}
		number++
	}
	b.records = append(b.records, batchRecord{from: from, to: len(b.arena), headsUntil: len(b.heads)})
}

// place is where the version lies, as records tell it.
func (c *current) place() recordPlace {
	switch {
	case !c.found:
		return recordPlace{}
	case c.run != nil:
		return recordPlace{kind: placeRun, a: uint64(c.run.run.Meta().ID), ordinal: uint32(c.ordinal)}
	}
	return recordPlace{kind: placeHead, a: c.lsn, ordinal: c.number}
}

// entry is the head's entry of a version whose body lies at a position.
func (v *versionRecord) entry(key string, lsn uint64, number uint32, at wal.Position) headEntry {
	e := headEntry{
		key: key, lsn: lsn, at: at, bodyBytes: uint32(len(v.body)), crc: v.crc, versionID: v.versionID,
		lastUpdated: v.lastUpdated, typ: v.typ, flags: v.rowFlags(), idBytes: v.idBytes, idAt: v.idAt,
		splice: v.splice, index: number,
	}
	if v.flags&versionNotCurrent != 0 {
		e.superseded = lsn
	}
	return e
}

// writeBatch appends the batch to the log and applies it.
func (s *Store) writeBatch(b *batch) error {
	if len(b.records) == 0 {
		return nil
	}
	entries := make([]wal.Entry, len(b.records))
	for i, rec := range b.records {
		entries[i] = wal.Entry{Type: wal.TypeCommit, Payload: b.arena[rec.from:rec.to]}
	}
	placed, err := s.append(entries)
	if err != nil {
		return err
	}
	at := 0
	for i, rec := range b.records {
		for ; at < rec.headsUntil; at++ {
			b.heads[at].at = shifted(placed[i].Position, b.heads[at].at.Inner)
		}
	}
	s.applyBatch(b)
	s.stats.groups.Add(1)
	s.stats.commits.Add(uint64(len(b.records)))
	return nil
}

// shifted is a position some bytes further inside the same record.
func shifted(p wal.Position, bytes uint32) wal.Position {
	p.Inner += bytes
	return p
}

func (s *Store) applyBatch(b *batch) {
	s.view.active().add(b.heads)
	s.view.active().termsCost.Add(b.terms)
	for _, m := range b.marks {
		s.supersedeCurrent(m.lsn, &m.old)
	}
	s.publish(b.next - 1)
}

// supersedeCurrent marks a version as not current from lsn on.
func (s *Store) supersedeCurrent(lsn uint64, old *current) {
	if old.run != nil {
		old.run.supersede(lsn, uint32(old.ordinal))
		return
	}
	e := s.view.find(old.lsn, old.number)
	if e == nil {
		panic(fmt.Sprintf("BUG: the head has no version %d of LSN %d", old.number, old.lsn))
	}
	e.supersede(lsn)
}

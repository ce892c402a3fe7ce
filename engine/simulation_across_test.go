package engine

import (
	"context"
	"errors"
	"fmt"

	"kiln/fhir"
	"kiln/index"
)

// What is read across other work: snapshots and scans that are held, pages and
// ranges with anything between them, and searches as of older LSNs.

// heldSnapshot is a snapshot, and perhaps a scan chosen on it, to be read later.
type heldSnapshot struct {
	n     *Snapshot
	model *simModel
	scan  *Scan
	// what happened since
	merged, purged, flushed bool
}

// pastModel is what was there as of an LSN.
type pastModel struct {
	lsn      uint64
	model    *simModel
	restarts int
}

// across is what a paging or an interrupted scan must not be misled by: versions
// that were purged since it began, and those of which that is not known.
type across struct {
	purged, unsure map[string]bool
}

func (m *sim) beginAcross() *across {
	m.open = &across{purged: map[string]bool{}, unsure: map[string]bool{}}
	return m.open
}

// between does something between two pages. A crash does not end a paging: its
// client goes on when the server is back.
func (m *sim) between(count int, crashed string) error {
	err := m.meanwhile(count)
	if err == nil && m.rng.IntN(6) == 0 {
		err = m.restartClean()
	}
	if !errors.Is(err, errRestart) {
		return err
	}
	m.saw(crashed)
	m.crash()
	return m.restart()
}

// pageAcross pages through the system's history as clients do: each page has a
// snapshot of its own, and anything may happen in between.
func (m *sim) pageAcross() error {
	first, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	q := HistoryQuery{LSN: first.LSN(), Count: 1 + m.rng.IntN(3), OldestFirst: first.LSN()%2 == 0}
	want := m.model.clone()
	if first.LSN()%3 == 0 {
		q.Among = someMembers(want.sortedKeys())
	}
	open := m.beginAcross()
	defer func() { m.open = nil }()
	first.Release()
	if q.LSN == 0 {
		return nil
	}
	m.saw("paged across")
	seen := map[string]bool{}
	for more := true; more; {
		page := map[string]bool{}
		n, err := m.s.Snapshot()
		if err != nil {
			return err
		}
		after, moreOf, err := n.History(context.Background(), q, func(v *Version) error {
			k := simKey{v.Type, string(v.ID)}
			name := simName(k, v.VersionID)
			_, ok := want.keys[k][v.VersionID]
			if seen[name] || page[name] || !ok || open.purged[name] && !open.unsure[name] || !q.has(k, simVersionOf(v), v.LSN) {
				return fmt.Errorf("%s comes twice, is newer than the first page, or was purged", name)
			}
			page[name] = true
			return nil
		})
		n.Release()
		if errors.Is(err, ErrCursorGone) && len(open.purged)+len(open.unsure) > 0 {
			m.saw("cursor gone")
			return nil
		}
		if err == nil {
			q.After, more = after, moreOf
			for name := range page {
				seen[name] = true
			}
		} else if err = m.reading(err); errors.Is(err, errRestart) {
			m.saw("paged across a crash")
			m.crash()
			err = m.restart()
		}
		if err == nil {
			err = m.between(m.rng.IntN(2), "paged across a crash")
		}
		if err != nil {
			return fmt.Errorf("paging the history: %w", err)
		}
	}
	for k, versions := range want.keys {
		for id, v := range versions {
			if name := simName(k, id); q.isAmong(k, v) && !seen[name] && !open.purged[name] && !open.unsure[name] {
				return fmt.Errorf("paging the history left out %s", name)
			}
		}
	}
	return nil
}

// scanAcross reads a scan range by range as an export does that is interrupted
// again and again: each range on a snapshot of its own, as of the first one's LSN.
func (m *sim) scanAcross() error {
	first, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	q := ScanQuery{AsOf: first.LSN(), Versions: ScanVersions(m.rng.IntN(int(ScanDeletions) + 1))}
	want, seen := m.model.clone(), map[string]bool{}
	open := m.beginAcross()
	defer func() { m.open = nil }()
	c, err := first.Scan(context.Background(), q)
	var ranges []ScanRange
	if err == nil {
		ranges, err = c.Ranges(1+m.rng.Uint64N(4), 6)
	}
	first.Release()
	if err != nil || q.AsOf == 0 {
		return m.reading(err)
	}
	m.saw("scanned across")
	for i := 0; i < len(ranges); {
		if err := m.between(m.rng.IntN(3), "scanned across a crash"); err != nil {
			return err
		}
		part := map[string]bool{}
		err := m.scanRange(q, ranges[i], seen, part)
		if err == nil {
			i++
			for name := range part {
				seen[name] = true
			}
		} else if err = m.reading(err); errors.Is(err, errRestart) {
			m.saw("scanned across a crash")
			m.crash()
			err = m.restart()
		}
		if err != nil {
			return err
		}
	}
	for k, versions := range want.keys {
		cur, _ := want.current(k)
		for id, v := range versions {
			wanted := q.Versions.wants(simFlags(v)) && (id == cur.id || !q.Versions.ofCurrent())
			if name := simName(k, id); seen[name] != wanted && !open.purged[name] && !open.unsure[name] {
				return fmt.Errorf("a scan of %+v in %v gives %s: %t, want %t", q, ranges, name, seen[name], wanted)
			}
		}
	}
	return nil
}

// scanRange reads one range on a new snapshot.
func (m *sim) scanRange(q ScanQuery, r ScanRange, seen, part map[string]bool) error {
	n, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	defer n.Release()
	c, err := n.Scan(context.Background(), q)
	if err != nil {
		return err
	}
	parts, err := c.Parts(r)
	for i := 0; err == nil && i < len(parts); i++ {
		err = parts[i].Run(context.Background(), func(v *Version) error {
			name := simName(simKey{v.Type, string(v.ID)}, v.VersionID)
			if seen[name] || part[name] || m.open.purged[name] && !m.open.unsure[name] || v.LSN > q.AsOf {
				return fmt.Errorf("%s comes twice, is newer than the scan, or was purged", name)
			}
			part[name] = true
			return nil
		})
	}
	return err
}

func simFlags(v simVersion) index.Flags {
	if v.deleted {
		return index.FlagDeleted
	}
	return 0
}

func simName(k simKey, version int64) string {
	return fmt.Sprint(k.typ, "/", k.id, "/", version)
}

// hold takes a snapshot to look at later, and remembers what is there as of its
// LSN: snapshots of later show that too when they are asked for it.
func (m *sim) hold() error {
	if len(m.held) >= 3 {
		return m.checkHeld()
	}
	n, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	h := heldSnapshot{n: n, model: m.model.clone()}
	if m.rng.IntN(2) == 0 {
		if h.scan, err = n.Scan(context.Background(), ScanQuery{}); err != nil {
			n.Release()
			return m.reading(err)
		}
	}
	m.held = append(m.held, h)
	m.past = append(m.past, pastModel{lsn: n.LSN(), model: h.model, restarts: m.restarts})
	if len(m.past) > 4 {
		m.past = m.past[1:]
	}
	return nil
}

// checkHeld looks at a held snapshot: it must show what was there when it was
// taken, whatever happened since.
func (m *sim) checkHeld() error {
	if len(m.held) == 0 {
		return nil
	}
	h := m.held[0]
	st, err := readState(h.n)
	if err == nil {
		if diff := h.model.differs(st.model); diff != "" {
			return fmt.Errorf("a held snapshot: %s", diff)
		}
		h.model.adopt(st.model)
		err = h.model.checkDoors(h.n, st, m.doors(1))
	}
	if err == nil && h.scan != nil {
		m.saw("scan read later")
		var parts []ScanPart
		if parts, err = h.scan.Parts(ScanRange{}); err == nil {
			err = h.model.checkParts(parts)
		}
	}
	if err != nil {
		if err = m.reading(err); err == nil || errors.Is(err, errRestart) {
			return err
		}
		return fmt.Errorf("a held snapshot: %w", err)
	}
	m.saw("snapshot read later")
	for event, happened := range map[string]bool{"snapshot held over a merge": h.merged, "snapshot held over a purge": h.purged, "snapshot held over a flush": h.flushed} {
		if happened {
			m.saw(event)
		}
	}
	h.n.Release()
	m.held = m.held[1:]
	return nil
}

// checkPast asks a new snapshot for what was there as of an older LSN.
func (m *sim) checkPast() error {
	if len(m.past) == 0 {
		return nil
	}
	n, err := m.s.Snapshot()
	if err != nil {
		return err
	}
	defer n.Release()
	st, err := readState(n)
	for i := 0; err == nil && i < len(m.past); i++ {
		p := &m.past[i]
		if err = p.check(n, st); err == nil {
			m.saw("read as of an older LSN")
			if p.restarts != m.restarts {
				m.saw("older LSN after a restart")
			}
		} else if m.reading(err) != nil {
			err = fmt.Errorf("as of LSN %d: %w", p.lsn, err)
		}
	}
	return m.reading(err)
}

// check compares what a later snapshot shows as of the LSN. What was purged since
// is gone; a version of the same number may have come after.
func (p *pastModel) check(n *Snapshot, st *simState) error {
	if p.lsn == 0 {
		return nil
	}
	left := newSimModel()
	for k, versions := range p.model.keys {
		for id, v := range versions {
			if lsn := st.lsns[k][id]; lsn > 0 && lsn <= p.lsn {
				v.milli = st.model.keys[k][id].milli
				left.put(k, v)
			}
		}
	}
	then := newSimModel()
	_, _, err := n.History(context.Background(), HistoryQuery{LSN: p.lsn}, func(v *Version) error {
		then.put(simKey{v.Type, string(v.ID)}, simVersionOf(v))
		return nil
	})
	if err != nil {
		return err
	}
	if diff := left.differs(then); diff != "" {
		return fmt.Errorf("the history: %s", diff)
	}
	found := map[string]bool{}
	note := func(v *Version) error {
		found[simName(simKey{v.Type, string(v.ID)}, v.VersionID)] = true
		return nil
	}
	if _, err := n.Search(context.Background(), &Query{AsOf: p.lsn}, note); err != nil {
		return err
	}
	if err := p.current(left, found, "a search"); err != nil {
		return err
	}
	clear(found)
	parts, err := n.ScanParts(context.Background(), ScanQuery{AsOf: p.lsn, Of: []ScanOf{{Types: []fhir.TypeCode{simTypes[0]}}, {Types: simTypes}}})
	for i := 0; err == nil && i < len(parts); i++ {
		err = parts[i].Run(context.Background(), note)
	}
	if err != nil {
		return err
	}
	return p.current(left, found, "a scan")
}

// current: of each resource the version that was current then, unless it was a
// deletion or is gone.
func (p *pastModel) current(left *simModel, found map[string]bool, by string) error {
	want := 0
	for k := range p.model.keys {
		cur, ok := p.model.current(k)
		if _, there := left.keys[k][cur.id]; !ok || cur.deleted || !there {
			continue
		}
		if want++; !found[simName(k, cur.id)] {
			return fmt.Errorf("%s does not give %s", by, simName(k, cur.id))
		}
	}
	if want != len(found) {
		return fmt.Errorf("%s gives %v, want %d", by, found, want)
	}
	return nil
}

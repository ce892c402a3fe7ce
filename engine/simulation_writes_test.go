package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"kiln/fhir"
)

func (m *sim) someKey() simKey {
	return simKey{pick(m.rng, simTypes...), string(rune('a' + m.rng.IntN(simIDs)))}
}

func (m *sim) body(k simKey) string {
	pad := ""
	if m.rng.IntN(20) == 0 {
		pad = fmt.Sprintf(`,"pad":"%0*d"`, 200+m.rng.IntN(1500), 0)
	}
	n := m.rng.IntN(simValues)
	return fmt.Sprintf(`{"resourceType":%q,"id":%q,%s,"x":{"reference":"Patient/%c"}%s}`, k.typ.String(), k.id, simValue(n), 'a'+rune(m.rng.IntN(simIDs)), pad)
}

// commit writes one to three changes and foretells the answer.
func (m *sim) commit() error {
	changes := m.changes()
	with, want, conflict := m.expect(m.model, changes)
	got, err := m.s.Commit(context.Background(), changes)
	m.note("commit of %d: %v", len(changes), err)
	if err := compareCommit(changes, with, got, err, want, conflict); err != nil {
		return err
	}
	var ce *ConflictError
	if errors.As(err, &ce) {
		m.saw("commit refused by its precondition")
		return nil
	}
	if err == nil {
		m.saw("commit")
		if len(changes) > 1 {
			m.saw("commit of several")
		}
		if got[0].Unchanged {
			m.saw("commit unchanged")
		}
	}
	return m.outcome(err, with)
}

// group runs several requests as one group, all judged beforehand by an older
// state: what was written in between, and by each other, must count.
func (m *sim) group() error {
	var requests []*request
	for range 2 + m.rng.IntN(4) {
		r, err := newRequest(m.changes())
		if err != nil {
			return err
		}
		if err := m.s.plan(r); err != nil {
			return m.outcome(err, m.model)
		}
		requests = append(requests, r)
		if err := m.meanwhile(m.rng.IntN(3) / 2); err != nil {
			return err
		}
	}
	err := m.s.inSlot(context.Background(), func() error {
		m.s.commitGroup(append([]*request{}, requests...))
		return nil
	})
	if err != nil {
		return err
	}
	return m.judgeGroup(requests)
}

// judgeGroup compares the answers one after the other. One whose reads failed
// wrote nothing, and the others count.
func (m *sim) judgeGroup(requests []*request) error {
	models := []*simModel{m.model}
	var err error
	for i, r := range requests {
		before := models[len(models)-1]
		with, want, conflict := m.expect(before, r.changes)
		m.note("request %d of a group: %v", i, r.err)
		if cmp := compareCommit(r.changes, with, r.results, r.err, want, conflict); cmp != nil {
			return fmt.Errorf("request %d of a group: %w", i, cmp)
		}
		var ce *ConflictError
		switch {
		case errors.As(r.err, &ce):
			m.saw("group with a conflict inside")
		case r.err != nil && m.unread && errors.Is(r.err, syscall.EIO) && !errors.Is(r.err, ErrOutcomeUnknown):
			continue
		case r.err != nil && err == nil:
			err = r.err
		}
		models = append(models, with)
	}
	m.saw("group")
	return m.outcome(err, models...)
}

// compareCommit compares an answer with the expected one and takes the dates.
func compareCommit(changes []Change, with *simModel, got []Committed, err error, want []Committed, conflict int) error {
	var ce *ConflictError
	switch {
	case errors.As(err, &ce) && ce.Index != conflict:
		return fmt.Errorf("conflict at %d, want %d", ce.Index, conflict)
	case err == nil && conflict >= 0:
		return fmt.Errorf("no conflict, want one at %d", conflict)
	case err != nil:
		return nil
	}
	for i := range got {
		if got[i].VersionID != want[i].VersionID || got[i].Created != want[i].Created || got[i].Unchanged != want[i].Unchanged {
			return fmt.Errorf("change %d: %+v, want %+v", i, got[i], want[i])
		}
		k := simKey{changes[i].Type, string(changes[i].ID)}
		if v, ok := with.keys[k][got[i].VersionID]; ok {
			v.milli = got[i].LastUpdated.Milli
			with.keys[k][v.id] = v
		}
	}
	return nil
}

// changes makes one or a few random changes.
func (m *sim) changes() []Change {
	var changes []Change
	used := map[simKey]bool{}
	for range 1 + m.rng.IntN(10)/8*2 {
		if k := m.someKey(); !used[k] {
			used[k] = true
			changes = append(changes, m.change(k))
		}
	}
	return changes
}

func (m *sim) change(k simKey) Change {
	cur, _ := m.model.current(k)
	c := Change{Type: k.typ, ID: []byte(k.id), Delete: m.rng.IntN(4) == 0, Post: cur.id%3 == 1}
	if !c.Delete {
		r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(m.body(k)), nil)
		if err != nil {
			panic(err)
		}
		c.Body, c.IDAt, c.Splice = r.Body, r.IDAt, r.Splice
	}
	switch m.rng.IntN(8) {
	case 0:
		c.If.Absent = true
	case 1:
		c.If.Present = true
	case 2:
		c.If.HasVersion, c.If.Version = true, cur.id+int64(m.rng.IntN(2))
	}
	return c
}

// expect is the model after the changes, and what Commit answers; conflict is
// the index of the change whose precondition fails, or -1.
func (m *sim) expect(model *simModel, changes []Change) (with *simModel, want []Committed, conflict int) {
	with = model.clone()
	for i := range changes {
		c := &changes[i]
		k := simKey{c.Type, string(c.ID)}
		cur, found := with.current(k)
		live := found && !cur.deleted
		if (c.If.Absent && live) || (c.If.Present && !live) || (c.If.HasVersion && (!found || c.If.Version != cur.id)) {
			return model, nil, i
		}
		if (c.Delete && !live) || (!c.Delete && live && cur.body == string(c.Body)) {
			want = append(want, Committed{VersionID: cur.id, Unchanged: true})
			continue
		}
		v := simVersion{id: cur.id + 1, deleted: c.Delete, body: string(c.Body), created: !live, posted: c.Post && !c.Delete}
		if c.Delete {
			body, _, _ := fhir.StubBody(nil, k.typ, []byte(k.id))
			v.body = string(body)
		}
		with.put(k, v)
		want = append(want, Committed{VersionID: v.id, Created: !live})
	}
	return with, want, -1
}

// purge takes a resource out, or its history.
func (m *sim) purge() error {
	if m.keep > 0 {
		return nil
	}
	k, scope := m.someKey(), pick(m.rng, PurgeAll, PurgeHistory)
	cur, found := m.model.current(k)
	cond := Precondition{}
	if m.rng.IntN(4) == 0 {
		cond.HasVersion, cond.Version = true, cur.id+int64(m.rng.IntN(2))
	}
	with := m.model.clone()
	want := with.purge(k, scope)
	got, err := m.s.Purge(context.Background(), k.typ, []byte(k.id), scope, cond)
	m.note("purge %v of %v: %d, %v", scope, k, got, err)
	var ce *ConflictError
	switch conflict := cond.HasVersion && (!found || cond.Version != cur.id); {
	case errors.As(err, &ce) && conflict:
		m.saw("purge refused by its precondition")
		return nil
	case errors.As(err, &ce) || err == nil && conflict:
		return fmt.Errorf("purge of %v under %+v: %v; the current version is %d", k, cond, err, cur.id)
	case err == nil && got != want:
		return fmt.Errorf("purge of %v took %d versions, want %d", k, got, want)
	}
	m.sawPurge(k, with, scope, got, err)
	return m.outcome(err, with)
}

// sawPurge tells a paging under way, and counts.
func (m *sim) sawPurge(k simKey, with *simModel, scope PurgeScope, got int, err error) {
	if m.open != nil && (err == nil || errors.Is(err, ErrOutcomeUnknown)) {
		for id := range m.model.keys[k] {
			if _, ok := with.keys[k][id]; ok {
				continue
			}
			m.open.purged[simName(k, id)] = true
			if err != nil {
				m.open.unsure[simName(k, id)] = true
			}
		}
	}
	if err != nil || got == 0 {
		return
	}
	m.saw([]string{PurgeAll: "purge of all", PurgeHistory: "purge of history"}[scope])
	if len(m.merges) > 0 {
		m.saw("purge while a merge was begun")
	}
	for i := range m.held {
		m.held[i].purged = true
	}
}

// cut takes a snapshot with its instant: everything in it is dated up to it,
// and everything later after it.
func (m *sim) cut() error {
	n, at, err := m.s.SnapshotAt(context.Background())
	if err != nil {
		return m.outcome(err, m.model)
	}
	defer n.Release()
	k := m.someKey()
	c := m.change(k)
	c.If = Precondition{}
	with, _, _ := m.expect(m.model, []Change{c})
	got, err := m.s.Commit(context.Background(), []Change{c})
	if err == nil && !got[0].Unchanged && got[0].LastUpdated.Milli <= at.Milli {
		return fmt.Errorf("a version after the cut at %d is dated %d", at.Milli, got[0].LastUpdated.Milli)
	}
	if err == nil && !got[0].Unchanged {
		v := with.keys[k][got[0].VersionID]
		v.milli = got[0].LastUpdated.Milli
		with.keys[k][v.id] = v
	}
	return m.outcome(err, with)
}

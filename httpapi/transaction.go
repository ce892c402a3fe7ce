package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/valyala/fasthttp"

	"kiln/engine"
)

// A transaction goes through its entries four times:
//
//  1. plan: each entry's address, the ids of what is created, and where every
//     fullUrl will lead. Two writes of one resource are refused.
//  2. reads that do not depend on the writes are tried, so that one that fails
//     refuses the transaction before anything is written.
//  3. prepare: references are rewritten, then each write makes its change as it
//     would alone, in the order DELETE, POST, PUT and PATCH. All changes are
//     one Commit. Patches are made again when somebody else was faster.
//  4. answer: the reads run on a snapshot taken after the commit.
//
// A resource that is read and that the transaction wrote may be deleted by
// somebody else between the commit and the snapshot; then that entry alone tells.
type transaction struct {
	x       *exchange
	entries []bundleEntry
	plans   []entryPlan
	links   links
	unmet   map[string]int // criteria that found nothing, and the entry that creates it
	inner   *entryExchange
	// changes are the writes, order[i] is the entry of changes[i].
	changes []engine.Change
	order   []int
	done    []engine.Committed
}

// entryPlan is what is known of an entry before its turn.
type entryPlan struct {
	row      int
	place    place
	typeName string
	id       string // of the resource; given out here for creates
	existing bool   // a conditional create that has found its resource
	nothing  bool   // a conditional delete that has found nothing
	selected *selected
	computed bool // its change is made from the current version
	change   int  // of a write: its place in changes
}

// writeOrder is the order of a transaction's writes (FHIR R4 http.html#trules).
var writeOrder = [...][]method{{methodDelete}, {methodPost}, {methodPut, methodPatch}}

func (x *exchange) transaction(entries []bundleEntry) error {
	x.isTransaction = true
	ctx, cancel := x.workContext()
	defer cancel()
	t := &transaction{x: x, entries: entries, plans: make([]entryPlan, len(entries)), inner: x.entries(ctx)}
	defer t.inner.release()
	unlock, err := x.server.conditions.lock(ctx, x.conditionsOf(entries))
	if err != nil {
		return err
	}
	defer unlock()
	if err := t.plan(); err != nil {
		return err
	}
	if err := t.tryReads(ctx); err != nil {
		return err
	}
	if err := t.commit(ctx); err != nil {
		return err
	}
	return t.answer(ctx)
}

// plan fills plans and links.
func (t *transaction) plan() error {
	written := make(map[string]int, len(t.entries))
	t.links, t.unmet = links{created: map[string]bool{}}, map[string]int{}
	for i := range t.entries {
		e := &t.entries[i]
		if err := t.planEntry(i, e); err != nil {
			return t.refuse(i, err)
		}
		p := &t.plans[i]
		if t.isRead(i) {
			continue
		}
		key := p.typeName + "/" + p.id
		if first, twice := written[key]; twice && t.isWrite(i) {
			return t.refuse(i, badRequest("Bundle.entry[%d] writes the same resource, %s.", first, key))
		}
		if t.isWrite(i) {
			written[key] = i
			t.links.created[key] = t.x.server.table.rows[p.row].method == methodPost
		}
		if err := t.links.add(e.fullURL, key, t.x.baseURL()); err != nil {
			return t.refuse(i, err)
		}
	}
	return nil
}

// refuse is inEntry for the answer to the whole: 405 is about the address that was asked,
// and its Allow. The audit has the entry that the transaction was refused for.
func (t *transaction) refuse(i int, err error) error {
	err = inEntry(i, &t.entries[i], err)
	var p *problem
	if errors.As(err, &p) && p.status == fasthttp.StatusMethodNotAllowed {
		p.status = fasthttp.StatusBadRequest
	}
	if t.x.isAudited() {
		_ = t.inner.begin(&t.entries[i], nil) // what its address is
		told, _ := asProblem(err)
		t.inner.inner.ctx.SetStatusCode(told.status)
		t.x.auditEntry(i, &t.inner.inner)
	}
	return err
}

func (t *transaction) planEntry(i int, e *bundleEntry) error {
	if err := t.inner.begin(e, e.resource); err != nil {
		return err
	}
	inner := &t.inner.inner
	p := &t.plans[i]
	*p = entryPlan{row: inner.row, place: inner.addr.place, typeName: string(inner.addr.typeName), id: string(inner.addr.id)}
	row := &t.x.server.table.rows[p.row]
	switch {
	case row.prepare == nil && !row.safe:
		return notSupported(fasthttp.StatusBadRequest, "The interaction '%s' cannot be part of a transaction.", row.name)
	case row.conditional:
		return t.planSelected(i, p, inner)
	case row.prepare != nil && row.method == methodPost && p.id == "":
		return t.planCreate(i, p, inner)
	}
	return nil
}

func (t *transaction) isRead(i int) bool {
	return t.x.server.table.rows[t.plans[i].row].prepare == nil
}

// isWrite: the entry takes part in the commit.
func (t *transaction) isWrite(i int) bool {
	return !t.isRead(i) && !t.plans[i].existing && !t.plans[i].nothing
}

// tryReads runs the reads whose answers the writes cannot change.
func (t *transaction) tryReads(ctx context.Context) error {
	written := make(map[string]method, len(t.entries))
	for i := range t.entries {
		if t.isWrite(i) {
			written[t.plans[i].typeName+"/"+t.plans[i].id] = t.x.server.table.rows[t.plans[i].row].method
		}
	}
	total := 0
	for i := range t.entries {
		if !t.isRead(i) {
			continue
		}
		p := &t.plans[i]
		by, isWritten := written[p.typeName+"/"+p.id]
		var err error
		switch {
		case isWritten && by == methodDelete && p.place == placeInstance:
			err = badRequest("It reads a resource that the transaction deletes.")
		case !isWritten:
			var bytes int
			if bytes, err = t.read(ctx, i); err == nil {
				total += bytes
			}
			if total > bundleAnswerBytesMax {
				err = answerTooLarge()
			}
		}
		if err != nil {
			return t.refuse(i, err)
		}
	}
	return nil
}

// read serves a read and returns the length of its answer.
func (t *transaction) read(ctx context.Context, i int) (int, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err := t.inner.begin(&t.entries[i], nil); err != nil {
		return 0, err
	}
	if err := t.inner.inner.run(); err != nil {
		return 0, err
	}
	return len(t.inner.inner.ctx.Response.Body()), nil
}

// commit prepares and commits the writes.
func (t *transaction) commit(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		if err := t.prepare(ctx); err != nil {
			return err
		}
		done, err := t.x.commitAll(ctx, t.changes)
		var conflict *engine.ConflictError
		switch {
		case errors.As(err, &conflict):
			i := t.order[conflict.Index]
			if t.plans[i].computed && attempt < computedAttemptsMax {
				if err := t.planAgain(i); err != nil {
					return err
				}
				continue
			}
			return t.refuse(i, t.refused(i, conflict))
		case errors.Is(err, engine.ErrTooLarge):
			return &problem{fasthttp.StatusRequestEntityTooLarge, codeTooLong, fmt.Sprintf("The transaction's resources have more than %d bytes together, which is the most that can be written at once; split it.", engine.CommitBytesMax)}
		case err != nil:
			if errors.Is(err, engine.ErrOutcomeUnknown) { // some of it may be there
				t.auditWrites(fasthttp.StatusServiceUnavailable)
			}
			return err
		}
		t.done = done
		return nil
	}
}

// prepare makes all changes.
func (t *transaction) prepare(ctx context.Context) error {
	t.changes, t.order = t.changes[:0], t.order[:0]
	for _, methods := range writeOrder {
		for i := range t.entries {
			row := &t.x.server.table.rows[t.plans[i].row]
			if !t.isWrite(i) || !slices.Contains(methods, row.method) {
				continue
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := t.prepareEntry(i); err != nil {
				return t.refuse(i, err)
			}
		}
	}
	return nil
}

func (t *transaction) prepareEntry(i int) error {
	e, p := &t.entries[i], &t.plans[i]
	resource, err := t.links.rewritten(e, t.x)
	if err != nil {
		return err
	}
	if err := t.inner.begin(e, resource); err != nil {
		return err
	}
	inner := &t.inner.inner
	inner.addr.id, inner.selected = []byte(p.id), p.selected
	inner.ctx.Request.Header.Del("If-None-Exist") // evaluated by plan
	change, err := inner.prepared()
	if err != nil {
		return err
	}
	if !change.Delete && !isPartOf(change.Body, resource) {
		change.Body = bytes.Clone(change.Body) // the scanner uses its memory again
	}
	p.computed, p.change = inner.computed, len(t.changes)
	t.changes, t.order = append(t.changes, change), append(t.order, i)
	return nil
}

// isPartOf says whether a body is the very memory of the text it was scanned from.
func isPartOf(body, text []byte) bool {
	return len(body) > 0 && len(text) > 0 && &body[0] == &text[0]
}

// refused words a conflict of the commit, in the exchange of its entry.
func (t *transaction) refused(i int, conflict *engine.ConflictError) error {
	if err := t.inner.begin(&t.entries[i], nil); err != nil {
		return err
	}
	t.inner.inner.computed = t.plans[i].computed
	return t.inner.inner.refused(&t.changes[conflict.Index], conflict)
}

// answer writes the response Bundle, in the order of the request.
func (t *transaction) answer(ctx context.Context) error {
	t.auditWrites(0)
	snap, err := t.x.server.opts.Store.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Release()
	t.x.snap = snap
	defer func() { t.x.snap = nil }()
	out := t.x.newBundle("transaction-response")
	for i := range t.entries {
		out.next()
		if t.isWrite(i) {
			change := t.plans[i].change
			out.text = t.x.appendWritten(out.text, &t.changes[change], &t.done[change])
			continue
		}
		if err := t.show(ctx, i); err != nil {
			t.inner.inner.fail(inEntry(i, &t.entries[i], err))
		}
		t.x.auditEntry(i, &t.inner.inner)
		out.text = t.inner.appendAnswer(out.text)
	}
	t.x.body(fasthttp.StatusOK, contentTypeAnswer, out.end())
	return nil
}

// auditWrites records what was committed; failed is the status instead, unless it is 0.
func (t *transaction) auditWrites(failed int) {
	for i := range t.entries {
		if !t.isWrite(i) {
			continue
		}
		change, status := t.plans[i].change, fasthttp.StatusOK
		switch {
		case failed != 0:
			status = failed
		case t.changes[change].Delete:
			status = fasthttp.StatusNoContent
		case t.done[change].Created:
			status = fasthttp.StatusCreated
		}
		t.x.auditWritten(i, t.plans[i].row, &t.changes[change], status)
	}
}

// show serves an entry that the commit had no part in.
func (t *transaction) show(ctx context.Context, i int) error {
	if p := &t.plans[i]; p.existing {
		if err := t.inner.begin(&t.entries[i], nil); err != nil {
			return err
		}
		return t.inner.inner.answerExisting([]byte(p.id))
	} else if p.nothing {
		if err := t.inner.begin(&t.entries[i], nil); err != nil {
			return err
		}
		t.inner.inner.answerDelete(&engine.Committed{Unchanged: true})
		return nil
	}
	_, err := t.read(ctx, i)
	return err
}

// appendWritten appends the response entry of a write that was committed.
func (x *exchange) appendWritten(dst []byte, change *engine.Change, done *engine.Committed) []byte {
	r := entryResponse{status: fasthttp.StatusOK, lastModified: done.LastUpdated, dated: done.VersionID != 0}
	if done.VersionID != 0 {
		r.etag = string(appendETag(nil, done.VersionID))
	}
	switch {
	case change.Delete:
		r.status = fasthttp.StatusNoContent
	case done.Created:
		r.status = fasthttp.StatusCreated
	}
	if !change.Delete {
		r.location = x.versionURL(change, done)
	}
	dst = append(dst, '{')
	switch {
	case x.prefer.returns == returnOutcome:
		r.outcome = appendOutcome(nil, x.requestID(), x.now(), issue{severity: "information", code: codeInformational, text: written(change, done)})
	case !change.Delete && x.prefer.returns != returnMinimal && x.mayShow(versionOf(change, done)):
		dst = append(dst, `"resource":`...)
		dst = versionOf(change, done).AppendJSON(dst)
		dst = append(dst, ',')
	}
	return append(r.appendTo(dst), '}')
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"kiln/engine"
)

// Moment says what to restore: a backup, or a moment of the history of its store.
type Moment struct {
	Backup string    // an id or the beginning of one; "": the newest
	LSN    uint64    // 0: none
	Time   time.Time // zero: none
}

// ErrOutOfReach: the backups do not have what it takes to restore a moment.
var ErrOutOfReach = errors.New("the backups do not reach that moment")

// chosen is what a restore reads: a description, the log behind it, and up to
// which record of that.
type chosen struct {
	base *Manifest
	lsn  uint64
	log  []LogFile // from base.Flushed+1 on, by rising LSN
}

// choose finds the backup that a moment is restored from.
func (c *catalog) choose(ctx context.Context, pace *Pace, at Moment) (*chosen, error) {
	named, err := c.pick(at.Backup)
	if err != nil {
		return nil, err
	}
	if at.LSN == 0 && at.Time.IsZero() {
		return &chosen{base: named, lsn: named.LSN, log: named.Log}, nil
	}
	h := c.historyOf(named.StoreID)
	for _, m := range slices.Backward(h.manifests) {
		if at.LSN > 0 && at.LSN == m.LSN || at.LSN == 0 && at.Time.Equal(m.Instant) {
			return &chosen{base: m, lsn: m.LSN, log: m.Log}, nil
		}
	}
	from := h.before(at)
	if from == nil || h.after(from) == nil {
		return nil, h.outOfReach(at, nil, nil)
	}
	w, err := h.walk(ctx, pace, from, at.Time)
	if err != nil {
		return nil, err
	}
	lsn := at.LSN
	if lsn == 0 {
		lsn = w.atTime
	}
	if !w.reaches(lsn) {
		return nil, h.outOfReach(at, from, w)
	}
	return &chosen{base: from, lsn: lsn, log: linkLog(from, h.after(from))}, nil
}

// history is the backups of one store, by rising LSN.
type history struct {
	c         *catalog
	manifests []*Manifest
	runs      map[string]File
}

func (c *catalog) historyOf(storeID string) *history {
	h := &history{c: c, runs: c.known()}
	for _, m := range c.manifests {
		if m.StoreID == storeID {
			h.manifests = append(h.manifests, m)
		}
	}
	return h
}

// before is the newest backup that is older than a moment; nil: none.
func (h *history) before(at Moment) *Manifest {
	for _, m := range slices.Backward(h.manifests) {
		if at.LSN > 0 && m.LSN < at.LSN || at.LSN == 0 && m.Instant.Before(at.Time) {
			return m
		}
	}
	return nil
}

// after is the backup to which the log leads from another; nil: it leads to none.
func (h *history) after(m *Manifest) *Manifest {
	for _, next := range h.manifests {
		if next.Follows == m.ID && next.LSN >= m.LSN {
			return next
		}
	}
	return nil
}

// linkLog is the log from what a backup needs to the end of the one that follows.
func linkLog(from, to *Manifest) []LogFile {
	files := slices.Clone(from.Log)
	for _, f := range to.Log {
		if f.First > from.LSN {
			files = append(files, f)
		}
	}
	return files
}

// span is a stretch of moments, with the clock at its ends in milliseconds.
type span struct {
	first, last           uint64
	firstMilli, lastMilli int64
}

// walked is what the log between two backups tells.
type walked struct {
	// spans are the moments for which all runs are there: one that was flushed and
	// merged between the two backups is in neither.
	spans  []span
	atTime uint64 // the last record up to a time
}

func (w *walked) reaches(lsn uint64) bool {
	return slices.ContainsFunc(w.spans, func(s span) bool { return s.first <= lsn && lsn <= s.last })
}

func (w *walked) add(lsn uint64, milli int64) {
	if n := len(w.spans); n > 0 && w.spans[n-1].last+1 == lsn {
		w.spans[n-1].last, w.spans[n-1].lastMilli = lsn, milli
		return
	}
	w.spans = append(w.spans, span{lsn, lsn, milli, milli})
}

// walk replays the log from a backup to the one that follows.
func (h *history) walk(ctx context.Context, pace *Pace, from *Manifest, at time.Time) (*walked, error) {
	to := h.after(from)
	plan, err := readPlan(ctx, pace, h.c.target, from)
	if err != nil {
		return nil, err
	}
	w := &walked{atTime: from.LSN}
	late, complete, since := false, false, uint64(0)
	note := func(lsn uint64) {
		if plan.RunsSince() != since || lsn == from.LSN {
			complete, since = h.hasRuns(plan), plan.RunsSince()
		}
		if complete {
			w.add(lsn, plan.Milli())
		}
	}
	if plan.IsWhole() {
		note(from.LSN)
	}
	err = readLog(ctx, pace, h.c.target, linkLog(from, to), from.Flushed+1, to.LSN, func(rec engine.LogRecord) error {
		if err := plan.Apply(ctx, rec); err != nil {
			return err
		}
		if rec.LSN < from.LSN {
			return nil
		}
		note(rec.LSN)
		late = late || rec.LSN > from.LSN && plan.Milli() > at.UnixMilli()
		if !late {
			w.atTime = rec.LSN
		}
		return nil
	})
	return w, err
}

// hasRuns tells whether some backup of the target has every run of a plan.
func (h *history) hasRuns(plan *engine.RestorePlan) bool {
	for _, meta := range plan.Runs() {
		if _, ok := h.runs[runName(meta)]; !ok {
			return false
		}
	}
	return true
}

// readPlan begins a plan at a backup's description.
func readPlan(ctx context.Context, pace *Pace, t Target, m *Manifest) (*engine.RestorePlan, error) {
	r, file, err := openChecked(ctx, pace, t, m.Checkpoint)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	_ = file.Close() // only read from
	if err != nil {
		return nil, err
	}
	return engine.NewRestorePlan(t.String()+"/"+m.Checkpoint.Name, data)
}

// outOfReach says which moments can be restored. Those between two backups were
// looked at for one pair only; of the others it is not said that all can be.
func (h *history) outOfReach(at Moment, from *Manifest, w *walked) error {
	what := fmt.Sprintf("LSN %d", at.LSN)
	if at.LSN == 0 {
		what = at.Time.UTC().Format(time.RFC3339Nano)
	}
	var reach []string
	for i := 0; i < len(h.manifests); i++ {
		m := h.manifests[i]
		text := momentText(m.LSN, m.Instant)
		switch next := h.after(m); {
		case w != nil && m == from:
			text = spansText(w.spans)
		case next != nil:
			text += " to " + momentText(next.LSN, next.Instant)
		case i > 0 && h.after(h.manifests[i-1]) == m && h.manifests[i-1] != from:
			continue // told as the end of a stretch
		}
		reach = append(reach, text)
	}
	return fmt.Errorf("cannot restore %s: %w; in reach: %s", what, ErrOutOfReach, strings.Join(reach, "; "))
}

func spansText(spans []span) string {
	var texts []string
	for _, s := range spans {
		text := momentText(s.first, time.UnixMilli(s.firstMilli))
		if s.last > s.first {
			text += " to " + momentText(s.last, time.UnixMilli(s.lastMilli))
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

func momentText(lsn uint64, at time.Time) string {
	return fmt.Sprintf("LSN %d (%s)", lsn, at.UTC().Format("2006-01-02T15:04:05.000Z"))
}

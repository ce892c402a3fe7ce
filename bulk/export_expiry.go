package bulk

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An export that has ended, completed or failed, is kept for Options.ExportExpiry
// and then removed, record and files, as if its client had deleted it. From the
// instant on nothing of it is given out; the background removes it a little
// later. A file that is being read then goes on to its end: it is open, and a name
// that is taken away leaves the open file alone.

// exportExpiryLook is the longest between two looks for what has expired: disk
// space comes back soon enough, and a look costs milliseconds.
const exportExpiryLook = time.Minute

// expires is when an ended export is given out no more; zero: never. Those that a
// build without expiry ended count from when they were asked for.
func (m *Manager) expires(r *exportRecord) time.Time {
	switch {
	case m.opts.ExportExpiry <= 0 || r.State == Running:
		return time.Time{}
	case r.Ended.IsZero():
		return r.Created.Add(m.opts.ExportExpiry)
	default:
		return r.Ended.Add(m.opts.ExportExpiry)
	}
}

func (m *Manager) isExpired(r *exportRecord) bool {
	at := m.expires(r)
	return !at.IsZero() && !m.opts.Now().Before(at)
}

// liveExport reads a record that has not expired. The caller holds m.mu.
func (m *Manager) liveExport(id int64) (*exportRecord, error) {
	r, err := m.getExport(id)
	if err == nil && m.isExpired(r) {
		err = exportNotFound(id)
	}
	return r, err
}

// expireExports removes what has expired, at the start and then from time to
// time, until the manager is closed.
func (m *Manager) expireExports() {
	defer m.running.Done()
	ticker := time.NewTicker(max(min(m.opts.ExportExpiry, exportExpiryLook), time.Second))
	defer ticker.Stop()
	for {
		if err := m.sweepExpired(m.ctx); err != nil && m.ctx.Err() == nil {
			m.logger.Warn("cannot remove expired exports", "error", err)
		}
		select {
		case <-ticker.C:
		case <-m.ctx.Done():
			return
		}
	}
}

// sweepExpired removes every export that has expired. One that cannot be removed
// keeps none of the others.
func (m *Manager) sweepExpired(ctx context.Context) error {
	ids, err := m.endedExports()
	if err != nil {
		return err
	}
	var failed error
	for _, id := range ids {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed = errors.Join(failed, m.expireExport(ctx, id))
	}
	return failed
}

// endedExports are the exports that do not run. Those whose end the catalog could
// not take are among them.
func (m *Manager) endedExports() (ids []int64, err error) {
	var all []int64
	err = m.opts.Store.CatalogList(keyExport, func(_ string, value []byte) error {
		var r struct{ ID int64 }
		if err := ParseRecord(value, &r); err != nil {
			return fmt.Errorf("cannot read an export's record: %w", err)
		}
		all = append(all, r.ID)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the exports: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range all {
		if m.exports[id] == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// expireExport removes an export if it has expired.
func (m *Manager) expireExport(ctx context.Context, id int64) error {
	m.mu.Lock()
	r, err := m.getExport(id)
	expired := err == nil && m.isExpired(r)
	m.mu.Unlock()
	var gone *RequestError
	switch {
	case errors.As(err, &gone): // its client was faster
		return nil
	case err != nil || !expired:
		return err
	}
	if err := m.removeExport(ctx, id); err != nil && !errors.As(err, &gone) {
		return err
	}
	m.counters.exportsExpired.Add(1)
	m.tellExport(r, EndExpired)
	m.logger.Info("an export expired; its files are removed", "export", id, "ended", r.Ended, "kept", m.opts.ExportExpiry)
	return nil
}

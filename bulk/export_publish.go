package bulk

import (
	"fmt"

	"kiln/engine"
)

// Whoever asks for $bulk-publish is given the newest completed export of
// everything there is: of the system, without a parameter that leaves something out,
// as NDJSON that this server serves. Nothing is made for it.

// isWhole tells whether an export is such a one.
func (r *exportRecord) isWhole() bool {
	q := &r.Request
	return !q.ofPatients() && len(q.Types) == 0 && len(q.Filters)+len(q.Limits.All) == 0 && len(q.Elements) == 0 &&
		q.Since.Milli == 0 && q.Until.Milli == 0 && q.Versions == engine.ScanCurrent && !q.Parquet && !q.ByPatient && r.Folder == ""
}

// publish notes a completed export. The caller holds m.mu, or is alone.
func (m *Manager) publish(r *exportRecord) {
	if r.State == Completed && r.isWhole() {
		m.published[r.ID] = r.At.Milli
	}
}

// loadPublished notes the completed exports, where jobs do not go on.
func (m *Manager) loadPublished() error {
	err := m.opts.Store.CatalogList(keyExport, func(_ string, value []byte) error {
		r := new(exportRecord)
		if err := ParseRecord(value, r); err != nil {
			return fmt.Errorf("cannot read an export's record: %w", err)
		}
		m.publish(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot list the exports: %w", err)
	}
	return nil
}

// PublishedExport is the status of the export that is published; a *RequestError
// 404 when there is none.
func (m *Manager) PublishedExport() (*ExportStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var newest *exportRecord
	for id, at := range m.published {
		if newest != nil && (at < newest.At.Milli || at == newest.At.Milli && id < newest.ID) {
			continue
		}
		r, err := m.getExport(id)
		if err != nil {
			return nil, err
		}
		if !m.isExpired(r) {
			newest = r
		}
	}
	if newest == nil {
		return nil, &RequestError{Status: 404, Code: "not-found", Text: "No export of everything is here. " +
			"A $export of the system without parameters makes one; it is published until it is deleted or expires."}
	}
	return m.exportStatus(newest)
}

package bulk

import (
	"context"
	"encoding/json"
	"fmt"
)

// keyExportRemains is followed by the number of a job whose files in the blob
// account are to be removed: the record of the job may be gone.
const keyExportRemains = "export-remains/"

// removeLater notes that a job's files are to be removed. The next start finds those
// that are here by themselves. The caller holds m.mu.
func (m *Manager) removeLater(r *exportRecord) error {
	if r.Folder == "" {
		return nil
	}
	raw, err := json.Marshal(&exportRecord{ID: r.ID, Folder: r.Folder})
	if err != nil {
		panic("BUG: an export's record cannot be written: " + err.Error())
	}
	if err := m.opts.Store.CatalogPut(jobKey(keyExportRemains, r.ID), raw); err != nil {
		return fmt.Errorf("cannot note that the files of export %d are to be removed: %w", r.ID, err)
	}
	return nil
}

// removeFiles takes away a job's files. Those that the blob account keeps are tried
// again at the next start.
func (m *Manager) removeFiles(ctx context.Context, r *exportRecord) error {
	err := m.exportOutput(r).remove(ctx)
	m.opts.Store.ForgetDamage(m.exportDir(r.ID))
	if r.Folder != "" {
		m.dropSpill(r.ID)
	}
	switch {
	case r.Folder == "" && err != nil:
		return fmt.Errorf("cannot remove the files of export %d: %w", r.ID, err)
	case r.Folder == "":
		return nil
	case err != nil:
		m.logger.Warn("cannot remove the files of an export from the blob account; the next start tries again", "export", r.ID, "folder", r.Folder, "error", err)
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.opts.Store.CatalogDelete(jobKey(keyExportRemains, r.ID)); err != nil {
		return fmt.Errorf("cannot forget the files of export %d: %w", r.ID, err)
	}
	return nil
}

// removeRemains removes, in the background, what a former process could not. A note
// about a job that runs or is completed was made before a crash, and came to nothing.
func (m *Manager) removeRemains() error {
	var remains []*exportRecord
	err := m.opts.Store.CatalogList(keyExportRemains, func(_ string, value []byte) error {
		r := new(exportRecord)
		remains = append(remains, r)
		return ParseRecord(value, r)
	})
	if err != nil {
		return fmt.Errorf("cannot list what is left of exports: %w", err)
	}
	for _, r := range remains {
		if job, err := m.getExport(r.ID); err == nil && job.State != Failed {
			if err := m.opts.Store.CatalogDelete(jobKey(keyExportRemains, r.ID)); err != nil {
				return fmt.Errorf("cannot forget what is left of export %d: %w", r.ID, err)
			}
			continue
		}
		m.running.Go(func() {
			if err := m.removeFiles(m.ctx, r); err != nil {
				m.logger.Warn("cannot remove what is left of an export", "error", err)
			}
		})
	}
	return nil
}

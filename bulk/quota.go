package bulk

import (
	"fmt"
)

// Quotas bound what clients leave to do and to keep. A client is an owner; an open
// server has none, and there the quotas of clients bound nobody. 0: no bound.
type Quotas struct {
	Jobs              int   // of a client that are not finished
	ExportBytes       int64 // on this server's disk, of all kept exports
	ClientExportBytes int64 // of those of one client
}

// QuotaRefusals counts the jobs that were refused for each.
type QuotaRefusals struct {
	Jobs, ExportBytes, ClientExportBytes uint64
}

// checkJobs refuses a job of a client that has enough. The caller holds m.mu.
func (m *Manager) checkJobs(owner string) error {
	if owner == "" || m.opts.Quotas.Jobs == 0 {
		return nil
	}
	count := 0
	for _, j := range m.imports {
		if j.request.Owner == owner {
			count++
		}
	}
	for _, j := range m.exports {
		if j.owner == owner {
			count++
		}
	}
	if count < m.opts.Quotas.Jobs {
		return nil
	}
	m.refusals.Jobs++
	return throttled("%d of your jobs are not finished yet, and a client may have no more: wait for some of them, or delete them.", count)
}

// checkKept refuses an export while what is kept of others takes all the room that
// there is for exports. What the new one will take nobody knows; so its last bytes may
// be beyond. The caller holds m.mu.
func (m *Manager) checkKept(owner string) error {
	q := &m.opts.Quotas
	if q.ExportBytes == 0 && (q.ClientExportBytes == 0 || owner == "") {
		return nil
	}
	all, own, err := m.keptBytes(owner)
	switch {
	case err != nil:
		return err
	case owner != "" && q.ClientExportBytes > 0 && own >= q.ClientExportBytes:
		m.refusals.ClientExportBytes++
		return throttled("Your exports keep %d bytes on this server, and a client may keep %d: delete some that you have downloaded.", own, q.ClientExportBytes)
	case q.ExportBytes > 0 && all >= q.ExportBytes:
		m.refusals.ExportBytes++
		return throttled("The exports on this server keep %d bytes, and may keep %d: delete some that you have downloaded, or wait until others expire.", all, q.ExportBytes)
	}
	return nil
}

func throttled(format string, args ...any) error {
	return &RequestError{Status: 429, Code: "throttled", Text: fmt.Sprintf(format, args...)}
}

// keptBytes are those of files that are durable here, of all exports and of an owner's.
func (m *Manager) keptBytes(owner string) (all, own int64, err error) {
	var records []*exportRecord
	err = m.opts.Store.CatalogList(keyExport, func(_ string, value []byte) error {
		r := new(exportRecord)
		if err := ParseRecord(value, r); err != nil {
			return fmt.Errorf("cannot read an export's record: %w", err)
		}
		records = append(records, r)
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("cannot list the exports: %w", err)
	}
	for _, r := range records {
		if r.Folder != "" { // its files are in the blob account
			continue
		}
		files, err := m.exportFiles(r)
		if err != nil {
			return 0, 0, err
		}
		for i := range files {
			all += files[i].Bytes
			if r.Request.Owner == owner {
				own += files[i].Bytes
			}
		}
	}
	return all, own, nil
}

// QuotaRefusals tells how many jobs were refused, for the metrics.
func (m *Manager) QuotaRefusals() QuotaRefusals {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refusals
}

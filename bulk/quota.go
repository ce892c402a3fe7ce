package bulk

import (
	"errors"
	"fmt"
	"math"
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

// checkKept refuses an export while what is kept takes all the room that there is for
// exports; what the new one will take nobody knows. The caller holds m.mu.
func (m *Manager) checkKept(owner string) error {
	_, err := m.roomForExports(owner, 0)
	var over *overQuota
	if errors.As(err, &over) {
		return throttled("%s", over.text)
	}
	return err
}

// overQuota is told when exports keep as much as they may.
type overQuota struct{ text string }

func (o *overQuota) Error() string { return o.text }

// roomForExports is how many bytes may come to what exports keep; *overQuota when that
// is more than slack beyond the quota, or as much with slack 0. The caller holds m.mu.
func (m *Manager) roomForExports(owner string, slack int64) (int64, error) {
	q, room := &m.opts.Quotas, int64(math.MaxInt64)
	if q.ExportBytes == 0 && (q.ClientExportBytes == 0 || owner == "") {
		return room, nil
	}
	all, own, err := m.keptBytes(owner)
	if err != nil {
		return 0, err
	}
	if owner != "" && q.ClientExportBytes > 0 {
		if room = q.ClientExportBytes - own; room+slack <= 0 {
			m.refusals.ClientExportBytes++
			return 0, &overQuota{fmt.Sprintf("Your exports keep %d bytes on this server, and a client may keep %d: delete some that you have downloaded.", own, q.ClientExportBytes)}
		}
	}
	if q.ExportBytes > 0 {
		if room = min(room, q.ExportBytes-all); room+slack <= 0 {
			m.refusals.ExportBytes++
			return 0, &overQuota{fmt.Sprintf("The exports on this server keep %d bytes, and may keep %d: delete some that you have downloaded, or wait until others expire.", all, q.ExportBytes)}
		}
	}
	return room, nil
}

// holdQuota is asked while an export is written, and gives how many bytes may follow. One
// that goes beyond fails, and from then on counts no more: what it wrote is removed, and
// of two that run only the one that asks first has to go.
func (m *Manager) holdQuota(owner string, j *exportJob) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	room, err := m.roomForExports(owner, 1) // to the last byte
	var over *overQuota
	if errors.As(err, &over) {
		j.givenUp = true
		return 0, &RequestError{Status: 507, Code: codeOverQuota, Text: "The export was ended and its files are removed: it takes more than it may. " + over.text + " Or ask for less, by _type, _since or _typeFilter."}
	}
	return room, err
}

// codeOverQuota tells an export that went beyond a quota from one without a disk.
const codeOverQuota = "too-costly"

func throttled(format string, args ...any) error {
	return &RequestError{Status: 429, Code: "throttled", Text: fmt.Sprintf(format, args...)}
}

// keptBytes are those of files that are here, of all exports and of an owner's: of those
// that run what is written, of others what is recorded. What failed is removed, and what
// organizes files by patients is there for a while: neither counts. The caller holds m.mu.
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
		j := m.exports[r.ID]
		if r.Folder != "" || r.State == Failed || j != nil && j.givenUp { // in the blob account, or on their way out
			continue
		}
		files, err := m.exportFiles(r)
		if err != nil {
			return 0, 0, err
		}
		kept := int64(0)
		for i := range files {
			kept += files[i].Bytes
		}
		if j != nil {
			kept = max(kept, j.written.Load())
		}
		all += kept
		if r.Request.Owner == owner {
			own += kept
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

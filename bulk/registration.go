package bulk

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"kiln/engine"
)

// Keys in the catalog. Job numbers are written with leading zeros so that a
// list is in order.
const (
	keyNextJob    = "job/next"
	keyImport     = "import/"
	keyImportHash = "import-hash/"
	keyExport     = "export/"
)

func jobKey(prefix string, id int64) string { return prefix + fmt.Sprintf("%019d", id) }

// importRecord is a registered import in the catalog.
type importRecord struct {
	ID      int64         `json:"id"`
	Hash    string        `json:"hash"`
	Created time.Time     `json:"created"`
	State   State         `json:"state"`
	Request ImportRequest `json:"request"`
	Error   *RequestError `json:"error,omitempty"`
	Result  progress      `json:"result"` // when it is not running
	// ErrorBlobs are the addresses of error files in the blob account, by input
	// number. Storing marks a cancelled job whose files are not there yet.
	ErrorBlobs map[int]string `json:"errorBlobs,omitempty"`
	Storing    bool           `json:"storing,omitempty"`
}

// importHash identifies equal requests: everything that decides what an
// import does, and what Microsoft's server takes into account. Force is not.
func importHash(r *ImportRequest) string {
	definition := *r
	definition.Force = false
	raw, err := json.Marshal(&definition)
	if err != nil {
		panic("BUG: an import request cannot be written: " + err.Error())
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// nextJob takes a job number for a request of that hash ("": an export). The
// caller holds m.mu. A number under which the log knows the progress of another
// request is passed over: the catalog was lost, and an import that took that
// progress for its own would leave lines out.
func (m *Manager) nextJob(hash string) (int64, error) {
	next := int64(1)
	raw, err := m.opts.Store.CatalogGet(keyNextJob)
	if err != nil && !errors.Is(err, engine.ErrNotFound) {
		return 0, fmt.Errorf("cannot read the next job's number: %w", err)
	}
	if err == nil {
		if next, err = strconv.ParseInt(string(raw), 10, 64); err != nil {
			return 0, fmt.Errorf("cannot read the next job's number: %w", err)
		}
	}
	for raw := m.opts.Store.Progress(uint64(next)); raw != nil; raw = m.opts.Store.Progress(uint64(next)) {
		if p, err := parseProgress(raw, inputsMax); err == nil && hash != "" && p.Hash == hash {
			break
		}
		next++
	}
	if err := m.opts.Store.CatalogPut(keyNextJob, strconv.AppendInt(nil, next+1, 10)); err != nil {
		return 0, fmt.Errorf("cannot write the next job's number: %w", err)
	}
	return next, nil
}

// putImport writes a record. The hash points to it from the first write on;
// loadImports repairs what a crash between the two left.
func (m *Manager) putImport(r *importRecord) error {
	if err := m.putRecord(jobKey(keyImport, r.ID), r); err != nil {
		return fmt.Errorf("cannot write import %d: %w", r.ID, err)
	}
	return nil
}

// putRecord writes a job's record to the catalog. The caller holds m.mu.
func (m *Manager) putRecord(key string, record any) error {
	raw, err := json.Marshal(record)
	if err != nil {
		panic("BUG: a job's record cannot be written: " + err.Error())
	}
	delete(m.looked, key) // also when the write fails: then nobody knows what is there
	if err := m.opts.Store.CatalogPut(key, raw); err != nil {
		return err
	}
	delete(m.unrecorded, key)
	return nil
}

// recordFormat is the format of all values of the catalog, and of the progress in
// the log. Values of format 1 do not name it; a later one has a member "format",
// and is written where a Kiln that does not know what is new would do harm: 2 is of
// exports with limits (recordFormatLimits).
const (
	recordFormat       = 2
	recordFormatLimits = 2
)

// ParseRecord reads a value of the catalog. One of a newer format is engine.ErrNewerFormat.
func ParseRecord(raw []byte, record any) error {
	var head struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(raw, &head) == nil && head.Format > recordFormat {
		return fmt.Errorf("%w: a record of a job has format %d, this Kiln knows %d", engine.ErrNewerFormat, head.Format, recordFormat)
	}
	return json.Unmarshal(raw, record)
}

// keepRecord remembers how a job ended that the catalog could not take (the
// disk is full), so that its status does not stay "running". The next start
// runs the job again. The caller holds m.mu.
func (m *Manager) keepRecord(key string, record any) {
	raw, err := json.Marshal(record)
	if err != nil {
		panic("BUG: a job's record cannot be written: " + err.Error())
	}
	delete(m.looked, key)
	m.unrecorded[key] = raw
}

// getRecord reads a job's record. The caller holds m.mu.
func (m *Manager) getRecord(key string) ([]byte, error) {
	if raw, ok := m.unrecorded[key]; ok {
		return raw, nil
	}
	return m.opts.Store.CatalogGet(key)
}

func (m *Manager) getImport(id int64) (*importRecord, error) {
	if id <= 0 {
		return nil, importNotFound(id)
	}
	raw, err := m.getRecord(jobKey(keyImport, id))
	if errors.Is(err, engine.ErrNotFound) {
		return nil, importNotFound(id)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read import %d: %w", id, err)
	}
	return parseImport(raw)
}

// lookAtImport is getImport for those who change nothing in it; the record of a running
// import is read from the catalog once. What the job does meanwhile is not in the
// record, so nothing gets old. The caller holds m.mu.
func (m *Manager) lookAtImport(id int64) (*importRecord, error) {
	key := jobKey(keyImport, id)
	if r := m.looked[key]; r != nil {
		return r, nil
	}
	r, err := m.getImport(id)
	if err == nil && m.imports[id] != nil {
		m.looked[key] = r
	}
	return r, err
}

func parseImport(raw []byte) (*importRecord, error) {
	r := new(importRecord)
	if err := ParseRecord(raw, r); err != nil {
		return nil, fmt.Errorf("cannot read an import's record: %w", err)
	}
	return r, nil
}

func importNotFound(id int64) error {
	return &RequestError{Status: 404, Code: "not-found", Text: fmt.Sprintf("The requested import job %q was not found.", strconv.FormatInt(id, 10))}
}

// findImport looks a request's hash up; 0 when it is new. The caller holds
// m.mu.
func (m *Manager) findImport(hash string) (int64, error) {
	raw, err := m.getRecord(keyImportHash + hash)
	if errors.Is(err, engine.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot look an import up: %w", err)
	}
	return strconv.ParseInt(string(raw), 10, 64)
}

func (m *Manager) putImportHash(r *importRecord) error {
	return m.opts.Store.CatalogPut(keyImportHash+r.Hash, strconv.AppendInt(nil, r.ID, 10))
}

// repairImportHash makes sure that a running import is found by its hash. A
// full disk must not keep the server from starting.
func (m *Manager) repairImportHash(r *importRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id, err := m.findImport(r.Hash)
	if err != nil || id == r.ID {
		return err
	}
	err = m.putImportHash(r)
	if isNoSpace(err) {
		m.keepRecord(keyImportHash+r.Hash, r.ID)
		return nil
	}
	return err
}

// loadImports lists the imports that a former process left running, or left
// cancelled with error files to store, and puts in order what a crash left half
// done.
func (m *Manager) loadImports() (running []*importRecord, err error) {
	var ended []int64
	err = m.opts.Store.CatalogList(keyImport, func(key string, value []byte) error {
		if !strings.HasPrefix(key, keyImport) {
			return nil
		}
		r, err := parseImport(value)
		if err != nil {
			return err
		}
		switch {
		case r.State == Running, r.State == Cancelled && r.Storing:
			running = append(running, r)
		case r.State == Completed && m.opts.Store.Progress(uint64(r.ID)) != nil:
			ended = append(ended, r.ID)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the imports: %w", err)
	}
	for _, r := range running {
		if err := m.repairImportHash(r); err != nil {
			return nil, err
		}
	}
	for _, id := range ended {
		m.endProgress(id)
	}
	return running, nil
}

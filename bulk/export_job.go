package bulk

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"sync/atomic"
	"time"

	"kiln/engine"
	"kiln/fhir"
)

// ExportFile is one file of a finished export.
type ExportFile struct {
	Type  string // of its resources; "": it is organized by patients
	Name  string // base name below the job's directory
	Count int64
	Bytes int64
	// Continues is the name of the file with the rest of the last patient; "": there is none.
	Continues string `json:",omitempty"`
	// Sums are those of its pieces (pieces.go); nil: an older build wrote it, or it is elsewhere.
	Sums []byte `json:",omitempty"`
	URL  string `json:"-"` // of a file that another server has
}

// ExportStatus is what the status address tells.
type ExportStatus struct {
	ID              int64
	State           State
	TransactionTime fhir.Instant
	Request         string
	Files           []ExportFile
	// Ends is for each page of the manifest that was shown already how many files it
	// and those before it have. Pages that follow may be cut anywhere.
	Ends []int
	// Partial: its client takes a manifest of what is there while it runs.
	Partial   bool
	Resting   bool // until a server is started that is not read-only
	ByPatient bool // its files are organized by patients
	RowsDone  uint64
	RowsTotal uint64
	Ignored   []string // what a lenient request asked for and did not get
	Error     *RequestError
	Expires   time.Time // when it is removed; zero: never, or it goes on
	// SeparateStatus: its client wants the state in a header of its own.
	SeparateStatus bool
}

// exportRecord is an export in the catalog. Its files stand in the records of its
// sections.
type exportRecord struct {
	Format  int           `json:"format,omitempty"` // see recordFormat
	ID      int64         `json:"id"`
	Created time.Time     `json:"created"`
	State   State         `json:"state"`
	Request ExportRequest `json:"request"`
	// Folder is the address of the folder with the files; "": they are here.
	Folder string `json:"folder,omitempty"`
	// What is exported is the store at At, which is its LSN. Set together with the
	// sections, before anything is written; LSN 0: not yet.
	At       fhir.Instant    `json:"at"`
	LSN      uint64          `json:"lsn,omitempty"`
	Sections []exportSection `json:"sections,omitempty"`
	Rows     uint64          `json:"rows"` // when it is completed
	Ended    time.Time       `json:"ended,omitzero"`
	// Files are all files of an export that a build without sections completed.
	Files []ExportFile  `json:"files,omitempty"`
	Error *RequestError `json:"error,omitempty"`
}

// exportJob is one export while it runs.
type exportJob struct {
	owner   string
	cancel  context.CancelFunc
	stopped chan struct{}
	rows    atomic.Uint64
	total   atomic.Uint64
	written atomic.Int64 // bytes of files here, those of a former process included
	givenUp bool         // it went beyond a quota; Manager.mu guards it
}

func exportNotFound(id int64) error {
	return &RequestError{Status: 404, Code: "not-found", Text: fmt.Sprintf("The requested job %q was not found.", strconv.FormatInt(id, 10))}
}

// StartExport registers an export and starts it. What the request names must be in
// the store: the Group, its members, the patients. Errors are *RequestError and the store's.
func (m *Manager) StartExport(ctx context.Context, r *ExportRequest) (int64, error) {
	if err := m.checkExport(ctx, r); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.takesJobs(); err != nil {
		return 0, err
	}
	if len(m.exports) >= exportsUnfinishedMax {
		return 0, &RequestError{Status: 429, Code: "throttled", Text: fmt.Sprintf("%d exports are not finished yet, and more than that are not taken: wait for some of them, or delete them.", exportsUnfinishedMax)}
	}
	if err := errors.Join(m.checkJobs(r.Owner), m.checkKept(r.Owner)); err != nil {
		return 0, err
	}
	id, err := m.nextJob("")
	if err != nil {
		return 0, err
	}
	record := &exportRecord{ID: id, Created: m.opts.Now().UTC(), Request: *r}
	if len(r.Limits.All) > 0 {
		record.Format = recordFormatLimits // without them it would go on to export more
	}
	if r.Container != "" {
		record.Folder = m.exportFolder(record)
	}
	if err := m.putExport(record); err != nil {
		return 0, m.unregister(jobKey(keyExport, id), err)
	}
	m.launchExport(record)
	return id, nil
}

func (m *Manager) putExport(r *exportRecord) error {
	if err := m.putRecord(jobKey(keyExport, r.ID), r); err != nil {
		return fmt.Errorf("cannot write export %d: %w", r.ID, err)
	}
	return nil
}

func (m *Manager) getExport(id int64) (*exportRecord, error) {
	if id <= 0 {
		return nil, exportNotFound(id)
	}
	raw, err := m.getRecord(jobKey(keyExport, id))
	if errors.Is(err, engine.ErrNotFound) {
		return nil, exportNotFound(id)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read export %d: %w", id, err)
	}
	r := new(exportRecord)
	if err := ParseRecord(raw, r); err != nil {
		return nil, fmt.Errorf("cannot read export %d: %w", id, err)
	}
	return r, nil
}

// loadExports lists the exports that did not come to an end: they go on. What
// deleted and failed exports left is removed.
func (m *Manager) loadExports() (running []*exportRecord, err error) {
	kept := make(map[int64]bool)
	err = m.opts.Store.CatalogList(keyExport, func(_ string, value []byte) error {
		r := new(exportRecord)
		if err := ParseRecord(value, r); err != nil {
			return fmt.Errorf("cannot read an export's record: %w", err)
		}
		kept[r.ID] = r.State == Running || r.State == Completed
		m.publish(r)
		if r.State == Running {
			running = append(running, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the exports: %w", err)
	}
	if err := m.sweepSections(kept); err != nil {
		return nil, err
	}
	m.sweepExports(kept)
	return running, nil
}

// launchExport starts a job's goroutine. The caller holds m.mu.
func (m *Manager) launchExport(record *exportRecord) {
	ctx, cancel := context.WithCancel(m.ctx)
	j := &exportJob{owner: record.Request.Owner, cancel: cancel, stopped: make(chan struct{})}
	m.exports[record.ID] = j
	m.running.Add(1)
	go func() {
		defer m.running.Done()
		defer cancel()
		defer close(j.stopped)
		m.finishExport(j, record, m.runExport(ctx, j, record))
	}()
}

// exportDir is where the files of a job lie.
func (m *Manager) exportDir(id int64) string {
	return path.Join(m.opts.ExportDir, strconv.FormatInt(id, 10))
}

// finishExport records how an export ended. One that was stopped by Close
// stays running in the catalog; a deleted one has no record any more.
func (m *Manager) finishExport(j *exportJob, record *exportRecord, err error) {
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.exports, record.ID)
	}()
	if err != nil && isStop(err) {
		if m.ctx.Err() == nil { // else it goes on at the next start
			m.tellExport(record, EndCancelled)
		}
		return
	}
	record.Ended = m.opts.Now().UTC()
	if err == nil {
		record.State, record.Rows = Completed, j.rows.Load()
		m.counters.exportsCompleted.Add(1)
		m.endExport(record)
		m.tellExport(record, EndCompleted)
		return
	}
	m.opts.Store.NoteDamage(err)
	m.logger.Error("an export failed", "export", record.ID, "error", err)
	m.counters.exportsFailed.Add(1)
	record.State, record.Sections, record.Error = Failed, nil, exportFailure(err)
	m.mu.Lock()
	if err := m.removeLater(record); err != nil {
		m.logger.Warn("cannot note what a failed export leaves", "export", record.ID, "error", err)
	}
	m.mu.Unlock()
	told := m.endExport(record) // before the files go: a job that is recorded as running has them
	m.dropExport(record)
	if !told {
		m.endExport(record) // without the files there may be room
	}
	m.tellExport(record, EndFailed)
}

// endExport writes how an export ended, unless it was deleted. What the catalog
// cannot take is remembered; false.
func (m *Manager) endExport(record *exportRecord) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, gone := m.getExport(record.ID); gone != nil {
		return true
	}
	m.publish(record)
	if err := m.putExport(record); err != nil {
		m.logger.Error("cannot record the end of an export", "export", record.ID, "error", err)
		m.keepRecord(jobKey(keyExport, record.ID), record)
		return false
	}
	return true
}

// dropExport takes away what a failed export wrote. What stays is removed at the
// next start.
func (m *Manager) dropExport(record *exportRecord) {
	ctx := m.ctx // an account that does not answer must not hold up the server's end
	if record.Folder == "" {
		ctx = context.WithoutCancel(ctx)
	}
	if err := m.removeFiles(ctx, record); err != nil {
		m.logger.Warn("cannot remove the files of a failed export", "export", record.ID, "error", err)
	}
	if err := m.forgetSections(record.ID); err != nil {
		m.logger.Warn("cannot forget the files of a failed export", "export", record.ID, "error", err)
	}
}

// exportFailure is failure with what to do about a full disk, and about filters.
func exportFailure(err error) *RequestError {
	f := failure(err)
	switch {
	case f.Status == 507 && f.Code != codeOverQuota:
		f.Text = "there is no space left for the export's files"
	case errors.Is(err, engine.ErrReindex):
		return &RequestError{Status: 503, Code: "transient", Text: "the index that a _typeFilter needs is being built; start the export again when GET SearchParameter/$status tells that it is done"}
	case errors.Is(err, errParametersChanged):
		return &RequestError{Status: 409, Code: "conflict", Text: err.Error()}
	}
	return f
}

// ExportStatus tells how far an export is, and lists its files: of one that runs
// those of finished sections, which stay as they are. None of one that failed.
func (m *Manager) ExportStatus(id int64) (*ExportStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.liveExport(id)
	if err != nil {
		return nil, err
	}
	return m.exportStatus(r)
}

// exportStatus is the status of a job. The caller holds m.mu.
func (m *Manager) exportStatus(r *exportRecord) (s *ExportStatus, err error) {
	s = &ExportStatus{
		ID: r.ID, State: r.State, TransactionTime: r.At, Request: r.Request.URL, Ignored: r.Request.Ignored,
		ByPatient: r.Request.ByPatient, RowsDone: r.Rows, RowsTotal: r.Rows, Error: r.Error, Expires: m.expires(r), SeparateStatus: r.Request.SeparateStatus,
	}
	s.Resting = m.readOnly
	if s.Partial = r.Request.Partial; r.State != Failed {
		if s.Files, s.Ends, err = m.filesToShow(r); err != nil {
			return nil, err
		}
		for i := range s.Files {
			s.Files[i].URL = m.exportOutput(r).address(s.Files[i].Name)
		}
	}
	if j := m.exports[r.ID]; j != nil {
		s.RowsDone, s.RowsTotal = j.rows.Load(), j.total.Load()
	}
	return s, nil
}

// DeleteExport stops an export and removes its files; it is unknown from then
// on. What a crash in between leaves, the next start removes.
func (m *Manager) DeleteExport(ctx context.Context, id int64) error {
	m.mu.Lock()
	_, err := m.liveExport(id)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return m.removeExport(ctx, id)
}

func (m *Manager) removeExport(ctx context.Context, id int64) error {
	m.mu.Lock()
	record, j, err := m.forgetExport(id)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if j != nil {
		j.cancel()
		<-j.stopped
	}
	if err := m.removeFiles(ctx, record); err != nil {
		return err
	}
	return m.forgetSections(id)
}

// forgetExport takes the record away. The caller holds m.mu.
func (m *Manager) forgetExport(id int64) (*exportRecord, *exportJob, error) {
	record, err := m.getExport(id)
	if err != nil {
		return nil, nil, err
	}
	if err := m.removeLater(record); err != nil {
		return nil, nil, err
	}
	if err := m.opts.Store.CatalogDelete(jobKey(keyExport, id)); err != nil {
		return nil, nil, fmt.Errorf("cannot delete export %d: %w", id, err)
	}
	delete(m.unrecorded, jobKey(keyExport, id))
	delete(m.published, id)
	return record, m.exports[id], nil
}

// WaitExport returns when the job is no longer running.
func (m *Manager) WaitExport(ctx context.Context, id int64) (*ExportStatus, error) {
	m.mu.Lock()
	j := m.exports[id]
	m.mu.Unlock()
	if j != nil {
		select {
		case <-j.stopped:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return m.ExportStatus(id)
}

package bulk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"kiln/engine"
	"kiln/fhir"
)

// ExportFile is one file of a finished export.
type ExportFile struct {
	Type  string
	Name  string // base name below the job's directory
	Count int64
	Bytes int64
}

// ExportStatus is what the status address tells.
type ExportStatus struct {
	ID              int64
	State           State
	TransactionTime fhir.Instant
	Request         string
	Files           []ExportFile
	RowsDone        uint64
	RowsTotal       uint64
	Error           *RequestError
}

// exportRecord is an export in the catalog.
type exportRecord struct {
	ID      int64         `json:"id"`
	Created time.Time     `json:"created"`
	State   State         `json:"state"`
	Request ExportRequest `json:"request"`
	At      fhir.Instant  `json:"at"` // of the snapshot, when it is completed
	Rows    uint64        `json:"rows"`
	Files   []ExportFile  `json:"files,omitempty"`
	Error   *RequestError `json:"error,omitempty"`
}

// exportJob is one export while it runs.
type exportJob struct {
	cancel  context.CancelFunc
	stopped chan struct{}
	rows    atomic.Uint64
	total   atomic.Uint64
}

func exportNotFound(id int64) error {
	return &RequestError{Status: 404, Code: "not-found", Text: fmt.Sprintf("The requested job %q was not found.", strconv.FormatInt(id, 10))}
}

// StartExport registers an export and starts it.
func (m *Manager) StartExport(_ context.Context, r *ExportRequest) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, engine.ErrClosed
	}
	id, err := m.nextJob("")
	if err != nil {
		return 0, err
	}
	record := &exportRecord{ID: id, Created: m.opts.Now().UTC(), Request: *r}
	if err := m.putExport(record); err != nil {
		return 0, err
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
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("cannot read export %d: %w", id, err)
	}
	return r, nil
}

// loadExports lists the exports that did not come to an end: they run again,
// from a new snapshot. What deleted exports left is removed.
func (m *Manager) loadExports() (running []*exportRecord, err error) {
	recorded := make(map[int64]bool)
	err = m.opts.Store.CatalogList(keyExport, func(_ string, value []byte) error {
		r := new(exportRecord)
		if err := json.Unmarshal(value, r); err != nil {
			return fmt.Errorf("cannot read an export's record: %w", err)
		}
		recorded[r.ID] = true
		if r.State == Running {
			running = append(running, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the exports: %w", err)
	}
	m.sweepExports(recorded)
	return running, nil
}

// launchExport starts a job's goroutine. The caller holds m.mu.
func (m *Manager) launchExport(record *exportRecord) {
	ctx, cancel := context.WithCancel(m.ctx)
	j := &exportJob{cancel: cancel, stopped: make(chan struct{})}
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

// runExport writes all files of one snapshot.
func (m *Manager) runExport(ctx context.Context, j *exportJob, record *exportRecord) error {
	select {
	case m.exporting <- struct{}{}:
		defer func() { <-m.exporting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	fsys, dir := m.opts.Store.FS(), m.exportDir(record.ID)
	if err := fsys.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot clear %q: %w", dir, err)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("cannot make %q: %w", dir, err)
	}
	snapshot, at, err := m.opts.Store.SnapshotAt(ctx)
	if err != nil {
		return fmt.Errorf("cannot take a snapshot: %w", err)
	}
	defer snapshot.Release()
	parts, err := snapshot.ScanParts(engine.ScanQuery{Types: record.Request.Types, SinceMilli: record.Request.Since.Milli})
	if err != nil {
		return fmt.Errorf("cannot list what to export: %w", err)
	}
	for i := range parts {
		j.total.Add(parts[i].Rows())
	}
	if record.Files, err = m.writeParts(ctx, j, dir, parts); err != nil {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("cannot sync %q: %w", dir, err)
	}
	record.At, record.Rows = at, j.rows.Load()
	return nil
}

// writeParts lets each worker stream parts into its own files.
func (m *Manager) writeParts(ctx context.Context, j *exportJob, dir string, parts []engine.ScanPart) ([]ExportFile, error) {
	var mu sync.Mutex // guards files
	var files []ExportFile
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for worker := range min(m.opts.Workers, len(parts)) {
		group.Go(func() error {
			sink := &exportSink{fs: m.opts.Store.FS(), dir: dir, worker: worker, room: func() error { return m.opts.Store.CheckRoom(dir) }}
			err := j.writeSome(ctx, sink, parts, &next)
			err = errors.Join(err, sink.close(err != nil))
			mu.Lock()
			defer mu.Unlock()
			files = append(files, sink.done...)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b ExportFile) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name)) })
	return files, nil
}

func (j *exportJob) writeSome(ctx context.Context, sink *exportSink, parts []engine.ScanPart, next *atomic.Int64) error {
	for {
		i := int(next.Add(1) - 1)
		if i >= len(parts) {
			return nil
		}
		err := parts[i].Run(ctx, func(v *engine.Version) error {
			j.rows.Add(1)
			return sink.write(v)
		})
		if err != nil {
			return fmt.Errorf("cannot export: %w", err)
		}
	}
}

// finishExport records how an export ended. One that was stopped by Close
// stays running in the catalog; a deleted one has no record any more.
func (m *Manager) finishExport(j *exportJob, record *exportRecord, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.exports, record.ID)
	if err != nil && isStop(err) {
		return
	}
	if _, gone := m.getExport(record.ID); gone != nil {
		return
	}
	record.State = Completed
	if err != nil {
		m.logger.Error("an export failed", "export", record.ID, "error", err)
		record.State, record.Files, record.Error = Failed, nil, exportFailure(err)
		if err := m.opts.Store.FS().RemoveAll(m.exportDir(record.ID)); err != nil {
			m.logger.Warn("cannot remove a failed export", "export", record.ID, "error", err)
		}
	}
	if err := m.putExport(record); err != nil {
		m.logger.Error("cannot record the end of an export", "export", record.ID, "error", err)
		m.keepRecord(jobKey(keyExport, record.ID), record)
	}
}

// exportFailure is failure with what to do about a full disk.
func exportFailure(err error) *RequestError {
	f := failure(err)
	if f.Status == 507 {
		f.Text = "there is no space left for the export's files"
	}
	return f
}

// ExportStatus tells how far an export is, and lists its files in the end.
func (m *Manager) ExportStatus(id int64) (*ExportStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.getExport(id)
	if err != nil {
		return nil, err
	}
	s := &ExportStatus{
		ID: id, State: r.State, TransactionTime: r.At, Request: r.Request.URL, Files: r.Files,
		RowsDone: r.Rows, RowsTotal: r.Rows, Error: r.Error,
	}
	if j := m.exports[id]; j != nil {
		s.RowsDone, s.RowsTotal = j.rows.Load(), j.total.Load()
	}
	return s, nil
}

// DeleteExport stops an export and removes its files; it is unknown from then
// on. What a crash in between leaves, the next start removes.
func (m *Manager) DeleteExport(id int64) error {
	m.mu.Lock()
	j, err := m.forgetExport(id)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if j != nil {
		j.cancel()
		<-j.stopped
	}
	if err := m.opts.Store.FS().RemoveAll(m.exportDir(id)); err != nil {
		return fmt.Errorf("cannot remove the files of export %d: %w", id, err)
	}
	return nil
}

// forgetExport takes the record away. The caller holds m.mu.
func (m *Manager) forgetExport(id int64) (*exportJob, error) {
	if _, err := m.getExport(id); err != nil {
		return nil, err
	}
	if err := m.opts.Store.CatalogDelete(jobKey(keyExport, id)); err != nil {
		return nil, fmt.Errorf("cannot delete export %d: %w", id, err)
	}
	delete(m.unrecorded, jobKey(keyExport, id))
	return m.exports[id], nil
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

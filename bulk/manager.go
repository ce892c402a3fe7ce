package bulk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"sync"
	"time"

	"kiln/engine"
	"kiln/fhir/parquet"
	"kiln/internal/vfs"
	"kiln/query"
)

// State of a job.
type State uint8

const (
	Running State = iota
	Completed
	Failed
	Cancelled
)

// InputResult is the outcome of one input, in request order.
type InputResult struct {
	Type      string `json:"type"` // "" is null in the answer
	URL       string
	Loaded    int64
	Refused   int64
	ErrorFile string // base name of its NDJSON error file; "" when none
	ErrorBlob string // its address in the blob account; "" when it is here only
}

// ImportStatus is what the status address tells.
type ImportStatus struct {
	ID              int64
	State           State
	TransactionTime time.Time // of the registration
	Request         string
	Inputs          []InputResult
	BytesDone       int64 // of BytesTotal (0: unknown), as stored (compressed) bytes
	BytesTotal      int64
	Waiting         bool          // for its turn
	Starting        bool          // for what is learned about the inputs before one is read
	Storing         bool          // its error files in the blob account
	NoRoom          bool          // it waits for room on the data disk
	Resting         bool          // until a server is started that is not read-only
	Error           *RequestError // for Failed
}

// Manager runs the jobs of one store.
type Manager struct {
	opts      Options
	logger    *slog.Logger
	addresses *addresses
	client    *httpClient
	ctx       context.Context
	stop      context.CancelFunc
	running   sync.WaitGroup
	importing chan struct{} // one token for each import that runs
	exporting chan struct{}
	// Sizes that tests make small.
	chunkBytes, lineBytes int
	// beforePublish is called when a round is resolved and sealed; tests write
	// to the store there. nil: nothing.
	beforePublish func()
	counters      importCounters
	readOnly      bool // the store was opened for reading
	turns         turns
	schemas       *parquet.Schemas // of exports
	staging       blobStaging      // of exports to the blob account
	ends          jobEnds

	mu      sync.Mutex // guards what follows, and every read-modify-write of the catalog
	closed  bool
	imports map[int64]*importJob // that run or wait to run
	exports map[int64]*exportJob
	// refusals are those of quotas.
	refusals QuotaRefusals
	// published are the exports of which the newest is published, with their instants.
	published map[int64]int64
	// unrecorded holds, by catalog key, how jobs ended that the catalog could
	// not be told about.
	unrecorded map[string][]byte
	// looked holds, by catalog key, the records of running imports whose status was
	// asked for: clients ask again and again. Only for reading; every write of a
	// record takes it out.
	looked map[string]*importRecord
}

// NewManager resumes what a former process left running.
func NewManager(ctx context.Context, opts Options) (*Manager, error) {
	if opts.Store == nil || opts.Now == nil || opts.NewID == nil {
		panic("BUG: Store, Now and NewID are required")
	}
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	if opts.ExportDir == "" {
		opts.ExportDir = path.Join(opts.Store.Dir(), exportsDir)
	}
	if info, err := opts.Store.FS().Stat(opts.ExportDir); err == nil && !info.IsDir {
		return nil, fmt.Errorf("cannot use export directory %q: it is not a directory", opts.ExportDir)
	}
	if opts.Parameters == nil {
		var err error
		if opts.Parameters, err = query.RegistryOfR4(); err != nil {
			return nil, err
		}
	}
	allowed, err := newAddresses(opts.ImportRoots, opts.ImportOrigins)
	if err != nil {
		return nil, err
	}
	if allowed.account, err = newAzureAccount(opts.Azure, opts.network()); err != nil {
		return nil, err
	}
	m := &Manager{
		schemas: parquet.NewSchemas(),
		opts:    opts, logger: opts.Logger, addresses: allowed, client: newHTTPClient(allowed, opts.network()),
		chunkBytes: chunkBytes, lineBytes: LineBytesMax,
		importing: make(chan struct{}, importsMax), exporting: make(chan struct{}, exportsMax),
		imports: make(map[int64]*importJob), exports: make(map[int64]*exportJob), published: make(map[int64]int64),
		unrecorded: make(map[string][]byte), looked: make(map[string]*importRecord),
		turns:   turns{most: opts.Workers, now: opts.Now},
		staging: blobStaging{sends: make(chan struct{}, blobSendsMax)},
	}
	if m.logger == nil {
		m.logger = slog.Default()
	}
	m.ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	opts.Store.ScrubAlso(m.scrubFiles)
	if m.readOnly = opts.Store.Health().OpenedReadOnly; m.readOnly {
		return m, m.loadPublished() // jobs stay as they are
	}
	return m, m.resume()
}

// resume starts the jobs that a former process left running.
func (m *Manager) resume() error {
	records, err := m.loadImports()
	if err != nil {
		return err
	}
	exports, err := m.loadExports()
	if err != nil {
		return err
	}
	if err := m.removeRemains(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		if err := m.launchImport(r); err != nil {
			return err
		}
	}
	for _, r := range exports {
		m.launchExport(r)
	}
	if m.opts.ExportExpiry > 0 {
		m.running.Add(1)
		go m.expireExports()
	}
	return nil
}

// takesJobs is why no new job can be taken; nil: it can. The caller holds m.mu.
func (m *Manager) takesJobs() error {
	switch {
	case m.closed:
		return engine.ErrClosed
	case m.readOnly:
		return engine.ErrOpenedReadOnly
	}
	return nil
}

// MakeWay tells when a client asked for something: for a moment after, the
// jobs leave it a core, if there are two.
func (m *Manager) MakeWay(at time.Time) {
	m.turns.makeWay(at)
}

// Close stops running jobs where they can go on later, and waits.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop()
	m.running.Wait()
	m.client.client.HTTPClient.CloseIdleConnections()
	m.addresses.account.closeIdle()
	return nil
}

// StartImport registers (or finds) the job and returns its id. An equal
// request finds the former job: a running or completed one as it is, a failed
// or cancelled one goes on from where it was.
func (m *Manager) StartImport(_ context.Context, r *ImportRequest) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.takesJobs(); err != nil {
		return 0, err
	}
	hash := importHash(r)
	id, err := m.findImport(hash)
	if err != nil {
		return 0, err
	}
	if id != 0 {
		return id, m.restartImport(id)
	}
	if err := m.checkJobs(r.Owner); err != nil {
		return 0, err
	}
	if id, err = m.nextJob(hash); err != nil {
		return 0, err
	}
	record := &importRecord{ID: id, Hash: hash, Created: m.opts.Now().UTC(), Request: *r}
	if err := m.putImport(record); err != nil {
		return 0, m.unregister(jobKey(keyImport, id), err)
	}
	if err := m.putImportHash(record); err != nil {
		return 0, m.unregister(jobKey(keyImport, id), fmt.Errorf("cannot register import %d: %w", id, err))
	}
	return id, m.launchImport(record)
}

// unregister takes a record away whose writing failed, since some of it may be there.
// The caller hears that nothing was registered, and will ask again: the job must not
// come to life at the next start beside that.
func (m *Manager) unregister(key string, err error) error {
	return errors.Join(err, m.opts.Store.CatalogDelete(key))
}

// restartImport lets a failed or cancelled job go on. The caller holds m.mu.
func (m *Manager) restartImport(id int64) error {
	record, err := m.getImport(id)
	if err != nil {
		return err
	}
	if record.State == Running && m.imports[id] == nil {
		return m.launchImport(record) // it failed, and the catalog could not be told
	}
	if record.State != Failed && record.State != Cancelled {
		return nil
	}
	record.State, record.Error, record.ErrorBlobs, record.Storing = Running, nil, nil, false
	if err := m.putImport(record); err != nil {
		return err
	}
	return m.launchImport(record)
}

// launchImport starts a job's goroutine. The caller holds m.mu. A cancelled
// job that is still ending is waited for first.
func (m *Manager) launchImport(record *importRecord) error {
	before := m.imports[record.ID]
	ending, abandon := context.WithCancel(m.ctx)
	ctx, cancel := context.WithCancel(ending)
	j := &importJob{id: record.ID, request: &record.Request, cancel: cancel, abandon: abandon, stopped: make(chan struct{})}
	m.imports[record.ID] = j
	m.running.Add(1)
	go func() {
		defer m.running.Done()
		defer abandon()
		defer close(j.stopped)
		if before != nil {
			before.abandon() // its error files will be stored by this one
			<-before.stopped
		}
		m.finishImport(ending, j, record, m.runImport(ctx, j, record))
	}()
	return nil
}

// runImport waits for its turn and runs.
func (m *Manager) runImport(ctx context.Context, j *importJob, record *importRecord) error {
	select {
	case m.importing <- struct{}{}:
		defer func() { <-m.importing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.prepareImport(j, record); err != nil || record.State == Cancelled {
		return err
	}
	return j.run(ctx)
}

// finishImport stores the error files of blobs and records how a job ended. One
// that was stopped by Close stays running in the catalog. ctx outlives the
// job's own, which ends with a cancel.
func (m *Manager) finishImport(ctx context.Context, j *importJob, record *importRecord, err error) {
	blobs, stopped := m.storeErrors(ctx, j, record)
	if stopped != nil {
		err = stopped // the next start has files to store
	}
	if m.recordImportEnd(j, err, blobs) {
		m.endProgress(j.id)
	}
}

// recordImportEnd tells whether the job is completed.
func (m *Manager) recordImportEnd(j *importJob, err error, blobs map[int]string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.imports[j.id] != j {
		// It was cancelled and started anew: the successor waits for this end,
		// goes on from what is published, and records its own.
		return false
	}
	delete(m.imports, j.id)
	delete(m.looked, jobKey(keyImport, j.id))
	if err != nil && isStop(err) && m.ctx.Err() != nil {
		return false
	}
	record, readErr := m.getImport(j.id)
	if readErr != nil {
		m.logger.Error("cannot record the end of an import", "import", j.id, "error", readErr)
		return false
	}
	if j.prepared {
		record.Result = j.published
	}
	record.ErrorBlobs, record.Storing = blobs, false
	defer m.tellImport(record)
	switch {
	case record.State == Cancelled:
	case err == nil:
		record.State = Completed
	default:
		record.State, record.Error = Failed, failure(err)
		m.opts.Store.NoteDamage(err)
		m.logger.Error("an import failed", "import", j.id, "error", err)
	}
	if err := m.putImport(record); err != nil {
		m.logger.Error("cannot record the end of an import", "import", j.id, "error", err)
		m.keepRecord(jobKey(keyImport, j.id), record)
		return false
	}
	return record.State == Completed
}

// endProgress lets the store forget a completed job's progress; the catalog
// has it. What fails here is done at the next start.
func (m *Manager) endProgress(id int64) {
	if m.opts.Store.Progress(uint64(id)) == nil {
		return
	}
	ingest, err := m.opts.Store.BeginIngest(m.ctx)
	if err == nil {
		err = errors.Join(ingest.Publish(m.ctx, uint64(id), nil, nil), ingest.Abandon())
	}
	if err != nil && !isStop(err) {
		m.logger.Warn("cannot end the progress of an import", "import", id, "error", err)
	}
}

// ImportStatus, CancelImport, ExportStatus and DeleteExport return a
// *RequestError 404 for an unknown id.
func (m *Manager) ImportStatus(id int64) (*ImportStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	record, err := m.lookAtImport(id)
	if err != nil {
		return nil, err
	}
	s := &ImportStatus{ID: id, State: record.State, TransactionTime: record.Created, Request: record.Request.URL, Error: record.Error}
	s.Resting = m.readOnly
	result := record.Result
	if j := m.imports[id]; j != nil {
		if p, ok := j.status(s); ok {
			result = p
		}
	}
	for i, in := range record.Request.Inputs {
		entry := InputResult{Type: in.Type, URL: in.URL}
		if i < len(result.Inputs) {
			entry.Loaded, entry.Refused = result.Inputs[i][progressLoaded], result.Inputs[i][progressRefused]
		}
		if entry.Refused > 0 {
			entry.ErrorFile, entry.ErrorBlob = errorFileName(id, i, in.Type), record.ErrorBlobs[i]
		}
		s.Inputs = append(s.Inputs, entry)
	}
	return s, nil
}

// CancelImport stops a running job; what it published stays.
func (m *Manager) CancelImport(id int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	record, err := m.getImport(id)
	if err != nil {
		return err
	}
	switch record.State {
	case Cancelled:
		return nil
	case Completed, Failed:
		return &RequestError{Status: 409, Code: "processing", Text: "Import operation has already completed"}
	}
	record.State = Cancelled
	j := m.imports[id]
	record.Storing = j != nil && m.addresses.account != nil
	if j != nil {
		if p, ok := j.status(new(ImportStatus)); ok {
			record.Result = p
		}
	}
	if err := m.putImport(record); err != nil {
		return err
	}
	if j != nil {
		j.cancel()
	}
	return nil
}

// WaitImport returns when the job is no longer running.
func (m *Manager) WaitImport(ctx context.Context, id int64) (*ImportStatus, error) {
	for {
		m.mu.Lock()
		j := m.imports[id]
		m.mu.Unlock()
		if j == nil {
			return m.ImportStatus(id)
		}
		select {
		case <-j.stopped:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func isNoSpace(err error) bool { return errors.Is(err, engine.ErrNoSpace) || vfs.IsNoSpace(err) }

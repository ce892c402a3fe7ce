package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"kiln/engine"
	"kiln/fhir"
)

// importJob is one import while it runs.
type importJob struct {
	id         int64
	manager    *Manager
	store      *engine.Store
	logger     *slog.Logger
	request    *ImportRequest
	hash       string // of the request
	workers    int
	roundBytes int64
	rules      lineRules
	errorFiles *errorFiles

	inputs     []inputFile // by number
	feed       *feed
	pending    chunk // taken from the feed, for the next round
	hasPending bool

	mu        sync.Mutex // guards prepared, published, total and probed; the job itself reads them without
	prepared  bool       // published is what the store has
	published progress
	total     int64
	probed    bool         // total is known, if it can be
	done      atomic.Int64 // stored bytes read

	storing atomic.Bool // error files in the blob account
	noRoom  atomic.Bool // it waits for room on the data disk

	cancel  context.CancelFunc // ends reading and loading
	abandon context.CancelFunc // ends that and what follows it
	stopped chan struct{}      // closed when the job runs no longer
}

// inputFile is what was learned about an input before anything was read.
type inputFile struct {
	source source // kept for remote inputs, which hold nothing open
	bytes  int64  // stored; -1: not told
	before int64  // stored bytes of the inputs before
	etag   string
}

// prepareImport reads where a job stands and fills in what it needs to run.
func (m *Manager) prepareImport(j *importJob, record *importRecord) error {
	published, err := parseProgress(m.opts.Store.Progress(uint64(record.ID)), len(record.Request.Inputs))
	if err != nil {
		return err
	}
	j.manager, j.store, j.logger = m, m.opts.Store, m.logger.With("import", record.ID)
	j.workers, j.hash = m.opts.Workers, record.Hash
	j.errorFiles = newErrorFiles(m.opts.Store.FS(), m.opts.Store.Dir(), record.ID)
	j.roundBytes = min(builderBytesMax*int64(j.workers), roundBytesMax)
	if m.opts.RoundBytes > 0 {
		j.roundBytes = m.opts.RoundBytes
	}
	j.rules = lineRules{mode: record.Request.Mode, structure: m.opts.ValidateStructure, now: func() int64 { return m.opts.Now().UnixMilli() }}
	for _, in := range record.Request.Inputs {
		j.rules.types = append(j.rules.types, fhir.TypeByName([]byte(in.Type)))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.published, j.prepared = published, true
	return nil
}

// run reads what is not yet published, round by round.
func (j *importJob) run(ctx context.Context) error {
	if j.published.Done {
		return nil
	}
	if err := checkContainer(j.request.ErrorContainer); err != nil {
		return err
	}
	if err := j.probe(ctx); err != nil {
		return err
	}
	if err := j.checkResumed(); err != nil {
		return err
	}
	if err := j.cutErrorFiles(); err != nil {
		return err
	}
	j.feed = newFeed(ctx, j.remaining(), j.feedOptions())
	defer j.feed.stop()
	for more := true; more; {
		err := j.store.AwaitMerges(ctx)
		if err != nil {
			return err
		}
		if more, err = j.runRound(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (j *importJob) feedOptions() feedOptions {
	unit := j.request.UnitBytes
	if unit == 0 {
		unit = UnitBytesDefault
	}
	return feedOptions{
		chunkBytes: j.manager.chunkBytes, lineBytes: j.manager.lineBytes, unitBytes: min(unit, UnitBytesMax),
		readers: min(readersMax, j.workers+1),
	}
}

// probe asks every input for its size and ETag before anything is loaded.
func (j *importJob) probe(ctx context.Context) error {
	j.inputs = make([]inputFile, len(j.request.Inputs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(probesMax)
	for i := range j.request.Inputs {
		group.Go(func() error { return j.probeInput(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	total := int64(0)
	known := true
	for i := range j.inputs {
		j.inputs[i].before = total
		total += max(j.inputs[i].bytes, 0)
		known = known && j.inputs[i].bytes >= 0
	}
	if !known {
		total = 0
	}
	j.mu.Lock()
	j.total, j.probed = total, true
	j.mu.Unlock()
	return nil
}

func (j *importJob) probeInput(ctx context.Context, i int) error {
	in := &j.request.Inputs[i]
	src, err := j.manager.openSource(ctx, in.URL)
	if err != nil {
		return err
	}
	if in.Etag != "" && !sameEtag(in.Etag, src.etag()) {
		return errors.Join(etagError(in.URL), src.Close())
	}
	j.inputs[i] = inputFile{bytes: src.bytes(), etag: src.etag()}
	if _, local := src.(*fileSource); !local {
		j.inputs[i].source = src
		return nil
	}
	return src.Close()
}

func etagError(address string) error {
	address = withoutSecrets(address)
	return &RequestError{Status: 400, Code: "conflict", Text: fmt.Sprintf(textEtag, address), Input: address}
}

// sameEtag compares with or without quotes, since storage tools print both.
func sameEtag(a, b string) bool { return b != "" && strings.Trim(a, `"`) == strings.Trim(b, `"`) }

// checkResumed refuses to go on in an input that is no longer what it was.
func (j *importJob) checkResumed() error {
	p := &j.published
	if len(p.Inputs) == 0 {
		return nil
	}
	i := len(p.Inputs) - 1
	if j.inputs[i].bytes != p.Bytes || j.inputs[i].etag != p.Etag {
		return etagError(j.request.Inputs[i].URL)
	}
	j.done.Store(j.inputs[i].before + p.Stored)
	return nil
}

// cutErrorFiles drops refused lines that were written but never counted.
func (j *importJob) cutErrorFiles() error {
	for i, in := range j.request.Inputs {
		var recorded int64
		if i < len(j.published.Inputs) {
			recorded = j.published.Inputs[i][progressErrorBytes]
		}
		if err := j.errorFiles.cutTo(errorFileName(j.id, i, in.Type), recorded); err != nil {
			return err
		}
	}
	return nil
}

// remaining lists the inputs from where the published rounds end.
func (j *importJob) remaining() []feedInput {
	first := max(len(j.published.Inputs)-1, 0)
	inputs := make([]feedInput, 0, len(j.request.Inputs)-first)
	for i := first; i < len(j.request.Inputs); i++ {
		inputs = append(inputs, feedInput{number: i, open: func(ctx context.Context) (source, error) { return j.open(ctx, i) }})
	}
	inputs[0].from = j.published.Offset
	return inputs
}

// open opens an input again and checks that it is what was probed.
func (j *importJob) open(ctx context.Context, i int) (source, error) {
	if j.inputs[i].source != nil {
		return j.inputs[i].source, nil
	}
	src, err := j.manager.openSource(ctx, j.request.Inputs[i].URL)
	var refused *RequestError
	if errors.As(err, &refused) && refused.Status == 404 {
		return nil, &RequestError{Status: 400, Code: "not-found", Text: textGone, Input: j.request.Inputs[i].URL}
	}
	if err != nil {
		return nil, err
	}
	if src.bytes() != j.inputs[i].bytes || src.etag() != j.inputs[i].etag {
		return nil, errors.Join(etagError(j.request.Inputs[i].URL), src.Close())
	}
	return src, nil
}

// advance moves the progress that a status shows to the end of a chunk.
func (j *importJob) advance(c *chunk) {
	at := j.inputs[c.input].before + c.stored
	for {
		old := j.done.Load()
		if at <= old {
			return
		}
		if j.done.CompareAndSwap(old, at) {
			j.manager.counters.stored.Add(uint64(at - old))
			return
		}
	}
}

func (j *importJob) setPublished(p progress) {
	j.mu.Lock()
	j.published = p
	j.mu.Unlock()
}

// status fills what only a running job knows. ok is false for one that waits
// for its turn.
func (j *importJob) status(s *ImportStatus) (p progress, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.BytesDone, s.BytesTotal = j.done.Load(), j.total
	s.Waiting, s.Storing, s.NoRoom = !j.prepared, j.storing.Load(), j.noRoom.Load()
	s.Starting = j.prepared && !j.probed && !s.Storing
	if s.BytesTotal > 0 {
		s.BytesDone = min(s.BytesDone, s.BytesTotal)
	}
	return j.published.clone(), j.prepared
}

// Texts of a container name that Azure would not take.
const (
	textContainerLength = "The error container name must be between 3 and 63 characters long."
	textContainerName   = "Error container name contains invalid characters. Only lowercase letters, numbers, and hyphens are allowed. The name must begin and end with a letter or a number. The name can't contain two consecutive hyphens."
)

// checkContainer applies the naming rules. They hold for jobs that store nothing
// in a container, too.
func checkContainer(name string) error {
	if name == "" {
		return nil
	}
	if len(name) < 3 || len(name) > 63 {
		return badRequest(textContainerLength)
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (c != '-' || i == 0 || i == len(name)-1 || name[i-1] == '-') {
			return badRequest(textContainerName)
		}
	}
	return nil
}

// failure words why a job ended, for its status.
func failure(err error) *RequestError {
	var refused *RequestError
	switch {
	case errors.As(err, &refused):
		return refused
	case isNoSpace(err):
		return &RequestError{Status: 507, Code: "no-store", Text: "there is no space left on the server's data disk; what was published stays, and the same request goes on when there is room"}
	case errors.Is(err, engine.ErrReadOnly), errors.Is(err, engine.ErrOutcomeUnknown), errors.Is(err, engine.ErrClosed):
		return &RequestError{Status: 503, Code: "transient", Text: "the server takes no writes at the moment"}
	case errors.Is(err, errBomb), errors.Is(err, io.ErrUnexpectedEOF):
		return &RequestError{Status: 400, Code: "invalid", Text: err.Error()}
	}
	return &RequestError{Status: 500, Code: "exception", Text: err.Error()}
}

// ImportBytes tells how much of its inputs a running import has read, as stored;
// both are 0 for one that does not run. It costs nothing, however many inputs.
func (m *Manager) ImportBytes(id int64) (done, total int64) {
	m.mu.Lock()
	j := m.imports[id]
	m.mu.Unlock()
	if j == nil {
		return 0, 0
	}
	var s ImportStatus
	j.status(&s)
	return s.BytesDone, s.BytesTotal
}

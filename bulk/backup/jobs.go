package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

// JobsOptions: Store, FS, Kiln and Now are required.
type JobsOptions struct {
	Store *engine.Store
	FS    vfs.FS // of the store and of directories
	// Roots are the directories and blob addresses at or below which a client may
	// have a backup written; none: nowhere.
	Roots  []string
	Azure  bulk.AzureOptions // of targets that are blobs
	Kiln   string
	Now    func() time.Time
	Logger *slog.Logger // nil: slog.Default()
}

// Jobs are the backups that clients of a server asked for, one at a time. One that
// was cut off is asked for again.
type Jobs struct {
	opts   JobsOptions
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	last  int64      // the highest number in the catalog
	known map[int64]*job

	// Of the last backup that ended well; 0: none did.
	succeeded, copied atomic.Int64
	failures          atomic.Int64
}

// jobsKnownMax backups can be asked about: enough for some months of one a day.
const jobsKnownMax = 100

type job struct {
	cancel      context.CancelFunc
	done, total atomic.Int64
	// The rest is guarded by Jobs.mu.
	record
	ended     bool
	cancelled bool // by its client
}

// Status is how a backup is doing.
type Status struct {
	Running           bool
	BytesDone, Expect int64   // while it runs; Expect may grow
	Result            *Result // when it ended well
	Err               error   // when it did not
}

// NewJobs checks the roots, and reads what former processes were asked for.
func NewJobs(opts JobsOptions) (*Jobs, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	for _, root := range opts.Roots {
		if IsBlobAddress(root) {
			if _, err := bulk.OpenBlobFolder(root, opts.Azure); err != nil {
				return nil, fmt.Errorf("cannot allow backups to %q: %w", root, err)
			}
		} else if !filepath.IsAbs(root) {
			return nil, fmt.Errorf("cannot allow backups to %q: want an absolute path or the address of a blob container", root)
		}
	}
	j := &Jobs{opts: opts, known: map[int64]*job{}}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	return j, j.load()
}

// Close stops the backup under way, which leaves what the next one goes on from.
func (j *Jobs) Close() {
	j.cancel()
	j.work.Wait()
}

func refused(status int, code, format string, args ...any) *bulk.RequestError {
	return &bulk.RequestError{Status: status, Code: code, Text: fmt.Sprintf(format, args...)}
}

// asked is a Parameters resource.
type asked struct {
	ResourceType string `json:"resourceType"`
	Parameter    []struct {
		Name         string       `json:"name"`
		ValueString  string       `json:"valueString"`
		ValueInteger *json.Number `json:"valueInteger"`
	} `json:"parameter"`
}

// Start begins the backup that a Parameters resource asks for: target (valueString,
// as kiln backup takes it) and maybe rate (valueInteger, bytes a second). It is in the
// catalog on return. *bulk.RequestError; other errors are of the catalog.
func (j *Jobs) Start(body []byte) (int64, error) {
	target, rate, err := j.parse(body)
	if err != nil {
		return 0, err
	}
	to, err := OpenTarget(j.opts.FS, target, j.opts.Azure)
	if err != nil {
		return 0, refused(400, "invalid", "%s", err.Error())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ctx.Err() != nil {
		return 0, refused(503, "transient", "The server is stopping.")
	}
	for id, other := range j.known {
		if !other.ended {
			return 0, refused(409, "conflict", "Backup %d is running; there is one at a time.", id)
		}
	}
	b := &job{record: record{ID: j.last + 1, Target: to.String(), Asked: j.opts.Now().UTC()}}
	kept, err := j.put(&b.record)
	if err != nil {
		return 0, errors.Join(err, j.opts.Store.CatalogDelete(recordKey(b.ID))) // some of it may be there
	}
	if kept {
		j.last++
	} else {
		b.ID = j.unkept()
	}
	j.known[b.ID] = b
	j.forget()
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(j.ctx)
	j.work.Go(func() { j.run(ctx, b, to, rate) })
	return b.ID, nil
}

func (j *Jobs) parse(body []byte) (target string, rate int64, err error) {
	if len(j.opts.Roots) == 0 {
		return "", 0, refused(403, "forbidden", "This server writes no backups: start it with --backup-root.")
	}
	var parameters asked
	if err := json.Unmarshal(body, &parameters); err != nil || parameters.ResourceType != "Parameters" {
		return "", 0, refused(400, "invalid", "The body is no Parameters resource with the parameter target.")
	}
	for _, p := range parameters.Parameter {
		switch {
		case p.Name == "target" && p.ValueString != "" && target == "":
			target = p.ValueString
		case p.Name == "rate" && p.ValueInteger != nil:
			if rate, err = strconv.ParseInt(p.ValueInteger.String(), 10, 64); err != nil || rate < 1 {
				return "", 0, refused(400, "invalid", "The parameter rate is no number of bytes a second.")
			}
		default:
			return "", 0, refused(400, "invalid", "The parameter %q is not known, given twice, or lacks its value: want target (valueString) and maybe rate (valueInteger).", p.Name)
		}
	}
	if target == "" {
		return "", 0, refused(400, "required", "The parameter target (valueString) is missing: a directory, or the address of a blob container.")
	}
	if !j.allows(target) {
		return "", 0, refused(403, "forbidden", "Backups to %s are not allowed: the target must be at or below a --backup-root of the server.", target)
	}
	return target, rate, nil
}

// allows tells whether a target is at or below a root.
func (j *Jobs) allows(target string) bool {
	for _, root := range j.opts.Roots {
		if IsBlobAddress(root) != IsBlobAddress(target) {
			continue
		}
		if IsBlobAddress(root) {
			root, target := strings.TrimRight(root, "/"), strings.TrimRight(target, "/")
			if target == root || strings.HasPrefix(target, root+"/") {
				return true // OpenBlobFolder refuses ".." and the like
			}
			continue
		}
		if filepath.IsAbs(target) && isAtOrBelow(realPath(root), realPath(target)) {
			return true
		}
	}
	return false
}

func isAtOrBelow(root, path string) bool {
	return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/")
}

// realPath follows the symbolic links of what is there of a path.
func realPath(path string) string {
	path = filepath.Clean(path)
	for at, rest := path, ""; ; {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		parent := filepath.Dir(at)
		if parent == at {
			return path
		}
		at, rest = parent, filepath.Join(filepath.Base(at), rest)
	}
}

func (j *Jobs) run(ctx context.Context, b *job, to Target, rate int64) {
	defer b.cancel()
	logger := j.opts.Logger.With("backup", b.ID, "target", b.Target)
	logger.Info("a backup begins")
	result, err := Run(ctx, Options{
		Store: j.opts.Store, FS: j.opts.FS, Target: to, Kiln: j.opts.Kiln,
		Pace: Pace{BytesPerSecond: rate, Now: j.opts.Now, Sleep: Sleep, Progress: func(done, total int64) {
			b.done.Store(done)
			b.total.Store(total)
		}},
	})
	j.end(b, result, err, logger)
}

// end makes a job's end known, in the catalog first.
func (j *Jobs) end(b *job, result *Result, err error, logger *slog.Logger) {
	j.mu.Lock()
	ended, cancelled := b.record, b.cancelled
	j.mu.Unlock()
	stopped := j.ctx.Err() != nil
	switch {
	case err == nil:
		ended.Result = result
		j.succeeded.Store(j.opts.Now().Unix())
		j.copied.Store(result.BytesCopied)
		logger.Info("a backup is made", "id", result.ID, "lsn", result.LSN, "bytes copied", result.BytesCopied, "warnings", result.Warnings)
	case cancelled:
		ended.Error = refused(400, "processing", "The backup was cancelled; the next one goes on from what it copied.")
		logger.Info("a backup was cancelled")
	case stopped: // the next start finds it as a crash leaves it
		ended.Error = refused(503, "transient", "The server is stopping.")
		logger.Info("a backup was stopped")
	default:
		j.failures.Add(1)
		ended.Error = wordFailure(err)
		logger.Error("a backup failed", "error", err)
	}
	if err == nil || cancelled || !stopped {
		if _, err := j.put(&ended); err != nil {
			logger.Error("the end of a backup is not in the job catalog: after a restart it counts as cut off", "error", err)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	b.record, b.ended = ended, true
}

// wordFailure tells the operator what a backup failed for: it is the operator who asked.
func wordFailure(err error) *bulk.RequestError {
	switch {
	case errors.Is(err, ErrBusy):
		return refused(409, "conflict", "%s.", err.Error())
	case errors.Is(err, engine.ErrNoSpace), vfs.IsNoSpace(err):
		return refused(507, "no-store", "%s.", err.Error())
	}
	return refused(500, "exception", "The backup failed: %s.", err.Error())
}

func (j *Jobs) find(id int64) (*job, error) {
	b := j.known[id]
	if b == nil {
		return nil, refused(404, "not-found", "The requested backup %d was not found. A server knows the last %d that were asked for; kiln backup --list shows what a target has.", id, jobsKnownMax)
	}
	return b, nil
}

// Status tells how a backup is doing. *bulk.RequestError 404.
func (j *Jobs) Status(id int64) (*Status, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b, err := j.find(id)
	if err != nil {
		return nil, err
	}
	status := &Status{Running: !b.ended, BytesDone: b.done.Load(), Expect: b.total.Load(), Result: b.Result}
	if b.Error != nil {
		status.Err = b.Error
	}
	return status, nil
}

// Cancel stops a backup that runs. *bulk.RequestError 404, 409.
func (j *Jobs) Cancel(id int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	b, err := j.find(id)
	if err != nil {
		return err
	}
	if b.ended {
		return refused(409, "conflict", "Backup %d has ended.", id)
	}
	b.cancelled = true
	b.cancel()
	return nil
}

// Metrics of backups since the process began.
type Metrics struct {
	Running   bool
	BytesDone int64 // of the one that runs
	// Of the last one that ended well: Unix seconds, 0: none, and the bytes copied.
	LastSuccess, LastBytes int64
	Failures               int64
}

// Metrics reads the counters.
func (j *Jobs) Metrics() Metrics {
	m := Metrics{LastSuccess: j.succeeded.Load(), LastBytes: j.copied.Load(), Failures: j.failures.Load()}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, b := range j.known {
		if !b.ended {
			m.Running, m.BytesDone = true, b.done.Load()
		}
	}
	return m
}

package engine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

// Options are explicit. FS, Dir, Now and NewID are required.
type Options struct {
	FS    vfs.FS
	Dir   string
	Now   func() time.Time
	NewID func() uint64 // random numbers for ids; seeded in tests
	// Logger gets the background loops' failures; nil is slog.Default().
	Logger        *slog.Logger
	SegmentBytes  int64 // of the log; 0: default 64 MiB
	HeadBytes     int64 // of log before the head is flushed; 0: default 64 MiB
	CacheBytes    int64 // decoded blocks; 0: default 128 MiB
	FreeBytesMin  int64 // writes are refused below; 0: default 256 MiB, negative: never
	PrepareInline bool  // deterministic background work, for simulations
	CatalogInMem  bool  // the job catalog is not kept, for simulations
}

// Errors that callers tell apart with errors.Is / errors.As.
var (
	ErrNotFound       = errors.New("not found")
	ErrPrecondition   = errors.New("the precondition does not hold")
	ErrNoSpace        = errors.New("no space left on the data disk")
	ErrOutcomeUnknown = errors.New("the outcome of the write is unknown")
	ErrReadOnly       = errors.New("the store takes no writes")
	ErrClosed         = errors.New("the store is closed")
	ErrTooLarge       = errors.New("the resource is too large")
	// Refusals of Open.
	ErrLocked      = errors.New("the data directory is in use by another process")
	ErrForeign     = errors.New("the directory is not a Kiln data directory")
	ErrNewerFormat = errors.New("the data directory was written by a newer Kiln")
)

// Store is one open data directory. Safe for concurrent use.
type Store struct{}

// Open recovers the data directory, making it when it is missing or empty.
func Open(ctx context.Context, opts Options) (*Store, error) { panic("skeleton") }

// Close stops background work, and releases the lock. Snapshots must be released before.
func (s *Store) Close() error { panic("skeleton") }

// Change is one write of a Commit. Body, IDAt and Splice come from a scan.
type Change struct {
	Type   fhir.TypeCode
	ID     []byte
	IDAt   uint32
	Body   []byte // for a delete: nil (the store writes a stub of resourceType and id)
	Splice fhir.Splice
	Delete bool
	If     Precondition
}

// Precondition limits a Change; the zero value is none.
type Precondition struct {
	Absent     bool  // no live version: create
	Present    bool  // some live version
	Version    int64 // the current version's id, when HasVersion
	HasVersion bool
}

// Committed is what became of a Change.
type Committed struct {
	VersionID   int64
	LastUpdated fhir.Instant
	Created     bool // there was no version, or the current one was deleted
	Unchanged   bool // same content, or delete of nothing: no new version
	LSN         uint64
}

// Commit writes all changes or none, durable on return. A failed
// precondition is a *ConflictError that wraps ErrPrecondition.
func (s *Store) Commit(ctx context.Context, changes []Change) ([]Committed, error) { panic("skeleton") }

// ConflictError says which change failed and what is current (0: nothing).
type ConflictError struct {
	Index          int
	CurrentVersion int64
	CurrentDeleted bool
}

func (e *ConflictError) Error() string { return ErrPrecondition.Error() }
func (e *ConflictError) Unwrap() error { return ErrPrecondition }

// Version is one version as read. The slices belong to the caller, except in
// callbacks, where they hold until the callback returns.
type Version struct {
	Type        fhir.TypeCode
	ID          []byte
	VersionID   int64
	LastUpdated fhir.Instant
	LSN         uint64
	Deleted     bool
	Body        []byte
	Splice      fhir.Splice
}

// AppendJSON appends the resource as it is served: meta.versionId and
// meta.lastUpdated spliced into the body.
func (v *Version) AppendJSON(dst []byte) []byte { panic("skeleton") }

// Snapshot is the newest visible LSN with everything needed to read at it,
// however long. Release it soon: it holds log segments and runs on disk.
func (s *Store) Snapshot() (*Snapshot, error) { panic("skeleton") }

// SnapshotAt is Snapshot plus its instant: no version it shows is dated later
// by this server's clock, and every version this server dates later is not
// in it. It waits for imports that are being sealed. Exports use it.
func (s *Store) SnapshotAt(ctx context.Context) (*Snapshot, fhir.Instant, error) { panic("skeleton") }

type Snapshot struct{}

func (n *Snapshot) LSN() uint64 { panic("skeleton") }
func (n *Snapshot) Release()    { panic("skeleton") }

// Get reads the current version, which may be a deleted one. ErrNotFound.
func (n *Snapshot) Get(t fhir.TypeCode, id []byte) (Version, error) { panic("skeleton") }

// Vread reads one version. ErrNotFound.
func (n *Snapshot) Vread(t fhir.TypeCode, id []byte, versionID int64) (Version, error) {
	panic("skeleton")
}

// HistoryQuery selects versions, newest lastUpdated first.
type HistoryQuery struct {
	Type        fhir.TypeCode // 0: the whole system
	ID          []byte        // with Type: one resource
	SinceMilli  int64         // lastUpdated >= ; 0: no bound
	BeforeMilli int64         // lastUpdated < ; 0: no bound
	Count       int           // at most this many
	After       HistoryCursor // zero: from the newest
	LSN         uint64        // only versions committed up to it; 0: the snapshot's
}

// HistoryCursor is a place in a history that stays right across flushes and restarts:
// Skip versions of the group (Milli, LSN) were already delivered.
type HistoryCursor struct {
	Milli int64
	LSN   uint64
	Skip  uint32
}

// History calls fn for each version. next is where the following page starts;
// more is false at the end. ErrNotFound for an ID that never was.
func (n *Snapshot) History(ctx context.Context, q HistoryQuery, fn func(*Version) error) (next HistoryCursor, more bool, err error) {
	panic("skeleton")
}

// HistoryTotal counts what History without Count would deliver.
func (n *Snapshot) HistoryTotal(ctx context.Context, q HistoryQuery) (int64, error) {
	panic("skeleton")
}

// ScanQuery selects current, not deleted versions.
type ScanQuery struct {
	Types      []fhir.TypeCode // empty: all
	SinceMilli int64           // lastUpdated >= ; 0: no bound
}

// ScanPart is a piece of a scan that one worker streams in file order.
type ScanPart struct{}

// ScanParts cuts a scan into independent parts (one a run and one for the head).
func (n *Snapshot) ScanParts(q ScanQuery) ([]ScanPart, error) { panic("skeleton") }

// Rows counts the versions the part will deliver.
func (p *ScanPart) Rows() uint64 { panic("skeleton") }

// Run streams them; each block is read and decoded once.
func (p *ScanPart) Run(ctx context.Context, fn func(*Version) error) error { panic("skeleton") }

// Stats are counts and sizes for metrics, demo and fsck.
type Stats struct {
	Versions, Runs, HeadVersions           uint64
	LogBytes, RunBytes, HeadBytes          int64
	CommitGroups, Commits, FsyncNanosTotal uint64
	Stalls                                 uint64
	VisibleLSN                             uint64
	ReadOnly                               bool
}

func (s *Store) Stats() Stats { panic("skeleton") }

// ---- bulk import ----

// Place says where a version lies, for marking it superseded.
type Place struct {
	Run     index.RunID // 0: the head
	Ordinal index.Ordinal
}

// KeyVersion is one known version of a key.
type KeyVersion struct {
	VersionID   int64
	LastUpdated fhir.Instant
	Deleted     bool
	Current     bool
	Place       Place
}

// KeyLookup looks up many keys in ascending order: filters first, then a merge-join.
type KeyLookup struct{}

func (n *Snapshot) KeyLookup() *KeyLookup { panic("skeleton") }

// Versions returns every version of key (index.AppendKey), highest VersionID
// first; the slice holds until the next call. Keys must ascend.
func (k *KeyLookup) Versions(key []byte) ([]KeyVersion, error) { panic("skeleton") }

// BodyAt reads the body of a KeyVersion of this key.
func (n *Snapshot) BodyAt(key []byte, v KeyVersion) (Version, error) { panic("skeleton") }

// NewRun makes a builder for a run of this store with a fresh id.
func (s *Store) NewRun() (*index.Builder, error) { panic("skeleton") }

// BeginIngest takes the instant that the round's undated lines get and the
// snapshot it is resolved against; SnapshotAt waits until the Ingest is
// published or abandoned.
func (s *Store) BeginIngest(ctx context.Context) (*Ingest, error) { panic("skeleton") }

// Ingest is one round of a bulk import on its way into the store.
type Ingest struct{}

func (g *Ingest) Instant() fhir.Instant { panic("skeleton") }
func (g *Ingest) Snapshot() *Snapshot   { panic("skeleton") }

// Add adds a sealed run with the ordinals that are not current in it from the start.
func (g *Ingest) Add(meta index.RunMeta, superseded *roaring.Bitmap) error { panic("skeleton") }

// Supersede marks a version of the snapshot as no longer current.
func (g *Ingest) Supersede(key []byte, p Place) { panic("skeleton") }

// Conflict is a key of the round's runs that somebody else wrote after the snapshot.
type Conflict struct {
	Key      []byte
	Versions []KeyVersion // as they are now, highest first
	Rows     []ConflictRow
}

// ConflictRow is one row of the key in the round's runs, in arrival order per run. The
// callback sets Drop (the row vanishes) or a new VersionID and LastUpdated.
type ConflictRow struct {
	Place       Place
	Row         index.Row
	Stored      index.Stored
	Drop        bool
	VersionID   int64
	LastUpdated fhir.Instant
}

// Publish makes the round visible, whole, with one INGEST record that also
// holds the job's progress. resolve is called in the commit slot when there
// are conflicts (rows it keeps are re-written under their new version in the
// same record); progress is called last and its bytes become Progress(job).
// nil progress ends the job's entry. Publish with no runs only records progress.
func (g *Ingest) Publish(ctx context.Context, job uint64, resolve func([]Conflict) error, progress func() []byte) error {
	panic("skeleton")
}

// Abandon gives up the round: its sealed runs are removed.
func (g *Ingest) Abandon() error { panic("skeleton") }

// Progress is the last published progress of a job; nil when there is none.
func (s *Store) Progress(job uint64) []byte { panic("skeleton") }

// ---- catalog of jobs: a small key-value store with synchronous writes ----

func (s *Store) CatalogPut(key string, value []byte) error { panic("skeleton") }
func (s *Store) CatalogGet(key string) ([]byte, error)     { panic("skeleton") }
func (s *Store) CatalogDelete(key string) error            { panic("skeleton") }
func (s *Store) CatalogList(prefix string, fn func(key string, value []byte) error) error {
	panic("skeleton")
}

// Flush moves the head into a run now, checkpoints and trims the log.
func (s *Store) Flush(ctx context.Context) error { panic("skeleton") }

// Dir is the data directory, and FS what it lies on.
func (s *Store) Dir() string { panic("skeleton") }
func (s *Store) FS() vfs.FS  { panic("skeleton") }

// Problem is damage that Fsck found.
type Problem struct {
	File   string
	Offset int64
	What   string
}

// Fsck reads every byte of a data directory that no server has open.
func Fsck(ctx context.Context, fs vfs.FS, dir string, report func(Problem)) error { panic("skeleton") }

var _ = wal.LSN(0)

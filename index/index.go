package index

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// Ordinal is the position of a version inside its run, from 0, in arrival order.
type Ordinal uint32

// RunID names a run for ever; file "%016x.run". Ids rise in publishing order.
type RunID uint64

// Param is the number of a search parameter in term keys. Numbers are on disk
// and never reused.
type Param uint16

const (
	ParamLastUpdated Param = 1 // value: AppendMilli; written by the Builder itself from the rows
	ParamType        Param = 2 // value: TypeCode big endian; written by the Builder itself
	ParamDeleted     Param = 3 // empty value: deleted versions; written by the Builder itself
	ParamReference   Param = 4 // value: the reference's text, every Reference.reference at any depth
)

// Flags of a row.
type Flags uint8

const FlagDeleted Flags = 1

// Row is what the columns hold of one version.
type Row struct {
	Type        fhir.TypeCode
	VersionID   int64
	LastUpdated fhir.Instant
	// LSN is when the version was committed; 0 in a Builder's row stands for
	// the LSN of the record that publishes the run.
	LSN   uint64
	Flags Flags
}

// Stored is one version's body in a run. The slices alias a decoded block and
// hold until the callback returns, or for ever when returned by Body.
type Stored struct {
	ID     []byte
	Body   []byte
	Splice fhir.Splice
}

// Found is one version of a looked-up key.
type Found struct {
	VersionID int64
	Ordinal   Ordinal
}

// RunMeta describes a sealed run; it is what the log and the checkpoint keep.
type RunMeta struct {
	ID           RunID
	Bytes        int64
	Hash         uint64 // xxh64 of the whole file, as the footer has it
	Rows         uint32 // ordinals, dropped ones included
	Live         uint32 // ordinals that were not dropped
	MilliMin     int64  // lastUpdated range of live rows
	MilliMax     int64
	BodyBytesRaw int64
}

// AppendKey appends the order-preserving key of a resource: type big endian,
// then the id (lower-case UUIDs packed into 16 bytes), self-delimiting.
func AppendKey(dst []byte, t fhir.TypeCode, id []byte) []byte { panic("skeleton") }

// KeyHash is the hash the filters use.
func KeyHash(key []byte) uint64 { panic("skeleton") }

// AppendMilli appends UTC milliseconds so that byte order is time order.
func AppendMilli(dst []byte, milli int64) []byte { panic("skeleton") }

// BuilderOptions are explicit.
type BuilderOptions struct {
	FS  vfs.FS
	Dir string // runs are made here as "%016x.run.tmp" and renamed by Seal
	ID  RunID
}

// Builder writes one run, front to back. Not safe for concurrent use. Steps:
// (AddTerm* Append)*, then SortKeys, Keys, SetRow or Drop for every ordinal,
// then Seal. Its memory is about MemoryBytes: bodies go to disk as they come.
type Builder struct{}

func NewBuilder(opts BuilderOptions) (*Builder, error) { panic("skeleton") }

// AddTerm adds a term of the version whose Append comes next. value is copied.
func (b *Builder) AddTerm(p Param, value []byte) { panic("skeleton") }

// DiscardTerms forgets the terms added since the last Append (the line was refused).
func (b *Builder) DiscardTerms() { panic("skeleton") }

// Append adds one version's body. idAt is the offset of the id's text inside body.
func (b *Builder) Append(t fhir.TypeCode, id []byte, idAt uint32, body []byte, sp fhir.Splice) (Ordinal, error) {
	panic("skeleton")
}

// Rows counts the ordinals so far; MemoryBytes what the builder holds in memory.
func (b *Builder) Rows() int          { panic("skeleton") }
func (b *Builder) MemoryBytes() int64 { panic("skeleton") }

// SortKeys sorts the rows by (key, ordinal); no Append may follow.
func (b *Builder) SortKeys() { panic("skeleton") }

// Keys calls fn for each row in (key, ordinal) order until it returns false.
// A pull form for k-way merges: KeyCursor.
func (b *Builder) KeyCursor() *KeyCursor { panic("skeleton") }

// KeyCursor walks a Builder's sorted keys.
type KeyCursor struct{}

// Next advances; false at the end. Key aliases the builder's memory.
func (c *KeyCursor) Next() bool       { panic("skeleton") }
func (c *KeyCursor) Key() []byte      { panic("skeleton") }
func (c *KeyCursor) Ordinal() Ordinal { panic("skeleton") }

// SetRow gives an ordinal its columns (Type is already known from Append).
// Drop makes it a hole: no key, no terms, no row; its body stays in its block.
func (b *Builder) SetRow(o Ordinal, r Row) { panic("skeleton") }
func (b *Builder) Drop(o Ordinal)          { panic("skeleton") }

// Body reads back an appended body (from the open block or from disk), for
// content comparison while resolving.
func (b *Builder) Body(o Ordinal) (Stored, error) { panic("skeleton") }

// Seal writes key table, columns, terms and footer, fsyncs, renames and syncs
// the directory. The run becomes visible only when the engine publishes it.
func (b *Builder) Seal(ctx context.Context) (RunMeta, error) { panic("skeleton") }

// Abort removes the unfinished file.
func (b *Builder) Abort() error { panic("skeleton") }

// Cache holds decoded blocks of all runs, bounded by bytes.
type Cache struct{}

func NewCache(bytesMax int64) *Cache { panic("skeleton") }

// Run is an open, immutable run. All methods are safe for concurrent use, and
// every block's checksum is verified on every read from disk; damage is a
// *vfs.CorruptError, never "not found".
type Run struct{}

// OpenRun checks the footer against meta (size, hash field, counts); it does
// not read the whole file (Verify does). publishLSN stands for rows whose LSN is 0.
func OpenRun(fs vfs.FS, dir string, meta RunMeta, publishLSN uint64, cache *Cache) (*Run, error) {
	panic("skeleton")
}
func (r *Run) Meta() RunMeta { panic("skeleton") }
func (r *Run) Close() error  { panic("skeleton") }

// MayContain asks the filter. No false negatives.
func (r *Run) MayContain(keyHash uint64) bool { panic("skeleton") }

// Lookup appends every version of key, highest VersionID first.
func (r *Run) Lookup(dst []Found, key []byte) ([]Found, error) { panic("skeleton") }

// LookupCursor is Lookup for many ascending keys: it keeps its key block.
func (r *Run) LookupCursor() *LookupCursor { panic("skeleton") }

type LookupCursor struct{}

func (c *LookupCursor) Lookup(dst []Found, key []byte) ([]Found, error) { panic("skeleton") }

// Row reads the columns of one ordinal; a dropped ordinal is an error.
func (r *Run) Row(o Ordinal) (Row, error) { panic("skeleton") }

// Body reads one body through the cache.
func (r *Run) Body(o Ordinal) (Stored, error) { panic("skeleton") }

// Scan streams the given ordinals in file order, each block read and decoded
// once, bypassing the cache. The Row comes with each.
func (r *Run) Scan(ctx context.Context, want *roaring.Bitmap, fn func(Ordinal, Row, Stored) error) error {
	panic("skeleton")
}

// Live is the set of ordinals that were not dropped. Shared: do not modify.
func (r *Run) Live() *roaring.Bitmap { panic("skeleton") }

// Postings is the set of ordinals that have the term; empty when none has.
func (r *Run) Postings(p Param, value []byte) (*roaring.Bitmap, error) { panic("skeleton") }

// Range ORs the postings of all terms of p with from <= value < to (nil: open).
func (r *Run) Range(p Param, from, to []byte) (*roaring.Bitmap, error) { panic("skeleton") }

// Terms returns a cursor over the terms of p in value order.
func (r *Run) Terms(p Param) *TermCursor { panic("skeleton") }

// TermCursor walks neighbouring terms either way. Start with SeekGE, SeekLT, First or Last.
type TermCursor struct{}

func (c *TermCursor) SeekGE(value []byte) bool           { panic("skeleton") }
func (c *TermCursor) SeekLT(value []byte) bool           { panic("skeleton") }
func (c *TermCursor) First() bool                        { panic("skeleton") }
func (c *TermCursor) Last() bool                         { panic("skeleton") }
func (c *TermCursor) Next() bool                         { panic("skeleton") }
func (c *TermCursor) Prev() bool                         { panic("skeleton") }
func (c *TermCursor) Value() []byte                      { panic("skeleton") }
func (c *TermCursor) Postings() (*roaring.Bitmap, error) { panic("skeleton") }
func (c *TermCursor) Err() error                         { panic("skeleton") }

// Verify reads every byte of a run file and checks everything that can be
// checked; it calls report for each problem and goes on.
func Verify(ctx context.Context, fs vfs.FS, dir string, id RunID, report func(*vfs.CorruptError)) error {
	panic("skeleton")
}

package parquet

import (
	"fmt"
	"io"
	"strconv"
	"sync"

	lib "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"kiln/fhir"
)

const (
	// A row group ends with either: what a writer holds in memory is of their
	// order. Values that are missing count, since the library holds 6 bytes of each:
	// wide types have hundreds of them in a row.
	rowGroupBytes  = 16 << 20
	rowGroupValues = 4 << 20
	// Rows are handed to the library in batches, column by column: row by row it
	// takes twice as long. A batch ends with either.
	batchRows  = 64
	batchBytes = 1 << 20
	// pageBytes of one column make a page.
	pageBytes = 64 << 10
	// dictionaryBytesMax is where a column's dictionary ends and plain texts begin.
	dictionaryBytesMax = 256 << 10
)

// Schemas makes the columns of each type once. Safe for concurrent use.
type Schemas struct {
	codec compress.Codec
	mu    sync.Mutex
	types [fhir.TypeMax + 1]*schema
}

// NewSchemas has none yet.
func NewSchemas() *Schemas { return &Schemas{codec: &zstd.Codec{Level: zstd.SpeedFastest}} }

// schema is immutable.
type schema struct {
	root *column
	lib  *lib.Schema
}

func (s *Schemas) of(t fhir.TypeCode) *schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.types[t] == nil {
		root := typeColumns(t.String())
		s.types[t] = &schema{root, lib.NewSchema(t.String(), root.members(s.codec))}
	}
	return s.types[t]
}

// Writer writes one file.
type Writer struct {
	schema   *schema
	lib      *lib.GenericWriter[any]
	counter  countingWriter
	shredder *shredder
	rows     int    // of the batch
	texts    []byte // its resources
	// Of the row group: bytes of resources, and rows.
	pendingBytes, pendingRows int
}

// NewWriter begins a file of one type.
func NewWriter(w io.Writer, t fhir.TypeCode, schemas *Schemas) *Writer {
	p := &Writer{schema: schemas.of(t), counter: countingWriter{to: w}}
	p.shredder = newShredder(p.schema.root)
	p.lib = lib.NewGenericWriter[any](&p.counter, p.schema.lib,
		lib.CreatedBy("kiln", strconv.Itoa(SchemaVersion), ""),
		lib.KeyValueMetadata("fhir.resourceType", t.String()),
		lib.KeyValueMetadata("fhir.version", "4.0.1"),
		lib.KeyValueMetadata("kiln.schemaVersion", strconv.Itoa(SchemaVersion)),
		lib.PageBufferSize(pageBytes),
		lib.DictionaryMaxBytes(dictionaryBytesMax),
	)
	return p
}

// Add appends a resource of the file's type: checked JSON without white space,
// as versions are served.
func (w *Writer) Add(resource []byte) error {
	start := len(w.texts)
	w.texts = append(w.texts, resource...) // earlier rows keep what they point to
	w.shredder.row(w.schema.root, w.texts[start:])
	w.rows++
	w.pendingBytes += len(resource)
	w.pendingRows++
	full := w.pendingBytes >= rowGroupBytes || w.pendingRows*w.schema.root.leaves >= rowGroupValues
	if w.rows < batchRows && len(w.texts) < batchBytes && !full {
		return nil
	}
	if err := w.flush(); err != nil || !full {
		return err
	}
	w.pendingBytes, w.pendingRows = 0, 0
	if err := w.lib.Flush(); err != nil {
		return fmt.Errorf("cannot write a Parquet row group: %w", err)
	}
	return nil
}

// flush hands the batch to the library, which copies it.
func (w *Writer) flush() error {
	if w.rows == 0 {
		return nil
	}
	for i, column := range w.lib.ColumnWriters() {
		if _, err := column.WriteRowValues(w.shredder.leaves[i]); err != nil {
			return fmt.Errorf("cannot write a Parquet column: %w", err)
		}
	}
	w.shredder.reset()
	w.rows, w.texts = 0, w.texts[:0]
	return nil
}

// Close ends the file with its footer; it does not close what it writes to.
func (w *Writer) Close() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.lib.Close(); err != nil {
		return fmt.Errorf("cannot write a Parquet footer: %w", err)
	}
	return nil
}

// Bytes counts what was written; the row group at hand is not in it yet.
func (w *Writer) Bytes() int64 { return w.counter.bytes }

type countingWriter struct {
	to    io.Writer
	bytes int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.bytes += int64(n)
	return n, err
}

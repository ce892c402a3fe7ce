package bulk

import (
	"io"

	"kiln/engine"
	"kiln/fhir"
)

// ndjsonFormat writes a resource in a line, as it is served. A deletion has the
// mark by which $import knows it.
type ndjsonFormat struct{}

func (ndjsonFormat) extension() string { return ".ndjson" }

func (ndjsonFormat) begin(_ fhir.TypeCode, w io.Writer) exportEncoder { return &ndjsonEncoder{w: w} }

type ndjsonEncoder struct {
	w       io.Writer
	written int64
	buf     []byte // not yet written
}

func (e *ndjsonEncoder) add(v *engine.Version) error {
	var err error
	if v.Deleted {
		e.buf, err = v.AppendDeleted(e.buf)
	} else {
		e.buf = v.AppendJSON(e.buf)
	}
	if e.buf = append(e.buf, '\n'); err == nil && len(e.buf) >= exportBufferBytes {
		err = e.flush()
	}
	return err
}

func (e *ndjsonEncoder) flush() error {
	n, err := e.w.Write(e.buf)
	e.written += int64(n)
	e.buf = e.buf[:0]
	return err
}

func (e *ndjsonEncoder) end() error {
	if len(e.buf) == 0 {
		return nil
	}
	return e.flush()
}

func (e *ndjsonEncoder) size() int64 { return e.written + int64(len(e.buf)) }

package bulk

import (
	"io"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/parquet"
	"kiln/fhir/structure"
	"kiln/fhir/view"
)

// formatted gives the passes of a query in the request's form. Each Parquet file
// holds a row group in memory, so those are written type by type.
func (m *Manager) formatted(r *ExportRequest, q engine.ScanQuery) []exportPass {
	lines := lineFormat{views: r.views()}
	if r.ByPatient {
		return []exportPass{{query: q, format: blockFormat{lines}}}
	}
	if !r.Parquet {
		return []exportPass{{query: q, format: lines}}
	}
	of := q.Of
	if of == nil {
		of = []engine.ScanOf{{Types: allTypes()}}
	}
	var passes []exportPass
	for _, o := range of {
		for _, t := range o.Types {
			one := q
			one.Of = []engine.ScanOf{{Types: []fhir.TypeCode{t}, Where: o.Where}}
			passes = append(passes, exportPass{query: one, format: parquetFormat{lines, m.schemas}})
		}
	}
	return passes
}

// views are the parts that _elements asks for, by type; a type without one is shown whole.
func (r *ExportRequest) views() map[fhir.TypeCode]*view.View {
	views := map[fhir.TypeCode]*view.View{}
	if r.Elements == nil {
		return views
	}
	for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
		own, ok := r.Elements[t]
		common, all := r.Elements[0]
		if !ok && !all {
			continue
		}
		names := map[string]bool{}
		for _, name := range append(common[:len(common):len(common)], own...) {
			if known, _, ok := structure.ByKey(t.String(), name); ok {
				name = known
			}
			names[name] = true
		}
		views[t] = &view.View{Elements: names}
	}
	return views
}

// lineFormat writes a resource in a line, as it is served or as a view shows it.
// A deletion has the mark by which $import knows it.
type lineFormat struct {
	views map[fhir.TypeCode]*view.View
}

func (lineFormat) stem(t fhir.TypeCode) string { return t.String() }
func (lineFormat) extension() string           { return ".ndjson" }

func (f lineFormat) begin(t fhir.TypeCode, w io.Writer, space *exportSpace) exportEncoder {
	return &lineEncoder{w: w, line: f.appender(t), space: space, buf: space.buffer()}
}

// appender gives what appends the text of a version of a type.
func (f lineFormat) appender(t fhir.TypeCode) func(dst []byte, v *engine.Version) ([]byte, error) {
	shown := f.views[t]
	if shown == nil {
		return appendVersion
	}
	var whole []byte
	return func(dst []byte, v *engine.Version) ([]byte, error) {
		var err error
		if whole, err = appendVersion(whole[:0], v); err != nil {
			return dst, err
		}
		return shown.Append(dst, whole), nil
	}
}

func appendVersion(dst []byte, v *engine.Version) ([]byte, error) {
	if v.Deleted {
		return v.AppendDeleted(dst)
	}
	return v.AppendJSON(dst), nil
}

// lineEncoder writes lines.
type lineEncoder struct {
	w       io.Writer
	line    func(dst []byte, v *engine.Version) ([]byte, error)
	written int64
	space   *exportSpace
	buf     []byte // not yet written
}

func (e *lineEncoder) add(v *engine.Version) error {
	var err error
	e.buf, err = e.line(e.buf, v)
	if e.buf = append(e.buf, '\n'); err == nil && len(e.buf) >= exportBufferBytes {
		err = e.flush()
	}
	return err
}

// append adds a line that is made already, with its end.
func (e *lineEncoder) append(line []byte) error {
	if e.buf = append(e.buf, line...); len(e.buf) >= exportBufferBytes {
		return e.flush()
	}
	return nil
}

func (e *lineEncoder) flush() error {
	n, err := e.w.Write(e.buf)
	e.written += int64(n)
	if e.buf = e.buf[:0]; cap(e.buf) > exportBufferKeptMax {
		e.buf = e.space.buffer()
	}
	return err
}

func (e *lineEncoder) end() error {
	var err error
	if len(e.buf) > 0 {
		err = e.flush()
	}
	e.space.keep(e.buf)
	e.buf = nil
	return err
}

func (e *lineEncoder) size() int64 { return e.written + int64(len(e.buf)) }

// parquetFormat writes resources as rows; package fhir/parquet says which.
type parquetFormat struct {
	lines   lineFormat
	schemas *parquet.Schemas
}

const parquetExtension = ".parquet"

func (parquetFormat) stem(t fhir.TypeCode) string { return t.String() }
func (parquetFormat) extension() string           { return parquetExtension }

func (f parquetFormat) begin(t fhir.TypeCode, w io.Writer, _ *exportSpace) exportEncoder {
	return &parquetEncoder{writer: parquet.NewWriter(w, t, f.schemas), text: f.lines.appender(t)}
}

type parquetEncoder struct {
	writer *parquet.Writer
	text   func(dst []byte, v *engine.Version) ([]byte, error)
	buf    []byte
}

func (e *parquetEncoder) add(v *engine.Version) error {
	var err error
	if e.buf, err = e.text(e.buf[:0], v); err != nil {
		return err
	}
	return e.writer.Add(e.buf)
}

func (e *parquetEncoder) end() error { return e.writer.Close() }

func (e *parquetEncoder) size() int64 { return e.writer.Bytes() }

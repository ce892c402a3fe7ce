package bulk

import (
	"context"
	"io"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
)

// exportOutput is where an export's files go. Safe for concurrent use.
type exportOutput interface {
	// begin makes the place for the files.
	begin(ctx context.Context) error
	// create begins a file; nothing of it is visible under its name before close
	// succeeds.
	create(ctx context.Context, name string) (exportWriter, error)
	// settle makes the names of closed files durable; they are recorded after it.
	settle(ctx context.Context) error
	// whole tells whether the files are there as they were recorded.
	whole(ctx context.Context, files []ExportFile) (bool, error)
	// keep removes all files of the job but these: what a former process left
	// half-written, or had not recorded.
	keep(ctx context.Context, files []ExportFile) error
	// remove takes all files of the job away (failed, deleted, expired). None there
	// is no error.
	remove(ctx context.Context) error
	// full tells that files are written faster than they are stored: who writes does
	// better to wait.
	full() bool
	wait(ctx context.Context) error
	// address is the file's URL, "" when this server serves it.
	address(name string) string
}

// exportWriter is a file being written, by one goroutine. It ends with close or
// abort. Write is called by a worker that holds a turn at the cores, with p for the
// time of the call only: it waits for nothing slow as long as memory allows. close
// is called without a turn.
type exportWriter interface {
	io.Writer
	// sums are those of the file's pieces (see pieces.go), when all is written; nil:
	// somebody else keeps the file.
	sums() []byte
	close(ctx context.Context) error // durable; after an error nothing is there
	abort()
}

// exportFormat turns versions into the bytes of files of one type each. Safe for
// concurrent use.
type exportFormat interface {
	stem(t fhir.TypeCode) string // what the names of a type's files begin with
	extension() string           // of file names, with its dot
	// begin begins a file; space is of the goroutine that writes it.
	begin(t fhir.TypeCode, w io.Writer, space *exportSpace) exportEncoder
}

// exportSpace is the memory of a goroutine that writes files, from one to the next:
// as garbage it would be in memory several times before it is collected. The zero
// value is ready.
type exportSpace struct {
	scan  index.ScanSpace
	lines [][]byte // buffers that no file has
}

// buffer gives an empty one.
func (p *exportSpace) buffer() []byte {
	last := len(p.lines) - 1
	if last < 0 {
		return make([]byte, 0, exportBufferBytes+exportBufferBytes/4) // most lines that are one too many fit
	}
	b := p.lines[last]
	p.lines = p.lines[:last]
	return b[:0]
}

// keep takes a buffer back, unless a line made it large.
func (p *exportSpace) keep(b []byte) {
	if cap(b) <= exportBufferKeptMax {
		p.lines = append(p.lines, b)
	}
}

// exportEncoder writes one file.
type exportEncoder interface {
	add(v *engine.Version) error // v holds until add returns
	end() error                  // writes what is held back; w is not closed
	size() int64                 // bytes of the file so far, those that are held back too
}

// exportOutput gives the place of a job's files.
func (m *Manager) exportOutput(record *exportRecord) exportOutput {
	if record.Folder != "" {
		return m.azureOutput(record.Folder)
	}
	dir := m.exportDir(record.ID)
	return &localOutput{fs: m.opts.Store.FS(), dir: dir, room: func() error { return m.opts.Store.CheckRoom(dir) }}
}

package bulk

import (
	"context"
	"log/slog"
	"time"

	"kiln/engine"
	"kiln/fhir"
)

// Options are explicit. Store, Now and NewID are required.
type Options struct {
	Store             *engine.Store
	Now               func() time.Time
	NewID             func() uint64
	Logger            *slog.Logger
	ImportRoots       []string // absolute directories; file:// inputs only below them
	ImportOrigins     []string // scheme://host[:port]; http(s):// inputs only from them
	ExportDir         string   // "": exports/ in the data directory
	InitialImportMode bool
	Workers           int // 0: runtime.GOMAXPROCS
}

// RequestError is a refused request: HTTP status, OperationOutcome issue code and text.
type RequestError struct {
	Status int
	Code   string
	Text   string
}

func (e *RequestError) Error() string { return e.Text }

// Mode of an import.
type Mode uint8

const (
	IncrementalLoad Mode = iota
	InitialLoad
)

// ImportInput is one file to load.
type ImportInput struct {
	URL  string
	Type string // "": any
	Etag string
}

// ImportRequest is a checked $import.
type ImportRequest struct {
	URL                   string // the kick-off address, for the result
	InputSource           string
	Mode                  Mode
	Force                 bool
	AllowNegativeVersions bool
	UnitBytes             int64 // 0: UnitBytesDefault
	ErrorContainer        string
	Inputs                []ImportInput
}

// ParseImport reads a Parameters body and checks it in the contract's order
// (steps 3 to 12 of section 1.3). Errors are *RequestError.
func (m *Manager) ParseImport(body []byte, requestURL string) (*ImportRequest, error) {
	panic("skeleton")
}

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
	Error           *RequestError // for Failed
}

// ExportRequest is a checked $export.
type ExportRequest struct {
	URL   string
	Types []fhir.TypeCode
	Since fhir.Instant // Milli 0: none
}

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

// Manager runs the jobs of one store.
type Manager struct{}

// NewManager resumes what a former process left running.
func NewManager(ctx context.Context, opts Options) (*Manager, error) { panic("skeleton") }

// Close stops running jobs where they can go on later, and waits.
func (m *Manager) Close() error { panic("skeleton") }

// StartImport registers (or finds) the job and returns its id.
func (m *Manager) StartImport(ctx context.Context, r *ImportRequest) (int64, error) {
	panic("skeleton")
}

// ImportStatus, CancelImport, ExportStatus and DeleteExport return a
// *RequestError 404 for an unknown id.
func (m *Manager) ImportStatus(id int64) (*ImportStatus, error) { panic("skeleton") }
func (m *Manager) CancelImport(id int64) error                  { panic("skeleton") }

// Wait returns when the job is no longer running.
func (m *Manager) WaitImport(ctx context.Context, id int64) (*ImportStatus, error) {
	panic("skeleton")
}

// ErrorFile opens an error file of an import for reading.
func (m *Manager) ErrorFile(id int64, name string) (*Download, error) { panic("skeleton") }

// ParseExport checks the query parameters of a system-level $export. Errors are *RequestError.
func (m *Manager) ParseExport(query map[string][]string, lenient bool, requestURL string) (*ExportRequest, error) {
	panic("skeleton")
}
func (m *Manager) StartExport(ctx context.Context, r *ExportRequest) (int64, error) {
	panic("skeleton")
}
func (m *Manager) ExportStatus(id int64) (*ExportStatus, error)        { panic("skeleton") }
func (m *Manager) DeleteExport(id int64) error                         { panic("skeleton") }
func (m *Manager) ExportFile(id int64, name string) (*Download, error) { panic("skeleton") }

// Download is an open file to serve; Close it.
type Download struct {
	Bytes int64
}

func (d *Download) ReadAt(p []byte, off int64) (int, error) { panic("skeleton") }
func (d *Download) Close() error                            { panic("skeleton") }

package bulk

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	"kiln/engine"
	"kiln/fhir/ucum"
	"kiln/query"
)

// Options are explicit. Store, Now and NewID are required.
type Options struct {
	Store  *engine.Store
	Now    func() time.Time
	NewID  func() uint64
	Logger *slog.Logger
	// Parameters are what _typeFilter can search by; nil: those of R4.
	Parameters    *query.Registry
	ImportRoots   []string     // absolute directories; file:// inputs only below them
	ImportOrigins []string     // scheme://host[:port]; http(s):// inputs only from them
	Azure         AzureOptions // blobs of this account
	ExportDir     string       // "": exports/ in the data directory
	// ExportExpiry is how long an export is kept after its end; 0: until it is deleted.
	ExportExpiry      time.Duration
	Quotas            Quotas
	InitialImportMode bool
	// ValidateStructure refuses lines whose resource is not built as R4 says.
	ValidateStructure bool
	Workers           int // 0: runtime.GOMAXPROCS
	// RoundBytes ends a round at this much builder memory; 0: the default.
	// Tests make it small to get many rounds.
	RoundBytes int64
	// SectionRows is how many versions an export's section has, about; 0: the
	// default. Tests make it small to get many sections.
	SectionRows uint64
	// BlocksBytes is how much of an export organized by patients a worker puts in order
	// in memory; 0: the default. Tests make it small.
	BlocksBytes int64
	// RetryWait is the first pause before an HTTP request is tried again; 0: one second.
	RetryWait time.Duration
	// SilenceMax is how long a server may send nothing before a request counts
	// as failed; 0: half a minute.
	SilenceMax time.Duration
	// Units converts quantities that a _typeFilter searches for; nil: they are
	// found in the unit that is asked for.
	Units *ucum.Table
	// Resolver finds the addresses of hosts; nil: the system's.
	Resolver *net.Resolver
}

// RequestError is a refused request: HTTP status, OperationOutcome issue code
// and text.
type RequestError struct {
	Status int
	Code   string
	Text   string
	Input  string `json:",omitempty"` // what a job could not read on
}

func (e *RequestError) Error() string { return e.Text }

// badRequest is a 400 with the code that most refusals have.
func badRequest(format string, args ...any) *RequestError {
	return &RequestError{Status: 400, Code: "invalid", Text: fmt.Sprintf(format, args...)}
}

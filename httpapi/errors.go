package httpapi

import (
	"context"
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/patch"
	"kiln/httpapi/audit"
	"kiln/internal/vfs"
)

// problem is a refused request: HTTP status, issue code, and a text for the
// client.
type problem struct {
	status int
	code   string
	text   string
}

func (p *problem) Error() string { return p.text }

func badRequest(format string, args ...any) error {
	return &problem{fasthttp.StatusBadRequest, codeInvalid, fmt.Sprintf(format, args...)}
}

func notSupported(status int, format string, args ...any) error {
	return &problem{status, codeNotSupported, fmt.Sprintf(format, args...)}
}

// errorRow maps an error of the layers below. An empty text is the error's own.
type errorRow struct {
	is     error
	status int
	code   string
	text   string
}

// errorRows is the one table from errors to answers; the first match counts.
var errorRows = [...]errorRow{
	{engine.ErrNotFound, fasthttp.StatusNotFound, codeNotFound, "The resource couldn't be found."},
	{engine.ErrPrecondition, fasthttp.StatusPreconditionFailed, codeConflict, "The resource was changed by somebody else."},
	{engine.ErrTooLarge, fasthttp.StatusRequestEntityTooLarge, codeTooLong, "The resource is too large."},
	{engine.ErrNoSpace, fasthttp.StatusInsufficientStorage, codeNoStore, "No space is left on the data disk; nothing was written. Reads go on, and writes will when there is room."},
	{engine.ErrOutcomeUnknown, fasthttp.StatusServiceUnavailable, codeNoStore, "The data disk failed, so it is unknown whether the write is kept. Read the resource once the server is back."},
	{engine.ErrOpenedReadOnly, fasthttp.StatusForbidden, codeForbidden, "The server was started read-only: it takes no writes and no jobs. Nothing was written."},
	{engine.ErrReadOnly, fasthttp.StatusServiceUnavailable, codeNoStore, "The server takes no writes since its data disk failed; nothing was written."},
	{engine.ErrClosed, fasthttp.StatusServiceUnavailable, codeTransient, "The server is stopping."},
	{context.DeadlineExceeded, fasthttp.StatusServiceUnavailable, codeTimeout, "The request took too long: ask for less at once, or try again later. What it was to start or to change may be done nevertheless."},
	{context.Canceled, fasthttp.StatusServiceUnavailable, codeTransient, "The server is stopping. A write may have been kept nevertheless."},
	{audit.ErrUnavailable, fasthttp.StatusServiceUnavailable, codeTransient, auditUnavailable},
	{patch.ErrMalformed, fasthttp.StatusBadRequest, codeInvalid, ""},
	{patch.ErrNotApplicable, fasthttp.StatusUnprocessableEntity, codeProcessing, ""},
	{patch.ErrTooLarge, fasthttp.StatusRequestEntityTooLarge, codeTooLong, ""},
	{engine.ErrUnindexable, fasthttp.StatusUnprocessableEntity, codeProcessing, ""},
	{fhir.ErrSyntax, fasthttp.StatusBadRequest, codeStructure, ""},
	{fhir.ErrDuplicateKey, fasthttp.StatusBadRequest, codeStructure, ""},
	{fhir.ErrTooDeep, fasthttp.StatusBadRequest, codeStructure, ""},
	{fhir.ErrNotResource, fasthttp.StatusBadRequest, codeInvalid, ""},
}

// asProblem says what a client is told about err. known is false for an error
// that only the log may tell in full.
func asProblem(err error) (p problem, known bool) {
	var own *problem
	if errors.As(err, &own) {
		return *own, true
	}
	var misbuilt *structureError
	if errors.As(err, &misbuilt) {
		return problem{misbuilt.status, misbuilt.first().Code, misbuilt.Error()}, true
	}
	var refused *bulk.RequestError
	if errors.As(err, &refused) {
		return problem{refused.Status, refused.Code, refused.Text}, true
	}
	var patched *patch.Error
	if errors.As(err, &patched) {
		row := rowOf(patched.Kind)
		return problem{row.status, row.code, patched.Text}, true
	}
	var damage *vfs.CorruptError
	if errors.As(err, &damage) {
		return problem{fasthttp.StatusInternalServerError, codeException, "The stored data needed for this answer is damaged; the server's log and /healthz say where. Stop the server, run kiln fsck, then kiln repair."}, false
	}
	if row := rowOf(err); row != nil {
		text := row.text
		if text == "" {
			text = "The request body is refused: " + err.Error() + "."
		}
		return problem{row.status, row.code, text}, true
	}
	return problem{fasthttp.StatusInternalServerError, codeException, "The server failed on this request; its log says more."}, false
}

// rowOf is the first row that matches; nil: none.
func rowOf(err error) *errorRow {
	for i := range errorRows {
		if errors.Is(err, errorRows[i].is) {
			return &errorRows[i]
		}
	}
	return nil
}

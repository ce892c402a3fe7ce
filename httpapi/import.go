package httpapi

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
)

// importStart answers POST $import.
func (x *exchange) importStart() error {
	header := &x.ctx.Request.Header
	if !x.prefer.respondAsync {
		return badHeader("Prefer", bytes.Join(header.PeekAll("Prefer"), []byte(", ")))
	}
	request, err := x.importRequest()
	if err != nil {
		return err
	}
	request.Owner = x.owner()
	ctx, cancel := x.workContext()
	defer cancel()
	id, err := x.server.opts.Jobs.StartImport(ctx, request)
	if err != nil {
		return err
	}
	x.accepted(x.jobURL("import", id))
	return nil
}

// importRequest reads the body: a Parameters resource, or the SMART draft's
// manifest, which is plain JSON.
func (x *exchange) importRequest() (*bulk.ImportRequest, error) {
	jobs, given := x.server.opts.Jobs, x.ctx.Request.Header.ContentType()
	// The job lives longer than the request, whose memory is used again.
	body, address := bytes.Clone(x.ctx.PostBody()), x.baseURL()+"/$import"
	if bytes.Contains(bytes.ToLower(given), []byte(contentTypeFHIR)) {
		return jobs.ParseImport(body, address)
	}
	media, _, _ := bytes.Cut(given, []byte{';'})
	if !bytes.EqualFold(bytes.TrimSpace(media), []byte(contentTypeJSON)) {
		return nil, badHeader("Content-Type", given)
	}
	return jobs.ParseManifest(body, address)
}

// badHeader has the product's words, two blanks included.
func badHeader(name string, value []byte) error {
	return badRequest("Value supplied, %s,  for the \"%s\" header is not supported.", value, name)
}

// accepted answers a kick-off.
func (x *exchange) accepted(statusURL string) {
	x.ctx.Response.Header.Set("Content-Location", statusURL)
	x.empty(fasthttp.StatusAccepted)
}

// jobURL is the status address of a job; its files lie below.
func (x *exchange) jobURL(kind string, id int64) string {
	return x.baseURL() + "/_operations/" + kind + "/" + strconv.FormatInt(id, 10)
}

// jobID reads the address's job; what is no job id is 0, which is no job.
func (x *exchange) jobID() int64 {
	id, err := strconv.ParseInt(string(x.addr.id), 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// importStatus answers GET _operations/import/{id}.
func (x *exchange) importStatus() error {
	if err := x.ownImport(); err != nil {
		return err
	}
	status, err := x.server.opts.Jobs.ImportStatus(x.jobID())
	if err != nil {
		return err
	}
	switch status.State {
	case bulk.Running:
		x.running(importProgress(status))
		if !status.Waiting && !status.Starting { // the result so far
			x.body(fasthttp.StatusAccepted, contentTypeResults, x.appendImportResult(x.buffer(), status))
		}
	case bulk.Completed:
		x.body(fasthttp.StatusOK, contentTypeResults, x.appendImportResult(x.buffer(), status))
	case bulk.Cancelled:
		x.importEnded(status, fasthttp.StatusBadRequest, "User requested cancellation of operation.")
	default:
		failed := failedJob("import", status.Error)
		x.importEnded(status, failed.status, failed.text)
	}
	return nil
}

// running answers a look at a job that goes on.
func (x *exchange) running(progress string) {
	x.ctx.Response.Header.Set("X-Progress", progress)
	x.ctx.Response.Header.Set("Retry-After", strconv.Itoa(retryAfterSeconds))
	x.empty(fasthttp.StatusAccepted)
}

// importProgress is a text of less than 100 characters.
func importProgress(status *bulk.ImportStatus) string {
	switch {
	case status.Resting:
		return progressResting
	case status.Waiting:
		return "starting: waiting for its turn"
	case status.Starting:
		return fmt.Sprintf("starting: asking for %d inputs", len(status.Inputs))
	case status.Storing:
		return "ending: storing error files"
	case status.NoRoom:
		return fmt.Sprintf("waiting for room on the data disk: %d of %d bytes", status.BytesDone, status.BytesTotal)
	case status.BytesTotal <= 0:
		return fmt.Sprintf("%d bytes read", status.BytesDone)
	}
	percent := float64(status.BytesDone) / float64(status.BytesTotal) * 100
	return fmt.Sprintf("%.1f%% (%d of %d bytes)", percent, status.BytesDone, status.BytesTotal)
}

// importEnded answers for a job that did not complete. It says how much was
// kept, since what was published stays, and where refused lines are explained.
func (x *exchange) importEnded(status *bulk.ImportStatus, httpStatus int, text string) {
	var loaded, refused int64
	var files []issue
	for i := range status.Inputs {
		input := &status.Inputs[i]
		loaded += input.Loaded
		refused += input.Refused
		if input.ErrorFile != "" && len(files) < errorFilesNamedMax {
			files = append(files, issue{severity: "information", code: codeInformational,
				text: fmt.Sprintf("%d refused lines are explained in %s.", input.Refused, x.errorFileURL(status.ID, input))})
		}
	}
	issues := []issue{
		{severity: "error", code: codeProcessing, text: text},
		{severity: "information", code: codeInformational, text: fmt.Sprintf("Until then %d resources were loaded, which stay, and %d were refused.", loaded, refused)},
	}
	x.outcome(httpStatus, append(issues, files...)...)
}

// failedJob words a job's failure; what the server did wrong stays in its log.
func failedJob(kind string, failure *bulk.RequestError) *problem {
	prefix := kind + " operation failed for reason: "
	if failure == nil || failure.Status == 0 || failure.Status == fasthttp.StatusInternalServerError && failure.Input == "" {
		return &problem{fasthttp.StatusInternalServerError, codeProcessing, prefix + "InternalServerError"}
	}
	text := prefix + strings.TrimPrefix(failure.Text, prefix)
	if !strings.Contains(text, failure.Input) {
		text += " ErrorFile: " + failure.Input
	}
	return &problem{failure.Status, codeProcessing, text}
}

// appendImportResult appends the result object, whole or so far.
func (x *exchange) appendImportResult(dst []byte, status *bulk.ImportStatus) []byte {
	dst = append(dst, `{"transactionTime":"`...)
	dst = status.TransactionTime.UTC().AppendFormat(dst, instantLayout)
	dst = append(dst, `","request":`...)
	dst = appendString(dst, status.Request)
	dst = append(dst, `,"output":[`...)
	for i := range status.Inputs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendInput(dst, &status.Inputs[i], status.Inputs[i].Loaded)
		dst = append(dst, '}')
	}
	dst = append(dst, `],"error":[`...)
	first := true
	for i := range status.Inputs {
		input := &status.Inputs[i]
		if input.ErrorFile == "" {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendInput(dst, input, input.Refused)
		dst = append(dst, `,"url":`...)
		dst = appendString(dst, x.errorFileURL(status.ID, input))
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

// errorFileURL is where the refused lines of an input are explained: a blob when
// the input is one, otherwise this server.
func (x *exchange) errorFileURL(id int64, input *bulk.InputResult) string {
	if input.ErrorBlob != "" {
		return input.ErrorBlob
	}
	return x.jobURL("import", id) + "/" + input.ErrorFile
}

// appendInput appends an entry without its closing brace.
func appendInput(dst []byte, input *bulk.InputResult, count int64) []byte {
	dst = append(dst, `{"type":`...)
	if input.Type == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendString(dst, input.Type)
	}
	dst = append(dst, `,"count":`...)
	dst = strconv.AppendInt(dst, count, 10)
	dst = append(dst, `,"inputUrl":`...)
	return appendString(dst, input.URL)
}

// importCancel answers DELETE _operations/import/{id}.
func (x *exchange) importCancel() error {
	if err := x.ownImport(); err != nil {
		return err
	}
	if err := x.server.opts.Jobs.CancelImport(x.jobID()); err != nil {
		return err
	}
	x.empty(fasthttp.StatusAccepted)
	return nil
}

// importFile serves an error file.
func (x *exchange) importFile() error {
	if err := x.ownImport(); err != nil {
		return err
	}
	return x.file(x.server.opts.Jobs.ErrorFile)
}

package httpapi

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
)

// pageParameter of a status address is the page of the manifest, from 1.
const pageParameter = "page"

// exportStatus answers GET _operations/export/{id}. What is wrong with asking is
// told by the answer's status in any case; how the export is doing, by a header
// when its client wants it there.
func (x *exchange) exportStatus() error {
	if err := x.ownExport(true); err != nil {
		return err
	}
	if !x.server.polls.take(x.jobID(), x.now()) {
		return &problem{fasthttp.StatusTooManyRequests, codeThrottled, "The status of this export is asked for too often. Wait as long as Retry-After says."}
	}
	status, err := x.server.opts.Jobs.ShowExport(x.jobID(), x.server.manifestFiles)
	if err != nil {
		return err
	}
	page, err := x.manifestPageAsked(status)
	if err != nil {
		return err
	}
	err = x.tellExport(status, page)
	if !status.SeparateStatus {
		return err
	}
	if err != nil {
		x.fail(err)
	}
	code := x.ctx.Response.StatusCode()
	x.ctx.Response.Header.Set("X-Export-Status", strconv.Itoa(code)+" "+fasthttp.StatusMessage(code))
	x.ctx.SetStatusCode(fasthttp.StatusOK)
	return nil
}

func (x *exchange) tellExport(status *bulk.ExportStatus, page int) error {
	if !status.Expires.IsZero() {
		x.ctx.Response.Header.SetBytesV("Expires", fasthttp.AppendHTTPDate(nil, status.Expires))
	}
	switch status.State {
	case bulk.Running:
		x.running(exportProgress(status))
		if status.Partial && len(status.Files) > 0 {
			x.body(fasthttp.StatusAccepted, contentTypeResults, x.appendManifest(x.buffer(), status, page))
		}
		return nil
	case bulk.Completed:
		x.body(fasthttp.StatusOK, contentTypeResults, x.appendManifest(x.buffer(), status, page))
		return nil
	default:
		return failedJob("export", status.Error)
	}
}

// exportProgress is a text of less than 100 characters that begins with a share.
// progressResting is told of jobs that a server in read-only mode knows.
const progressResting = "resting: the server was started read-only; the job goes on when one is started that is not"

func exportProgress(status *bulk.ExportStatus) string {
	if status.Resting {
		return progressResting
	}
	if status.RowsTotal == 0 {
		return "0.0% (starting)"
	}
	percent := min(100, float64(status.RowsDone)/float64(status.RowsTotal)*100)
	if status.ByPatient {
		return fmt.Sprintf("%.1f%% (%d of %d resources read or written)", percent, status.RowsDone, status.RowsTotal)
	}
	return fmt.Sprintf("%.1f%% (%d of %d resources)", percent, status.RowsDone, status.RowsTotal)
}

// ---- pages of a manifest ----

// manifestPageAsked is the page that the address names, 1 if none.
func (x *exchange) manifestPageAsked(status *bulk.ExportStatus) (int, error) {
	text, err := x.single(pageParameter)
	if err != nil || text == "" {
		return 1, err
	}
	page, err := strconv.Atoi(text)
	if err != nil || page < 1 {
		return 0, badRequest("The value '%s' of the parameter '%s' is not the number of a page.", text, pageParameter)
	}
	if last := len(x.server.manifestEnds(status)); page > last && (status.State == bulk.Completed || status.Partial && status.State == bulk.Running) {
		return 0, &problem{fasthttp.StatusNotFound, codeNotFound, fmt.Sprintf("The manifest ends with page %d.", last)}
	}
	return page, nil
}

// manifestEnds is for each page of a manifest how many files it and those before
// it have. What was shown of a running export stays as it was; behind it a page
// has as many files as fit. There is one page at least.
func (s *Server) manifestEnds(status *bulk.ExportStatus) []int {
	ends, at := slices.Clone(status.Ends), 0
	if len(ends) > 0 {
		at = ends[len(ends)-1]
	}
	for len(ends) == 0 || at < len(status.Files) {
		at = min(at+s.manifestFiles, len(status.Files))
		ends = append(ends, at)
	}
	return ends
}

// manifestPage is the files of a page, from 1, of those that end so.
func manifestPage(files []bulk.ExportFile, ends []int, page int) []bulk.ExportFile {
	if page > len(ends) {
		return nil
	}
	from := 0
	if page > 1 {
		from = ends[page-2]
	}
	return files[from:ends[page-1]]
}

// bulkPublish answers GET $bulk-publish with the manifest of the published export.
// Its further pages are those of the export, so that all are of one.
func (x *exchange) bulkPublish() error {
	if x.who != nil && !x.exportsAll() {
		return denied()
	}
	status, err := x.server.opts.Jobs.PublishedExport()
	if err != nil {
		return err
	}
	header := &x.ctx.Response.Header
	header.SetBytesV("ETag", appendETag(nil, status.ID))
	if anyTagMatches(x.ctx.Request.Header.Peek("If-None-Match"), status.ID) {
		x.empty(fasthttp.StatusNotModified)
		return nil
	}
	return x.tellExport(status, 1)
}

package httpapi

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
)

// exportStart answers GET and POST $export.
func (x *exchange) exportStart() error {
	if err := x.checkExportHeaders(); err != nil {
		return err
	}
	query, err := x.exportParameters()
	if err != nil {
		return err
	}
	requestURL := x.baseURL() + "/$export"
	if raw := x.ctx.URI().QueryString(); len(raw) > 0 {
		requestURL += "?" + string(raw)
	}
	jobs := x.server.opts.Jobs
	request, err := jobs.ParseExport(query, x.prefer.lenient, requestURL)
	if err != nil {
		return err
	}
	ctx, cancel := x.workContext()
	defer cancel()
	id, err := jobs.StartExport(ctx, request)
	if err != nil {
		return err
	}
	x.accepted(x.jobURL("export", id))
	return nil
}

// exportParameters are those of the query and, for a POST, of the Parameters in
// its body (Bulk Data Access 3.0 takes either, 4.0 the body alone).
func (x *exchange) exportParameters() (map[string][]string, error) {
	query := map[string][]string{}
	if body := x.ctx.PostBody(); len(body) > 0 && x.ctx.IsPost() {
		contentType := x.ctx.Request.Header.ContentType()
		if !parseMediaType(contentType).isJSON() {
			return nil, badHeader("Content-Type", contentType)
		}
		var err error
		if query, err = bulk.ExportParameters(body); err != nil {
			return nil, err
		}
	}
	for key, value := range x.ctx.QueryArgs().All() {
		text := string(value)
		if string(key) == "_since" {
			text = unescapedPlus(text)
		}
		query[string(key)] = append(query[string(key)], text)
	}
	return query, nil
}

// acceptsFHIRJSON says whether a list of Accept names FHIR JSON itself. The
// contract's server takes no list; clients send one.
func acceptsFHIRJSON(values [][]byte) bool {
	for _, header := range values {
		for len(header) > 0 {
			var item []byte
			item, header = cutListItem(header)
			m := parseMediaType(item)
			if m.name == contentTypeFHIR && m.isFHIRVersionR4() && (m.param("q") == "" || !isZeroQuality(m.param("q"))) {
				return true
			}
		}
	}
	return false
}

func (x *exchange) checkExportHeaders() error {
	header := &x.ctx.Request.Header
	if accept := header.PeekAll("Accept"); !acceptsFHIRJSON(accept) {
		return badHeader("Accept", bytes.Join(accept, []byte(", ")))
	}
	switch prefer := header.PeekAll("Prefer"); {
	case len(prefer) == 0:
		return badRequest("Missing required header; Prefer")
	case x.prefer.unknown != "" || x.prefer.returns != returnDefault || x.prefer.badReturn != "":
		return badHeader("Prefer", bytes.Join(prefer, []byte(", ")))
	case !x.prefer.respondAsync:
		return badRequest("Missing required header value; header=Prefer,value=respond-async.")
	}
	return nil
}

// exportStatus answers GET _operations/export/{id}.
func (x *exchange) exportStatus() error {
	status, err := x.server.opts.Jobs.ExportStatus(x.jobID())
	if err != nil {
		return err
	}
	switch status.State {
	case bulk.Running:
		x.running(exportProgress(status))
		return nil
	case bulk.Completed:
		x.body(fasthttp.StatusOK, contentTypeResults, x.appendManifest(x.buffer(), status))
		return nil
	default:
		return failedJob("export", status.Error)
	}
}

func exportProgress(status *bulk.ExportStatus) string {
	if status.RowsTotal == 0 {
		return "starting"
	}
	percent := float64(status.RowsDone) / float64(status.RowsTotal) * 100
	return fmt.Sprintf("%.1f%% (%d of %d resources)", percent, status.RowsDone, status.RowsTotal)
}

// appendManifest appends the manifest of a finished export.
func (x *exchange) appendManifest(dst []byte, status *bulk.ExportStatus) []byte {
	dst = append(dst, `{"transactionTime":"`...)
	dst = status.TransactionTime.Append(dst)
	dst = append(dst, `","request":`...)
	dst = appendString(dst, status.Request)
	dst = append(dst, `,"requiresAccessToken":false,"output":[`...)
	for i, file := range status.Files {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"type":`...)
		dst = appendString(dst, file.Type)
		dst = append(dst, `,"url":`...)
		dst = appendString(dst, x.jobURL("export", status.ID)+"/"+file.Name)
		dst = append(dst, `,"count":`...)
		dst = strconv.AppendInt(dst, file.Count, 10)
		dst = append(dst, '}')
	}
	return append(dst, `],"error":[],"issues":[]}`...)
}

// exportDelete answers DELETE _operations/export/{id}.
func (x *exchange) exportDelete() error {
	ctx, cancel := x.workContext()
	defer cancel()
	if err := x.server.opts.Jobs.DeleteExport(ctx, x.jobID()); err != nil {
		return err
	}
	x.empty(fasthttp.StatusAccepted)
	return nil
}

// exportFile serves a file of a finished export.
func (x *exchange) exportFile() error {
	return x.file(x.server.opts.Jobs.ExportFile)
}

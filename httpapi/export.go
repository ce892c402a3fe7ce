package httpapi

import (
	"bytes"
	"cmp"
	"errors"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
)

// exportStart answers GET and POST of $export: of the system, of all patients
// (Patient/$export), of a Group's members (Group/[id]/$export).
func (x *exchange) exportStart() error {
	if err := x.checkExportHeaders(); err != nil {
		return err
	}
	kickOff, err := x.exportKickOff()
	if err != nil {
		return err
	}
	jobs := x.server.opts.Jobs
	request, err := jobs.ParseExport(kickOff)
	if err != nil {
		return err
	}
	if err := x.limitExport(request); err != nil {
		return err
	}
	ctx, cancel := x.workContext()
	defer cancel()
	id, err := jobs.StartExport(ctx, request)
	if err != nil {
		return err
	}
	if x.prefer.separate {
		x.ctx.Response.Header.Set("Preference-Applied", "respond-async, separate-export-status")
	}
	x.accepted(x.jobURL("export", id))
	return nil
}

func (x *exchange) exportKickOff() (*bulk.ExportKickOff, error) {
	k := &bulk.ExportKickOff{Base: x.baseURL(), Query: map[string][]string{}, Lenient: x.prefer.lenient, SeparateStatus: x.prefer.separate}
	k.URL = k.Base
	switch {
	case x.addr.place == placeGroupExport:
		k.Group = string(x.addr.id)
		k.URL += "/Group/" + k.Group
	case x.addr.place == placeTypeExport && string(x.addr.typeName) == "Patient":
		k.PatientLevel = true
		k.URL += "/Patient"
	case x.addr.place == placeTypeExport:
		return nil, badRequest("Requested operation does not support resource type: %s.", x.addr.typeName)
	}
	k.URL += "/$export"
	if raw := x.ctx.URI().QueryString(); len(raw) > 0 {
		k.URL += "?" + string(raw)
	}
	return k, x.exportParameters(k)
}

// exportParameters are those of the query and, for a POST, of the Parameters in
// its body (Bulk Data Access 3.0 takes either, 4.0 the body alone).
func (x *exchange) exportParameters(k *bulk.ExportKickOff) (err error) {
	if body := x.ctx.PostBody(); len(body) > 0 && x.ctx.IsPost() {
		contentType := x.ctx.Request.Header.ContentType()
		if !parseMediaType(contentType).isJSON() {
			return badHeader("Content-Type", contentType)
		}
		if k.Body, err = bulk.ExportParameters(body); err != nil {
			return err
		}
	}
	for key, value := range x.ctx.QueryArgs().All() {
		text := string(value)
		if name := string(key); name == "_since" || name == "_until" || name == "_till" {
			text = unescapedPlus(text)
		}
		k.Query[string(key)] = append(k.Query[string(key)], text)
	}
	return nil
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

// appendManifest appends a page of an export's manifest, from 1: as many files as
// a page holds, and where the next one is, if there is one already. What was
// ignored is told by the first.
func (x *exchange) appendManifest(dst []byte, status *bulk.ExportStatus, page int) []byte {
	ends := x.server.manifestEnds(status)
	files := manifestPage(status.Files, ends, page)
	dst = append(dst, `{"transactionTime":"`...)
	dst = status.TransactionTime.Append(dst)
	dst = append(dst, `","request":`...)
	dst = appendString(dst, status.Request)
	dst = append(dst, `,"requiresAccessToken":`...)
	dst = strconv.AppendBool(dst, x.who != nil && (len(status.Files) == 0 || status.Files[0].URL == ""))
	if status.ByPatient {
		dst = append(dst, `,"outputOrganizedBy":"Patient"`...)
	}
	dst = append(dst, `,"output":[`...)
	dst = x.appendFiles(dst, status, files, false)
	dst = append(dst, ']')
	if deleted := x.appendFiles(nil, status, files, true); len(deleted) > 0 {
		dst = append(append(append(dst, `,"deleted":[`...), deleted...), ']')
	}
	dst = append(dst, `,"error":[`...)
	if n := len(status.Ignored); n > 0 && page == 1 {
		dst = x.appendFile(dst, status, &bulk.ExportFile{Type: "OperationOutcome", Name: bulk.ExportIgnoredName, Count: int64(n)})
	}
	dst = append(dst, `],"issues":[]`...)
	if page < len(ends) {
		dst = append(dst, `,"link":[{"relation":"next","url":`...)
		dst = appendString(dst, x.jobURL("export", status.ID)+"?"+pageParameter+"="+strconv.Itoa(page+1))
		dst = append(dst, "}]"...)
	}
	return append(dst, '}')
}

// appendFiles appends the files of resources, or those of deletions.
func (x *exchange) appendFiles(dst []byte, status *bulk.ExportStatus, files []bulk.ExportFile, deleted bool) []byte {
	begun := len(dst)
	for _, file := range files {
		if file.IsDeleted() != deleted {
			continue
		}
		if deleted {
			file.Type = "Bundle"
		}
		if len(dst) > begun {
			dst = append(dst, ',')
		}
		dst = x.appendFile(dst, status, &file)
	}
	return dst
}

func (x *exchange) appendFile(dst []byte, status *bulk.ExportStatus, file *bulk.ExportFile) []byte {
	dst = append(dst, '{')
	if file.Type != "" {
		dst = append(dst, `"type":`...)
		dst = append(appendString(dst, file.Type), ',')
	}
	url := cmp.Or(file.URL, x.jobURL("export", status.ID)+"/"+file.Name)
	dst = append(dst, `"url":`...)
	dst = appendString(dst, url)
	if file.Continues != "" {
		dst = append(dst, `,"continuesInFile":`...)
		dst = appendString(dst, strings.TrimSuffix(url, file.Name)+file.Continues)
	}
	dst = append(dst, `,"count":`...)
	dst = strconv.AppendInt(dst, file.Count, 10)
	if file.Bytes > 0 {
		dst = append(dst, `,"fileSize":`...)
		dst = strconv.AppendInt(dst, file.Bytes, 10)
	}
	return append(dst, '}')
}

// exportDelete answers DELETE _operations/export/{id}.
func (x *exchange) exportDelete() error {
	if err := x.ownExport(false); err != nil {
		return err
	}
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
	if err := x.ownExport(true); err != nil {
		return err
	}
	return x.file(func(id int64, name string) (*bulk.Download, error) {
		d, err := x.server.opts.Jobs.ExportFile(id, name)
		if err == nil && !x.mayDownload(d) {
			return nil, errors.Join(denied(), d.Close())
		}
		return d, err
	})
}

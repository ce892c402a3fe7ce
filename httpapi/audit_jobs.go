package httpapi

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/httpapi/audit"
)

// auditJob records how a job ended, or that its files were removed, for whoever began it.
func (s *Server) auditJob(end bulk.JobEnd) {
	e := &audit.Event{
		Recorded: end.At, Action: audit.ActionExecute, Type: audit.TypeExport, Interaction: "operation", Name: "export-end",
		Status: cmp.Or(end.Status, fasthttp.StatusOK), Ending: end.Ending, Job: "_operations/export/" + strconv.FormatInt(end.ID, 10),
	}
	switch {
	case end.Import:
		e.Type, e.Name, e.Job = audit.TypeImport, "import-end", "_operations/import/"+strconv.FormatInt(end.ID, 10)
	case end.Ending == bulk.EndExpired:
		e.Action, e.Name, e.ByServer = audit.ActionDelete, "export-expiry", true
	}
	if at := strings.IndexByte(end.Owner, '|'); at >= 0 { // Principal.Key
		e.Issuer, e.Subject = end.Owner[:at], end.Owner[at+1:]
	}
	s.opts.Audit.Write(e)
}

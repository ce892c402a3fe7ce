package httpapi

import (
	"bytes"
	"io"
	"strings"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/audit"
	"kiln/httpapi/auth"
)

const (
	// parameterNameBytesMax is more than any chain of parameters' names has.
	parameterNameBytesMax = 128
)

// isAudited leaves out what is for machines and has nobody's data, unless it is denied,
// and preflights.
func (x *exchange) isAudited() bool {
	if x.server.opts.Audit == nil || x.unrecorded || x.ctx.IsOptions() {
		return false
	}
	status := x.ctx.Response.StatusCode()
	return !x.isForMachines() || status == fasthttp.StatusUnauthorized || status == fasthttp.StatusForbidden
}

// admitAudited refuses requests whose events could not be written.
func (x *exchange) admitAudited() error {
	if !x.isAudited() {
		return nil
	}
	if err := x.server.opts.Audit.Admit(); err != nil {
		x.unrecorded = true // nothing is done for it, and what waits should not grow
		return err
	}
	x.admitted = true
	return nil
}

// audit records the request with the answer that it gets. What was refused before it was
// admitted is left out while events cannot be written.
func (x *exchange) audit() {
	if !x.isAudited() || !x.admitted && !x.server.opts.Audit.HasRoom() {
		return
	}
	if e := x.event(0); !x.isLeftOut(e) {
		x.record(e, x)
	}
}

// record writes the event of a request, or of an entry that inner has served. What was
// deleted by criteria has an event each.
func (x *exchange) record(e *audit.Event, inner *exchange) {
	for _, id := range inner.removed {
		e.Reference = inner.addr.typ.String() + "/" + id
		if inner.addr.typ.String() == "Patient" {
			e.Patient = id
		}
		x.server.opts.Audit.Write(e)
	}
	if len(inner.removed) == 0 {
		x.server.opts.Audit.Write(e)
	}
}

// auditEntry records an entry of a Bundle, from 0, with the answer in inner.
func (x *exchange) auditEntry(i int, inner *exchange) {
	if !x.isAudited() {
		return
	}
	e := inner.event(i + 1)
	x.whoAsks(e)
	x.record(e, inner)
}

// auditWritten records the write of an entry that a transaction has committed.
func (x *exchange) auditWritten(i, row int, change *engine.Change, status int) {
	if !x.isAudited() {
		return
	}
	r := &x.server.table.rows[row]
	e := &audit.Event{Recorded: x.now(), Name: r.name, Interaction: restCode(r.name), Action: actionOf(r.name, r.method), Method: methodNames[r.method], Status: status, RequestID: x.requestID(), Entry: i + 1}
	e.Reference = change.Type.String() + "/" + string(change.ID)
	if change.Type.String() == "Patient" {
		e.Patient = string(change.ID)
	}
	x.whoAsks(e)
	x.server.opts.Audit.Write(e)
}

// event describes the exchange. Nothing in it is from a body or a value of the query,
// unless the operator wants queries.
func (x *exchange) event(entry int) *audit.Event {
	method := parseMethod(x.ctx.Method())
	name := x.server.table.name(x.server.table.find(x.addr.place, method)) // also of what is refused before it is routed
	e := &audit.Event{
		Recorded: x.now(), Name: name, Interaction: restCode(name), Action: actionOf(name, method), Method: methodNames[method], Path: auditedPath(x.ctx.Path()),
		Status: x.ctx.Response.StatusCode(), RequestID: x.requestID(), Entry: entry,
	}
	if name == "bundle" && x.isTransaction {
		e.Interaction = "transaction"
	}
	x.whoAsks(e)
	e.Reference, e.Job = x.reference(), x.job()
	x.describeQuery(e)
	switch typeName := string(x.addr.typeName); {
	case typeName == "Patient" && fhir.ValidID(x.addr.id):
		e.Patient = string(x.addr.id)
	case e.Patient == "" && x.who != nil && fhir.ValidID([]byte(x.who.Patient)):
		e.Patient = x.who.Patient // the token sees nobody else's
	}
	return e
}

// whoAsks tells who the server takes the client for. Without --auth that is the holder
// of the certificate, if it has shown one that counts.
func (x *exchange) whoAsks(e *audit.Event) {
	if addr := x.origin().addr; addr.IsValid() {
		e.Address = addr.String()
	}
	switch {
	case x.who != nil:
		e.Issuer, e.Subject, e.Client, e.ClientName = x.who.Issuer, x.who.Subject, x.who.Client, x.who.Name
	case x.grantedTo != "":
		e.Issuer, e.Subject = auth.OwnIssuer, x.grantedTo
	default:
		if state := x.ctx.TLSConnectionState(); state != nil && len(state.VerifiedChains) > 0 {
			e.Issuer, e.Subject = "mtls", "subject:"+state.PeerCertificates[0].Subject.String()
		}
	}
}

// job is the address of the job that a kick-off has begun, below the base.
func (x *exchange) job() string {
	address, ok := strings.CutPrefix(string(x.ctx.Response.Header.Peek("Content-Location")), x.baseURL()+"/")
	if !ok || x.ctx.Response.StatusCode() != fasthttp.StatusAccepted {
		return ""
	}
	return address
}

// reference is the resource that was asked for or written; "": none by name.
func (x *exchange) reference() string {
	if location := string(x.ctx.Response.Header.Peek("Location")); location != "" {
		if rest, ok := strings.CutPrefix(location, x.baseURL()+"/"); ok {
			return rest
		}
	}
	if x.addr.typ == 0 || !fhir.ValidID(x.addr.id) {
		return ""
	}
	text := string(x.addr.typeName) + "/" + string(x.addr.id)
	if x.addr.place == placeVersion && parseVersion(x.addr.name) > 0 {
		text += "/_history/" + string(x.addr.name)
	}
	return text
}

// describeQuery names the parameters of the query and of a form in the body.
func (x *exchange) describeQuery(e *audit.Event) {
	var names []string
	add := func(key, value []byte) {
		names = append(names, auditedName(key))
		if name := string(key); e.Patient == "" && (name == "patient" || name == "subject" || name == "subject:Patient") {
			if id := bytes.TrimPrefix(value, []byte("Patient/")); fhir.ValidID(id) && (name != "subject" || len(id) < len(value)) {
				e.Patient = string(id)
			}
		}
	}
	for key, value := range x.ctx.QueryArgs().All() {
		add(key, value)
	}
	isForm := bytes.HasPrefix(x.ctx.Request.Header.ContentType(), []byte("application/x-www-form-urlencoded"))
	if isForm {
		for key, value := range x.ctx.PostArgs().All() {
			add(key, value)
		}
	}
	e.Parameters = strings.Join(names, ",")
	if !x.server.opts.AuditQueries || len(names) == 0 || x.addr.place == placeToken { // whose values are credentials
		return
	}
	e.Query = bytes.Clone(x.ctx.URI().QueryString())
	if isForm {
		e.Query = append(append(e.Query, '&'), x.ctx.PostBody()...)
	}
}

// auditedName is a parameter's name, if it looks like one.
func auditedName(name []byte) string {
	if len(name) == 0 || len(name) > parameterNameBytesMax || !isPlain(name, "_-.:$") {
		return "?"
	}
	return string(name)
}

// auditedPath is the path, if it looks like an address: who mistypes one may have put
// anything there.
func auditedPath(path []byte) string {
	if len(path) > textPathBytesMax || !isPlain(path, "/_-.$*") {
		return "?"
	}
	return string(path)
}

// textPathBytesMax is more than the longest address has.
const textPathBytesMax = 512

func isPlain(text []byte, also string) bool {
	for _, c := range text {
		alnum := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !alnum && strings.IndexByte(also, c) < 0 {
			return false
		}
	}
	return true
}

// restCode is the code of FHIR's list for a row of the table.
func restCode(name string) string {
	switch name {
	case "read", "vread", "update", "patch", "delete", "history-instance", "history-type", "history-system",
		"create", "search-type", "search-system", "capabilities":
		return name
	case "conditional-update", "conditional-patch", "conditional-delete":
		return strings.TrimPrefix(name, "conditional-")
	case "search-compartment":
		return "search-type"
	case "bundle":
		return "batch"
	default:
		return "operation"
	}
}

// actionOf: searches and operations are executed (FHIR R4 auditevent.html#action).
func actionOf(name string, m method) audit.Action {
	if restCode(name) == "create" {
		return audit.ActionCreate
	}
	switch {
	case m == methodPut || m == methodPatch:
		return audit.ActionUpdate
	case m == methodDelete:
		return audit.ActionDelete
	case m == methodPost || strings.HasPrefix(name, "search-"):
		return audit.ActionExecute
	default:
		return audit.ActionRead
	}
}

func (s *Server) writeAuditMetrics(w io.Writer) {
	if s.opts.Audit == nil {
		return
	}
	st := s.opts.Audit.Stats()
	metrics.WriteCounterUint64(w, "kiln_audit_events_total", st.Events)
	metrics.WriteCounterUint64(w, "kiln_audit_bytes_total", st.Bytes)
	metrics.WriteCounterUint64(w, "kiln_audit_write_failures_total", st.Failures)
	metrics.WriteCounterUint64(w, "kiln_audit_refused_requests_total", st.Refusals)
	metrics.WriteCounterUint64(w, "kiln_audit_left_out_requests_total", s.strangers.count())
	metrics.WriteGaugeUint64(w, "kiln_audit_queued_bytes", uint64(st.QueuedBytes))
	metrics.WriteGaugeUint64(w, "kiln_audit_failing", oneIf(st.Failing != nil))
	if !s.opts.AuditsApart {
		return
	}
	metrics.WriteCounterUint64(w, "kiln_audit_store_events_total", st.Kept.Events)
	metrics.WriteCounterUint64(w, "kiln_audit_store_failures_total", st.Kept.Failures)
	metrics.WriteCounterUint64(w, "kiln_audit_store_refused_total", st.Kept.Refused)
	metrics.WriteGaugeUint64(w, "kiln_audit_store_failing", oneIf(st.Kept.Failing != nil))
	metrics.WriteGaugeUint64(w, "kiln_audit_store_behind_bytes", uint64(s.opts.Audit.Behind()))
}

// auditUnavailable is the text of 503 while accesses cannot be recorded.
const auditUnavailable = "This server records every access, and cannot write that down at the moment: nothing was done. Try again later."

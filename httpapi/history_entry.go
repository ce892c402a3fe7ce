package httpapi

import (
	"errors"
	"strconv"
	"time"

	"kiln/engine"
	"kiln/fhir/view"
)

// errPageFull ends a page that has reached its size.
var errPageFull = errors.New("page full")

// entryWriter appends the entries of a history Bundle.
type entryWriter struct {
	base  string
	shown *view.View
	text  []byte
	whole []byte // of a resource that is shown in part
}

func (w *entryWriter) add(v *engine.Version) error {
	if len(w.text) >= historyPageBytesMax {
		return errPageFull
	}
	if len(w.text) > 0 {
		w.text = append(w.text, ',')
	}
	w.append(v)
	return nil
}

// resource appends what is shown of a version. A deletion has nothing to leave out.
func (w *entryWriter) resource(v *engine.Version) {
	if w.shown.IsWhole() || v.Deleted {
		w.text = v.AppendJSON(w.text)
		return
	}
	w.whole = v.AppendJSON(w.whole[:0])
	w.text = w.shown.Append(w.text, w.whole)
}

// historyMethod is the method and the status that made a version. PUT stands for
// patches, whose documents are not kept: the entry's resource is what a PUT
// would send. It stands for imports too, and for what older builds wrote; of
// those the first version counts as created.
func historyMethod(v *engine.Version) (method, status string) {
	switch {
	case v.Lost:
		return "PUT", "500 Internal Server Error"
	case v.Deleted:
		return "DELETE", "204 NoContent"
	case v.Posted:
		method = "POST"
	default:
		method = "PUT"
	}
	if v.Created || v.VersionID == 1 {
		return method, "201 Created"
	}
	return method, "200 OK"
}

// append appends one entry.
func (w *entryWriter) append(v *engine.Version) {
	name := v.Type.String()
	method, status := historyMethod(v)
	w.text = append(w.text, `{"fullUrl":`...)
	w.text = appendString(w.text, w.base+"/"+name+"/"+string(v.ID))
	if !v.Lost {
		w.text = append(w.text, `,"resource":`...)
		w.resource(v)
	}
	dst := append(w.text, `,"request":{"method":"`...)
	dst = append(dst, method...)
	dst = append(dst, `","url":"`...)
	dst = append(dst, name...)
	if method != "POST" {
		dst = append(dst, '/')
		dst = append(dst, v.ID...)
	}
	dst = append(dst, `"},"response":{"status":"`...)
	dst = append(dst, status...)
	dst = append(dst, `","etag":"W/\"`...)
	dst = strconv.AppendInt(dst, v.VersionID, 10)
	dst = append(dst, `\"","lastModified":"`...)
	dst = time.UnixMilli(v.LastUpdated.Milli).UTC().AppendFormat(dst, instantLayout)
	dst = append(dst, '"')
	if v.Lost {
		dst = append(dst, `,"outcome":{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"no-store","diagnostics":`...)
		dst = append(appendString(dst, lostText(v)), "}]}"...)
	}
	w.text = append(dst, "}}"...)
}

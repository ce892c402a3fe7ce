package httpapi

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
)

// entryResponse is the response of one entry.
type entryResponse struct {
	status         int
	location, etag string
	lastModified   fhir.Instant
	dated          bool   // lastModified is known
	outcome        []byte // an OperationOutcome; nil: none
}

// appendTo appends "response":{...}.
func (r *entryResponse) appendTo(dst []byte) []byte {
	dst = append(dst, `"response":{"status":"`...)
	dst = strconv.AppendInt(dst, int64(r.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, fasthttp.StatusMessage(r.status)...)
	dst = append(dst, '"')
	if r.location != "" {
		dst = append(dst, `,"location":`...)
		dst = appendString(dst, r.location)
	}
	if r.etag != "" {
		dst = append(dst, `,"etag":`...)
		dst = appendString(dst, r.etag)
	}
	if r.dated {
		dst = append(dst, `,"lastModified":"`...)
		dst = time.UnixMilli(r.lastModified.Milli).UTC().AppendFormat(dst, instantLayout)
		dst = append(dst, '"')
	}
	if len(r.outcome) > 0 {
		dst = append(dst, `,"outcome":`...)
		dst = append(dst, r.outcome...)
	}
	return append(dst, '}')
}

// bundleWriter appends a response Bundle.
type bundleWriter struct {
	text  []byte
	count int
}

func (x *exchange) newBundle(kind string) *bundleWriter {
	w := &bundleWriter{text: x.buffer()}
	w.text = append(w.text, `{"resourceType":"Bundle","id":`...)
	w.text = appendString(w.text, x.server.opts.NewID())
	w.text = append(w.text, `,"type":"`...)
	w.text = append(w.text, kind...)
	w.text = append(w.text, '"')
	return w
}

// next begins an entry.
func (w *bundleWriter) next() {
	if w.count == 0 {
		w.text = append(w.text, `,"entry":[`...)
	} else {
		w.text = append(w.text, ',')
	}
	w.count++
}

func (w *bundleWriter) end() []byte {
	if w.count > 0 {
		w.text = append(w.text, ']')
	}
	return append(w.text, '}')
}

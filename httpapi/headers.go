package httpapi

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
)

// ---- Prefer (RFC 7240) ----

// returnPreference is what a client wants back from a write.
type returnPreference uint8

const (
	returnDefault returnPreference = iota
	returnMinimal
	returnRepresentation
	returnOutcome
)

var returnNames = [...]string{
	returnMinimal: "minimal", returnRepresentation: "representation", returnOutcome: "OperationOutcome",
}

// preferences are the Prefer headers of a request.
type preferences struct {
	returns      returnPreference
	badReturn    string // a value of return that FHIR does not know
	lenient      bool   // handling=lenient
	handling     bool   // handling=strict or handling=lenient was there
	respondAsync bool
	separate     bool   // separate-export-status (Bulk Data Access)
	unknown      string // the first preference that is none of these
}

// parsePrefer reads all Prefer headers; of a repeated preference the first
// counts (RFC 7240 section 2).
func parsePrefer(values [][]byte) preferences {
	var p preferences
	for _, header := range values {
		for len(header) > 0 {
			var item []byte
			item, header = cutListItem(header)
			p.add(item)
		}
	}
	return p
}

// add reads one preference: token[=value][;parameters].
func (p *preferences) add(item []byte) {
	item, _, _ = bytes.Cut(item, []byte(";"))
	key, value, _ := bytes.Cut(item, []byte("="))
	name := strings.ToLower(string(bytes.TrimSpace(key)))
	text := strings.Trim(string(bytes.TrimSpace(value)), `"`)
	switch {
	case name == "":
	case name == "respond-async" && text == "":
		p.respondAsync = true
	case name == "separate-export-status" && text == "":
		p.separate = true
	case name == "return":
		p.addReturn(text)
	case name == "handling" && (text == "lenient" || text == "strict"):
		if !p.handling {
			p.handling, p.lenient = true, text == "lenient"
		}
	case p.unknown == "":
		p.unknown = string(bytes.TrimSpace(item))
	}
}

func (p *preferences) addReturn(text string) {
	if p.returns != returnDefault || p.badReturn != "" {
		return
	}
	switch strings.ToLower(text) {
	case "minimal":
		p.returns = returnMinimal
	case "representation":
		p.returns = returnRepresentation
	case "operationoutcome":
		p.returns = returnOutcome
	default:
		p.badReturn = text
	}
}

// cutListItem cuts the first item of a comma-separated header; commas in
// quoted strings do not count.
func cutListItem(list []byte) (item, rest []byte) {
	quoted := false
	for i, c := range list {
		switch {
		case c == '"' && (i == 0 || list[i-1] != '\\'):
			quoted = !quoted
		case c == ',' && !quoted:
			return bytes.TrimSpace(list[:i]), list[i+1:]
		}
	}
	return bytes.TrimSpace(list), nil
}

// ---- entity tags ----

// appendETag appends W/"version".
func appendETag(dst []byte, version int64) []byte {
	dst = append(dst, `W/"`...)
	dst = strconv.AppendInt(dst, version, 10)
	return append(dst, '"')
}

// noVersion is what parseWeakETag returns for a tag that is well-formed and can
// be no version of this server.
const noVersion = math.MinInt64

// parseWeakETag reads one W/"version"; ok is false when it is malformed.
func parseWeakETag(tag []byte) (version int64, ok bool) {
	tag = bytes.TrimSpace(tag)
	inner, weak := bytes.CutPrefix(tag, []byte(`W/"`))
	inner, closed := bytes.CutSuffix(inner, []byte(`"`))
	if !weak || !closed || len(inner) == 0 || bytes.IndexByte(inner, '"') >= 0 {
		return 0, false
	}
	return parseVersion(inner), true
}

// parseVersion reads a version id, or returns noVersion. "01" and "+1" are no
// versions: each version has one name.
func parseVersion(text []byte) int64 {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(text) {
		return noVersion
	}
	return n
}

// anyTagMatches says whether an If-None-Match header names version: "*", or a
// list of tags, compared weakly (RFC 9110 section 13.1.2).
func anyTagMatches(header []byte, version int64) bool {
	for len(header) > 0 {
		var tag []byte
		tag, header = cutListItem(header)
		if string(tag) == "*" {
			return true
		}
		tag = bytes.TrimPrefix(tag, []byte("W/"))
		if len(tag) > 2 && tag[0] == '"' && tag[len(tag)-1] == '"' && parseVersion(tag[1:len(tag)-1]) == version {
			return true
		}
	}
	return false
}

// ---- dates ----

// parseHTTPDate reads the three forms of RFC 9110 section 5.6.7.
func parseHTTPDate(text []byte) (time.Time, bool) {
	if len(text) == 0 {
		return time.Time{}, false
	}
	for _, layout := range [...]string{"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		if t, err := time.ParseInLocation(layout, string(text), time.UTC); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// ---- media types ----

// mediaType is "type/subtype; name=value" taken apart, in lower case.
type mediaType struct {
	name   string
	params []string // "name=value"
}

func parseMediaType(text []byte) mediaType {
	name, rest, _ := bytes.Cut(text, []byte(";"))
	m := mediaType{name: strings.ToLower(string(bytes.TrimSpace(name)))}
	for len(rest) > 0 {
		var param []byte
		param, rest, _ = bytes.Cut(rest, []byte(";"))
		key, value, _ := strings.Cut(strings.ToLower(string(param)), "=")
		m.params = append(m.params, strings.TrimSpace(key)+"="+strings.Trim(strings.TrimSpace(value), `"`))
	}
	return m
}

func (m mediaType) param(name string) string {
	for _, p := range m.params {
		if value, ok := strings.CutPrefix(p, name+"="); ok {
			return value
		}
	}
	return ""
}

// isFHIRVersionR4 accepts no fhirVersion parameter, or one that names R4.
func (m mediaType) isFHIRVersionR4() bool {
	v := m.param("fhirversion")
	return v == "" || v == "4.0" || v == "4.0.1" || v == "r4"
}

// isJSON says whether a body of this type is read as FHIR JSON.
func (m mediaType) isJSON() bool {
	charset := m.param("charset")
	return (m.name == contentTypeFHIR || m.name == contentTypeJSON) &&
		(charset == "" || charset == "utf-8" || charset == "us-ascii") && m.isFHIRVersionR4()
}

const (
	contentTypeFHIR    = "application/fhir+json"
	contentTypeJSON    = "application/json"
	contentTypeNDJSON  = "application/fhir+ndjson"
	contentTypeParquet = "application/vnd.apache.parquet"
	contentTypeText    = "text/plain; charset=utf-8"
	contentTypeAnswer  = "application/fhir+json; charset=utf-8"
	contentTypeResults = "application/json; charset=utf-8"
)

// acceptsJSON says whether the Accept headers allow FHIR JSON; none allow all.
// The most specific range that matches decides (RFC 9110 section 12.5.1).
func acceptsJSON(values [][]byte) bool {
	best, accepted, found := -1, false, false
	for _, header := range values {
		for len(header) > 0 {
			var item []byte
			item, header = cutListItem(header)
			if len(item) == 0 {
				continue
			}
			found = true
			m := parseMediaType(item)
			rank := acceptRank(m)
			if rank < 0 || rank < best {
				continue
			}
			q := m.param("q") != "" && isZeroQuality(m.param("q"))
			if rank > best {
				best, accepted = rank, !q
			} else {
				accepted = accepted || !q
			}
		}
	}
	return !found || accepted
}

// acceptRank is how closely a range of Accept names FHIR JSON; -1: not at all.
func acceptRank(m mediaType) int {
	if !m.isFHIRVersionR4() {
		return -1
	}
	switch m.name {
	case "*/*":
		return 0
	case "application/*":
		return 1
	case contentTypeFHIR, contentTypeJSON, "application/json+fhir", "text/json", "json":
		return 2
	default:
		return -1
	}
}

func isZeroQuality(q string) bool {
	return strings.Trim(q, "0.") == ""
}

// formatIsJSON says whether a _format parameter asks for JSON.
func formatIsJSON(format string) bool {
	m := parseMediaType([]byte(format))
	if !m.isFHIRVersionR4() {
		return false
	}
	switch unescapedPlus(m.name) {
	case "json", "text/json", contentTypeJSON, contentTypeFHIR, "application/json+fhir":
		return true
	default:
		return false
	}
}

// ---- Range (RFC 9110 section 14) ----

// byteRange is a part of a file.
type byteRange struct {
	from, bytes int64
}

// rangeResult says what a Range header asks for.
type rangeResult uint8

const (
	rangeWhole         rangeResult = iota // no range, or one to ignore
	rangePart                             // a part
	rangeUnsatisfiable                    // 416
)

// parseRange reads a Range header for a file of size bytes. Several ranges and
// malformed ones are ignored, as the RFC allows.
func parseRange(header []byte, size int64) (byteRange, rangeResult) {
	spec, ok := bytes.CutPrefix(bytes.TrimSpace(header), []byte("bytes="))
	first, last, dash := bytes.Cut(bytes.TrimSpace(spec), []byte("-"))
	if !ok || !dash || bytes.IndexByte(spec, ',') >= 0 {
		return byteRange{}, rangeWhole
	}
	if len(first) == 0 {
		n, ok := parseDigits(last)
		switch {
		case !ok:
			return byteRange{}, rangeWhole
		case n == 0 || size == 0:
			return byteRange{}, rangeUnsatisfiable
		default:
			n = min(n, size)
			return byteRange{size - n, n}, rangePart
		}
	}
	from, ok := parseDigits(first)
	to := int64(math.MaxInt64)
	if ok && len(last) > 0 {
		to, ok = parseDigits(last)
	}
	switch {
	case !ok || to < from:
		return byteRange{}, rangeWhole
	case from >= size:
		return byteRange{}, rangeUnsatisfiable
	default:
		return byteRange{from, min(to, size-1) - from + 1}, rangePart
	}
}

// parseDigits reads a decimal number; one too large for int64 is its maximum.
func parseDigits(text []byte) (int64, bool) {
	if len(text) == 0 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

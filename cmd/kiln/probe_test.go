package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// probe is a server with --auth, and what exists on it that others may not know of.
type probe struct {
	*server
	limited []string // the header of a client that reaches one patient's own only
	// pairs are addresses of what is there, out of that client's reach, and of what is
	// not there; both parts are as long as each other.
	pairs [][2]string
}

func newProbe(t *testing.T) *probe {
	t.Helper()
	issuer := newIssuer(t, httptest.NewServer, "a")
	in := t.TempDir()
	p := &probe{server: serve(t, filepath.Join(t.TempDir(), "data"), "--auth", issuer.file(""), "--import-root", in)}
	p.limited = issuer.token("a", map[string]any{"scope": "patient/*.cruds", "patient": "own0"})
	writer := issuer.token("a", roles("Contributor", "Exporter", "Importer"))
	performed := strings.Replace(observationOf("own1", "own0"), `"subject"`, `"performer":[{"reference":"Patient/hqr1"},{"reference":"Patient/nqn1"}],"subject"`, 1)
	p.must(http.StatusCreated, http.MethodPut, "/Observation/own1", performed, writer...)
	for _, name := range []string{"own0", "hqr1", "gqn1"} {
		p.must(http.StatusCreated, http.MethodPut, "/Patient/"+name, `{"resourceType":"Patient","id":"`+name+`","active":true}`, writer...)
		p.must(http.StatusCreated, http.MethodPut, "/Observation/"+name, observationOf(name, name), writer...)
	}
	p.must(http.StatusNoContent, http.MethodDelete, "/Observation/gqn1", "", writer...)
	p.must(http.StatusNoContent, http.MethodDelete, "/Patient/gqn1", "", writer...)
	export := p.must(http.StatusAccepted, http.MethodGet, "/$export", "", append(writer, "Prefer", "respond-async", "Accept", "application/fhir+json")...)
	file := "file://" + write(t, in, "p.ndjson", patients(1, "x"))
	started := p.must(http.StatusAccepted, http.MethodPost, "/$import", `{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"},{"name":"mode","valueString":"IncrementalLoad"},{"name":"input","part":[{"name":"type","valueString":"Patient"},{"name":"url","valueUri":"`+file+`"}]}]}`,
		append(writer, "Prefer", "respond-async")...)
	for _, one := range []string{"/Observation/hqr1", "/Observation/gqn1", "/Patient/hqr1", "/Patient/gqn1"} {
		p.pairs = append(p.pairs, [2]string{one, one[:len(one)-4] + "nqn1"})
	}
	for _, job := range []*answer{export, started} {
		there := strings.TrimPrefix(job.header.Get("Content-Location"), p.base)
		last := there[len(there)-1]
		p.pairs = append(p.pairs, [2]string{there, there[:len(there)-1] + string('0'+(last-'0'+5)%10)})
	}
	return p
}

func observationOf(id, patient string) string {
	return `{"resourceType":"Observation","id":"` + id + `","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/` + patient + `"}}`
}

// probeLines are request lines; %s is an address, of which %[2]s is the part behind the
// last slash and %[3]s what is before that.
var probeLines = []string{
	"%s", "%s/", "%s//", "/%s", "%s?", "%s#x", "%s%%20", "%s%%00", "%s;x=1", "%s;", "%s.json", "%s/.", "%s/..", "%[3]s/./%[2]s", "%[3]s//%[2]s", "%[3]s/x/../%[2]s", "%[3]s%%2f%[2]s", "%[3]s/%%2e/%[2]s",
	"%[3]s/%%2e%%2e/%[2]s", "%[3]s\\%[2]s", "%s/_history", "%s/_history/1", "%s/_history/2", "%s/_history/1/", "%s/$everything", "%s/$validate", "%s/$purge-history", "%s/$export", "%s/$reindex", "%s/Observation", "%s/*", "%s/Patient-1.ndjson",
	"%[3]s?_id=%[2]s", "%[3]s?_id=%[2]s&_total=accurate", "%[3]s?_id=%[2]s&_summary=count", "%[3]s/_search?_id=%[2]s", "%[3]s?_id:not=%[2]s", "%[3]s?subject=Patient/%[2]s", "%[3]s?_type=Observation&_id=%[2]s", "%s?_method=DELETE", "%s?_format=xml", "%s?_elements=id", "%s?%%zz",
	"http://other.example%s", "/FHIR%s", "/fhir/../fhir%s",
}

// probeHeaders are sent with plain addresses.
var probeHeaders = []string{
	"If-None-Match: W/\"1\"", "If-None-Match: *", "If-Match: W/\"1\"", "If-Match: W/\"9\"", "If-Modified-Since: Mon, 01 Jan 2035 00:00:00 GMT", "If-None-Exist: _id=hqr1", "Range: bytes=0-0",
	"X-HTTP-Method-Override: GET", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "X-Original-URL: /fhir/Patient/hqr1", "X-Rewrite-URL: /fhir/Patient/hqr1", "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1;host=a",
	"Content-Type: application/json-patch+json", "Content-Type: text/plain", "Accept: application/xml", "Prefer: return=minimal", "Prefer: respond-async", "Expect: 100-continue", "Accept-Encoding: gzip", "Origin: http://a.example", "X-Provenance: {}",
	"Authorization: Basic YTpi", "Authorization: Bearer ", "Authorization: Bearer a.b.c", "Host: b", "Content-Length: 0", "Content-Length: 5", "Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Connection: Authorization", "Cookie: a=b",
}

var probeMethods = []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "LINK"}

// probeChanging is what no two answers have in common.
var probeChanging = regexp.MustCompile(`(?i)(\r\nDate: [^\r]*|\r\nX-Request-Id: [^\r]*|"lastUpdated":"[^"]*"|[0-9a-f]{8}-[0-9a-f-]{27}|"lastModified":"[^"]*"|"timestamp":"[^"]*")`)

// probeNames are ids in pairs.
var probeNames = regexp.MustCompile(`hqr1|gqn1|nqn1`)

// same asks for both of a pair; make gives the request's text. Both answers, with
// one name for both, have to be the same.
func (p *probe) same(pair [2]string, make func(address string) string) {
	p.t.Helper()
	var answers, shown [2]string
	for i, address := range pair {
		shown[i] = make(address)
		got := talk(p.t, strings.TrimPrefix(p.root, "http://"), shown[i])
		answers[i] = probeChanging.ReplaceAllString(got, "")
		answers[i] = probeNames.ReplaceAllString(strings.ReplaceAll(answers[i], address, "NAME"), "NAME")
		if got == "" {
			p.t.Errorf("%q: no answer", shown[i])
		}
		if strings.HasPrefix(got, "HTTP/1.1 5") && !strings.HasPrefix(got, "HTTP/1.1 501") && !strings.HasPrefix(got, "HTTP/1.1 505") {
			p.t.Errorf("%q: %s", shown[i], got)
		}
	}
	if answers[0] != answers[1] {
		p.t.Errorf("%q: %q\nbut what is not there: %q", shown[0], answers[0], answers[1])
	}
}

// talk sends a request on a connection of its own and reads until that ends.
func talk(t *testing.T, addr, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, text) // it may have been refused in the middle
	_ = conn.(*net.TCPConn).CloseWrite()
	var got bytes.Buffer
	_, _ = got.ReadFrom(conn) // a reset comes after the answer
	return got.String()
}

func (p *probe) request(method, line, address, version string, headers ...string) string {
	at := strings.LastIndexByte(address, '/')
	path := line
	if strings.Contains(line, "%") {
		path = strings.ReplaceAll(fmt.Sprintf(line+"%[4]s", "/fhir"+address, address[at+1:], "/fhir"+address[:at], ""), "\x00", "%00")
	}
	body := observationOf(address[at+1:], address[at+1:])
	if strings.HasPrefix(address, "/Patient") {
		body = `{"resourceType":"Patient","id":"` + address[at+1:] + `"}`
	}
	text := method + " " + path + " HTTP/" + version + "\r\nHost: a\r\nConnection: close\r\n"
	for _, header := range headers {
		text += header + "\r\n"
	}
	joined := strings.Join(headers, "\n")
	if !strings.Contains(joined, "Content-Type") {
		text += "Content-Type: application/fhir+json\r\n"
	}
	if method == "GET" || method == "HEAD" || strings.Contains(joined, "Content-Length") || strings.Contains(joined, "Transfer-Encoding: chunked") {
		body = ""
	} else {
		text += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if strings.Contains(joined, "Content-Length: 5") {
		body = "{    "
	}
	if strings.Contains(joined, "Transfer-Encoding: chunked") {
		body = "0\r\n\r\n"
	}
	return text + "\r\n" + body
}

// probeBodies are requests to the base or a type whose body has NAME.
var probeBodies = []struct{ path, contentType, body string }{
	{"/Observation/_search", "application/x-www-form-urlencoded", "_id=NAME"},
	{"/Observation/_search?_id=NAME", "application/x-www-form-urlencoded", ""},
	{"/_search", "application/x-www-form-urlencoded", "_type=Observation&_id=NAME"},
	{"/Observation/_search", "application/x-www-form-urlencoded", "performer=Patient/NAME&_include=Observation:performer"},
	{"/Observation/_search", "application/x-www-form-urlencoded", "performer:Patient.active=true&performer=Patient/NAME"},
	{"/Observation/_search", "application/x-www-form-urlencoded", "performer:Patient._id=NAME"},
	{"/Patient/_search", "application/x-www-form-urlencoded", "_has:Observation:subject:_id=NAME"},
	{"/Patient/_search", "application/x-www-form-urlencoded", "_id=NAME&_revinclude=Observation:subject"},
	{"/Patient/_search", "application/x-www-form-urlencoded", "_list=NAME"},
	{"", "application/fhir+json", `{"request":{"method":"GET","url":"Observation/NAME"}}`},
	{"", "application/fhir+json", `{"request":{"method":"HEAD","url":"Observation/NAME"}}`},
	{"", "application/fhir+json", `{"request":{"method":"GET","url":"Observation/NAME/_history/1"}}`},
	{"", "application/fhir+json", `{"request":{"method":"GET","url":"Observation?_id=NAME&_total=accurate"}}`},
	{"", "application/fhir+json", `{"request":{"method":"GET","url":"Observation/NAME","ifNoneMatch":"W/\"1\""}}`},
	{"", "application/fhir+json", `{"request":{"method":"DELETE","url":"Observation/NAME"}}`},
	{"", "application/fhir+json", `{"request":{"method":"DELETE","url":"Observation?_id=NAME"}}`},
	{"", "application/fhir+json", `{"request":{"method":"PUT","url":"Observation/NAME"},"resource":` + observationOf("NAME", "own0") + `}`},
	{"", "application/fhir+json", `{"request":{"method":"PUT","url":"Observation/NAME","ifMatch":"W/\"1\""},"resource":` + observationOf("NAME", "own0") + `}`},
	{"", "application/fhir+json", `{"request":{"method":"PUT","url":"Observation?_id=NAME"},"resource":` + observationOf("NAME", "own0") + `}`},
	{"", "application/fhir+json", `{"request":{"method":"POST","url":"Observation","ifNoneExist":"_id=NAME"},"resource":` + observationOf("new", "own0") + `}`},
}

// bodies sends what names a pair in its body, as a Bundle's entry also.
func (p *probe) bodies(pair [2]string, who []string) {
	for _, one := range probeBodies {
		for _, kind := range []string{"batch", "transaction"} {
			p.same(pair, func(address string) string {
				body := one.body
				if one.path == "" {
					body = `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + body + `]}`
				}
				text := "POST /fhir" + one.path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: " + one.contentType + "\r\n"
				for _, header := range who {
					text += header + "\r\n"
				}
				name := address[strings.LastIndexByte(address, '/')+1:]
				body = strings.ReplaceAll(body, "NAME", name)
				return strings.ReplaceAll(text, "NAME", name) + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
			})
		}
	}
}

// shapes asks for a pair by methods, in all shapes of addresses and, if they are wanted,
// of headers.
func (p *probe) shapes(pair [2]string, who, methods []string, headers bool) {
	for _, method := range methods {
		for _, line := range probeLines {
			if strings.Contains(line, ":not") && method != "GET" {
				continue // it is the client's own that this changes
			}
			p.same(pair, func(address string) string { return p.request(method, line, address, "1.1", who...) })
		}
		p.same(pair, func(address string) string { return p.request(method, "%s", address, "1.0", who...) })
		for _, header := range probeHeaders {
			if !headers || strings.HasPrefix(header, "Authorization") && method != "GET" {
				continue // an address may fail so often only
			}
			p.same(pair, func(address string) string { return p.request(method, "%s", address, "1.1", append(who, header)...) })
		}
	}
}

// TestNothingTellsWhatIsThere asks, in all shapes that requests can have, for what is
// there and for what is not, without credentials and as a client that reaches neither:
// the answers are the same.
func TestNothingTellsWhatIsThere(t *testing.T) {
	t.Parallel()
	p := newProbe(t)
	for _, who := range [][]string{nil, {p.limited[0] + ": " + p.limited[1]}} {
		for n, pair := range p.pairs {
			if n == 0 {
				p.shapes(pair, who, probeMethods, true)
				p.bodies(pair, who)
			} else {
				p.shapes(pair, who, []string{"GET", "PUT", "DELETE"}, false)
			}
		}
	}
	p.stop()
}

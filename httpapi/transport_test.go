package httpapi

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
)

func unzip(t *testing.T, text string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// smuggled looks like a request, and is the body of another.
const smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

func TestRefusedBodyIsNotARequest(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.BodyBytesMax = 1 << 20 })
	filler := strings.Repeat("x", 100_000)
	f := func(name, request string, statuses ...int) {
		t.Helper()
		answers := s.raw(t, request)
		if len(answers) != len(statuses) {
			t.Fatalf("%s: got %d answers, want %d", name, len(answers), len(statuses))
		}
		for i, want := range statuses {
			if answers[i].status != want {
				t.Errorf("%s: answer %d has status %d, want %d", name, i, answers[i].status, want)
			}
		}
	}
	withLength := func(line, body string) string {
		return line + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	last := "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	f("refused by type", withLength("POST /fhir/Patient", filler+smuggled)+last, 415, 200)
	f("refused by address", withLength("POST /nowhere", filler+smuggled)+last, 404, 200)
	f("refused by method", withLength("PUT /fhir/metadata", smuggled)+last, 405, 200)
	f("a GET with a body", withLength("GET /fhir/metadata", smuggled)+last, 200, 200)
	f("a HEAD with a body", withLength("DELETE /fhir/metadata", smuggled)+last, 405, 200)
	f("too large", withLength("POST /fhir/Patient", strings.Repeat("x", 2<<20)+smuggled), 413)
	chunked := "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
	chunks := strconv.FormatInt(int64(len(smuggled)), 16) + "\r\n" + smuggled + "\r\n0\r\n\r\n"
	f("chunked", chunked+"\r\n"+chunks+last, 404, 200)
	f("both lengths", chunked+"Content-Length: 4\r\n\r\n"+chunks+last, 400)
	f("both lengths, other case", "POST /nowhere HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 4\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks+last, 400)
	f("two lengths", "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd"+last, 400)
	f("odd coding", "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n"+chunks+last, 400)
	f("no host", "GET /healthz HTTP/1.1\r\n\r\n", 400)
	f("refused expectation", "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n\r\n"+smuggled, 413)
}

// checkStandingHeaders looks for what every answer has.
func (a *answer) checkStandingHeaders(t *testing.T, name string) {
	t.Helper()
	if got := a.header.Get("Cache-Control"); got != cacheControl {
		t.Errorf("%s: %d has Cache-Control %q", name, a.status, got)
	}
	if got := a.header.Get("X-Content-Type-Options"); got != contentTypeOptions {
		t.Errorf("%s: %d has X-Content-Type-Options %q", name, a.status, got)
	}
}

func TestLimitsAnswerWithOutcomes(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.BodyBytesMax = 1000 })
	f := func(request string, status int, code string) {
		t.Helper()
		answers := s.raw(t, request)
		if len(answers) != 1 {
			t.Fatalf("got %d answers", len(answers))
		}
		answers[0].checkStandingHeaders(t, request[:min(20, len(request))])
		if gotCode, text := answers[0].outcome(t); answers[0].status != status || gotCode != code {
			t.Errorf("got %d %s %q", answers[0].status, gotCode, text)
		}
	}
	f("GET /fhir/Patient?x="+strings.Repeat("x", headBytesMax)+" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "too-long")
	f("POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"+strings.Repeat("x", 1001), 413, "too-long")
	f("nonsense\r\n\r\n", 400, "invalid")
}

func TestTooLargeBodyIsRefusedToOrdinaryClients(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.BodyBytesMax = 1 << 20 })
	a := s.do(t, "POST", "/fhir/Patient", strings.Repeat("x", 20<<20), typeHeader)
	if code, _ := a.outcome(t); a.status != 413 || code != "too-long" {
		t.Errorf("got %d %s", a.status, code)
	}
}

func TestLargeBodiesShareABudget(t *testing.T) {
	s := newBareServer(t, nil)
	s.bodies.free = 100 << 10
	f := func(request string, status int) {
		t.Helper()
		answers := s.raw(t, request)
		if len(answers) != 1 || answers[0].status != status {
			t.Fatalf("got %d answers, first %+v", len(answers), answers[0])
		}
		if status != 503 {
			return
		}
		if code, _ := answers[0].outcome(t); code != "throttled" || answers[0].header.Get("Retry-After") != "1" {
			t.Errorf("got %s, Retry-After %q", code, answers[0].header.Get("Retry-After"))
		}
	}
	body := strings.Repeat("x", 90<<10)
	post := "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: "
	f(post+strconv.Itoa(len(body))+"\r\n\r\n"+body, 404)
	f(post+strconv.Itoa(2*len(body))+"\r\n\r\n"+body+body, 503)
	f(post+strconv.Itoa(2*len(body))+"\r\nExpect: 100-continue\r\n\r\n", 503)
	f("POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n0\r\n\r\n", 503)
	f(post+strconv.Itoa(len(body))+"\r\n\r\n"+body, 404)
	if s.bodies.free != 100<<10 {
		t.Errorf("%d bytes of the budget are free afterwards", s.bodies.free)
	}
}

func TestOneConnectionTooManyIsToldSo(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.ConnectionsMax = 2 })
	var open []net.Conn
	ask := func(conn net.Conn) int {
		t.Helper()
		if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	for range 2 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if status := ask(conn); status != 200 {
			t.Fatalf("within the limit: %d", status)
		}
		open = append(open, conn)
	}
	a := s.do(t, "GET", "/readyz", "")
	a.checkStandingHeaders(t, "one connection too many")
	if code, _ := a.outcome(t); a.status != 503 || code != "throttled" || a.header.Get("Retry-After") != "1" {
		t.Errorf("one too many: %d %s, Retry-After %q", a.status, code, a.header.Get("Retry-After"))
	}
	if status := ask(open[1]); status != 200 {
		t.Errorf("the connections that were there: %d", status)
	}
	open[0].Close()
	for end := time.Now().Add(10 * time.Second); s.do(t, "GET", "/readyz", "").status != 200; {
		if time.Now().After(end) {
			t.Fatal("a place that was given back is not used")
		}
	}
}

func TestOddRequestsHaveOneMeaning(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", "")
	f := func(name, request string, statuses ...int) {
		t.Helper()
		answers := s.raw(t, request)
		var got []int
		for _, a := range answers {
			got = append(got, a.status)
			if a.status >= 400 {
				a.outcome(t)
			}
			a.checkStandingHeaders(t, name)
		}
		if !slices.Equal(got, statuses) {
			t.Errorf("%s: got %v, want %v", name, got, statuses)
		}
	}
	get := func(target string, headers ...string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
	}
	last := get("/fhir/Patient/a", "Connection: close")
	put := func(headers ...string) string {
		body := patient("a", "")
		return "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n" + body
	}
	f("pipelined", get("/fhir/Patient/a")+get("/fhir/Patient/x")+put()+last, 200, 404, 200, 200)
	f("encoded slash", get("/fhir/Patient%2Fa")+last, 400, 200)
	f("double slash", get("/fhir//Patient/a")+last, 400, 200)
	f("dots", get("/fhir/Patient/x/../a")+get("/fhir/Patient/%2e%2e/a")+last, 400, 400, 200)
	f("NUL", get("/fhir/Patient/a%00")+last, 400, 200)
	f("backslash", get("/fhir/Patient%5Ca")+last, 400, 200)
	f("bad escape", get("/fhir/Patient/%zz")+last, 400, 200)
	f("a fragment is no part of a path", get("/fhir/Patient/a%23b")+last, 404, 200)
	f("repeated If-Match", put(`If-Match: W/"1"`, `If-Match: W/"1"`)+last, 400, 200)
	f("repeated If-None-Match", put("If-None-Match: *", "If-None-Match: *")+last, 400, 200)
	f("repeated If-None-Exist", "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\nIf-None-Exist: a=b\r\nIf-None-Exist: c=d\r\nContent-Length: 26\r\n\r\n"+patient("", "")+last, 400, 200)
	f("repeated Content-Encoding", put("Content-Encoding: gzip", "Content-Encoding: gzip")+last, 415, 200)
	f("both lengths and an empty body", "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"+last, 400)
	f("a length with a sign", "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nabcde"+last, 400)
	f("any 1.x", "GET /fhir/Patient/a HTTP/1.7\r\nHost: x\r\nConnection: close\r\n\r\n", 200)
	f("HTTP/2 by name", "GET /fhir/Patient/a HTTP/2.0\r\nHost: x\r\n\r\n"+last, 505)
	f("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505)
	f("HTTP/0.9", "GET /fhir/Patient/a HTTP/0.9\r\nHost: x\r\n\r\n", 505)
	f("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"+last, 204, 200)
	f("GET *", get("*")+last, 400, 200)
	f("a space before the colon", "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nabcde"+last, 400)
}

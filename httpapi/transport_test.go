package httpapi

import (
	"io"
	"strconv"
	"strings"
	"testing"

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

func TestLimitsAnswerWithOutcomes(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.BodyBytesMax = 1000 })
	f := func(request string, status int, code string) {
		t.Helper()
		answers := s.raw(t, request)
		if len(answers) != 1 {
			t.Fatalf("got %d answers", len(answers))
		}
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

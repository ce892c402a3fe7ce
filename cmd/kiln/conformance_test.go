package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// checksMin keeps the table from shrinking unseen.
const checksMin = 400

// checkWait bounds one exchange, and how long a job may take that a check waits for.
const checkWait = 60 * time.Second

// TestConformance makes every check of testdata/conformance (checkFile says how
// they read) on the built binary. Requests are written byte by byte, so that
// nothing tidies them.
func TestConformance(t *testing.T) {
	t.Parallel()
	files, err := readChecks("testdata/conformance")
	if err != nil {
		t.Fatal(err)
	}
	var ran tally
	t.Run("table", func(t *testing.T) {
		for _, file := range files {
			t.Run(file.name, func(t *testing.T) {
				t.Parallel()
				runChecks(t, &file, &ran)
			})
		}
	})
	t.Log(ran.String())
	if all := ran.all(); all < checksMin {
		t.Errorf("%d checks are too few: at least %d are wanted", all, checksMin)
	}
}

// tally counts checks by what they wait for; "" is those that ran.
type tally struct {
	mu      sync.Mutex
	byNeeds map[string]int
}

func (c *tally) add(needs string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byNeeds == nil {
		c.byNeeds = map[string]int{}
	}
	c.byNeeds[needs]++
}

func (c *tally) all() (n int) {
	for _, count := range c.byNeeds {
		n += count
	}
	return n
}

func (c *tally) String() string {
	text := fmt.Sprintf("%d checks: %d run, %d pending", c.all(), c.byNeeds[""], c.all()-c.byNeeds[""])
	for _, needs := range slices.Sorted(maps.Keys(c.byNeeds)) {
		if needs != "" {
			text += fmt.Sprintf("; %d need %s", c.byNeeds[needs], needs)
		}
	}
	return text
}

func runChecks(t *testing.T, file *checkFile, ran *tally) {
	known := variables{"files": t.TempDir(), "long": strings.Repeat("x", 40<<10)}
	for name, text := range file.files {
		if err := os.WriteFile(filepath.Join(known["files"], name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	flags := make([]string, len(file.flags))
	for i, flag := range file.flags {
		flags[i], _ = known.fill(flag, false)
	}
	if !slices.ContainsFunc(file.checks, func(c check) bool { return c.needs == "" }) {
		for _, c := range file.checks {
			ran.add(c.needs)
		}
		t.Skip("pending: all of it")
	}
	s := serve(t, t.TempDir(), flags...)
	known["base"], known["host"] = s.base, strings.TrimPrefix(s.root, "http://")
	for _, c := range file.checks {
		t.Run(c.name, func(t *testing.T) {
			ran.add(c.needs)
			if c.needs != "" {
				t.Skipf("pending: needs %s", c.needs)
			}
			runCheck(t, &c, known)
		})
	}
	s.stop()
}

func runCheck(t *testing.T, c *check, known variables) {
	request, err := c.bytes(known)
	if err != nil {
		t.Fatalf("%s: %v", c.at, err)
	}
	got, err := c.send(known["host"], request)
	if err == nil && c.directives["export"] != "" {
		got, err = c.exported(known, got)
	}
	if err != nil {
		t.Fatalf("%s: %v\nrequest:\n%.2000s", c.at, err, request)
	}
	wrong := append(c.general(got), c.compare(got, known)...)
	if len(wrong) > 0 {
		t.Errorf("%s:\n  %s\nrequest:\n%.2000s\nanswer: %d %v\n%.4000s", c.at, strings.Join(wrong, "\n  "), request, got.status, got.header, got.body)
	}
}

// variables are the names that braces refer to.
type variables map[string]string

var variable = regexp.MustCompile(`\{([a-z][A-Za-z0-9]*)\}`)

// fill puts the values in; an unknown name is an error.
func (v variables) fill(text string, expression bool) (string, error) {
	var err error
	filled := variable.ReplaceAllStringFunc(text, func(name string) string {
		value, known := v[name[1:len(name)-1]]
		if !known && name != "{pad}" {
			err = fmt.Errorf("%s is not known: the check that keeps it has not run", name)
		}
		if !known {
			return name
		}
		if expression {
			value = regexp.QuoteMeta(value)
		}
		return value
	})
	return filled, err
}

// bytes is the request as it is sent.
func (c *check) bytes(known variables) ([]byte, error) {
	version := cmp.Or(c.directives["http"], "1.1")
	head, err := known.fill(c.method+" "+c.target+" HTTP/"+version+"\n"+strings.Join(c.headers, "\n"), false)
	if err != nil {
		return nil, err
	}
	body, err := known.fill(c.body, false)
	if err != nil {
		return nil, err
	}
	if length, err := strconv.Atoi(c.directives["pad"]); err == nil {
		body = strings.Replace(body, "{pad}", strings.Repeat("x", length), 1)
	}
	encoded, err := encodeBody(c.directives["body"], []byte(body))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	has := func(name string) bool {
		return slices.ContainsFunc(lines[1:], func(line string) bool {
			return len(line) > len(name) && strings.EqualFold(line[:len(name)], name) && line[len(name)] == ':'
		})
	}
	if !has("Host") {
		lines = append(lines, "Host: "+known["host"])
	}
	if body != "" && !has("Content-Type") {
		lines = append(lines, "Content-Type: application/fhir+json")
	}
	if c.directives["export"] != "" {
		lines = append(lines, exportHeaders(has)...)
	}
	takesBody := slices.Contains([]string{"POST", "PUT", "PATCH"}, c.method)
	if (body != "" || takesBody) && !has("Content-Length") && !has("Transfer-Encoding") && c.directives["body"] != "none" {
		lines = append(lines, "Content-Length: "+strconv.Itoa(len(encoded)))
	}
	// These without a value stand for none at all.
	lines = slices.DeleteFunc(lines, func(line string) bool { return line == "Content-Type:" || line == "Host:" })
	return append([]byte(strings.Join(lines, "\r\n")+"\r\n\r\n"), encoded...), nil
}

func encodeBody(coding string, body []byte) ([]byte, error) {
	var out bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "deflate":
		w = zlib.NewWriter(&out)
	case "zstd":
		var err error
		if w, err = zstd.NewWriter(&out); err != nil {
			return nil, err
		}
	default:
		return body, nil
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil { // writes the rest
		return nil, err
	}
	return out.Bytes(), nil
}

// send makes the exchange, and makes it again while a job goes on.
func (c *check) send(host string, request []byte) (*answer, error) {
	_, waits := c.directives["wait"]
	for end := time.Now().Add(checkWait); ; {
		got, err := c.exchange(host, request)
		if err != nil || !waits || time.Now().After(end) {
			return got, err
		}
		switch got.status {
		case http.StatusAccepted:
		case http.StatusTooManyRequests:
			if err := waitAsTold(got); err != nil {
				return nil, err
			}
		default:
			return got, nil
		}
	}
}

// waitAsTold waits as long as an answer's Retry-After says.
func waitAsTold(got *answer) error {
	seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
	if err != nil {
		return fmt.Errorf("%d without a Retry-After in seconds: %w", got.status, err)
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	return nil
}

// exchange sends the request over a connection of its own.
func (c *check) exchange(host string, request []byte) (*answer, error) {
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(checkWait)); err != nil {
		return nil, err
	}
	times, _ := strconv.Atoi(c.directives["times"])
	if _, err := conn.Write(bytes.Repeat(request, max(times, 1))); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	var got *answer
	for range max(times, 1) {
		if got, err = readExchange(in, c.method); err != nil {
			return nil, err
		}
	}
	return got, nil
}

func readExchange(in *bufio.Reader, method string) (*answer, error) {
	response, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if coding := response.Header.Get("Content-Encoding"); coding != "" && len(body) > 0 {
		if body, err = decodeBody(coding, body); err != nil {
			return nil, err
		}
	}
	if response.Close { // the reader takes the header away
		response.Header.Set("Connection", "close")
	}
	return &answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

func decodeBody(coding string, body []byte) ([]byte, error) {
	in := bytes.NewReader(body)
	switch coding {
	case "gzip":
		r, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case "deflate":
		r, err := zlib.NewReader(in)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case "zstd":
		r, err := zstd.NewReader(in)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	return nil, fmt.Errorf("the answer has the unknown Content-Encoding %q", coding)
}

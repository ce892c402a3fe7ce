package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/query"
)

// testServer is a server on a port of its own.
type testServer struct {
	*Server
	addr string
	log  *lockedBuffer
}

// newBareServer starts a server whose store is never reached by the test.
func newBareServer(t *testing.T, change func(*Options)) *testServer {
	t.Helper()
	log := &lockedBuffer{}
	var ids atomic.Int64
	opts := Options{
		Store: &engine.Store{}, Jobs: &bulk.Manager{}, Now: time.Now,
		NewID:  func() string { return fmt.Sprintf("id-%d", ids.Add(1)) },
		Logger: slog.New(slog.NewTextHandler(log, nil)), Version: "test", ValidateWrites: true, PagingKey: testKey(),
	}
	bare := opts.Store
	if change != nil {
		change(&opts)
	}
	if opts.Store == bare {
		var err error
		if opts.Parameters, err = query.RegistryOfR4(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return &testServer{Server: s, addr: ln.Addr().String(), log: log}
}

// lockedBuffer takes the log.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// answer is a response read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// outcome returns the code and text of an answer's first issue.
func (a *answer) outcome(t *testing.T) (code, text string) {
	t.Helper()
	var o struct {
		ResourceType, ID string
		Issue            []struct{ Severity, Code, Diagnostics string }
	}
	if err := json.Unmarshal([]byte(a.body), &o); err != nil || o.ResourceType != "OperationOutcome" || len(o.Issue) == 0 {
		t.Fatalf("not an OperationOutcome: %d %q (%v)", a.status, a.body, err)
	}
	if got := a.header.Get("X-Request-Id"); got != o.ID {
		t.Errorf("outcome has id %q, header X-Request-Id is %q", o.ID, got)
	}
	return o.Issue[0].Code, o.Issue[0].Diagnostics
}

// do sends a request; headers are "Name: value" lines.
func (s *testServer) do(t *testing.T, method, path, body string, headers ...string) *answer {
	t.Helper()
	url := path
	if !strings.HasPrefix(path, "http") {
		url = "http://" + s.addr + path
	}
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Add(name, value)
	}
	response, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return &answer{response.StatusCode, response.Header, string(text)}
}

// raw sends bytes and returns every answer until the server closes.
func (s *testServer) raw(t *testing.T, text string) []*answer {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// The server may have answered and closed before everything is sent.
	_, _ = io.WriteString(conn, text)
	_ = conn.(*net.TCPConn).CloseWrite()
	var answers []*answer
	reader := bufio.NewReader(conn)
	for {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return answers
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, &answer{response.StatusCode, response.Header, string(body)})
	}
}

const typeHeader = "Content-Type: application/fhir+json"

func TestRefusalsAreOperationOutcomes(t *testing.T) {
	s := newBareServer(t, nil)
	f := func(method, path, body string, status int, code, text string, headers ...string) {
		t.Helper()
		a := s.do(t, method, path, body, headers...)
		gotCode, gotText := a.outcome(t)
		if a.status != status || gotCode != code || !strings.Contains(gotText, text) {
			t.Errorf("%s %s: got %d %s %q", method, path, a.status, gotCode, gotText)
		}
		if got := a.header.Get("Content-Type"); got != contentTypeAnswer {
			t.Errorf("%s %s: got Content-Type %q", method, path, got)
		}
	}
	f("GET", "/", "", 404, "not-found", "nothing")
	f("GET", "/fhir/Patient/1/x", "", 404, "not-found", "nothing")
	f("GET", "/fhir/Nonsense/1", "", 404, "not-supported", "Resource type 'Nonsense' is not supported.")
	f("GET", "/fhir/Patient/1%2f2", "", 400, "invalid", "path")
	f("GET", "/fhir//Patient", "", 400, "invalid", "path")
	f("TRACE", "/fhir/Patient/1", "", 405, "not-supported", "method")
	f("POST", "/fhir/Patient/1", "", 405, "not-supported", "method")
	f("GET", "/fhir/Patient?odd=x", "", 400, "not-supported", "'odd'")
	f("POST", "/fhir/Patient/_search", "{}", 415, "not-supported", "for a search", typeHeader)
	f("GET", "/fhir/Observation/1/Patient", "", 400, "invalid", "has no compartment")
	f("POST", "/fhir", "{}", 400, "invalid", "a Bundle is expected", typeHeader)
	f("PATCH", "/fhir/Patient/1", "[]", 415, "not-supported", "application/json-patch+json, application/merge-patch+json, application/fhir+json")
	f("PUT", "/fhir/Patient?odd=1", `{"resourceType":"Patient"}`, 400, "not-supported", "'odd'", typeHeader, "Prefer: handling=lenient")
	f("DELETE", "/fhir/Patient", "", 400, "invalid", "no criteria")
	f("DELETE", "/fhir/Patient?identifier=1&_count=101", "", 400, "invalid", "'_count' is not a number from 1 to 100")
	f("GET", "/fhir/$nonsense", "", 404, "not-supported", "'$nonsense'")
	f("POST", "/fhir/Patient/1/$nonsense", "{}", 404, "not-supported", "'$nonsense'")
	f("PUT", "/fhir/Patient/1?_summary=true", "", 400, "not-supported", "_summary")
	f("PUT", "/fhir/Patient/1?_summary=true", "", 400, "not-supported", "_summary", "Prefer: handling=lenient")
	f("GET", "/fhir/Patient/1?odd=true", "", 400, "not-supported", "'odd'")
	f("PUT", "/fhir/Patient/1?_hardDelete=true", "", 400, "not-supported", "_hardDelete", "Prefer: handling=lenient")
	f("DELETE", "/fhir/Patient/1?_hardDelete=1", "", 400, "invalid", "'_hardDelete' is not true or false")
	f("DELETE", "/fhir/Patient/1?hardDelete", "", 400, "invalid", "'hardDelete' is not true or false")
	f("DELETE", "/fhir/Patient/1?_hardDelete=true&_hardDelete=true", "", 400, "invalid", "more than once")
	f("DELETE", "/fhir/Patient/1?_hardDelete=true&hardDelete=false", "", 400, "invalid", "give one of them")
	f("DELETE", "/fhir/Patient/a_b?_hardDelete=true", "", 400, "invalid", "Invalid resource id")
	f("DELETE", "/fhir/Patient/1/$purge-history", "", 400, "not-supported", "If-None-Match", "If-None-Match: *")
	f("POST", "/fhir/Patient/1/$purge-history", "", 405, "not-supported", "method")
	f("GET", "/fhir/Patient/1", "", 406, "not-supported", "format", "Accept: application/fhir+xml")
	f("GET", "/fhir/Patient/1?_format=xml", "", 406, "not-supported", "format")
	f("GET", "/fhir/Patient/1?_pretty=2", "", 400, "invalid", "_pretty")
}

func TestWritesAreCheckedBeforeTheStore(t *testing.T) {
	s := newBareServer(t, nil)
	f := func(method, path, body string, status int, code, text string, headers ...string) {
		t.Helper()
		a := s.do(t, method, path, body, headers...)
		gotCode, gotText := a.outcome(t)
		if a.status != status || gotCode != code || !strings.Contains(gotText, text) {
			t.Errorf("%s %s %s: got %d %s %q", method, path, body, a.status, gotCode, gotText)
		}
	}
	good := `{"resourceType":"Patient","id":"a"}`
	f("POST", "/fhir/Patient", good, 415, "not-supported", "Content-Type")
	f("POST", "/fhir/Patient", good, 415, "not-supported", "Content-Type", "Content-Type: application/fhir+xml")
	f("POST", "/fhir/Patient", good, 400, "invalid", "not valid gzip", typeHeader, "Content-Encoding: gzip")
	f("POST", "/fhir/Patient", good, 415, "not-supported", "use one of gzip, zstd, deflate", typeHeader, "Content-Encoding: br")
	f("POST", "/fhir/Patient", good, 415, "not-supported", "'gzip, zstd'", typeHeader, "Content-Encoding: gzip", "Content-Encoding: zstd")
	f("POST", "/fhir/Patient", good, 400, "not-supported", "'odd'", typeHeader, "If-None-Exist: odd=1")
	f("POST", "/fhir/Patient", good, 400, "not-supported", "If-Match", typeHeader, `If-Match: W/"1"`)
	f("POST", "/fhir/Patient", good, 400, "invalid", "'all'", typeHeader, "Prefer: return=all")
	f("POST", "/fhir/Patient", "", 400, "invalid", "no body", typeHeader)
	f("POST", "/fhir/Patient", `{"resourceType":"Patient"`, 400, "structure", "byte 25", typeHeader)
	f("POST", "/fhir/Patient", `[]`, 400, "invalid", "not a FHIR resource", typeHeader)
	f("POST", "/fhir/Patient", `{"resourceType":"Patient","id":"a","id":"b"}`, 400, "structure", "repeated key", typeHeader)
	f("POST", "/fhir/Patient", `{"resourceType":"Observation"}`, 400, "invalid", "'Observation'", typeHeader)
	f("POST", "/fhir/Patient", `{"resourceType":"Dog"}`, 400, "not-supported", "'Dog'", typeHeader)
	f("PUT", "/fhir/Patient/b", good, 400, "invalid", "'a' is not the id of the address, 'b'", typeHeader)
	f("PUT", "/fhir/Patient/b", `{"resourceType":"Patient"}`, 400, "invalid", "no id", typeHeader)
	f("PUT", "/fhir/Patient/b_c", good, 400, "invalid", "Invalid resource id: 'b_c'", typeHeader)
	f("PUT", "/fhir/Patient/a", good, 400, "invalid", "If-Match", typeHeader, "If-Match: 1")
	f("PUT", "/fhir/Patient/a", good, 400, "not-supported", "If-None-Match", typeHeader, `If-None-Match: W/"1"`)
	f("DELETE", "/fhir/Patient/a", "", 400, "not-supported", "If-None-Match", "If-None-Match: *")
	f("DELETE", "/fhir/Patient/b_c", "", 400, "invalid", "Invalid resource id: 'b_c'")
	marked := `{"resourceType":"Patient","id":"a","meta":{"extension":[{"url":"http://azurehealthcareapis.com/data-extensions/deleted-state","valueString":"soft-deleted"}]}}`
	f("PUT", "/fhir/Patient/a", marked, 400, "invalid", "$import only", typeHeader)
}

func TestHistoryParametersAreChecked(t *testing.T) {
	s := newBareServer(t, nil)
	f := func(query string, status int, code, text string) {
		t.Helper()
		a := s.do(t, "GET", "/fhir/Patient/_history?"+query, "")
		gotCode, gotText := a.outcome(t)
		if a.status != status || gotCode != code || !strings.Contains(gotText, text) {
			t.Errorf("%s: got %d %s %q", query, a.status, gotCode, gotText)
		}
	}
	f("_count=-1", 400, "invalid", "_count")
	f("_count=x", 400, "invalid", "_count")
	f("_count=1&_count=2", 400, "invalid", "more than once")
	f("_since=yesterday", 400, "invalid", "_since")
	f("_before=2200-01-01", 403, "forbidden", "Parameter _before cannot a be a value in the future.")
	f("_at=2020&_since=2020", 403, "forbidden", "_at and _since cannot both be specified.")
	f("_at=2020&_before=2020", 403, "forbidden", "_at and _before cannot both be specified.")
	f("_at=x", 400, "invalid", "_at")
	f("_sort=name", 403, "forbidden", "Sorting by the 'name' parameter is not supported.")
	f("_sort=_lastUpdated,_id", 403, "forbidden", "Sorting by the '_lastUpdated,_id' parameter is not supported.")
	f("_sort=_lastUpdated&_sort=-_lastUpdated", 400, "invalid", "more than once")
	f("_sort:desc=_lastUpdated", 400, "not-supported", "'_sort:desc'")
	f("_summary=short", 400, "not-supported", "'_summary'")
	f("_summary=text&_elements=name", 400, "invalid", "cannot both")
	f("_elements=nme", 400, "invalid", "'nme'")
	f("_list=a_b", 400, "invalid", "'a_b'")
	f("_list=Patient/a", 400, "invalid", "'Patient/a'")
	f("_list=a,", 400, "invalid", "not an id")
	f("_list=$current-problems", 400, "not-supported", "functional list")
	f("_list=a&_list=b", 400, "invalid", "more than once")
	f("_list:not=a", 400, "not-supported", "'_list:not'")
	f("name=x", 400, "not-supported", "'name'")
	f("ct=x", 400, "invalid", "paging token")
	token := pagingToken{count: 10, lsn: 1, scope: 5}
	f("ct="+token.encode(testKey()), 400, "invalid", "paging token")
	f("ct="+token.encode(testKey())+"&_count=5", 400, "invalid", "'_count' cannot be combined")
	f("ct="+token.encode(testKey())+"&_sort=_lastUpdated", 400, "invalid", "'_sort' cannot be combined")
}

func TestKickOffHeadersAreThoseOfTheContract(t *testing.T) {
	s := newBareServer(t, nil)
	f := func(method, path, text string, headers ...string) {
		t.Helper()
		a := s.do(t, method, path, "", headers...)
		code, got := a.outcome(t)
		if a.status != 400 || code != "invalid" || got != text {
			t.Errorf("%s %s %q: got %d %s %q", method, path, headers, a.status, code, got)
		}
	}
	const accept, async = "Accept: application/fhir+json", "Prefer: respond-async"
	f("POST", "/fhir/$import", `Value supplied, ,  for the "Prefer" header is not supported.`, typeHeader)
	f("POST", "/fhir/$import", `Value supplied, wait=1,  for the "Prefer" header is not supported.`, typeHeader, "Prefer: wait=1")
	f("POST", "/fhir/%24import", `Value supplied, ,  for the "Prefer" header is not supported.`, typeHeader)
	f("POST", "/fhir/$import", `Value supplied, text/json,  for the "Content-Type" header is not supported.`, async, "Content-Type: text/json")
	f("POST", "/fhir/$import", `Value supplied, application/jsonx,  for the "Content-Type" header is not supported.`, async, "Content-Type: application/jsonx")
	f("GET", "/fhir/$export", `Value supplied, ,  for the "Accept" header is not supported.`, async)
	f("GET", "/fhir/$export", `Value supplied, */*,  for the "Accept" header is not supported.`, async, "Accept: */*")
	f("GET", "/fhir/$export", `Missing required header; Prefer`, accept)
	f("GET", "/fhir/$export", `Missing required header value; header=Prefer,value=respond-async.`, accept, "Prefer: handling=lenient")
	f("GET", "/fhir/$export", `Value supplied, respond-async, wait=10,  for the "Prefer" header is not supported.`, accept, "Prefer: respond-async, wait=10")
}

func TestInitialImportModeLocksAllButReadsAndJobs(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.InitialImportMode = true })
	f := func(method, path string, locked bool) {
		t.Helper()
		a := s.do(t, method, path, "", typeHeader)
		if (a.status == 423) != locked {
			t.Errorf("%s %s: got %d", method, path, a.status)
		}
		if !locked {
			return
		}
		if code, text := a.outcome(t); code != "lock-error" || text != "import operation failed for reason: Service is locked for initial import mode." {
			t.Errorf("%s %s: got %s %q", method, path, code, text)
		}
	}
	f("POST", "/fhir/Patient", true)
	f("POST", "/fhir", true)
	f("POST", "/fhir/Patient/_search", true)
	f("PUT", "/fhir/Patient/a", true)
	f("PATCH", "/fhir/Patient/a", true)
	f("DELETE", "/fhir/Patient/a", true)
	f("OPTIONS", "/fhir/Patient/a", true)
	f("GET", "/fhir/$reindex", true)
	f("POST", "/fhir/nowhere/at/all", true)
	f("POST", "/fhir/$import", false)
	f("GET", "/fhir/metadata", false)
	f("GET", "/fhir/Patient", false)
	f("HEAD", "/fhir/metadata", false)
	f("POST", "/healthz", false)
}

func TestMetadataSaysWhatTheTableServes(t *testing.T) {
	s := newBareServer(t, nil)
	a := s.do(t, "GET", "/fhir/metadata", "")
	var c struct {
		ResourceType, FHIRVersion string
		PatchFormat               []string
		Implementation            struct{ URL string }
		Rest                      []struct {
			Resource []struct {
				Type        string
				Interaction []struct{ Code string }
			}
			Interaction []struct{ Code string }
			Operation   []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(a.body), &c); err != nil {
		t.Fatal(err)
	}
	if c.FHIRVersion != "4.0.1" || c.Implementation.URL != "http://"+s.addr+"/fhir" || len(c.Rest[0].Resource) != 146 {
		t.Errorf("got %s, %s, %d types", c.FHIRVersion, c.Implementation.URL, len(c.Rest[0].Resource))
	}
	codes := ""
	for _, i := range c.Rest[0].Resource[0].Interaction {
		codes += " " + i.Code
	}
	if codes != " history-type history-instance read vread create update delete patch search-type" {
		t.Errorf("types have%s", codes)
	}
	if len(c.Rest[0].Interaction) != 4 || len(c.Rest[0].Operation) != 3 {
		t.Errorf("got system interactions %v, operations %v", c.Rest[0].Interaction, c.Rest[0].Operation)
	}
	if got := strings.Join(c.PatchFormat, ", "); got != acceptedPatches {
		t.Errorf("PATCH takes %s", got)
	}
	pretty := s.do(t, "GET", "/fhir/metadata?_pretty=true&_format=json", "")
	if !strings.HasPrefix(pretty.body, "{\n  \"resourceType\"") {
		t.Errorf("not laid out: %.40q", pretty.body)
	}
	head := s.do(t, "HEAD", "/fhir/metadata", "")
	if head.status != 200 || head.body != "" || head.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
		t.Errorf("HEAD: got %d, %d bytes, Content-Length %s", head.status, len(head.body), head.header.Get("Content-Length"))
	}
}

func TestBaseURLIsUsedWhenGiven(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.BaseURL = "https://fhir.example.org/r4/" })
	a := s.do(t, "GET", "/fhir/metadata", "")
	if !strings.Contains(a.body, `"url":"https://fhir.example.org/r4"`) {
		t.Error("the CapabilityStatement does not name the base URL")
	}
	for _, bad := range []string{"fhir", "ftp://x/fhir", "http://x/fhir?a=b", "http:///fhir", "%"} {
		if _, err := New(Options{Store: &engine.Store{}, Jobs: &bulk.Manager{}, Now: time.Now, NewID: func() string { return "" }, BaseURL: bad}); err == nil {
			t.Errorf("base URL %q was accepted", bad)
		}
	}
}

func TestLargeAnswersAreCompressedWhenAsked(t *testing.T) {
	s := newBareServer(t, nil)
	plain := s.do(t, "GET", "/fhir/metadata", "")
	packed := s.do(t, "GET", "/fhir/metadata", "", "Accept-Encoding: gzip")
	if packed.header.Get("Content-Encoding") != "gzip" || len(packed.body) > len(plain.body)/4 {
		t.Errorf("got encoding %q and %d of %d bytes", packed.header.Get("Content-Encoding"), len(packed.body), len(plain.body))
	}
	if got := unzip(t, packed.body); got != plain.body {
		t.Error("the compressed answer is another one")
	}
	if plain.header.Get("Content-Encoding") != "" || plain.header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("got encoding %q, Vary %q", plain.header.Get("Content-Encoding"), plain.header.Get("Vary"))
	}
}

func TestPanicIsOneRefusedRequest(t *testing.T) {
	s := newBareServer(t, nil)
	s.table.rows[s.table.find(placeMetadata, methodGet)].run = func(*exchange) error { panic("BUG: on purpose") }
	a := s.do(t, "GET", "/fhir/metadata", "")
	code, text := a.outcome(t)
	if a.status != 500 || code != "exception" || strings.Contains(text, "purpose") {
		t.Errorf("got %d %s %q", a.status, code, text)
	}
	if log := s.log.String(); !strings.Contains(log, "BUG: on purpose") || !strings.Contains(log, "server_test.go") {
		t.Errorf("the log does not tell: %s", log)
	}
	if a := s.do(t, "GET", "/healthz", ""); a.status != 200 {
		t.Errorf("afterwards: %d", a.status)
	}
}

func TestRequestIDIsEchoedWhenPlain(t *testing.T) {
	s := newBareServer(t, nil)
	if a := s.do(t, "GET", "/fhir/nowhere", "", "X-Request-Id: my-id.1"); a.header.Get("X-Request-Id") != "my-id.1" {
		t.Errorf("got %q", a.header.Get("X-Request-Id"))
	}
	if a := s.do(t, "GET", "/fhir/nowhere", "", "X-Request-Id: a\"b"); a.header.Get("X-Request-Id") != "id-1" {
		t.Errorf("got %q", a.header.Get("X-Request-Id"))
	}
}

func TestReadinessEndsWithShutdown(t *testing.T) {
	s := newBareServer(t, nil)
	if a := s.do(t, "GET", "/readyz", ""); a.status != 200 {
		t.Errorf("got %d", a.status)
	}
	s.stopping.Store(true)
	if a := s.do(t, "GET", "/readyz", ""); a.status != 503 {
		t.Errorf("got %d", a.status)
	}
}

func TestShutdownFinishesRequestsInFlight(t *testing.T) {
	s := newBareServer(t, nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	row := &s.table.rows[s.table.find(placeMetadata, methodGet)]
	serve := row.run
	row.run = func(x *exchange) error {
		close(entered)
		<-leave
		return serve(x)
	}
	answered := make(chan *answer, 1)
	go func() { answered <- s.do(t, "GET", "/fhir/metadata", "") }()
	<-entered
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	for !s.stopping.Load() {
		runtime.Gosched()
	}
	close(leave)
	if a := <-answered; a.status != 200 || !strings.Contains(a.body, "CapabilityStatement") {
		t.Errorf("got %d %.100s", a.status, a.body)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("the port still takes connections")
	}
}

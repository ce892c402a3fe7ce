package main

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/internal/certtest"
)

// quietMarker stands for what no log may have: contents of resources, values that
// are searched for, credentials, signatures.
const quietMarker = "Zq7MARKERx9"

// quietName is what the audit alone may have: who asks for a parameter of that name.
const quietName = "Zq7LABELx9"

// quietBodies are resources, and what is none, with the marker where patients' data is.
var quietBodies = []string{
	`{"resourceType":"Patient","id":"a","name":[{"family":"M"}],"birthDate":"1990-01-31"}`,
	`{"resourceType":"Patient","id":"a","M":1}`,
	`{"resourceType":"Patient","id":"a","birthDate":"M"}`,
	`{"resourceType":"M","id":"a"}`,
	`{"resourceType":"Patient","id":"M and more"}`,
	`{"resourceType":"Patient","id":"a","active":M}`,
	`{"M`, `M`,
	`{"resourceType":"Patient","id":"a","meta":{"lastUpdated":"M"}}`,
	`{"resourceType":"Observation","id":"o","status":"final","code":{"text":"M"},"valueQuantity":{"value":1e99999999999999999999,"unit":"M"}}`,
	`{"resourceType":"Patient","id":"a","id":"M"}`,
	`{"resourceType":"SearchParameter","id":"s","url":"http://x/M","name":"M","status":"active","description":"M","code":"M","base":["Patient"],"type":"token","expression":"Patient.M.where(x='M')"}`,
	`{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Patient","name":[{"text":"M"}]},"request":{"method":"POST","url":"Patient","ifNoneExist":"name=M"}}]}`,
	`{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient?name=M"}},{"request":{"method":"GET","url":"Patient?_id=M"}}]}`,
	`[{"op":"replace","path":"/M","value":"M"}]`,
	`{"resourceType":"Parameters","parameter":[{"name":"M","valueString":"M"}]}`,
}

// askQuietly sends every body everywhere, and queries with the marker in all parts.
// What is answered does not matter here.
func askQuietly(t *testing.T, s *server, patient string) {
	t.Helper()
	header := []string{"Authorization", "Bearer " + quietMarker, "Cookie", "session=" + quietMarker, "Prefer", "respond-async,x=" + quietMarker, "If-Match", quietMarker, "Accept", quietMarker, "X-Forwarded-For", quietMarker}
	send := func(method, path, body string, header ...string) {
		t.Helper()
		if _, err := ask(method, s.base+path, body, header...); err != nil {
			t.Fatalf("%s %s: %v\n%s", method, path, err, s.log)
		}
	}
	value := url.QueryEscape(quietMarker)
	for _, text := range quietBodies {
		body := strings.ReplaceAll(text, "M", quietMarker)
		for _, to := range []string{"POST ", "PUT /Patient/a", "POST /Patient", "PATCH /Patient/a", "POST /Patient/$validate", "POST /$import", "POST /Patient/_search", "POST /$export", "POST /$backup", "PUT /SearchParameter/s", "PUT /Patient?identifier=" + value} {
			method, path, _ := strings.Cut(to, " ")
			send(method, path, body)
		}
		send("PUT", "/Patient/a", body, header...)
	}
	for _, query := range []string{"name=M", quietName + "=1", "_filter=name eq M", "birthdate=M", "_sort=M", "_include=M", "_has:Observation:subject:code=M", "_count=M", "ct=M", "_elements=M", "_since=M", "_typeFilter=Patient?name=M", "_outputFormat=M"} {
		query = strings.ReplaceAll(query, "M", quietMarker)
		query = strings.ReplaceAll(query, " ", "%20")
		for _, path := range []string{"/Patient", "", "/Patient/a/_history", "/$export", "/Patient/a/Observation", "/Patient/a"} {
			send("GET", path+"?"+query, "")
			send("GET", path+"?"+query, "", "Prefer", "respond-async", "Accept", "application/fhir+json")
		}
		send("DELETE", "/Patient?"+query, "")
	}
	send("GET", "/Patient?name="+value, "", header...)
	send("GET", "/Patient/"+patient, "")
	for _, raw := range []string{quietMarker + "\r\n\r\n", "GET /fhir/" + quietMarker + "\x01 HTTP/1.1\r\nHost: " + quietMarker + "\r\n\r\n", "GET / HTTP/1.1\r\n" + quietMarker + "\r\n\r\n",
		"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: " + quietMarker + "\r\n\r\n", "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + quietMarker + "\r\n"} {
		sendRaw(t, strings.TrimPrefix(s.root, "http://"), raw)
	}
}

func sendRaw(t *testing.T, addr, text string) {
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
	_, _ = io.Copy(io.Discard, conn)
}

// TestLogsAndMetricsHaveNothingOfPatientsAndNoSecrets runs a server through imports,
// exports, reads, writes and refusals of all kinds, starts it again, and
// looks for the marker wherever an operator's tools look.
func TestLogsAndMetricsHaveNothingOfPatientsAndNoSecrets(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, quietMarker, http.StatusForbidden)
	}))
	defer broken.Close()
	in, data, record := t.TempDir(), filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "audit")
	lines := strings.ReplaceAll(strings.Join(quietBodies, "\n")+"\n", "M", quietMarker)
	file := certtest.Write(t, in, "Patient.ndjson", []byte(lines))
	key := base64.StdEncoding.EncodeToString([]byte(quietMarker))
	flags := []string{"--import-root", in, "--import-origin", broken.URL, "--audit-dir", record, "--audit-store", "--trusted-proxy", "127.0.0.1",
		"--azure-account-url", "https://account.blob.core.windows.net", "--azure-account-key", key}
	s := serve(t, data, flags...)
	got := mustKiln(t, exitRefused, "import", "--server", s.base, file)
	if kiln(t, "import", "--server", s.base, broken.URL+"/Patient.ndjson?sig="+quietMarker).code == 0 {
		t.Error("an import from a server that refuses is done")
	}
	askQuietly(t, s, "a")
	mustKiln(t, 0, "export", "--server", s.base, "--out", t.TempDir())
	metrics, err := ask(http.MethodGet, s.root+"/metrics", "")
	if err != nil {
		t.Fatal(err)
	}
	health, err := ask(http.MethodGet, s.root+"/healthz", "")
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	again := serve(t, data, flags...)
	again.stop()
	seen := map[string]string{"the log": s.log.String(), "the log of the next start": again.log.String(), "the metrics": string(metrics.body), "health": string(health.body), "what import prints": got.out + got.err}
	audited, err := filepath.Glob(filepath.Join(record, "*.ndjson"))
	if err != nil || len(audited) == 0 {
		t.Fatalf("got %v %v", audited, err)
	}
	for _, name := range audited {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		seen["the audit"] += string(text)
	}
	if strings.Count(seen["the audit"], "\n") < 300 {
		t.Errorf("the audit has only %d events", strings.Count(seen["the audit"], "\n"))
	}
	for what, text := range seen {
		secrets := []string{quietMarker, key, quietName}
		if what == "the audit" {
			secrets = secrets[:2]
		}
		for _, secret := range secrets {
			for line := range strings.Lines(text) {
				if strings.Contains(line, secret) {
					t.Errorf("%s: %.600s", what, line)
				}
			}
		}
	}
}

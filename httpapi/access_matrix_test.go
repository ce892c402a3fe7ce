package httpapi

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/bulk/backup"
	"kiln/engine"
	"kiln/httpapi/access"
	"kiln/internal/vfs"
)

// The matrix: every row of the route table, asked by every kind of client for
// something of its own, of somebody else and for what is not there.

// target is what a request of the matrix is about.
type target struct {
	name string // own, other, missing
	job  string // a number
	file string // of the job
}

// matrixTargets are in the order of the answers in the golden file.
var matrixTargets = [...]string{"own", "other", "missing"}

// matrixPath is an address of a row's place; "": the place has no entry here.
func matrixPath(row *interaction, at target) string {
	job, file := "/fhir/_operations/%s/"+at.job, "/fhir/_operations/%s/"+at.job+"/"+at.file
	resource := "/fhir/Observation/" + at.name
	path, ok := map[place]string{
		placeHealth: "/healthz", placeReady: "/readyz", placeMetrics: "/metrics",
		placeBase: "/fhir", placeMetadata: "/fhir/metadata", placeSMART: "/fhir/.well-known/smart-configuration", placeToken: "/fhir/oauth/token", placeSystemHistory: "/fhir/_history", placeSystemSearch: "/fhir/_search",
		placeImport: "/fhir/$import", placeExport: "/fhir/$export", placeBulkPublish: "/fhir/$bulk-publish", placeBackup: "/fhir/$backup",
		placeSystemOperation: "/fhir/$nothing", placeImportJob: fmt.Sprintf(job, "import"), placeImportFile: fmt.Sprintf(file, "import"),
		placeExportJob: fmt.Sprintf(job, "export"), placeExportFile: fmt.Sprintf(file, "export"), placeBackupJob: fmt.Sprintf(job, "backup"),
		placeType: "/fhir/Observation", placeTypeSearch: "/fhir/Observation/_search", placeTypeHistory: "/fhir/Observation/_history",
		placeTypeValidate: "/fhir/Observation/$validate", placeTypeExport: "/fhir/Patient/$export", placeParameterStatus: "/fhir/SearchParameter/$status?code=name",
		placeTypeOperation: "/fhir/Observation/$nothing", placeInstance: resource, placeInstanceHistory: resource + "/_history", placeVersion: resource + "/_history/1",
		placeInstanceValidate: resource + "/$validate", placeInstancePurge: resource + "/$purge-history", placeEverything: "/fhir/Patient/" + at.name + "/$everything",
		placeGroupExport:       "/fhir/Group/" + map[string]string{"own": "g", "other": "g", "missing": "missing", "{id}": "{id}"}[at.name] + "/$export",
		placeInstanceOperation: resource + "/$nothing", placeCompartment: "/fhir/Patient/" + at.name + "/Observation",
	}[row.place]
	switch {
	case !ok:
		return ""
	case row.conditional || row.name == "search-type" && row.method == methodGet:
		path += "?_id=" + at.name
	case row.name == "search-system" && row.method == methodGet:
		path += "?_type=Observation,Patient&_id=" + at.name
	}
	return path
}

// matrixBody is what a row's request sends.
func matrixBody(row *interaction, m method, at target, root string) (body string, headers []string) {
	observation := `{"resourceType":"Observation","id":"` + at.name + `","status":"final","code":{"coding":[{"code":"lab"}],"text":"again"},"subject":{"reference":"Patient/` + at.name + `"}}`
	json, form := []string{typeHeader}, []string{"Content-Type: " + contentTypeForm}
	switch {
	case m == methodPatch:
		return `[{"op":"add","path":"/language","value":"en"}]`, []string{"Content-Type: " + contentTypeJSONPatch}
	case m != methodPost && m != methodPut:
		return "", []string{asyncHeader, acceptHeader}
	case row.place == placeBase:
		return `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"GET","url":"Observation/` + at.name + `"}}]}`, json
	case row.name == "import":
		return importBody(root, "a.ndjson"), append(json, asyncHeader)
	case row.name == "backup":
		return `{"resourceType":"Parameters"}`, append(json, asyncHeader)
	case strings.HasPrefix(row.name, "export"):
		return "", []string{asyncHeader, acceptHeader}
	case strings.HasPrefix(row.name, "search"):
		return "_id=" + at.name, form
	case row.name == "everything":
		return "", nil
	}
	return observation, json
}

// matrixServer has two clients' jobs beside the resources.
type matrixServer struct {
	*testServer
	t    *testing.T
	root string
	http *fasthttp.Client
	jobs map[string]map[string]target // by kind and client
}

func newMatrixServer(t *testing.T) *matrixServer {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.ndjson"), []byte("{\"resourceType\":\"Basic\",\"id\":\"a\"}\nno resource\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newAPI(t, func(o *engine.Options, b *bulk.Options, h *Options) {
		o.FS, o.Dir, o.CatalogInMem = vfs.NewMem(1), "data", true
		b.ImportRoots, h.Auth, h.ValidateWrites = []string{root}, clients(t), false
	})
	backups, err := backup.NewJobs(backup.JobsOptions{Store: s.opts.Store, FS: vfs.OS(), Roots: []string{root}, Now: s.opts.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backups.Close)
	s.opts.Backups = backups
	s.fixture(t)
	return &matrixServer{testServer: s, t: t, root: root, http: &fasthttp.Client{}, jobs: map[string]map[string]target{"import": {}, "export": {}}}
}

// ask sends a request of a client.
func (s *matrixServer) ask(client, method, path, body string, headers []string) (status int, location, text string) {
	request, response := &fasthttp.Request{}, &fasthttp.Response{}
	request.SetRequestURI("http://" + s.addr + path)
	request.Header.SetMethod(method)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Add(name, value)
	}
	if client != "anonymous" {
		request.Header.Set("Authorization", "Bearer "+client)
	}
	request.SetBodyString(body)
	if err := s.http.Do(request, response); err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return response.StatusCode(), string(response.Header.Peek("Content-Location")), string(response.Body())
}

// job is one of a client's and a file of it, made when first asked for; number 1: the
// client can have none.
func (s *matrixServer) job(kind, client string) target {
	if at, ok := s.jobs[kind][client]; ok {
		return at
	}
	method, path, body, headers := "GET", "/fhir/$export?_type=Observation", "", []string{asyncHeader, acceptHeader}
	if kind == "import" {
		method, path, body, headers = "POST", "/fhir/$import", importBody(s.root, "a.ndjson"), []string{asyncHeader, typeHeader}
	}
	status, location, _ := s.ask(client, method, path, body, headers)
	if status != 202 {
		return target{job: "1", file: "a.ndjson"}
	}
	at := target{job: location[strings.LastIndex(location, "/")+1:]}
	number, err := strconv.ParseInt(at.job, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	if kind == "import" {
		status, err := s.opts.Jobs.WaitImport(s.t.Context(), number)
		if err != nil {
			s.t.Fatal(err)
		}
		at.file = status.Inputs[0].ErrorFile
	} else {
		status, err := s.opts.Jobs.WaitExport(s.t.Context(), number)
		if err != nil {
			s.t.Fatal(err)
		}
		at.file = status.Files[0].Name
	}
	s.jobs[kind][client] = at
	return at
}

// targetOf is a target of a row for a client. A job of its own that was deleted is
// made again.
func (s *matrixServer) targetOf(row *interaction, m method, name, client string) target {
	at := target{name, "99999", "a.ndjson"}
	kind := map[place]string{placeImportJob: "import", placeImportFile: "import", placeExportJob: "export", placeExportFile: "export"}[row.place]
	if kind == "" || name == "missing" {
		return at
	}
	whose := client
	if name == "other" {
		whose = map[string]string{"import": "importer", "export": "exporter"}[kind]
		if whose == client {
			whose = map[string]string{"import": "sys-cud", "export": "sys-rs"}[kind]
		}
	}
	at = s.job(kind, whose)
	at.name = name
	if m == methodDelete && kind == "export" {
		delete(s.jobs[kind], whose)
	}
	return at
}

// cell is the statuses for the three targets.
func (s *matrixServer) cell(row *interaction, m method, client string) string {
	var statuses, texts []string
	for _, name := range matrixTargets {
		at := s.targetOf(row, m, name, client)
		path := matrixPath(row, at)
		if path == "" {
			s.t.Fatalf("the interaction %s has no entry in the matrix: give its place one", row.name)
		}
		if m == methodPut || m == methodPatch || m == methodDelete {
			s.fixture(s.t)
			s.as(s.t, "admin", "DELETE", "/fhir/Observation/missing?_hardDelete=true", "")
		}
		body, headers := matrixBody(row, m, at, s.root)
		status, _, text := s.ask(client, methodNames[m], path, body, headers)
		if s.isOnlyTheirs(client) && strings.Contains(text, "SECRET") {
			s.t.Errorf("%s, %s %s tells what is another patient's: %s", client, methodNames[m], path, text)
		}
		statuses, texts = append(statuses, strconv.Itoa(status)), append(texts, told(text, at))
	}
	if s.isOnlyTheirs(client) && row.place >= placeInstance && (statuses[1] != statuses[2] || texts[1] != texts[2]) {
		s.t.Errorf("%s, %s: another's is answered as %s %s, what is missing as %s %s", client, row.name, statuses[1], texts[1], statuses[2], texts[2])
	}
	if slices.Equal(statuses[:1], statuses[1:2]) && statuses[1] == statuses[2] {
		return statuses[0]
	}
	return strings.Join(statuses, "/")
}

// isOnlyTheirs: the client may see a patient's alone, or nothing.
func (s *matrixServer) isOnlyTheirs(client string) bool {
	if client == "anonymous" {
		return true
	}
	p := s.opts.Auth.(testAuth)[client]
	if p.Has(access.Export, 0) {
		return false
	}
	for needs := access.Read; needs <= access.Delete; needs <<= 1 {
		g := p.May(needs, parseAddress([]byte("/fhir/Observation")).typ)
		if g.Whole || slices.ContainsFunc(g.Rules, func(r access.Rule) bool { return r.Patient == "" }) {
			return false
		}
	}
	return true
}

// told is an answer without what it repeats of its request, and what differs from one
// to the next.
func told(text string, at target) string {
	if i := strings.Index(text, `"issue":`); i >= 0 {
		text = text[i:]
	}
	if strings.Contains(text, `"Bundle"`) {
		return "a Bundle"
	}
	return strings.ReplaceAll(text, at.name, "IT")
}

// TestEveryRouteDecides compares with testdata/access.txt: each row of the table, and
// below it who is answered how, "own/other/missing" where that differs. KILN_UPDATE=1
// writes it anew; read what has changed.
func TestEveryRouteDecides(t *testing.T) {
	s := newMatrixServer(t)
	names := append(slices.Sorted(maps.Keys(s.opts.Auth.(testAuth))), "anonymous")
	var got bytes.Buffer
	seen := map[string]bool{}
	for i := range s.table.rows {
		row := &s.table.rows[i]
		methods := []method{row.method}
		if row.safe {
			methods = append(methods, methodHead)
		}
		for _, m := range methods {
			cells := map[string][]string{}
			for _, client := range names {
				cell := s.cell(row, m, client)
				cells[cell] = append(cells[cell], client)
			}
			title := methodNames[m] + " " + matrixPath(row, target{"{id}", "{job}", "{file}"})
			if seen[title] {
				t.Errorf("%s is there twice", title)
			}
			seen[title] = true
			fmt.Fprintf(&got, "%s (%s)\n", title, row.name)
			for _, cell := range slices.Sorted(maps.Keys(cells)) {
				fmt.Fprintf(&got, "    %-12s %s\n", cell, strings.Join(cells[cell], " "))
			}
		}
	}
	for i := range s.table.rows {
		path := matrixPath(&s.table.rows[i], target{"own", "1", "a.ndjson"})
		if status, _, _ := s.ask("anonymous", "OPTIONS", path, "", nil); status != 204 {
			t.Errorf("OPTIONS %s: %d", path, status)
		}
	}
	const golden = "testdata/access.txt"
	if os.Getenv("KILN_UPDATE") != "" {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("who may do what changed:\n%s", differences(got.String(), string(want)))
	}
}

// differences are the lines that one text has and the other has not.
func differences(got, want string) string {
	var b strings.Builder
	title := ""
	wanted := strings.Split(want, "\n")
	for line := range strings.Lines(got) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, " ") {
			title = line
		}
		if !slices.Contains(wanted, line) {
			fmt.Fprintf(&b, "%s: %s\n", title, line)
		}
	}
	return b.String()
}

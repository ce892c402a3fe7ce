package bulk

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/shareddata"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// blobs are the names and texts of all blobs of a container.
func (a *azurite) blobs(t *testing.T, name string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	c := a.client.NewContainerClient(name)
	for pages := c.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{}); pages.More(); {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Segment.BlobItems {
			got, err := c.NewBlobClient(*item.Name).DownloadStream(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(got.Body)
			if err != nil {
				t.Fatal(err)
			}
			_ = got.Body.Close() // it is read to its end
			texts[*item.Name] = string(text)
		}
	}
	return texts
}

// historySite is a site with histories and deletions, whose exports have several
// sections and may go to an account.
func historySite(t *testing.T, o AzureOptions) *testSite {
	t.Helper()
	s := newTestSite(t)
	s.close()
	s.fs, s.sectionRows, s.azure = exportDisk(t), 5, o
	s.open()
	return s
}

// startIn begins an export into a container.
func (s *testSite) startIn(query map[string][]string) int64 {
	s.t.Helper()
	r, err := s.jobs.ParseExport(&ExportKickOff{URL: "http://host/$export", Base: "http://host", Query: query})
	if err != nil {
		s.t.Fatal(err)
	}
	r.FileLines = 3
	id, err := s.jobs.StartExport(context.Background(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

var everyVersion = []string{"_history,_deleted"}

// checkFolder compares a container with a finished export, whose only one it is.
func (a *azurite) checkFolder(t *testing.T, status *ExportStatus, containerName string) (lines []string) {
	t.Helper()
	if status.State != Completed {
		t.Fatalf("the export ended as %+v", status.Error)
	}
	blobs := a.blobs(t, containerName)
	if len(blobs) != len(status.Files) || len(blobs) < 5 {
		t.Errorf("%d blobs are there, %d are told", len(blobs), len(status.Files))
	}
	folder := regexp.MustCompile(`/` + containerName + `/\d{8}T\d{6}-\d+-[0-9a-f]{16}/[A-Z][A-Za-z]+-\d+-\d+\.ndjson$`)
	for _, f := range status.Files {
		_, name, _ := strings.Cut(f.URL, "/"+containerName+"/")
		text := blobs[name]
		if !folder.MatchString(f.URL) || strings.Contains(f.URL, "?") || int64(len(text)) != f.Bytes || int64(strings.Count(text, "\n")) != f.Count {
			t.Errorf("%+v has %d bytes", f, len(text))
		}
		lines = append(lines, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
	}
	slices.Sort(lines)
	return lines
}

// testBlocksInAzure: files organized by patients go there, too, and what was set aside
// meanwhile is gone.
func (s *testSite) testBlocksInAzure(a *azurite) {
	s.t.Helper()
	s.jobs.opts.BlocksBytes = 400
	status := s.waitExport(s.startIn(map[string][]string{"_container": {"blocks"}, "organizeOutputBy": {"Patient"}, "includeAssociatedData": everyVersion}))
	lines := 0
	for _, line := range a.checkFolder(s.t, status, "blocks") {
		if !strings.Contains(line, `"resourceType":"Parameters"`) {
			lines++
		}
	}
	want := 0
	for _, line := range s.lines() {
		if strings.Contains(line, `"resourceType":"Patient"`) {
			want++
		}
	}
	if lines != want {
		s.t.Errorf("the blobs have %d lines of patients, and there are %d", lines, want)
	}
	if _, err := s.fs.Stat(s.jobs.exportDir(status.ID)); err == nil {
		s.t.Error("what was set aside is still there")
	}
}

func testExportToAzure(t *testing.T, a *azurite) {
	s := historySite(t, AzureOptions{ConnectionString: a.connectionString()})
	local := s.exported(s.runAll())
	localBytes := s.jobs.Metrics().ExportedBytes
	status := s.waitExport(s.startIn(map[string][]string{"_container": {"new-one"}, "includeAssociatedData": everyVersion}))
	if got := a.checkFolder(t, status, "new-one"); !slices.Equal(got, local) || !slices.Equal(got, s.lines()) {
		t.Errorf("the blobs have %d lines, the local export %d", len(got), len(local))
	}
	if d, err := s.jobs.ExportFile(status.ID, status.Files[0].Name); err == nil {
		t.Errorf("a blob is served from here with %d bytes", d.Bytes)
	}
	if _, err := s.fs.Stat(s.jobs.exportDir(status.ID)); err == nil {
		t.Error("there is a directory for it")
	}
	if m := s.jobs.Metrics(); m.BlocksStaged == 0 || m.BlocksCommitted != m.BlocksStaged || m.BlockBytesStaged != m.ExportedBytes-localBytes || m.BlocksWaiting != 0 || m.BlockBytesWaiting != 0 || m.ExportWaitDurable <= 0 {
		t.Errorf("counted is %+v", m)
	}
	if s.jobs.staging.held != 0 || s.jobs.staging.filling.Load() != 0 || s.jobs.staging.open.Load() != 0 {
		t.Errorf("after it there are %d bytes held, %d filling in %d files", s.jobs.staging.held, s.jobs.staging.filling.Load(), s.jobs.staging.open.Load())
	}
	if err := s.jobs.DeleteExport(context.Background(), status.ID); err != nil {
		t.Fatal(err)
	}
	if left := a.blobs(t, "new-one"); len(left) != 0 {
		t.Errorf("deleted, it leaves %d blobs", len(left))
	}
	generated := s.waitExport(s.startIn(map[string][]string{"_container": {""}}))
	if ok, _ := regexp.MatchString(`/export-[0-9a-f]{16}/`, generated.Files[0].URL); !ok {
		t.Errorf("without a name the file is %s", generated.Files[0].URL)
	}
	s.testBlocksInAzure(a)
	parquet := s.waitExport(s.startIn(map[string][]string{"_container": {"columns"}, "_outputFormat": {formatParquet}}))
	for name, text := range a.blobs(t, "columns") {
		if !strings.HasSuffix(name, ".parquet") || !strings.HasPrefix(text, "PAR1") || !strings.HasSuffix(text, "PAR1") {
			t.Errorf("%s is no Parquet file", name)
		}
	}
	if len(parquet.Files) == 0 {
		t.Error("no Parquet files")
	}
}

// testExportToAzureResumes stops the server when some blobs are written; some
// requests are refused or cut at first.
func testExportToAzureResumes(t *testing.T, a *azurite) {
	var puts, lists atomic.Int64
	var stopped atomic.Bool
	reached := make(chan struct{})
	once := sync.OnceFunc(func() { close(reached) })
	account := a.proxy(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		switch n := puts.Load(); {
		case r.Method != http.MethodPut:
			lists.Add(1)
		case stopped.Load():
		case n > 60 && r.URL.Query().Get("comp") == "block":
			once()
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return
		case puts.Add(1)%7 == 3:
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case puts.Load()%7 == 5:
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	})
	s := historySite(t, AzureOptions{AccountURL: account, AccountKey: azuriteKey})
	want := s.lines()
	id := s.startIn(map[string][]string{"_container": {"resumed"}, "includeAssociatedData": everyVersion})
	<-reached
	before := a.blobs(t, "resumed")
	for name, text := range before {
		if strings.Count(text, "\n") == 0 || !strings.HasSuffix(text, "}\n") {
			t.Errorf("%s is half-written", name)
		}
	}
	s.change("p1", `,"active":false`, false)
	jobs := s.jobs
	if err := jobs.Close(); err != nil {
		t.Fatal(err)
	}
	stopped.Store(true)
	var err error
	if s.jobs, err = NewManager(context.Background(), s.options(jobs.opts.NewID)); err != nil {
		t.Fatal(err)
	}
	status := s.waitExport(id)
	if got := a.checkFolder(t, status, "resumed"); !slices.Equal(got, want) {
		t.Error(firstDifference(strings.Join(got, "\n"), strings.Join(want, "\n")))
	}
	if len(before) == 0 || lists.Load() == 0 {
		t.Errorf("%d blobs were there before the restart", len(before))
	}
}

// testExportToAzureWaits holds up every block: the export stops with so many bytes in
// memory, and holds no turn meanwhile.
func testExportToAzureWaits(t *testing.T, a *azurite) {
	release := make(chan struct{})
	var most atomic.Int64
	var s *testSite
	account := a.proxy(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.URL.Query().Get("comp") == "block" {
			<-release
			s.jobs.staging.mu.Lock()
			most.Store(max(most.Load(), s.jobs.staging.held+s.jobs.staging.filling.Load()))
			s.jobs.staging.mu.Unlock()
		}
		forward.ServeHTTP(w, r)
	})
	s = a.site(t, AzureOptions{AccountURL: account, AccountKey: azuriteKey})
	const lines = 2500
	text := string(bigLines(lines))
	s.imports(InitialLoad, 0, s.file("big.ndjson", text))
	r, err := s.jobs.ParseExport(&ExportKickOff{URL: "http://host/$export", Base: "http://host", Query: map[string][]string{"_container": {"held-up"}}})
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.jobs.StartExport(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	for !s.jobs.staging.full() {
		runtime.Gosched()
	}
	var gives []func()
	for range s.workers {
		give, err := s.jobs.Turn(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		gives = append(gives, give)
	}
	close(release)
	for _, give := range gives {
		give()
	}
	status := s.waitExport(id)
	written := int64(0)
	for _, f := range status.Files {
		written += f.Bytes
	}
	if status.State != Completed || status.RowsDone != lines || written < int64(len(text)) {
		t.Errorf("it ends as %+v with %d bytes", status, written)
	}
	if m := s.jobs.Metrics(); m.ExportAccountStalls == 0 || m.ExportWaitAccount <= 0 {
		t.Errorf("it waited %d times and %s for the account", m.ExportAccountStalls, m.ExportWaitAccount)
	}
	if bound := int64(blobHeldMax + blobFillingMax + 2*blobBlockBytes); most.Load() > bound {
		t.Errorf("%d bytes were in memory, more than %d", most.Load(), bound)
	}
}

// testExportToAzureFails: what the account does not take fails the job, and nothing
// is left there.
func testExportToAzureFails(t *testing.T, a *azurite) {
	f := func(what, want string, key string, answer func(w http.ResponseWriter, r *http.Request, puts int64) bool) {
		t.Helper()
		var puts atomic.Int64
		account := a.proxy(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			if answer == nil || r.Method != http.MethodPut || !answer(w, r, puts.Add(1)) {
				forward.ServeHTTP(w, r)
			}
		})
		s := historySite(t, AzureOptions{AccountURL: account, AccountKey: key})
		status := s.waitExport(s.startIn(map[string][]string{"_container": {"failing"}, "includeAssociatedData": everyVersion}))
		if status.State != Failed || len(status.Files) > 0 || !strings.Contains(status.Error.Text, want) || !strings.Contains(status.Error.Text, account+"/failing/") {
			t.Errorf("%s: ended as %+v %+v", what, status, status.Error)
		}
		if key != azuriteKey {
			return
		}
		if left := a.blobs(t, "failing"); len(left) > 0 {
			t.Errorf("%s: %d blobs are left", what, len(left))
		}
		if text := status.Error.Text; strings.Contains(text, "sig=") || strings.Contains(text, key) {
			t.Errorf("%s: a secret is told: %s", what, text)
		}
		for id := range s.catalog() {
			if strings.HasPrefix(id, keyExportSection) || strings.HasPrefix(id, keyExportRemains) {
				t.Errorf("%s: the catalog has %s", what, id)
			}
		}
	}
	a.container("failing")
	refuse := func(status int) func(http.ResponseWriter, *http.Request, int64) bool {
		return func(w http.ResponseWriter, _ *http.Request, puts int64) bool {
			if puts < 30 {
				return false
			}
			w.WriteHeader(status)
			return true
		}
	}
	f("forbidden", "answered 403 Forbidden; the server's credential must be valid", azuriteKey, refuse(403))
	f("busy for ever", "answered 503 Service Unavailable, several times in a row", azuriteKey, refuse(503))
	f("the container is gone", "answered 404 Not Found; somebody removed the container", azuriteKey, refuse(404))
	f("cut for ever", "cannot be reached, or breaks the connection", azuriteKey, func(http.ResponseWriter, *http.Request, int64) bool {
		panic(http.ErrAbortHandler)
	})
	f("wrong key", "answered 403 Forbidden", "d3Jvbmc=", nil)
}

// testExportRemainsAreRemoved deletes an export while the account does not answer:
// the next start removes its files.
func testExportRemainsAreRemoved(t *testing.T, a *azurite) {
	var gone atomic.Bool
	account := a.proxy(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if gone.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		forward.ServeHTTP(w, r)
	})
	s := historySite(t, AzureOptions{AccountURL: account, AccountKey: azuriteKey})
	a.container("remains").put("of/somebody-else", []byte("x"))
	status := s.waitExport(s.startIn(map[string][]string{"_container": {"remains"}}))
	gone.Store(true)
	if err := s.jobs.DeleteExport(context.Background(), status.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.jobs.ExportStatus(status.ID); err == nil {
		t.Error("the export is still known")
	}
	gone.Store(false)
	jobs := s.jobs
	if err := jobs.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.jobs, err = NewManager(context.Background(), s.options(jobs.opts.NewID)); err != nil {
		t.Fatal(err)
	}
	s.jobs.running.Wait()
	if left := a.blobs(t, "remains"); len(left) != 1 {
		t.Errorf("%d blobs are left", len(left))
	}
	for key := range s.catalog() {
		if strings.HasPrefix(key, keyExportRemains) {
			t.Errorf("the catalog has %s", key)
		}
	}
}

// testExportToAzureIsImportedBack: what an export of histories writes into the
// account, an import takes from there.
func testExportToAzureIsImportedBack(t *testing.T, a *azurite) {
	o := AzureOptions{ConnectionString: a.connectionString()}
	s := historySite(t, o)
	s.close()
	s.sectionRows = 400
	s.open()
	s.writeOdd()
	want := s.lines()
	status := s.waitExport(s.startIn(map[string][]string{"_container": {"round-trip"}, "includeAssociatedData": everyVersion}))
	back := a.site(t, o)
	var urls []string
	for _, f := range status.Files {
		urls = append(urls, f.URL)
	}
	back.imports(IncrementalLoad, 0, urls...)
	if got := back.lines(); !slices.Equal(got, want) || len(want) < 500 {
		t.Error(firstDifference(strings.Join(got, "\n"), strings.Join(want, "\n")))
	}
}

// writeOdd gives the odd resources a second version, and deletes some of them.
func (s *testSite) writeOdd() {
	s.t.Helper()
	lines := strings.Split(string(shareddata.Read(s.t, shareddata.Path(s.t, "data", "odd-r4.ndjson.gz"))), "\n")
	s.imports(IncrementalLoad, 0, s.file("odd.ndjson", lines...))
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(strings.TrimRight(line, " \r"), "}") + `,"implicitRules":"http://example.org/\u00e4\/","x":1.50e3}`
	}
	s.imports(IncrementalLoad, 0, s.file("odd-again.ndjson", lines...))
	for i, text := range s.versions() {
		typeName, id, _ := strings.Cut(strings.Fields(text)[0], "/")
		if i%5 != 0 {
			continue
		}
		c := engine.Change{Type: fhir.TypeByName([]byte(typeName)), ID: []byte(id), Delete: true}
		if _, err := s.store.Commit(context.Background(), []engine.Change{c}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestExportContainerIsRefused(t *testing.T) {
	f := func(value, want string, o AzureOptions) {
		t.Helper()
		s := newTestSite(t)
		s.close()
		s.azure = o
		s.open()
		_, err := s.jobs.ParseExport(&ExportKickOff{URL: "u", Query: map[string][]string{"_container": {value}}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("_container=%s gives %v", value, err)
		}
	}
	account := AzureOptions{AccountURL: "https://a.blob.core.windows.net", AccountKey: "eA=="}
	f("abc", `The "_container" parameter is not supported.`, AzureOptions{})
	f("a/../b", "The value 'a/../b' of '_container' is not valid. Path traversal characters are not allowed.", account)
	for _, bad := range []string{"ab", "Abc", "a_b", "-abc", "abc-", "a--b", "a/b", "a b", strings.Repeat("a", 64), "$root", "ä-b"} {
		f(bad, "The value '"+bad+"' of '_container' is not valid. A container's name has 3 to 63", account)
	}
	f("abc", "", account)
	f("a-1-b", "", account)
	f("", "", account)
}

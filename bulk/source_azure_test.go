package bulk

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// azureSite is a site that reads the account.
func (a *azurite) site(t *testing.T, o AzureOptions) *testSite {
	t.Helper()
	s := newTestSite(t)
	s.close()
	s.azure, s.rounds = o, 1<<20
	s.open()
	return s
}

// bigLines is a blob of so many Patients of 30 kB: more than is read ahead
// when there are a thousand.
func bigLines(n int) []byte {
	var b bytes.Buffer
	long := strings.Repeat("x", 30_000)
	for i := range n {
		b.WriteString(patient(fmt.Sprint("p", i), fmt.Sprintf(`,"name":[{"text":%q}]`, long)) + "\n")
	}
	return b.Bytes()
}

// TestAzureBlobStorage reads from a real Azurite, one for all of them.
func TestAzureBlobStorage(t *testing.T) {
	a := startAzurite(t)
	t.Run("sign in", func(t *testing.T) { testAzureSignIn(t, a) })
	t.Run("blobs of all kinds", func(t *testing.T) { testAzureBlobs(t, a) })
	t.Run("ETag of the request", func(t *testing.T) { testAzureEtag(t, a) })
	t.Run("changes in mid-job", func(t *testing.T) { testAzureChanges(t, a) })
	t.Run("bad connections", func(t *testing.T) { testAzureBadConnections(t, a) })
	t.Run("resume", func(t *testing.T) { testAzureResume(t, a) })
	t.Run("error files", func(t *testing.T) { testErrorBlobs(t, a) })
	t.Run("error files of a job that is cancelled", func(t *testing.T) { testErrorBlobsOfACancelledJob(t, a) })
	t.Run("error files after a restart", func(t *testing.T) { testErrorBlobsAfterARestart(t, a) })
	t.Run("error files that are not taken", func(t *testing.T) { testErrorBlobsRefused(t, a) })
	t.Run("export", func(t *testing.T) { testExportToAzure(t, a) })
	t.Run("export that is stopped goes on", func(t *testing.T) { testExportToAzureResumes(t, a) })
	t.Run("export that storage holds up", func(t *testing.T) { testExportToAzureWaits(t, a) })
	t.Run("export that fails", func(t *testing.T) { testExportToAzureFails(t, a) })
	t.Run("remains of an export", func(t *testing.T) { testExportRemainsAreRemoved(t, a) })
	t.Run("export is imported back", func(t *testing.T) { testExportToAzureIsImportedBack(t, a) })
}

func testAzureSignIn(t *testing.T, a *azurite) {
	address, _ := a.container("sign-in").put("a.ndjson", []byte(patient("a", "")))
	f := func(what string, o AzureOptions, suffix string, status int) {
		t.Helper()
		s := a.site(t, o)
		got := s.wait(s.start(InitialLoad, 0, address+suffix))
		if status == 0 && (got.State != Completed || testCounts(got) != "1/0") {
			t.Errorf("%s: ended as %d with %s, %v", what, got.State, testCounts(got), got.Error)
		}
		if status != 0 && (got.State != Failed || got.Error.Status != status || !strings.Contains(got.Error.Text, fmt.Sprint("answered ", status))) {
			t.Errorf("%s: ended as %d, %+v; want %d", what, got.State, got.Error, status)
		}
		if status != 0 && (strings.Contains(got.Error.Text, "sig=") && suffix == "" || strings.Contains(got.Error.Text, o.AccountKey) && o.AccountKey != "") {
			t.Errorf("%s: the error shows a secret: %s", what, got.Error.Text)
		}
	}
	f("connection string", AzureOptions{ConnectionString: a.connectionString()}, "", 0)
	f("connection string with SAS", AzureOptions{ConnectionString: "BlobEndpoint=" + a.url + ";SharedAccessSignature=" + a.sas()}, "", 0)
	f("shared key", AzureOptions{AccountURL: a.url, AccountKey: azuriteKey}, "", 0)
	f("SAS", AzureOptions{AccountURL: a.url, SAS: "?" + a.sas()}, "", 0)
	f("SAS of the input", AzureOptions{AccountURL: a.url, AccountKey: "d3Jvbmc="}, "?"+a.sas(), 0)
	f("wrong key", AzureOptions{AccountURL: a.url, AccountKey: "d3Jvbmc="}, "", 403)
	f("wrong SAS", AzureOptions{AccountURL: a.url, SAS: strings.Replace(a.sas(), "sig=", "sig=A", 1)}, "", 403)
}

func testAzureBlobs(t *testing.T, a *azurite) {
	s := a.site(t, AzureOptions{ConnectionString: a.connectionString()})
	c := a.container("kinds")
	f := func(what, name string, data []byte, unitBytes int64, want string) {
		t.Helper()
		address, _ := c.put(name, data)
		if got := s.imports(IncrementalLoad, unitBytes, address); got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write([]byte(patient("z", "") + "\n" + patient("y", "") + "\n"))
	_ = w.Close()
	f("gzip", "a.ndjson.gz", zipped.Bytes(), 0, "2/0")
	f("empty", "empty.ndjson", nil, 0, "0/0")
	f("a name with folders and signs", "a folder/ü+%41?.ndjson", []byte(patient("n", "")), 0, "1/0")
	f("many units, one bad line", "units.ndjson", append(bigLines(20), "nothing\n"...), 50_000, "20/1")
	f("many ranges", "ranges.ndjson", bigLines(400), 0, "400/0")

	status := s.wait(s.start(IncrementalLoad, 0, c.client.URL()+"/missing.ndjson"))
	if status.State != Failed || status.Error.Status != 404 {
		t.Errorf("a missing blob: ended as %d, %+v", status.State, status.Error)
	}
}

func testAzureEtag(t *testing.T, a *azurite) {
	s := a.site(t, AzureOptions{ConnectionString: a.connectionString()})
	address, etag := a.container("etag").put("a.ndjson", []byte(patient("a", "")))
	f := func(etag string, want State) {
		t.Helper()
		r := &ImportRequest{URL: "http://host/$import", Mode: InitialLoad, Inputs: []ImportInput{{URL: address, Etag: etag}}}
		id, err := s.jobs.StartImport(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		got := s.wait(id)
		if got.State != want || want == Failed && got.Error.Text != fmt.Sprintf(textEtag, address) {
			t.Errorf("ETag %s: ended as %d, %+v", etag, got.State, got.Error)
		}
	}
	f(`"0x0"`, Failed)
	f(etag, Completed)
	f(strings.Trim(etag, `"`), Completed)
}

// testAzureChanges does something to a blob when the first round is read.
func testAzureChanges(t *testing.T, a *azurite) {
	c := a.container("changes")
	data := bigLines(1200)
	f := func(what, want string, change func(name string)) {
		t.Helper()
		s := a.site(t, AzureOptions{ConnectionString: a.connectionString()})
		name := strings.ReplaceAll(what, " ", "-")
		address, _ := c.put(name, data)
		var once sync.Once
		s.jobs.beforePublish = func() { once.Do(func() { change(name) }) }
		got := s.wait(s.start(InitialLoad, 1<<20, address))
		if got.State != Failed || got.Error.Status != 400 || got.Error.Text != strings.ReplaceAll(want, "%s", address) {
			t.Errorf("%s: ended as %d, %+v", what, got.State, got.Error)
		}
	}
	f("written anew", textEtag, func(name string) { c.put(name, data) })
	f("deleted", textGone, func(name string) {
		if _, err := c.client.NewBlobClient(name).Delete(context.Background(), nil); err != nil {
			t.Error(err)
		}
	})
}

// azureProxy stands before Azurite; before each request it may answer itself.
func (a *azurite) proxy(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, forward http.Handler)) string {
	t.Helper()
	target, err := url.Parse(a.url)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r, forward) }))
	t.Cleanup(server.Close)
	return server.URL + target.Path
}

func testAzureBadConnections(t *testing.T, a *azurite) {
	const lines = 400
	a.container("bad").put("a.ndjson", bigLines(lines))
	f := func(what, want string, answer func(http.ResponseWriter, *http.Request, http.Handler)) {
		t.Helper()
		account := a.proxy(t, answer)
		s := a.site(t, AzureOptions{AccountURL: account, AccountKey: azuriteKey})
		got := s.wait(s.start(InitialLoad, 0, account+"/bad/a.ndjson"))
		outcome := testCounts(got)
		if got.State == Failed {
			outcome = fmt.Sprint(got.Error.Status, " ", got.Error.Text)
		}
		if outcome != strings.ReplaceAll(want, "%s", account+"/bad/a.ndjson") {
			t.Errorf("%s: got %s, want %s", what, outcome, want)
		}
	}
	var requests atomic.Int64
	f("every third is refused, every third is cut", fmt.Sprint(lines, "/0"), func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		switch requests.Add(1) % 3 {
		case 0:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader([]int{429, 500, 503}[requests.Load()/3%3])
		case 1:
			forward.ServeHTTP(w, r)
		case 2:
			forward.ServeHTTP(&brokenWriter{w, 1_500_000}, r)
		}
	})
	refuse := func(status int) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			if r.Method == http.MethodHead {
				forward.ServeHTTP(w, r)
				return
			}
			w.WriteHeader(status)
		}
	}
	f("refused after the start", "400 "+textUnauthorized, refuse(403))
	f("unknown after the start", "400 "+textUnauthorized, refuse(401))
	f("busy for ever", "500 %s: the server answered 503 Service Unavailable", refuse(503))
}

func testAzureResume(t *testing.T, a *azurite) {
	const lines = 600
	s := a.site(t, AzureOptions{ConnectionString: a.connectionString()})
	address, _ := a.container("resume").put("a.ndjson", bigLines(lines))
	second := make(chan struct{})
	rounds := 0
	jobs := s.jobs
	jobs.beforePublish = func() {
		if rounds++; rounds == 2 {
			close(second)
			<-jobs.ctx.Done()
		}
	}
	id := s.start(InitialLoad, 1<<20, address)
	<-second
	if s.store.Progress(uint64(id)) == nil {
		t.Error("nothing is published before the restart")
	}
	if err := s.jobs.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.jobs, err = NewManager(context.Background(), s.options(jobs.opts.NewID)); err != nil {
		t.Fatal(err)
	}
	status := s.wait(id)
	if got := testCounts(status); status.State != Completed || got != fmt.Sprint(lines, "/0") {
		t.Errorf("after the restart: ended as %d with %s, %v", status.State, got, status.Error)
	}
	if got := len(s.versions()); got != lines {
		t.Errorf("%d versions, want %d", got, lines)
	}
}

func TestAzureAccountIsNotLeft(t *testing.T) {
	elsewhere := newTestServer(t, []byte(patient("a", "")))
	account := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/account/c1x/b", http.StatusTemporaryRedirect))
	t.Cleanup(account.Close)
	s := (*azurite)(nil).site(t, AzureOptions{AccountURL: account.URL + "/account", AccountKey: azuriteKey})
	got := s.wait(s.start(InitialLoad, 0, account.URL+"/account/c1x/b"))
	if got.State != Failed || elsewhere.requests.Load() != 0 {
		t.Errorf("ended as %d, and %d requests went elsewhere", got.State, elsewhere.requests.Load())
	}
	f := func(address string, ok bool) {
		t.Helper()
		if err := s.jobs.addresses.check(address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	f(account.URL+"/account/c1x/b", true)
	f(account.URL+"/account/c1x/b/c%20d", true)
	f(account.URL+"/account/$root/b", true)
	f(account.URL+"/account/c1x/b?snapshot=2026-01-01T00:00:00.0000000Z", true)
	f(account.URL+"/account/c1x/b?sv=1&sig=abc", true)
	f(account.URL+"/account/c1x/b?comp=list", false)
	f(account.URL+"/account/c1x/", false)
	f(account.URL+"/account/c1x", false)
	f(account.URL+"/account/../other/b", false)
	f(account.URL+"/account/c1x/..", false)
	f(account.URL+"/account/c1x/../../other/b", false)
	f(account.URL+"/account/c1x/%2e%2e/c2x/b", false)
	f(account.URL+"/account/c1x/b/.%2E/c", false)
	f(account.URL+"/account%2fc1x/b/../../../other", false)
	f(account.URL+"/ACCOUNT/c1x/b", false)
	f(account.URL+"//account/c1x/b", false)
	f(account.URL+"/account2/c1x/b", false)
	f(elsewhere.URL+"/account/c1x/b", false)
	f(strings.Replace(account.URL, "http:", "https:", 1)+"/account/c1x/b", false)
	f(strings.Replace(account.URL, "//", "//me:secret@", 1)+"/account/c1x/b", false)
}

func TestAzureOptionsErrorsKeepSecrets(t *testing.T) {
	const secret = "s3cr%et"
	f := func(what string, o AzureOptions) {
		t.Helper()
		_, err := newAzureAccount(o, networkOptions{})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f("malformed connection string", AzureOptions{ConnectionString: secret})
	f("bad key in a connection string", AzureOptions{ConnectionString: "AccountName=a;AccountKey=" + secret})
	f("bad endpoint in a connection string", AzureOptions{ConnectionString: "BlobEndpoint=ftp://x;SharedAccessSignature=" + secret})
	f("connection string and key", AzureOptions{ConnectionString: "AccountName=a;AccountKey=YQ==", AccountKey: secret})
	f("bad key", AzureOptions{AccountURL: "https://a.blob.core.windows.net", AccountKey: secret})
	f("key without account", AzureOptions{AccountKey: secret})
	f("key and SAS", AzureOptions{AccountURL: "https://a.blob.core.windows.net", AccountKey: "YQ==", SAS: secret})
	f("SAS in the address", AzureOptions{AccountURL: "https://a.blob.core.windows.net/?" + secret})
	f("link-local endpoint", AzureOptions{AccountURL: "https://169.254.169.254", SAS: secret})
	f("default credential in the clear", AzureOptions{AccountURL: "http://a.blob.core.windows.net"})
}

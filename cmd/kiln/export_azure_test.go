package main

import (
	"context"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"kiln/internal/npmtest"
)

// blobAccount is a storage account beside the servers of a test.
type blobAccount struct {
	t      *testing.T
	url    string
	client *azblob.Client
}

func newBlobAccount(t *testing.T) *blobAccount {
	t.Helper()
	a := &blobAccount{t: t, url: npmtest.StartAzurite(t, "../../bulk/testdata/azurite")}
	var err error
	if a.client, err = azblob.NewClientFromConnectionString(npmtest.AzuriteConnection(a.url), nil); err != nil {
		t.Fatal(err)
	}
	return a
}

// blobs are the texts of a container by their addresses.
func (a *blobAccount) blobs(container string) map[string]string {
	a.t.Helper()
	texts := map[string]string{}
	for pages := a.client.NewListBlobsFlatPager(container, nil); pages.More(); {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			a.t.Fatal(err)
		}
		for _, item := range page.Segment.BlobItems {
			got, err := a.client.DownloadStream(context.Background(), container, *item.Name, nil)
			if err != nil {
				a.t.Fatal(err)
			}
			text, err := io.ReadAll(got.Body)
			if err != nil {
				a.t.Fatal(err)
			}
			_ = got.Body.Close() // it is read to its end
			texts[a.url+"/"+container+"/"+*item.Name] = string(text)
		}
	}
	return texts
}

func TestExportsIntoAnAccount(t *testing.T) {
	t.Parallel()
	a := newBlobAccount(t)
	input := t.TempDir()
	write(t, input, "p.ndjson", patients(2500, "x")+`{"resourceType":"Device","id":"d"}`)
	data := filepath.Join(t.TempDir(), "data")
	mustKiln(t, 0, "load", "--data-dir", data, input)
	s := serve(t, data, "--azure-connection-string", npmtest.AzuriteConnection(a.url))
	t.Run("manifest", func(t *testing.T) { a.testManifest(t, s) })
	t.Run("command", func(t *testing.T) { a.testCommand(t, s) })
	t.Run("refusals", func(t *testing.T) { a.testRefusals(t, s) })
	s.stop()
	t.Run("wrong key", func(t *testing.T) { a.testWrongKey(t, data) })
}

// exportInto follows an export into a container to its end.
func exportInto(t *testing.T, s *server, query string) (status string, got *answer) {
	t.Helper()
	kicked := s.must(http.StatusAccepted, http.MethodGet, "/$export?"+query, "", "Accept", "application/fhir+json", "Prefer", "respond-async")
	status = kicked.header.Get("Content-Location")
	for got = kicked; got.status == http.StatusAccepted; {
		var err error
		if got, err = ask(http.MethodGet, status, ""); err != nil {
			t.Fatal(err)
		}
	}
	return status, got
}

// The manifest names the blobs, without a signature; they have what it tells. A DELETE
// of the status removes them.
func (a *blobAccount) testManifest(t *testing.T, s *server) {
	status, got := exportInto(t, s, "_container=by-http&_maxCount=1000")
	if got.status != http.StatusOK {
		t.Fatalf("it ends as %d %s", got.status, got.body)
	}
	list, blobs := decode[manifest](t, got.body), a.blobs("by-http")
	if len(list.Output) != 4 || len(blobs) != 4 {
		t.Errorf("%d files are told, %d are there", len(list.Output), len(blobs))
	}
	for _, f := range list.Output {
		text, ok := blobs[f.URL]
		if !ok || int64(strings.Count(text, "\n")) != *f.Count || int64(len(text)) != f.Bytes || !strings.HasPrefix(text, `{"resourceType":"`+f.Type+`"`) {
			t.Errorf("%s has %d bytes (%t), and %+v is told", f.URL, len(text), ok, f)
		}
		if here, err := ask(http.MethodGet, status+f.URL[strings.LastIndexByte(f.URL, '/'):], ""); err != nil || here.status != http.StatusNotFound {
			t.Errorf("the server gives the file too: %v %v", here, err)
		}
	}
	if gone, err := ask(http.MethodDelete, status, ""); err != nil || gone.status != http.StatusAccepted {
		t.Fatalf("DELETE: %v %v", gone, err)
	}
	if left := a.blobs("by-http"); len(left) > 0 {
		t.Errorf("deleted, it leaves %v", slices.Collect(maps.Keys(left)))
	}
	if after, err := ask(http.MethodGet, status, ""); err != nil || after.status != http.StatusNotFound {
		t.Errorf("after the DELETE the status is %v %v", after, err)
	}
	if _, got = exportInto(t, s, "_container=&_type=Device"); !regexp.MustCompile(`"url":"` + a.url + `/export-[0-9a-f]{16}/[^/"]+/Device-1-1\.ndjson"`).Match(got.body) {
		t.Errorf("without a name the manifest is %s", got.body)
	}
}

// kiln export --container tells where the blobs are; $import takes them from there.
func (a *blobAccount) testCommand(t *testing.T, s *server) {
	got := mustKiln(t, 0, "export", "--server", s.base, "--container", "by-command")
	blobs := a.blobs("by-command")
	addresses := slices.Sorted(maps.Keys(blobs))
	if len(blobs) == 0 || !strings.HasPrefix(got.out, "exported 2501 resources") || !strings.Contains(got.out, "they are in "+addresses[0][:strings.LastIndexByte(addresses[0], '/')]+";") {
		t.Errorf("%v are there, and it says %s", addresses, got.out)
	}
	other := serve(t, filepath.Join(t.TempDir(), "data"), "--azure-connection-string", npmtest.AzuriteConnection(a.url))
	mustKiln(t, 0, append([]string{"import", "--server", other.base}, addresses...)...)
	if total := other.historyTotal("/Patient"); total != 2500 {
		t.Errorf("imported again there are %d patients", total)
	}
	other.stop()
	got = mustKiln(t, 0, "export", "--server", s.base, "--container", "by-command", "--type", "Account", "--json")
	if list := decode[manifest](t, []byte(got.out)); len(list.Output) != 0 {
		t.Errorf("of nothing it says %s", got.out)
	}
}

func (a *blobAccount) testRefusals(t *testing.T, s *server) {
	if got := mustKiln(t, exitFailed, "export", "--server", s.base, "--container", "No_Container"); !strings.Contains(got.err, "container") {
		t.Errorf("a bad name: %s", got.err)
	}
	without := serve(t, filepath.Join(t.TempDir(), "data"))
	if got := mustKiln(t, exitFailed, "export", "--server", without.base, "--container", "c"); !strings.Contains(got.err, `"_container" parameter is not supported`) {
		t.Errorf("without an account: %s", got.err)
	}
	without.stop()
}

// An account that does not let the server in fails the job, and the job says so.
func (a *blobAccount) testWrongKey(t *testing.T, data string) {
	wrong := strings.Repeat("A", len(npmtest.AzuriteKey)-2) + "=="
	s := serve(t, data, "--azure-account-url", a.url, "--azure-account-key", wrong)
	_, got := exportInto(t, s, "_container=closed")
	told := decode[outcome](t, got.body)
	if got.status != http.StatusForbidden || len(told.Issue) != 1 || !strings.Contains(string(got.body), a.url+"/closed/") || strings.Contains(string(got.body), wrong) {
		t.Errorf("it ends as %d %s", got.status, got.body)
	}
	if got := mustKiln(t, exitFailed, "export", "--server", s.base, "--container", "closed"); !strings.Contains(got.err, "the server's credential must be valid") {
		t.Errorf("the command says %s", got.err)
	}
	s.stop()
}

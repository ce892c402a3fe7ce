package bulk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/engine"
	"kiln/internal/vfs"
	"kiln/query"
)

// testManager can parse requests; it has no store.
func testManager(t *testing.T, roots ...string) *Manager {
	t.Helper()
	allowed, err := newAddresses(roots, []string{"https://acct.blob.core.windows.net", "http://localhost:9000"})
	if err != nil {
		t.Fatal(err)
	}
	parameters, err := query.RegistryOfR4()
	if err != nil {
		t.Fatal(err)
	}
	return &Manager{addresses: allowed, opts: Options{Now: time.Now, Parameters: parameters}}
}

// testParameters writes a Parameters body from "name=value" pairs; inputs are
// "input=url type etag".
func testParameters(pairs ...string) string {
	var list []string
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "input":
			parts := []string{}
			for i, text := range strings.Fields(value) {
				parts = append(parts, fmt.Sprintf(`{"name":%q,"valueUri":%q}`, []string{"url", "type", "etag"}[i], text))
			}
			list = append(list, fmt.Sprintf(`{"name":"input","part":[%s]}`, strings.Join(parts, ",")))
		case "storageDetail":
			list = append(list, fmt.Sprintf(`{"name":"storageDetail","part":[{"name":"type","valueCode":%q}]}`, value))
		case "force":
			list = append(list, fmt.Sprintf(`{"name":"force","valueBoolean":%s}`, value))
		case "processingUnitBytesToRead":
			list = append(list, fmt.Sprintf(`{"name":%q,"valueInteger":%s}`, name, value))
		default:
			list = append(list, fmt.Sprintf(`{"name":%q,"valueString":%q}`, name, value))
		}
	}
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(list, ",") + `]}`
}

const testBlob = "https://acct.blob.core.windows.net/c/"

func TestImportRequestIsRefusedInOrder(t *testing.T) {
	m := testManager(t)
	f := func(body, want string) {
		t.Helper()
		_, err := m.ParseImport([]byte(body), "https://host/fhir/$import")
		var refused *RequestError
		if !errors.As(err, &refused) || refused.Status != 400 || refused.Code != "invalid" || refused.Text != want {
			t.Errorf("%s is refused with %+v, want %q", body, err, want)
		}
	}
	const format = "inputFormat=application/fhir+ndjson"
	notParameters := "Import request must be specified as a Paramters.  The body provided in this request is not valid. "
	f(``, notParameters)
	f(`{}`, notParameters)
	f(`{"resourceType":"Patient"}`, notParameters)
	f(`{"resourceType":"Parameters","parameter":{}}`, notParameters)
	f(`{"resourceType":"Parameters","parameter":[{"name":"mode","valueString":"a","valueCode":"b"}]}`, notParameters)
	twice := func(name, body string) {
		t.Helper()
		f(body, fmt.Sprintf("Import request has the member %q twice in one object; say it once.", name))
	}
	twice("parameter", `{"resourceType":"Parameters","parameter":[],"parameter":[]}`)
	twice("resourceType", `{"resourceType":"Patient","parameter":[],"resourceType":"Parameters"}`)
	twice("name", `{"resourceType":"Parameters","parameter":[{"name":"mode","valueString":"x","name":"mode"}]}`)
	twice("url", `{"resourceType":"Parameters","parameter":[{"name":"input","part":[{"name":"x","extension":[{"url":"a","\u0075rl":"a"}]}]}]}`)
	f(testParameters(), "Value of the following parameter inputFormat is invalid.")
	f(testParameters("inputFormat=application/json", "storageDetail=x"), "Value of the following parameter inputFormat is invalid.")
	f(testParameters(format, "storageDetail=s3"), "Value of the following parameter storageDetails is invalid.")
	f(testParameters(format, "mode=Nonsense"), "Value of the following parameter input is invalid.")
	one := "input=" + testBlob + "p.ndjson"
	f(testParameters(format, one, one+" Nobody"), "Import request cannot have duplicate files. Found duplicates: "+testBlob+"p.ndjson. ")
	f(testParameters(format, one, "input=https://ACCT.blob.core.windows.net:443/c/p.ndjson"), "Import request cannot have duplicate files. Found duplicates: https://ACCT.blob.core.windows.net:443/c/p.ndjson. ")
	f(testParameters(format, "input=x patient"), "Requested operation does not support resource type: patient.")
	f(testParameters(format, "input="), "Value of the following parameter input.url is invalid.")
	f(testParameters(format, "input=p.ndjson"), "Value of the following parameter input.url is invalid.")
	f(testParameters(format, "input=https://"), "Value of the following parameter input.url is invalid.")
	foreign := "input.url must match the configured integration storage account endpoint."
	f(testParameters(format, "input=https://other.example/p.ndjson"), foreign)
	f(testParameters(format, "input=http://acct.blob.core.windows.net/p.ndjson"), foreign)
	f(testParameters(format, "input=http://localhost:9001/p.ndjson"), foreign)
	f(testParameters(format, "input=http://user@localhost:9000/p.ndjson"), foreign)
	f(testParameters(format, "input=ftp://localhost:9000/p.ndjson"), foreign)
	f(testParameters(format, "input=/etc/passwd"), "input.url /etc/passwd is not below a directory that imports may read (--import-root).")
	f(testParameters(format, one+" SearchParameter", "mode=x"), "Requested operation does not support resource type: SearchParameter.")
	f(testParameters(format, one, "mode=Initial"), `Import mode can be either "InitialLoad"or "IncrementalLoad". Please add appropriate mode value to parameters.`)
	f(testParameters(format, one, "mode=InitialLoad"), "Initial import mode is not enabled. Please update service configuration to enable initial import mode.")
	f(testParameters(format, one, "processingUnitBytesToRead=-1"), "Value of the following parameter processingUnitBytesToRead is invalid.")
	many := []string{format}
	for i := range inputsMax + 1 {
		many = append(many, fmt.Sprintf("input=%s%d.ndjson", testBlob, i))
	}
	f(testParameters(many...), "Import request has 10001 files; at most 10000 are accepted in one operation.")

	many = many[:len(many)-1]
	if r, err := m.ParseImport([]byte(testParameters(many...)), "u"); err != nil || len(r.Inputs) != inputsMax {
		t.Errorf("%d inputs are refused: %v", inputsMax, err)
	}

	m = &Manager{addresses: &addresses{}}
	f(testParameters(format, one), "The import storage account is not configured correctly on the server. Import operations require a valid storage account.")
}

func TestImportRequestIsRead(t *testing.T) {
	m := testManager(t)
	body := testParameters("inputFormat=Application/FHIR+ndjson", "mode=initialload", "force=true", "storageDetail=Azure-Blob",
		"inputSource=urn:x", "errorContainerName=errs", "processingUnitBytesToRead=1000", "allowNegativeVersions=true", "other=x",
		`input=`+testBlob+`p.ndjson?sig=1 Patient "0x8D"`, "input=http://localhost:9000/q")
	r, err := m.ParseImport([]byte(body), "https://host/fhir/$import")
	if err != nil {
		t.Fatal(err)
	}
	want := ImportRequest{
		URL: "https://host/fhir/$import", InputSource: "urn:x", Mode: InitialLoad, Force: true, AllowNegativeVersions: true,
		UnitBytes: 1000, ErrorContainer: "errs",
		Inputs: []ImportInput{{testBlob + "p.ndjson?sig=1", "Patient", `"0x8D"`}, {"http://localhost:9000/q", "", ""}},
	}
	if fmt.Sprintf("%+v", *r) != fmt.Sprintf("%+v", want) {
		t.Errorf("read as %+v, want %+v", *r, want)
	}
}

func TestEqualRequestsHaveEqualHashes(t *testing.T) {
	m := testManager(t)
	hash := func(pairs ...string) string {
		t.Helper()
		pairs = append(pairs, "inputFormat=application/fhir+ndjson")
		r, err := m.ParseImport([]byte(testParameters(pairs...)), "u")
		if err != nil {
			t.Fatal(err)
		}
		return importHash(r)
	}
	one, two := "input="+testBlob+"1", "input="+testBlob+"2"
	base := hash(one, two)
	for _, same := range []string{hash(one, two, "mode="), hash(one, two, "mode=incrementalLOAD"), hash(one, two, "force=true"), hash(one, two, "storageDetail=azure-blob"), hash(one, two, "processingUnitBytesToRead=0")} {
		if same != base {
			t.Error("a default that is spelled out makes another registration")
		}
	}
	for _, other := range []string{hash(two, one), hash(one), hash(one+" Patient", two), hash(one, two, "mode=InitialLoad", "force=true"), hash(one, two, "processingUnitBytesToRead=10000000"), hash(one, two, "errorContainerName=abc"), hash(one, two, "inputSource=x")} {
		if other == base {
			t.Error("different requests are one registration")
		}
	}
}

func TestFilesBelowImportRoots(t *testing.T) {
	dir := t.TempDir()
	root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	for _, d := range []string{root, outside} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "p.ndjson"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{"in": filepath.Join(root, "p.ndjson"), "out": filepath.Join(outside, "p.ndjson"), "outdir": outside}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	m := testManager(t, root)
	f := func(address string, ok bool) {
		t.Helper()
		if err := m.addresses.check(address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	f(root+"/p.ndjson", true)
	f("file://"+root+"/p.ndjson", true)
	f("file://localhost"+root+"/p.ndjson", true)
	f(root+"/in", true)
	f(root+"/missing.ndjson", true) // the job says so
	f(root+"/x/../p.ndjson", true)
	f(root, false)
	f(root+"/out", false)
	f(root+"/outdir/p.ndjson", false)
	f(root+"/outdir/missing", false)
	f(root+"/../outside/p.ndjson", false)
	f(outside+"/p.ndjson", false)
	f(root+"x/p.ndjson", false)
	f("file://"+outside+"/p.ndjson", false)
	f("file://host"+root+"/p.ndjson", false)
	f("file://"+root+"/%2e%2e/outside/p.ndjson", false)
	f("file://"+root+"/p.ndjson?x=1", false)
	f(root+"/p\x00.ndjson", false)
	f("file://"+root+"/p%00.ndjson", false)
	f("file://"+root+"/p.ndjson?", false)
	f("file://"+root+"/p.ndjson#x", false)
	f("file://"+root+"/%2e%2e%2foutside/p.ndjson", false)
	f("file://"+root+"/%252e%252e/outside/p.ndjson", false)
	f("file://"+root+"/..%252foutside/p.ndjson", false)
	f("file://"+root+"/..%5coutside%5cp.ndjson", false)
	f(root+`/..\outside\p.ndjson`, false)
	f(root+"/%2e%2e/outside/p.ndjson", false)
	f("file://"+root+"//p.ndjson", true)
	f("file:"+root+"/p.ndjson", true)
	f("file:p.ndjson", false)
	f("file:///../"+outside+"/p.ndjson", false)
	f("file://me@localhost"+root+"/p.ndjson", false)
	f("file://127.0.0.1"+root+"/p.ndjson", false)
	f("file:////host/share/p.ndjson", false)
	f("//host/share/p.ndjson", false)
	f(`\\host\share\p.ndjson`, false)
	f("./p.ndjson", false)
	f("../root/p.ndjson", false)
	f("~/p.ndjson", false)
	f("/dev/stdin", false)
	f("/proc/self/environ", false)
}

// fullAtFS says once that the disk is full: when left becomes 0.
type fullAtFS struct {
	vfs.FS
	left int
}

func (f *fullAtFS) FreeBytes(string) (int64, error) {
	if f.left--; f.left == 0 {
		return 0, nil
	}
	return 1 << 40, nil
}

// A registration that was refused leaves no job that a restart would run.
func TestRefusedRegistrationLeavesNothing(t *testing.T) {
	s := newTestSite(t)
	s.close()
	disk := &fullAtFS{FS: vfs.NewMem(1)}
	s.fs, s.freeMin = disk, 1000
	s.open()
	urls := []string{s.file("p", patient("a", ""))}
	for step := 1; step <= 3; step++ { // the job's number, the record, the hash
		disk.left = step
		if _, err := s.startFixed(IncrementalLoad, 0, urls); !errors.Is(err, engine.ErrNoSpace) {
			t.Errorf("at step %d: %v", step, err)
		}
	}
	if records, err := s.jobs.loadImports(); len(records) != 0 || err != nil {
		t.Errorf("there are %d jobs, %v", len(records), err)
	}
	id, err := s.startFixed(IncrementalLoad, 0, urls)
	if err != nil {
		t.Fatal(err)
	}
	if status := s.wait(id); testCounts(status) != "1/0" {
		t.Errorf("it ends as %s", testCounts(status))
	}
}

// A container that could not be made fails the import, also when no line is
// refused.
func TestImportWithABadErrorContainer(t *testing.T) {
	s := newTestSite(t)
	file := s.file("p.ndjson", patient("a", ""))
	f := func(container, want string) {
		t.Helper()
		id, err := s.jobs.StartImport(context.Background(), &ImportRequest{ErrorContainer: container, Inputs: []ImportInput{{URL: file}}})
		if err != nil {
			t.Fatal(err)
		}
		status := s.wait(id)
		if want == "" && status.State != Completed || want != "" && (status.State != Failed || status.Error.Status != 400 || status.Error.Text != want) {
			t.Errorf("%q: ended as %d, %+v", container, status.State, status.Error)
		}
	}
	f("", "")
	f("abc", "")
	f("a-1-b", "")
	f(strings.Repeat("a", 63), "")
	f("ab", "The error container name must be between 3 and 63 characters long.")
	f(strings.Repeat("a", 64), "The error container name must be between 3 and 63 characters long.")
	for _, name := range []string{"Abc", "a_b", "-abc", "abc-", "a--b", "a/b", "a.b", "äbc"} {
		f(name, "Error container name contains invalid characters. Only lowercase letters, numbers, and hyphens are allowed. The name must begin and end with a letter or a number. The name can't contain two consecutive hyphens.")
	}
}

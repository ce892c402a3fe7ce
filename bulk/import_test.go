package bulk

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/vfs"
	"kiln/query"
)

// testSite is a store in memory with a manager, and a directory of inputs.
type testSite struct {
	t       *testing.T
	fs      vfs.FS
	store   *engine.Store
	jobs    *Manager
	dir     string // of inputs
	workers int
	rounds  int64
	// sectionRows is that of exports; 0: as usual.
	sectionRows  uint64
	request      *ExportRequest // of runAll; nil: every version
	blocksBytes  int64          // Options.BlocksBytes
	exportExpiry time.Duration
	origins      []string
	// How HTTP sources are reached; zero: as usual.
	resolver   *net.Resolver
	silenceMax time.Duration
	azure      AzureOptions
	head       int64 // log bytes before versions move to a run; 0: as usual
	freeMin    int64 // bytes that must stay free; 0: no bound
	// lineBytes: longer lines are refused, and chunks are half of it; 0: as usual.
	lineBytes  int
	clock      *atomic.Int64 // milliseconds; moves on by itself, unless it is frozen
	frozen     bool
	parameters *query.Registry // nil: those of R4
	opened     func()          // when the store is, and before the jobs go on; nil: nothing
}

func newTestSite(t *testing.T) *testSite {
	t.Helper()
	s := makeTestSite(t)
	s.open()
	t.Cleanup(func() { s.close() })
	return s
}

// makeTestSite leaves it to the caller to open the site.
func makeTestSite(t *testing.T) *testSite {
	t.Helper()
	s := &testSite{t: t, fs: vfs.NewMem(1), dir: t.TempDir(), workers: 2, clock: new(atomic.Int64)}
	s.clock.Store(time.Date(testNow, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	return s
}

func (s *testSite) now() time.Time {
	if s.frozen {
		return time.UnixMilli(s.clock.Load())
	}
	return time.UnixMilli(s.clock.Add(1))
}

func (s *testSite) open() {
	s.t.Helper()
	var seed atomic.Uint64
	seed.Store(uint64(time.Now().UnixNano()))
	id := func() uint64 { return seed.Add(0x9E3779B97F4A7C15) }
	var err error
	s.store, err = engine.Open(context.Background(), engine.Options{
		FS: s.fs, Dir: "data", Now: s.now, NewID: id, FreeBytesMin: cmp.Or(s.freeMin, -1), CatalogInMem: true,
		Logger: slog.New(slog.DiscardHandler), SegmentBytes: 1 << 20, PrepareInline: true, HeadBytes: s.head,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.opened != nil {
		s.opened()
	}
	s.jobs, err = NewManager(context.Background(), s.options(id))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.lineBytes > 0 {
		s.jobs.chunkBytes, s.jobs.lineBytes = s.lineBytes/2, s.lineBytes
	}
}

func (s *testSite) options(id func() uint64) Options {
	return Options{
		Store: s.store, Now: s.now, NewID: id, ImportRoots: []string{s.dir}, ImportOrigins: s.origins, Azure: s.azure, Workers: s.workers, RoundBytes: s.rounds, SectionRows: s.sectionRows, BlocksBytes: s.blocksBytes, ExportExpiry: s.exportExpiry,
		Parameters: s.parameters, Logger: slog.New(slog.DiscardHandler), InitialImportMode: true, RetryWait: time.Millisecond, Resolver: s.resolver, SilenceMax: s.silenceMax,
	}
}

func (s *testSite) close() {
	if s.store == nil {
		return
	}
	if err := s.jobs.Close(); err != nil {
		s.t.Error(err)
	}
	if err := s.store.Close(); err != nil {
		s.t.Error(err)
	}
	s.store = nil
}

// file writes an input and returns its address.
func (s *testSite) file(name string, lines ...string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// start begins an import; every call is a registration of its own.
func (s *testSite) start(mode Mode, unitBytes int64, urls ...string) int64 {
	s.t.Helper()
	r := &ImportRequest{URL: "http://host/$import", InputSource: fmt.Sprint(s.now().UnixNano()), Mode: mode, UnitBytes: unitBytes}
	for _, u := range urls {
		r.Inputs = append(r.Inputs, ImportInput{URL: u})
	}
	id, err := s.jobs.StartImport(context.Background(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *testSite) wait(id int64) *ImportStatus {
	s.t.Helper()
	status, err := s.jobs.WaitImport(context.Background(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// imports runs an import to its end and returns "loaded/refused" of each input.
func (s *testSite) imports(mode Mode, unitBytes int64, urls ...string) string {
	s.t.Helper()
	status := s.wait(s.start(mode, unitBytes, urls...))
	if status.State != Completed {
		s.t.Fatalf("the import ended as %d: %+v", status.State, status.Error)
	}
	return testCounts(status)
}

func testCounts(status *ImportStatus) string {
	var counts []string
	for _, in := range status.Inputs {
		counts = append(counts, fmt.Sprintf("%d/%d", in.Loaded, in.Refused))
	}
	return strings.Join(counts, " ")
}

// versions lists every version of the store, oldest version first per key:
// "Patient/a v1 del {body}". Dates are left out.
func (s *testSite) versions() []string {
	s.t.Helper()
	snap, err := s.store.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	defer snap.Release()
	var all []string
	q := engine.HistoryQuery{Count: 1000}
	for more := true; more; {
		q.After, more, err = snap.History(context.Background(), q, func(v *engine.Version) error {
			text := fmt.Sprintf("%s/%s v%06d %s", v.Type, v.ID, v.VersionID, v.Body)
			if v.Deleted {
				text += " deleted"
			}
			all = append(all, text)
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	sort.Strings(all)
	return all
}

// patient is a line; the rest is inserted before the end.
func patient(id, rest string) string {
	return fmt.Sprintf(`{"resourceType":"Patient","id":%q%s}`, id, rest)
}

func (s *testSite) errorTexts(status *ImportStatus, input int) []string {
	s.t.Helper()
	name := status.Inputs[input].ErrorFile
	if name == "" {
		return nil
	}
	d, err := s.jobs.ErrorFile(status.ID, name)
	if err != nil {
		s.t.Fatal(err)
	}
	defer d.Close()
	raw, err := readDownload(d)
	if err != nil {
		s.t.Fatal(err)
	}
	return parseErrorTexts(s.t, raw)
}

// parseErrorTexts gives "code: text | diagnostics" of each line of an error file.
func parseErrorTexts(t *testing.T, raw []byte) (texts []string) {
	t.Helper()
	for line := range strings.Lines(string(raw)) {
		var o struct {
			Issue []struct {
				Code        string
				Details     struct{ Text string }
				Diagnostics string
			}
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("error line %q: %v", line, err)
		}
		texts = append(texts, o.Issue[0].Code+": "+o.Issue[0].Details.Text+" | "+o.Issue[0].Diagnostics)
	}
	return texts
}

func TestImportInitial(t *testing.T) {
	s := newTestSite(t)
	one := s.file("1.ndjson", patient("a", ""), patient("b", `,"active":true`), "", `nonsense`, patient("a", `,"active":true`))
	two := s.file("2.ndjson", patient("b", ""), patient("c", ""))
	status := s.wait(s.start(InitialLoad, 0, one, two))
	if status.State != Completed || testCounts(status) != "2/2 1/1" {
		t.Fatalf("ended as %+v, %+v", status, status.Error)
	}
	want := `Patient/a v000001 {"resourceType":"Patient","id":"a"}
Patient/b v000001 {"resourceType":"Patient","id":"b","active":true}
Patient/c v000001 {"resourceType":"Patient","id":"c"}`
	if got := strings.Join(s.versions(), "\n"); got != want {
		t.Errorf("the store has\n%s\nwant\n%s", got, want)
	}
	texts := s.errorTexts(status, 0)
	if len(texts) != 2 || !strings.HasPrefix(texts[0], "invalid: not a FHIR resource at byte 0: ") || !strings.HasSuffix(texts[0], "| Failed to process resource at line: 3 with stream start offset: 87") ||
		texts[1] != "duplicate: Failed to import duplicate resource, resource id: a, line: 4 | Failed to process resource at line: 4 with stream start offset: 96" {
		t.Errorf("the first error file has %q", texts)
	}
	if texts = s.errorTexts(status, 1); len(texts) != 1 || !strings.Contains(texts[0], "resource id: b, line: 1") {
		t.Errorf("the second error file has %q", texts)
	}
	if status.BytesDone != status.BytesTotal && status.BytesTotal != 0 {
		t.Errorf("%d of %d bytes are done", status.BytesDone, status.BytesTotal)
	}
}

func TestImportIncrementalAgainWritesNothing(t *testing.T) {
	s := newTestSite(t)
	var lines []string
	for i := range 500 {
		lines = append(lines, patient(fmt.Sprintf("p%d", i), fmt.Sprintf(`,"multipleBirthInteger":%d`, i)))
	}
	name := s.file("p.ndjson", lines...)
	if got := s.imports(IncrementalLoad, 0, name); got != "500/0" {
		t.Fatal(got)
	}
	before := s.versions()
	if got := s.imports(IncrementalLoad, 0, name); got != "500/0" {
		t.Fatal(got)
	}
	if got := s.versions(); strings.Join(got, "\n") != strings.Join(before, "\n") {
		t.Errorf("%d versions after the second import, %d before", len(got), len(before))
	}
	// One changed line is one new version, in a run of one row.
	lines[77] = patient("p77", `,"multipleBirthInteger":1000`)
	if got := s.imports(IncrementalLoad, 0, s.file("q.ndjson", lines...)); got != "500/0" {
		t.Fatal(got)
	}
	if got := s.versions(); len(got) != 501 || !strings.Contains(strings.Join(got, "\n"), `Patient/p77 v000002 {"resourceType":"Patient","id":"p77","multipleBirthInteger":1000}`) {
		t.Errorf("%d versions after one change", len(got))
	}
}

func TestImportReadsTheCurrentVersion(t *testing.T) {
	s := newTestSite(t)
	older := patient("a", `,"meta":{"versionId":"1","lastUpdated":"2001-01-01T00:00:00Z"}`)
	newer := patient("a", `,"meta":{"versionId":"3","lastUpdated":"2003-01-01T00:00:00Z"}`)
	s.imports(IncrementalLoad, 0, s.file("1", newer), s.file("2", older))
	s.imports(IncrementalLoad, 0, s.file("3", patient("a", `,"active":true`)))
	snap, err := s.store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	v, err := snap.Get(fhir.TypeByName([]byte("Patient")), []byte("a"))
	if err != nil || v.VersionID != 4 {
		t.Errorf("current is version %d, %v", v.VersionID, err)
	}
	parts, err := snap.ScanParts(context.Background(), engine.ScanQuery{})
	if err != nil {
		t.Fatal(err)
	}
	rows := uint64(0)
	for i := range parts {
		rows += parts[i].Rows()
	}
	if rows != 1 {
		t.Errorf("%d current versions of one resource", rows)
	}
}

// TestManyInputs: each of very many inputs is counted for itself, and what a
// refused line tells is in the file of its own input.
func TestManyInputs(t *testing.T) {
	s := newTestSite(t)
	const inputs = 800 // a request of 10,000 is too large for a catalog in memory
	paths := make([]string, inputs)
	for i := range paths {
		line := patient("p"+strconv.Itoa(i), "")
		if i%500 == 7 {
			line = "{bad"
		}
		paths[i] = s.file("f"+strconv.Itoa(i), line)
	}
	status := s.wait(s.start(IncrementalLoad, 0, paths...))
	if len(status.Inputs) != inputs {
		t.Fatalf("%d inputs in the result", len(status.Inputs))
	}
	for i, in := range status.Inputs {
		bad := i%500 == 7
		if in.Loaded+in.Refused != 1 || (in.Refused == 1) != bad || (in.ErrorFile != "") != bad {
			t.Fatalf("input %d: %+v", i, in)
		}
	}
}

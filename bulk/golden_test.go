package bulk

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
	"kiln/query"
)

// A golden is a small data directory that some Kiln wrote, kept as
// testdata/golden/NAME.tar.gz, and beside it in NAME.txt what that Kiln answered.
// Every later Kiln opens it and answers the same. They are made by hand,
//
//	KILN_GOLDEN=<name> go test -run TestGoldensAreMade ./bulk
//	KILN_GOLDEN=<name>/<part> go test -run TestGoldensAreMade ./bulk
//
// before a format or what is written changes, and only ever added: a name that
// is there is refused. One that is encrypted has its keys beside it, in NAME.keys.
const goldenDir = "testdata/golden"

// goldenSite is a store on a real directory with its jobs.
type goldenSite struct {
	testSite
	data string
	// still: nothing happens in the background.
	still bool
	keys  string // as the operator gives them; "": the store is plain
	log   chan string
}

func newGoldenSite(t *testing.T, data string) *goldenSite {
	s := &goldenSite{testSite: *makeTestSite(t), data: data, log: make(chan string, 1000)}
	t.Cleanup(func() { s.close() })
	return s
}

// disk is the file system of the store.
func (s *goldenSite) disk() vfs.FS {
	s.t.Helper()
	if s.keys == "" {
		return vfs.OS()
	}
	keys, err := sealed.ParseKeys(s.keys)
	if err != nil {
		s.t.Fatal(err)
	}
	return engine.EncryptedFS(vfs.OS(), keys)
}

// goldenKeys are keys made of letters, the first one for what is new.
func goldenKeys(letters string) (text string) {
	for _, letter := range letters {
		text += strings.Repeat(fmt.Sprintf("%02x", letter), sealed.KeyBytes) + "\n"
	}
	return text
}

// goldenLog passes on what the store logs.
type goldenLog struct {
	slog.Handler
	to chan string
}

func (l goldenLog) Handle(_ context.Context, r slog.Record) error {
	select {
	case l.to <- r.Message:
	default:
	}
	return nil
}

func (l goldenLog) Enabled(context.Context, slog.Level) bool { return true }

// goldenSegmentBytes keeps the log of a golden small, in several segments.
const goldenSegmentBytes = 16 << 10

func (s *goldenSite) open() {
	s.t.Helper()
	s.fs = s.disk()
	ids := rand.New(rand.NewPCG(uint64(s.clock.Load()), 1))
	var err error
	s.store, err = engine.Open(context.Background(), engine.Options{
		FS: s.fs, Dir: s.data, Now: s.now, NewID: ids.Uint64, FreeBytesMin: -1, MergeFanIn: 2, PrepareInline: s.still,
		SegmentBytes: goldenSegmentBytes, Logger: slog.New(goldenLog{slog.DiscardHandler, s.log}),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.parameters, err = query.NewRegistry(context.Background(), s.store, slog.New(slog.DiscardHandler)); err != nil {
		s.t.Fatal(err)
	}
	if s.jobs, err = NewManager(context.Background(), s.options(ids.Uint64)); err != nil {
		s.t.Fatal(err)
	}
}

// await waits until the store has logged something that makes a condition true.
func (s *goldenSite) await(done func() bool) {
	s.t.Helper()
	for patience := time.After(time.Minute); !done(); {
		select {
		case <-s.log:
		case <-patience:
			s.t.Fatal("what is awaited does not come")
		}
	}
}

func (s *goldenSite) indexed() { s.await(func() bool { return s.store.Reindexing().Runs == 0 }) }

func (s *goldenSite) flush() {
	s.t.Helper()
	if err := s.store.Flush(context.Background()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *goldenSite) purge(id string, scope engine.PurgeScope) {
	s.t.Helper()
	n, err := s.store.Purge(context.Background(), fhir.TypeByName([]byte("Patient")), []byte(id), scope, engine.Precondition{})
	if err != nil || n == 0 {
		s.t.Fatalf("the purge of %s took %d versions, %v", id, n, err)
	}
}

func goldenObservation(i int) string {
	return fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8302-%d"}]},"subject":{"reference":"Patient/p%d"},"effectiveDateTime":"2020-0%d-01","valueQuantity":{"value":%d.50,"unit":"cm"}}`, i, i%3, i%4, 1+i%9, i)
}

func goldenPatient(i, version int) string {
	return patient(fmt.Sprintf("p%d", i), fmt.Sprintf(`,"name":[{"family":"Gold%d"}],"birthDate":"19%02d-05-06","multipleBirthInteger":%d,"extension":[{"url":"race","valueCode":"r%d"},{"url":"hue","valueCode":"h%d"}]`, i, i, version, i%3, i%2))
}

// goldenBase is what every golden begins with: an import with a refused line and
// a deletion, writes, deletions, a transaction, a flush.
func (s *goldenSite) goldenBase() {
	var lines []string
	for i := range 8 {
		lines = append(lines, goldenPatient(i, 1), goldenObservation(i))
	}
	lines = append(lines, `{"resourceType":"Patient"`, patient("p6", `,"meta":{"extension":[{"url":"`+fhir.DeletedStateURL+`","valueString":"soft-deleted"}]}`))
	s.imports(IncrementalLoad, 0, s.file("1.ndjson", lines...))
	s.imports(IncrementalLoad, 0, s.file("2.ndjson", patient("p7", `,"meta":{"lastUpdated":"2011-02-03T04:05:06.789+02:00","versionId":"7"}`), goldenPatient(1, 2)))
	s.write(goldenPatient(2, 3), false)
	s.write(goldenPatient(20, 1), true)
	s.change("p3", "", true)
	s.flush()
	s.write(goldenPatient(20, 2), false)
	s.change("o5", "", true)
}

// write commits resources as one transaction.
func (s *goldenSite) write(body string, post bool) {
	s.t.Helper()
	var changes []engine.Change
	for _, line := range []string{body, strings.ReplaceAll(body, `"id":"p`, `"id":"twin-p`)} {
		r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(line), nil)
		if err != nil {
			s.t.Fatal(err)
		}
		changes = append(changes, engine.Change{Type: r.Type, ID: r.ID, IDAt: r.IDAt, Body: r.Body, Splice: r.Splice, Post: post})
	}
	if _, err := s.store.Commit(context.Background(), changes); err != nil {
		s.t.Fatal(err)
	}
}

// goldenParts are the stores that are made at once.
var goldenParts = map[string]func(*goldenSite){
	// Checkpoint format 1: neither merged runs nor added fields.
	"simple": func(s *goldenSite) {
		s.still = true
		s.open()
		s.goldenBase()
		s.exports(map[string][]string{"_type": {"Patient"}})
		s.flush()
		s.write(goldenPatient(30, 1), true) // stays in the log
	},
	// Format 2: merged runs; and what purges leave in runs, the log and both.
	"merged": func(s *goldenSite) {
		s.open()
		s.goldenBase()
		for i := range 4 {
			s.write(goldenPatient(40+i, 1), true)
			s.flush()
			s.imports(IncrementalLoad, 0, s.file(fmt.Sprint("m", i), goldenPatient(50+i, 1), goldenPatient(1, 10+i)))
		}
		merges := s.store.Stats().Merges
		for patience := 0; merges == 0 && patience < 1e6; patience++ {
			s.imports(IncrementalLoad, 0, s.file(fmt.Sprint("n", patience), goldenPatient(1, 100+patience)))
			merges = s.store.Stats().Merges
		}
		s.purge("p2", engine.PurgeAll)
		s.purge("p1", engine.PurgeHistory)
		s.exports(nil)
		s.flush()
		s.write(goldenPatient(60, 1), true)
		s.write(goldenPatient(60, 2), true)
		s.purge("p60", engine.PurgeHistory)
		s.purge("p40", engine.PurgeAll)
	},
	// Encrypted under two keys: the second came while files of the first were there.
	"sealed": func(s *goldenSite) {
		s.still, s.keys = true, goldenKeys("a")
		s.open()
		s.goldenBase()
		s.exports(map[string][]string{"_type": {"Patient"}})
		s.flush()
		s.close()
		s.keys = goldenKeys("ba")
		s.open()
		s.write(goldenPatient(30, 1), true)
		s.flush()
		s.imports(IncrementalLoad, 0, s.file("3.ndjson", goldenPatient(31, 1)))
		s.exports(map[string][]string{"_type": {"Observation"}})
		s.write(goldenPatient(32, 1), true)
	},
	// Format 3: added fields, that some runs have and some do not.
	"fields": func(s *goldenSite) {
		s.open()
		s.goldenBase()
		s.addParameter("Patient.extension('race').value")
		s.flush()
		s.indexed()
		s.close()
		s.still = true
		s.open()
		s.addParameter("Patient.extension('race').value | Patient.extension('hue').value")
		s.write(goldenPatient(70, 1), true)
		s.flush()
		s.imports(IncrementalLoad, 0, s.file("3.ndjson", goldenPatient(71, 1)))
		s.exports(map[string][]string{"_type": {"Observation"}})
		s.write(goldenPatient(72, 1), true)
	},
}

func TestGoldensAreMade(t *testing.T) {
	name := os.Getenv("KILN_GOLDEN")
	if name == "" {
		t.Skip("KILN_GOLDEN names the goldens that are to be made")
	}
	name, only, _ := strings.Cut(name, "/")
	for _, part := range slices.Sorted(maps.Keys(goldenParts)) {
		if only != "" && part != only {
			continue
		}
		data := filepath.Join(t.TempDir(), "data")
		s := newGoldenSite(t, data)
		goldenParts[part](s)
		answers := s.answers()
		s.close()
		err := errors.Join(goldenAdd(name+"-"+part+".tar.gz", goldenPack(t, data)), goldenAdd(name+"-"+part+".txt", []byte(answers)))
		if s.keys != "" {
			err = errors.Join(err, goldenAdd(name+"-"+part+".keys", []byte(s.keys)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// goldenAdd writes a file that is not there yet.
func goldenAdd(name string, data []byte) error {
	if err := os.MkdirAll(goldenDir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(goldenDir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func goldenPack(t *testing.T, dir string) []byte {
	t.Helper()
	var out bytes.Buffer
	packed, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(packed)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func goldenUnpack(t *testing.T, name, dir string) {
	t.Helper()
	raw, err := os.Open(filepath.Join(goldenDir, name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	packed, err := gzip.NewReader(raw)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(packed); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o700)
		} else if data, readErr := io.ReadAll(r); readErr != nil {
			err = readErr
		} else {
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// goldenSearches are answered from all goldens; the last one by those with an
// added parameter.
var goldenSearches = []struct{ typ, name, value string }{
	{"Patient", "family", "gold2"}, {"Patient", "family:exact", "Gold1"}, {"Patient", "birthdate", "ge1905"},
	{"Patient", "_lastUpdated", "lt2012"}, {"Patient", "_id", "p1,p2,p7"}, {"Observation", "code", "http://loinc.org|8302-1"},
	{"Observation", "subject", "Patient/p1"}, {"Observation", "date", "gt2020-03"}, {"Observation", "value-quantity", "gt2.4"},
	{"Observation", "patient.family", "gold2"}, {"Patient", "_has:Observation:subject:code", "8302-0"}, {"Patient", "race", "r1,h0"},
}

// answers is everything that a client may ask.
func (s *goldenSite) answers() string {
	s.t.Helper()
	snap, err := s.store.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	defer snap.Release()
	var out []string
	_, _, err = snap.History(context.Background(), engine.HistoryQuery{}, func(v *engine.Version) error {
		cur, err := snap.Get(v.Type, v.ID)
		current := err == nil && cur.VersionID == v.VersionID
		read, err := snap.Vread(v.Type, v.ID, v.VersionID)
		if err != nil || read.LSN != v.LSN || !bytes.Equal(read.Body, v.Body) {
			s.t.Errorf("%v/%s version %d is read as %+v, %v", v.Type, v.ID, v.VersionID, read, err)
		}
		out = append(out, fmt.Sprintf("lsn %d current %t deleted %t created %t posted %t %s", v.LSN, current, v.Deleted, v.Created, v.Posted, v.AppendJSON(nil)))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	out = append(out, s.searches(snap)...)
	for _, f := range s.store.Fields() {
		out = append(out, fmt.Sprintf("field %d %s", f.Number, f.Name))
	}
	return strings.Join(append(out, s.jobAnswers()...), "\n") + "\n"
}

func (s *goldenSite) searches(snap *engine.Snapshot) (out []string) {
	s.t.Helper()
	for _, q := range goldenSearches {
		parameters := s.parameters.Current()
		search, err := query.Parse([]fhir.TypeCode{fhir.TypeByName([]byte(q.typ))}, []query.Parameter{{Name: q.name, Value: q.value}},
			query.Options{Base: "http://host", Now: s.now(), Table: parameters.Table})
		var unknown *query.Error
		if errors.As(err, &unknown) && q.name == "race" {
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		matches, err := search.First(context.Background(), snap, 1000)
		if errors.Is(err, engine.ErrReindex) && q.name == "race" && s.still {
			matches, err = s.readRaces(snap), nil // nobody indexes
		}
		if err != nil {
			s.t.Fatalf("%s?%s=%s: %v", q.typ, q.name, q.value, err)
		}
		found := []string{}
		for i := range matches {
			found = append(found, fmt.Sprintf("%s/%d", matches[i].ID, matches[i].VersionID))
		}
		slices.Sort(found)
		out = append(out, fmt.Sprintf("%s?%s=%s finds %v", q.typ, q.name, q.value, found))
	}
	return out
}

// readRaces is what race=r1,h0 finds, by reading all patients.
func (s *goldenSite) readRaces(snap *engine.Snapshot) (found []engine.Version) {
	s.t.Helper()
	_, _, err := snap.History(context.Background(), engine.HistoryQuery{}, func(v *engine.Version) error {
		cur, err := snap.Get(v.Type, v.ID)
		if cur.VersionID == v.VersionID && !v.Deleted && (bytes.Contains(v.Body, []byte(`"r1"`)) || bytes.Contains(v.Body, []byte(`"h0"`))) {
			found = append(found, cur)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// goldenJobsMax is more than any golden has.
const goldenJobsMax = 100

// jobAnswers tells of the first import's and of every export's end.
func (s *goldenSite) jobAnswers() (out []string) {
	s.t.Helper()
	if status, err := s.jobs.ImportStatus(1); err != nil {
		s.t.Error(err)
	} else {
		out = append(out, fmt.Sprintf("import 1 is %d: %s; %q", status.State, testCounts(status), s.errorTexts(status, 0)))
	}
	for id := range int64(goldenJobsMax) {
		status, err := s.jobs.ExportStatus(id)
		var unknown *RequestError
		if errors.As(err, &unknown) && unknown.Status == 404 {
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("export %d is %d, as of %s", id, status.State, status.TransactionTime))
		for _, f := range status.Files {
			out = append(out, f.Name, s.exportFile(id, f.Name))
		}
	}
	return out
}

func TestGoldensOpenAndAnswer(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(goldenDir, "*.txt"))
	if err != nil || len(names) == 0 {
		t.Fatalf("there are no goldens: %v", err)
	}
	for _, name := range names {
		name = strings.TrimSuffix(filepath.Base(name), ".txt")
		t.Run(name, func(t *testing.T) { testGolden(t, name) })
	}
}

// testGolden opens one, has it indexed again where its terms are old, and writes.
func testGolden(t *testing.T, name string) {
	want, err := os.ReadFile(filepath.Join(goldenDir, name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	s := newGoldenSite(t, filepath.Join(t.TempDir(), "data"))
	goldenUnpack(t, name, s.data)
	s.expiresLate()
	if keys, err := os.ReadFile(filepath.Join(goldenDir, name+".keys")); err == nil {
		s.keys = string(keys)
		s.needsItsKeys()
	} else if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	fsck := func(when string) {
		t.Helper()
		damage, notes := s.fsck()
		if len(damage)+len(notes) > 0 {
			t.Fatalf("%s: %+v, noted: %+v", when, damage, notes)
		}
	}
	check := func(when string) {
		t.Helper()
		s.indexed()
		if got := s.answers(); got != string(want) {
			t.Fatalf("%s: %s", when, firstDifference(got, string(want)))
		}
	}
	s.fs = s.disk()
	fsck("as it was written")
	s.open()
	check("opened")
	s.flush()
	check("flushed")
	s.close()
	fsck("closed")
	s.open()
	check("opened again")
	s.write(goldenPatient(99, 1), true)
	s.close()
	fsck("written to")
}

// needsItsKeys: without all of its keys nothing opens an encrypted golden, nothing in
// it is changed by trying, and no file shows what is in it.
func (s *goldenSite) needsItsKeys() {
	s.t.Helper()
	lines := strings.SplitAfter(s.keys, "\n")
	before := goldenFiles(s.t, s.data)
	for _, keys := range []string{"", goldenKeys("x"), lines[0], lines[1], goldenKeys("x") + lines[0]} {
		other := &goldenSite{testSite: testSite{t: s.t}, keys: keys}
		_, err := engine.Open(context.Background(), engine.Options{FS: other.disk(), Dir: s.data, Now: s.now, NewID: rand.Uint64, FreeBytesMin: -1})
		if want := map[bool]error{true: engine.ErrEncrypted, false: sealed.ErrKey}[keys == ""]; !errors.Is(err, want) {
			s.t.Fatalf("opened with %d other keys: %v", strings.Count(keys, "\n"), err)
		}
	}
	if !maps.Equal(goldenFiles(s.t, s.data), before) {
		s.t.Error("a wrong key changed a file")
	}
	for name, text := range before {
		if strings.Contains(text, "Gold") || strings.Contains(text, "resourceType") {
			s.t.Errorf("%s is plain", name)
		}
	}
}

// goldenFiles are the files below a directory.
func goldenFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// expiresLate keeps the exports of a golden, whose clock stands where it was made.
func (s *goldenSite) expiresLate() { s.exportExpiry = 100 * 365 * 24 * time.Hour }

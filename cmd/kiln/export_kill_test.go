//go:build unix

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
)

const (
	exportKillsDefault = 3 // of `make test`; `make crash` sets KILN_KILLS
	// exportKillPatients have an observation each. They are loaded by several commands:
	// a section does not cut what was published at once.
	exportKillPatients     = 8_000
	exportKillPatientsLong = 40_000 // in `make crash`
	exportKillLoads        = 4
	// exportKillSection is how many versions a section has, so that exports have some.
	exportKillSection = "3000"
	// exportsKept are not deleted before the end.
	exportsKept = 8
)

// exportKinds are the exports of each life, below the FHIR base.
var exportKinds = []string{
	"/$export",
	"/Patient/$export",
	"/$export?includeAssociatedData=_history,_deleted",
	"/$export?_outputFormat=" + parquetFormat,
}

// exportKillLoop kills a server in the middle of exports and writes.
type exportKillLoop struct {
	*killLoop
	base    map[string]bool // lines that are there from the beginning
	exports []*killedExport
	halves  int // files that were being written when the server was killed
}

// killedExport is one export.
type killedExport struct {
	kind   string
	status string // its path, below the FHIR base

	// seen are the hashes of the files that were downloaded, by name.
	seen map[string][sha256.Size]byte
}

// TestExportKillLoop kills the server, and stops and continues it, at random moments
// of exports of every kind. Each export ends under the address that it began with, and
// is the store at its transactionTime; what was once downloaded stays as it was.
func TestExportKillLoop(t *testing.T) {
	t.Parallel()
	kills := envInt(t, "KILN_KILLS", exportKillsDefault)
	seed := uint64(envInt(t, "KILN_SEED", int(time.Now().UnixNano()&0x7fffffff)))
	t.Logf("KILN_SEED=%d KILN_KILLS=%d", seed, kills)
	x := newExportKillLoop(t, seed, kills)
	for range kills {
		x.life()
	}
	x.finish()
	if x.halves == 0 && kills > exportKillsDefault {
		t.Error("no kill came while a file was written")
	}
}

func newExportKillLoop(t *testing.T, seed uint64, kills int) *exportKillLoop {
	x := &exportKillLoop{killLoop: newKillLoop(t, seed), base: map[string]bool{}}
	x.keepAll = true
	patients := exportKillPatients
	if kills > exportKillsDefault {
		patients = exportKillPatientsLong
	}
	for part := range exportKillLoads {
		x.load(part*patients/exportKillLoads, (part+1)*patients/exportKillLoads)
	}
	return x
}

// load puts some of the patients into the store.
func (x *exportKillLoop) load(first, end int) {
	x.t.Helper()
	var text strings.Builder
	for i := first; i < end; i++ {
		for _, line := range []string{
			fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","birthDate":"1990-01-31","gender":"other"}`, i),
			fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"%x"},"subject":{"reference":"Patient/p%d"},"valueDecimal":%d.50}`, i, i*i*7919, i, i),
		} {
			x.base[line] = true
			text.WriteString(line + "\n")
		}
	}
	mustKiln(x.t, 0, "load", "--data-dir", x.dataDir, write(x.t, x.input, fmt.Sprintf("base-%d.ndjson", first), text.String()))
}

// life is one start of the server, new exports beside writers, and its end by kill -9.
func (x *exportKillLoop) life() {
	x.t.Helper()
	x.killing.Store(false)
	s := serve(x.t, x.dataDir, "--base-url", killBaseURL, "--export-section-rows", exportKillSection)
	x.check(s)
	if old := len(x.exports) - exportsKept; old > 0 {
		x.end(s, x.exports[:old])
		x.exports = x.exports[old:]
	}
	for _, kind := range exportKinds {
		x.start(s, kind)
	}
	var working sync.WaitGroup
	for _, w := range x.writers {
		working.Go(func() { w.run(s) })
	}
	for _, e := range x.exports {
		working.Go(func() {
			for !x.killing.Load() && e.download(x, s) {
			}
		})
	}
	longest := []int{60, 600}[x.random.IntN(2)]
	time.Sleep(time.Duration(x.random.IntN(longest)) * time.Millisecond)
	if x.random.IntN(2) == 0 {
		x.pause(s)
	}
	x.killing.Store(true)
	s.kill()
	working.Wait()
	for _, e := range x.exports {
		for _, name := range e.files(x) {
			if strings.HasSuffix(name, ".tmp") {
				x.halves++
			}
		}
	}
	if x.t.Failed() {
		x.t.Fatalf("the server's log:\n%s", s.log)
	}
}

// pause stops the whole process for a while, as a machine does that sleeps or is moved.
func (x *exportKillLoop) pause(s *server) {
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := s.cmd.Process.Signal(signal); err != nil {
			x.t.Errorf("cannot signal the server: %v", err)
		}
		time.Sleep(time.Duration(x.random.IntN(200)) * time.Millisecond)
	}
}

// start begins an export. They are begun before the server may be killed, so that
// all are known here.
func (x *exportKillLoop) start(s *server, kind string) {
	x.t.Helper()
	got := s.must(http.StatusAccepted, http.MethodGet, kind, "", "Accept", "application/fhir+json", "Prefer", "respond-async")
	status, ours := strings.CutPrefix(got.header.Get("Content-Location"), killBaseURL)
	if !ours {
		x.t.Fatalf("%s: Content-Location %q", kind, got.header.Get("Content-Location"))
	}
	x.exports = append(x.exports, &killedExport{kind: kind, status: status, seen: map[string][sha256.Size]byte{}})
}

// files are the names of what is in an export's directory.
func (e *killedExport) files(x *exportKillLoop) (names []string) {
	number := e.status[strings.LastIndexByte(e.status, '/')+1:]
	entries, err := os.ReadDir(filepath.Join(x.dataDir, "exports", number))
	if err != nil && !os.IsNotExist(err) {
		x.t.Error(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// download reads the files that the server gives already, of an export that runs too,
// and those that it gave before. False when the server is gone.
func (e *killedExport) download(x *exportKillLoop, s *server) bool {
	for _, name := range e.files(x) {
		if strings.HasSuffix(name, ".tmp") {
			continue
		}
		got, err := ask(http.MethodGet, s.base+e.status+"/"+name, "")
		if x.broken("download", err) {
			return false
		}
		before, seen := e.seen[name]
		switch {
		case got.status == http.StatusNotFound && !seen:
			continue // its section is not recorded
		case got.status != http.StatusOK:
			x.t.Errorf("%s of %s: %d %s", name, e.kind, got.status, got.body)
			return false
		}
		e.seen[name] = sha256.Sum256(got.body)
		if seen && e.seen[name] != before {
			x.t.Errorf("%s of %s has changed since it was downloaded", name, e.kind)
		}
	}
	return true
}

// finish lets all exports end, checks them, and deletes them.
func (x *exportKillLoop) finish() {
	x.t.Helper()
	x.killing.Store(false)
	s := serve(x.t, x.dataDir, "--base-url", killBaseURL, "--export-section-rows", exportKillSection)
	x.start(s, exportKinds[0])
	x.pause(s)
	x.check(s)
	x.end(s, x.exports)
	x.t.Logf("%d files were half-written at kills, %d writes acknowledged", x.halves, x.acknowledged())
	if left, err := os.ReadDir(filepath.Join(x.dataDir, "exports")); err != nil || len(left) > 0 {
		x.t.Errorf("all exports are deleted, and there are %v (%v)", left, err)
	}
	s.stop()
	mustKiln(x.t, 0, "fsck", "--data-dir", x.dataDir)
}

// end verifies exports and deletes them.
func (x *exportKillLoop) end(s *server, exports []*killedExport) {
	x.t.Helper()
	versions := x.basics(s)
	for _, e := range exports {
		e.verify(x, s, versions)
		s.must(http.StatusAccepted, http.MethodDelete, e.status, "")
	}
}

// basicVersion is a version of what the writers wrote.
type basicVersion struct {
	id string
	state
	at time.Time
}

// basics reads the histories, oldest versions first.
func (x *exportKillLoop) basics(s *server) (all []basicVersion) {
	x.t.Helper()
	for address := s.base + "/Basic/_history?_count=1000&_sort=_lastUpdated"; address != ""; {
		got, err := ask(http.MethodGet, address, "")
		if err != nil || got.status != http.StatusOK {
			x.t.Fatalf("%s: %v %v", address, err, got)
		}
		page := decode[historyPage](x.t, got.body)
		for _, e := range page.Entry {
			all = append(all, basicVersion{e.Resource.ID, e.state(x.t), x.instant(e.Resource.Meta.LastUpdated)})
		}
		address = ""
		for _, link := range page.Link {
			if link.Relation == "next" {
				address = s.base + strings.TrimPrefix(link.URL, killBaseURL)
			}
		}
	}
	return all
}

func (x *exportKillLoop) instant(text string) time.Time {
	x.t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		x.t.Fatal(err)
	}
	return at
}

// wanted are the keys of what the writers' resources were at an instant.
func (e *killedExport) wanted(versions []basicVersion, at time.Time) (keys []string) {
	current := map[string]basicVersion{}
	for _, v := range versions {
		if v.at.After(at) || strings.HasPrefix(e.kind, "/Patient") {
			continue
		}
		if e.everyVersion() {
			keys = append(keys, v.key())
		}
		if current[v.id].version < v.version {
			current[v.id] = v
		}
	}
	if e.everyVersion() {
		return keys
	}
	for _, v := range current {
		if !v.deleted {
			keys = append(keys, v.key())
		}
	}
	return keys
}

func (e *killedExport) everyVersion() bool { return strings.Contains(e.kind, "_history") }

func (v *basicVersion) key() string {
	return fmt.Sprintf("Basic/%s %d %q %t", v.id, v.version, v.marker, v.deleted)
}

// follow waits for an export's manifest.
func (e *killedExport) follow(x *exportKillLoop, s *server) *answer {
	x.t.Helper()
	for end := time.Now().Add(startTimeout); ; time.Sleep(10 * time.Millisecond) {
		got, err := ask(http.MethodGet, s.base+e.status, "")
		if err == nil && got.status == http.StatusOK {
			return got
		}
		if err != nil || got.status != http.StatusAccepted || time.Now().After(end) {
			x.t.Fatalf("%s (%s): %v %v\n%s", e.kind, e.status, err, got, s.log)
		}
	}
}

// verify follows an export to its end and compares it with the store at its time.
func (e *killedExport) verify(x *exportKillLoop, s *server, versions []basicVersion) {
	x.t.Helper()
	told := decode[struct {
		TransactionTime string
		Output          []manifestFile
	}](x.t, e.follow(x, s).body)
	texts := map[string][]byte{}
	for _, f := range told.Output {
		name := f.URL[strings.LastIndexByte(f.URL, '/')+1:]
		texts[name] = s.must(http.StatusOK, http.MethodGet, e.status+"/"+name, "").body
	}
	names := slices.Sorted(maps.Keys(texts))
	if present := e.files(x); !slices.Equal(present, names) {
		x.t.Errorf("%s: %v are in its directory, the manifest tells of %v", e.kind, present, names)
	}
	for name, hash := range e.seen {
		if text, ok := texts[name]; !ok || sha256.Sum256(text) != hash {
			x.t.Errorf("%s: %s was downloaded before, and is another file in the end (%t)", e.kind, name, ok)
		}
	}
	want := e.wanted(versions, x.instant(told.TransactionTime))
	if strings.Contains(e.kind, parquetFormat) {
		e.compareRows(x, told.Output, texts, len(want))
		return
	}
	e.compareLines(x, texts, want)
}

var servedMeta = regexp.MustCompile(`,"meta":\{"versionId":"1","lastUpdated":"[^"]+"\}`)

// compareLines compares an export's files with what was there at first and keys.
func (e *killedExport) compareLines(x *exportKillLoop, texts map[string][]byte, want []string) {
	x.t.Helper()
	base, count, keys := map[string]bool{}, 0, []string(nil)
	for _, text := range texts {
		for line := range bytes.Lines(text) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			if bytes.Contains(line, []byte(`"resourceType":"Basic"`)) {
				keys = append(keys, x.key(line))
				continue
			}
			base[string(servedMeta.ReplaceAll(line, nil))] = true
			count++
		}
	}
	if !maps.Equal(base, x.base) || count != len(base) {
		x.t.Errorf("%s: %d lines, %d of them different, of the %d that were there at first", e.kind, count, len(base), len(x.base))
	}
	slices.Sort(keys)
	slices.Sort(want)
	if !slices.Equal(keys, want) {
		x.t.Errorf("%s: %d resources of the writers instead of %d: %q, not %q", e.kind, len(keys), len(want), keys, want)
	}
}

// key is what identifies a version of the writers in an exported line.
func (x *exportKillLoop) key(line []byte) string {
	x.t.Helper()
	r := decode[entry](x.t, fmt.Appendf(nil, `{"resource":%s}`, line))
	if bytes.Contains(line, []byte(`"soft-deleted"`)) {
		r.Request.Method = http.MethodDelete
	}
	v := basicVersion{id: r.Resource.ID, state: r.state(x.t)}
	return v.key()
}

// compareRows compares the numbers of rows and of ids in Parquet files, those of the
// writers' type apart.
func (e *killedExport) compareRows(x *exportKillLoop, told []manifestFile, texts map[string][]byte, want int) {
	x.t.Helper()
	var all, basics int64
	for _, f := range told {
		text := texts[f.URL[strings.LastIndexByte(f.URL, '/')+1:]]
		if ids := x.rowIDs(text); int64(len(ids)) != *f.Count {
			x.t.Errorf("%s has %d ids, and %d rows are told", f.URL, len(ids), *f.Count)
		}
		all += *f.Count
		if f.Type == "Basic" {
			basics += *f.Count
		}
	}
	if basics != int64(want) || all-basics != int64(len(x.base)) {
		x.t.Errorf("%s: %d rows of the writers and %d others, instead of %d and %d", e.kind, basics, all-basics, want, len(x.base))
	}
}

type exportedRow struct {
	ID string `parquet:"id,optional"`
}

// rowIDs are the ids of a Parquet file's rows; each may be there once.
func (x *exportKillLoop) rowIDs(text []byte) map[string]bool {
	x.t.Helper()
	file, err := parquet.OpenFile(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		x.t.Fatal(err)
	}
	rows := make([]exportedRow, file.NumRows())
	if n, err := parquet.NewGenericReader[exportedRow](file).Read(rows); n != len(rows) || err != nil && err != io.EOF {
		x.t.Fatalf("%d of %d rows could be read: %v", n, len(rows), err)
	}
	ids := map[string]bool{}
	for _, row := range rows {
		if ids[row.ID] {
			x.t.Errorf("%s is exported twice", row.ID)
		}
		ids[row.ID] = true
	}
	return ids
}

package bulk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/vfs"
)

// exportDisk makes a disk with a store of a few runs and a head: histories, with
// deletions of both kinds.
func exportDisk(t *testing.T) *vfs.Mem {
	s := newTestSite(t)
	s.close()
	disk := vfs.NewMem(1)
	s.fs, s.rounds = disk, 1
	s.open()
	gone := `,"meta":{"extension":[{"url":"` + fhir.DeletedStateURL + `","valueString":"soft-deleted"}],"tag":[{"code":"x"}]}`
	for round := range 5 {
		var lines []string
		for i := range 8 {
			rest := fmt.Sprintf(`,"name":[{"family":"F%d"}]`, round)
			if (i+round)%4 == 0 {
				rest += gone
			}
			lines = append(lines, patient(fmt.Sprint("p", i), rest),
				fmt.Sprintf(`{"resourceType":"Observation","id":"o%d-%d","status":"final"}`, round, i))
		}
		s.imports(IncrementalLoad, 600, s.file(fmt.Sprint(round), lines...))
	}
	if err := s.store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.change("p1", `,"active":true`, false)
	s.change("p2", "", true)
	s.change("o1-1", "", true)
	s.close()
	return disk
}

// change writes a Patient, or deletes a resource, as the API does.
func (s *testSite) change(id, rest string, remove bool) {
	s.t.Helper()
	typ := "Patient"
	if id[0] == 'o' {
		typ = "Observation"
	}
	c := engine.Change{Type: fhir.TypeByName([]byte(typ)), ID: []byte(id), Delete: remove}
	if !remove {
		r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(patient(id, rest)), nil)
		if err != nil {
			s.t.Error(err)
			return
		}
		c.Body, c.IDAt, c.Splice = r.Body, r.IDAt, r.Splice
	}
	if _, err := s.store.Commit(context.Background(), []engine.Change{c}); err != nil {
		s.t.Error(err)
	}
}

// lines is what an export of every version has, sorted.
func (s *testSite) lines() []string { return s.linesUntil(0) }

// linesUntil is lines of what is dated up to an instant; 0: any.
func (s *testSite) linesUntil(milli int64) (all []string) {
	s.t.Helper()
	snap, err := s.store.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	defer snap.Release()
	_, _, err = snap.History(context.Background(), engine.HistoryQuery{}, func(v *engine.Version) error {
		if milli > 0 && v.LastUpdated.Milli > milli {
			return nil
		}
		line := v.AppendJSON(nil)
		if v.Deleted {
			line, _ = v.AppendDeleted(nil)
		}
		all = append(all, string(line))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// exported reads the files of a finished export, and makes sure that no other
// file is left.
func (s *testSite) exported(status *ExportStatus) (all []string) {
	s.t.Helper()
	names, err := s.fs.List(s.jobs.exportDir(status.ID))
	if err != nil || len(names) != len(status.Files) {
		s.t.Fatalf("the directory has %d files, and %d are told: %v, %v", len(names), len(status.Files), names, err)
	}
	for _, f := range status.Files {
		lines := strings.Split(strings.TrimSuffix(s.exportFile(status.ID, f.Name), "\n"), "\n")
		if int64(len(lines)) != f.Count || !strings.HasPrefix(f.Name, f.Type+"-") || !isExportFile(f.Name) {
			s.t.Fatalf("%+v has %d lines", f, len(lines))
		}
		all = append(all, lines...)
	}
	slices.Sort(all)
	return all
}

// catalog copies the job catalog, which in these tests is in memory.
func (s *testSite) catalog() map[string][]byte {
	all := map[string][]byte{}
	_ = s.store.CatalogList("", func(key string, value []byte) error { // it reads memory
		all[key] = slices.Clone(value)
		return nil
	})
	return all
}

// crashExport starts an export of everything on a copy of disk and cuts the power
// at its file operation cut. It gives what the crash leaves; nil disk: the export
// was faster.
func (s *testSite) crashExport(disk *vfs.Mem, cut int64) (left *vfs.Mem, catalog map[string][]byte, lines []string) {
	s.t.Helper()
	copied := disk.CrashClone(uint64(cut))
	s.fs, s.opened = copied, nil
	s.open()
	lines = s.lines()
	first := copied.Ops()
	copied.SetHook(func(op vfs.Op) error {
		if op.Count < first+cut || !op.Kind.Mutates() {
			return nil
		}
		catalog = s.catalog()
		return vfs.ErrPowerCut
	})
	s.runAll()
	if catalog == nil {
		s.close()
		return nil, nil, lines
	}
	_ = s.jobs.Close()
	_ = s.store.Close() // it says that the disk is gone
	s.store = nil
	return copied.CrashClone(uint64(cut)), catalog, lines
}

// runAll exports every version, in small files, or what the site's request says, and
// waits.
func (s *testSite) runAll() *ExportStatus {
	s.t.Helper()
	request := s.request
	if request == nil {
		request = &ExportRequest{Versions: engine.ScanAllOrDeleted, FileLines: 3}
	}
	id, err := s.jobs.StartExport(context.Background(), request)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.waitExport(id)
}

func (s *testSite) waitExport(id int64) *ExportStatus {
	s.t.Helper()
	status, err := s.jobs.WaitExport(context.Background(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// recover opens the store that a crash left. Before the export goes on, meanwhile
// happens to the store.
func (s *testSite) recover(disk *vfs.Mem, catalog map[string][]byte, meanwhile func()) {
	s.t.Helper()
	s.fs = disk
	s.opened = func() {
		for _, key := range slices.Sorted(maps.Keys(catalog)) {
			if err := s.store.CatalogPut(key, catalog[key]); err != nil {
				s.t.Fatal(err)
			}
		}
		if meanwhile != nil {
			meanwhile()
		}
	}
	s.open()
}

// The power is cut at every file operation of an export. It goes on as of the
// same instant, whatever is written or purged until then: every line once, and
// none of a version that is gone.
func TestExportCrashGoesOn(t *testing.T) {
	disk := exportDisk(t)
	s := makeTestSite(t)
	s.sectionRows = 5
	resumed := 0
	for cut := int64(1); ; cut++ {
		left, catalog, want := s.crashExport(disk, cut)
		if left == nil {
			if cut < 100 || resumed < 70 {
				t.Fatalf("the export took %d file operations, and %d times a section was whole", cut, resumed)
			}
			return
		}
		var record exportRecord
		if err := json.Unmarshal(catalog[jobKey(keyExport, 1)], &record); err != nil {
			t.Fatal(err)
		}
		planned := record.LSN != 0
		if len(catalog) > 2 { // the next job's number, the export
			resumed++
		}
		s.recover(left, catalog, func() {
			if !planned || cut%3 == 0 {
				return
			}
			s.change("p1", `,"active":false`, false)
			s.change("p9", "", false)
			s.change("p3", "", true)
			if cut%3 == 1 {
				want = s.purge("p4", want)
			}
			if err := s.store.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		})
		status := s.waitExport(1)
		if status.State != Completed {
			t.Fatalf("cut at %d: the export ends as %+v", cut, status.Error)
		}
		if got := s.exported(status); !slices.Equal(got, want) {
			t.Fatalf("cut at %d: %s", cut, firstDifference(strings.Join(got, "\n"), strings.Join(want, "\n")))
		}
		if status.RowsDone != uint64(len(want)) {
			t.Fatalf("cut at %d: %d rows are told, want %d", cut, status.RowsDone, len(want))
		}
		s.close()
	}
}

// purge takes a Patient out, and out of those lines that are not written: a
// section that was recorded keeps its files.
func (s *testSite) purge(id string, lines []string) []string {
	s.t.Helper()
	if _, err := s.store.Purge(context.Background(), fhir.TypeByName([]byte("Patient")), []byte(id), engine.PurgeAll, engine.Precondition{}); err != nil {
		s.t.Fatal(err)
	}
	written := map[string]bool{}
	for key, raw := range s.catalog() {
		if !strings.HasPrefix(key, keyExportSection) {
			continue
		}
		files, err := parseSection(raw)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, f := range files {
			text, err := vfs.ReadFile(s.fs, s.exportPath(1, f.Name), 1<<20)
			if err != nil {
				s.t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				written[strings.TrimSuffix(line, "\n")] = true
			}
		}
	}
	return slices.DeleteFunc(lines, func(line string) bool {
		return strings.Contains(line, `"id":"`+id+`"`) && !written[line]
	})
}

func (s *testSite) exportPath(id int64, name string) string {
	return fmt.Sprintf("data/exports/%d/%s", id, name)
}

// More exports than run at a time, stopped and started again: each gives what was
// there when it was planned.
func TestExportsGoOnAfterClose(t *testing.T) {
	s := newTestSite(t)
	s.close()
	s.fs, s.sectionRows = exportDisk(t), 5
	s.open()
	want := s.lines()
	for range 4 {
		if _, err := s.jobs.StartExport(context.Background(), &ExportRequest{Versions: engine.ScanAllOrDeleted, FileLines: 3}); err != nil {
			t.Fatal(err)
		}
	}
	s.restartJobs()
	s.restartJobs()
	for id := int64(1); id <= 4; id++ {
		status := s.waitExport(id)
		if status.State != Completed || !slices.Equal(s.exported(status), want) {
			t.Errorf("export %d is %+v", id, status)
		}
	}
}

// Exports beside writers and an import have what the store had at their instant:
// nothing dated later, and everything dated up to it.
func TestExportBesideWritesAndAnImport(t *testing.T) {
	s := newTestSite(t)
	s.close()
	s.fs, s.sectionRows, s.rounds, s.head = vfs.NewMem(1), 50, 1, 8<<10
	s.open()
	var lines []string
	for i := range 600 {
		lines = append(lines, patient(fmt.Sprint("p", i%200), fmt.Sprintf(`,"language":"l%d"`, i)))
	}
	imported := s.start(IncrementalLoad, 900, s.file("in", lines...))
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			for i := range 20 {
				s.change(fmt.Sprint("p", (i*7+w)%60), fmt.Sprintf(`,"language":"w%d-%d"`, w, i), i%5 == 4)
			}
		})
	}
	var ids []int64
	for range 4 {
		id, err := s.jobs.StartExport(context.Background(), &ExportRequest{Versions: engine.ScanAllOrDeleted})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	writers.Wait()
	s.wait(imported)
	for _, id := range ids {
		status := s.waitExport(id)
		want := s.linesUntil(status.TransactionTime.Milli)
		if status.State != Completed || !slices.Equal(s.exported(status), want) {
			t.Errorf("export %d at %s has %d lines, and %d were there: %+v", id, status.TransactionTime, status.RowsDone, len(want), status.Error)
		}
	}
}

// An export that is older than the store it finds is refused: the store was put
// back, and has not what the export has written.
func TestExportOfAnotherStoreFails(t *testing.T) {
	s := newTestSite(t)
	s.imports(InitialLoad, 0, s.file("1", patient("a", "")))
	status, _ := s.exports(nil)
	s.jobs.mu.Lock()
	record, err := s.jobs.getExport(status.ID)
	if err == nil {
		record.State, record.LSN = Running, record.LSN+100
		err = s.jobs.putExport(record)
	}
	s.jobs.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	s.restartJobs()
	if status = s.waitExport(status.ID); status.State != Failed || !strings.Contains(status.Error.Text, "the store is older") {
		t.Errorf("it ends as %+v", status)
	}
}

// What an export of histories writes, an import into an empty store takes back:
// the same versions, served as the same bytes.
func TestExportOfHistoriesIsImportedBack(t *testing.T) {
	s := newTestSite(t)
	s.close()
	s.fs, s.sectionRows = exportDisk(t), 5
	s.open()
	status, want := s.runAll(), s.lines()
	if status.State != Completed || !slices.Equal(s.exported(status), want) {
		t.Fatalf("exported %+v", status)
	}
	back := newTestSite(t)
	var urls []string
	for _, f := range status.Files {
		urls = append(urls, back.file(f.Name, s.exportFile(status.ID, f.Name)))
	}
	back.imports(IncrementalLoad, 0, urls...)
	if got := back.lines(); !slices.Equal(got, want) {
		t.Error(firstDifference(strings.Join(got, "\n"), strings.Join(want, "\n")))
	}
}

// An export that fails, or is deleted while it runs, leaves nothing.
func TestExportLeavesNothingWhenItEndsEarly(t *testing.T) {
	disk := exportDisk(t)
	s := makeTestSite(t)
	s.sectionRows = 5
	f := func(at int64, deleted bool) (more bool) {
		t.Helper()
		copied := disk.CrashClone(uint64(at))
		s.fs = copied
		s.open()
		defer s.close()
		reached, first := make(chan struct{}), copied.Ops()
		copied.SetHook(func(op vfs.Op) error {
			if op.Count != first+at || !op.Kind.Mutates() {
				return nil
			}
			close(reached)
			if deleted {
				return nil
			}
			return errors.New("bad sector")
		})
		id, err := s.jobs.StartExport(context.Background(), &ExportRequest{Versions: engine.ScanAllOrDeleted, FileLines: 3})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan *ExportStatus, 1)
		go func() { status, _ := s.jobs.WaitExport(context.Background(), id); ended <- status }()
		select {
		case <-reached:
			more = true
		case <-ended:
		}
		if deleted {
			if err := s.jobs.DeleteExport(context.Background(), id); err != nil {
				t.Fatal(err)
			}
		} else if status := s.waitExport(id); more && (status.State != Failed || status.Error.Status != 500 || len(status.Files) > 0) {
			t.Fatalf("failed at %d: %+v", at, status)
		}
		if _, err := s.fs.Stat(s.jobs.exportDir(id)); more && err == nil {
			t.Fatalf("ended at %d: the directory is still there", at)
		}
		for key := range s.catalog() {
			if more && strings.HasPrefix(key, keyExportSection) {
				t.Fatalf("ended at %d: the catalog has %q", at, key)
			}
		}
		return more
	}
	for _, deleted := range []bool{true, false} {
		at := int64(1)
		for ; f(at, deleted); at += 7 {
		}
		if at < 80 {
			t.Fatalf("the export took %d file operations", at)
		}
	}
}

package bulk

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/engine"
)

// fsck checks a store that is closed, with the files of its jobs.
func (s *goldenSite) fsck() (damage, notes []engine.Problem) {
	s.t.Helper()
	ctx := context.Background()
	found := func(p engine.Problem) { damage = append(damage, p) }
	asked := false
	err := engine.Fsck(ctx, engine.FsckOptions{FS: s.fs, Dir: s.data, Temp: s.t.TempDir(), Terms: true, Report: found, Jobs: func(jobs *engine.FsckJobs) error {
		asked = true
		return (&FilesCheck{Jobs: jobs, Dir: s.data, Damage: found, Note: func(p engine.Problem) { notes = append(notes, p) }}).Run(ctx)
	}})
	if err != nil || !asked {
		s.t.Fatalf("fsck: the jobs' files were looked at: %v, %v", asked, err)
	}
	return damage, notes
}

// put writes a file of the data directory.
func (s *goldenSite) put(name string, text []byte) {
	s.t.Helper()
	name = path.Join(s.data, name)
	err := s.fs.MkdirAll(path.Dir(name))
	if err == nil {
		_ = s.fs.Remove(name) // there may be none
		file, createErr := s.fs.Create(name)
		if err = createErr; err == nil {
			if _, err = file.WriteAt(text, 0); err == nil {
				err = file.Close()
			}
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *goldenSite) get(name string) []byte {
	s.t.Helper()
	file, err := s.fs.Open(path.Join(s.data, name))
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close() // only read from
	n, err := file.Bytes()
	text := make([]byte, n)
	if err == nil && n > 0 {
		_, err = file.ReadAt(text, 0)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// newFilesSite has an export and an import with an error file, both larger than a
// piece, and returns the names of their files.
func newFilesSite(t *testing.T) (s *goldenSite, exported, refused string) {
	t.Helper()
	s = newGoldenSite(t, filepath.Join(t.TempDir(), "data"))
	s.open()
	lines := []string{patient("a", `,"text":{"status":"generated","div":"<div>`+strings.Repeat("x", sumPieceBytes)+`</div>"}`)}
	for i := range 5_000 {
		lines = append(lines, fmt.Sprintf("no resource %d", i))
	}
	imported := s.wait(s.start(IncrementalLoad, 0, s.file("in", lines...)))
	status, _ := s.exports(nil)
	exported = fmt.Sprintf("exports/%d/%s", status.ID, status.Files[0].Name)
	refused = fmt.Sprintf("errors/%d/%s", imported.ID, imported.Inputs[0].ErrorFile)
	return s, exported, refused
}

// A byte that changed, a file that is gone, and one that is longer or shorter than was
// written are found, with the file and the place.
func TestFilesOfJobsThatAreNotWholeAreFound(t *testing.T) {
	s, exported, refused := newFilesSite(t)
	s.close()
	f := func(name, what string, offset int, change func(text []byte) []byte) {
		t.Helper()
		text := s.get(name)
		if len(text) <= sumPieceBytes {
			t.Fatalf("%s has %d bytes", name, len(text))
		}
		changed := change(slices.Clone(text))
		s.put(name, changed)
		if changed == nil {
			if err := s.fs.Remove(path.Join(s.data, name)); err != nil {
				t.Fatal(err)
			}
		}
		damage, notes := s.fsck()
		if len(damage) != 1 || len(notes) > 0 || damage[0].File != path.Join(s.data, name) || damage[0].Offset != int64(offset) || !strings.Contains(damage[0].What, what) {
			t.Errorf("%s, %q: %+v, noted: %+v", name, what, damage, notes)
		}
		s.put(name, text)
	}
	for _, name := range []string{exported, refused} {
		bytes := len(s.get(name))
		f(name, "not those that were written", 0, func(b []byte) []byte { b[7] ^= 1; return b })
		f(name, "not those that were written", sumPieceBytes, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		f(name, fmt.Sprintf("and %d were written", bytes), bytes-1, func(b []byte) []byte { return b[:bytes-1] })
		f(name, fmt.Sprintf("and %d were written", bytes), bytes, func(b []byte) []byte { return append(b, '\n') })
		f(name, "gone", 0, func([]byte) []byte { return nil })
	}
	if damage, notes := s.fsck(); len(damage)+len(notes) > 0 {
		t.Errorf("with all as it was: %+v, noted: %+v", damage, notes)
	}
	if err := s.fs.RemoveAll(path.Join(s.data, exportsDir)); err != nil {
		t.Fatal(err)
	}
	if damage, _ := s.fsck(); len(damage) != 1 || !strings.Contains(damage[0].What, "--export-dir") {
		t.Errorf("without the directory of exports: %+v", damage)
	}
}

// Of a build that kept no sums the lengths are compared.
func TestFilesOfOlderBuildsHaveTheirLengths(t *testing.T) {
	s, exported, refused := newFilesSite(t)
	s.forgetSums(2, 1)
	s.close()
	f := func(name string, want int, text []byte) {
		t.Helper()
		before := s.get(name)
		s.put(name, text)
		if damage, _ := s.fsck(); len(damage) != want {
			t.Errorf("%s: %+v", name, damage)
		}
		s.put(name, before)
	}
	for _, name := range []string{exported, refused} {
		text := s.get(name)
		f(name, 0, append([]byte("?"), text[1:]...))
		f(name, 1, text[:len(text)-1])
	}
}

// setExport changes the record of an export.
func (s *goldenSite) setExport(id int64, change func(r *exportRecord)) {
	s.t.Helper()
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	r, err := s.jobs.getExport(id)
	if err == nil {
		change(r)
		err = s.jobs.putExport(r)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// What running and failed exports have, and one that has expired and is still there,
// is no damage; nor is what no job names, which is noted.
func TestFilesThatAreNoDamage(t *testing.T) {
	s, exported, refused := newFilesSite(t)
	s.exportExpiry = time.Hour
	running, _ := s.exports(nil)
	failed, _ := s.exports(nil)
	deleted, _ := s.exports(nil)
	left := fmt.Sprintf("exports/%d/Patient-1-1.ndjson", deleted.ID)
	text := s.get(left)
	if err := s.jobs.DeleteExport(context.Background(), deleted.ID); err != nil {
		t.Fatal(err)
	}
	s.setExport(running.ID, func(r *exportRecord) { r.State = Running })
	s.setExport(failed.ID, func(r *exportRecord) { r.State = Failed })
	s.pass(2 * time.Hour)
	s.close()
	s.put(fmt.Sprintf("exports/%d/Patient-1-1.ndjson", running.ID), []byte("half"))
	s.put(fmt.Sprintf("exports/%d/Patient-2-1.ndjson.tmp", running.ID), []byte("half"))
	s.put(fmt.Sprintf("exports/%d/Patient-1-1.ndjson", failed.ID), nil)
	f := func(want ...string) {
		t.Helper()
		damage, notes := s.fsck()
		var files []string
		for _, p := range notes {
			files = append(files, strings.TrimPrefix(p.File, s.data+"/"))
		}
		if len(damage) > 0 || !slices.Equal(files, want) {
			t.Errorf("%+v, noted: %v instead of %v", damage, files, want)
		}
	}
	f()
	s.put(left, text)
	s.put(path.Dir(exported)+"/notes.txt", nil)
	s.put(path.Dir(refused)+"/notes.txt", nil)
	s.put("errors/99/9.ndjson", nil)
	f(path.Dir(exported)+"/notes.txt", path.Dir(left), path.Dir(refused)+"/notes.txt", "errors/99")
}

// An import that did not end has its progress in the log; what is behind that in its
// error file was never counted.
func TestErrorFilesOfImportsThatDidNotEnd(t *testing.T) {
	s := newGoldenSite(t, filepath.Join(t.TempDir(), "data"))
	s.open()
	id := s.start(IncrementalLoad, 0, s.file("1", patient("a", ""), "nothing"), s.file("2", "nothing"))
	status := s.wait(id)
	s.jobs.mu.Lock()
	r, err := s.jobs.getImport(id)
	published := r.Result
	r.State, r.Result = Running, progress{}
	if err == nil {
		err = s.jobs.putImport(r)
	}
	s.jobs.mu.Unlock()
	ingest, beginErr := s.store.BeginIngest(context.Background())
	if err != nil || beginErr != nil {
		t.Fatal(err, beginErr)
	}
	if err := ingest.Publish(context.Background(), uint64(id), nil, published.marshal); err != nil {
		t.Fatal(err)
	}
	if err := ingest.Abandon(); err != nil {
		t.Fatal(err)
	}
	s.close()
	name := fmt.Sprintf("errors/%d/%s", id, status.Inputs[1].ErrorFile)
	text := s.get(name)
	f := func(want int, text []byte) {
		t.Helper()
		s.put(name, text)
		if damage, notes := s.fsck(); len(damage) != want || len(notes) > 0 {
			t.Errorf("%+v, noted: %+v", damage, notes)
		}
	}
	f(0, text)
	f(0, append(slices.Clone(text), "half"...))
	f(1, text[:len(text)-1])
	f(1, append([]byte("?"), text[1:]...))
}

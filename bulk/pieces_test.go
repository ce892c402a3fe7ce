package bulk

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"kiln/internal/vfs"
)

// summed is a file of so many random bytes with its sums.
func summed(bytesCount int) ([]byte, *checkedFile) {
	rng := rand.New(rand.NewPCG(1, uint64(bytesCount)))
	text := make([]byte, bytesCount)
	for i := range text {
		text[i] = byte(rng.Uint32())
	}
	s := newPieceSummer()
	for rest := text; len(rest) > 0; {
		n := min(len(rest), 1+rng.IntN(300_000))
		s.write(rest[:n])
		rest = rest[n:]
	}
	return text, &checkedFile{name: "f", from: bytes.NewReader(text), bytes: int64(bytesCount), sums: s.end()}
}

func readPart(f *checkedFile, from, bytes int64) ([]byte, error) {
	p, err := f.part(from, bytes)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(p)
}

// Every stretch of a file reads as it is, and what touches a piece with a changed byte ends before that piece.
func TestChangedBytesAreNeverGiven(t *testing.T) {
	const piece = sumPieceBytes
	f := func(size int, changed, from, length, want int64) {
		t.Helper()
		text, file := summed(size)
		whole := bytes.Clone(text)
		if changed >= 0 {
			text[changed] ^= 1
		}
		got, err := readPart(file, from, length)
		var corrupt *vfs.CorruptError
		if !bytes.Equal(got, whole[from:from+want]) || (want < length) != errors.As(err, &corrupt) {
			t.Fatalf("byte %d of %d changed, %d from %d: %d bytes, error %v", changed, size, length, from, len(got), err)
		}
		if corrupt != nil && corrupt.Offset != changed/piece*piece {
			t.Errorf("byte %d changed, told is offset %d", changed, corrupt.Offset)
		}
	}
	f(0, -1, 0, 0, 0)
	f(1, -1, 0, 1, 1)
	f(1, 0, 0, 1, 0)
	f(piece, -1, 0, piece, piece)
	f(piece, piece-1, 5, 1, 0)
	f(3*piece+7, -1, 0, 3*piece+7, 3*piece+7)
	f(3*piece+7, -1, piece-1, 2, 2)
	f(3*piece+7, -1, piece+5, 2*piece, 2*piece)
	f(3*piece+7, 3*piece+6, 0, 3*piece+7, 3*piece)
	f(3*piece+7, 3*piece+6, piece, piece, piece)
	f(3*piece+7, piece, 0, 3*piece+7, piece)
	f(3*piece+7, piece, piece-10, 20, 10)
	f(3*piece+7, 0, 2*piece, piece+7, piece+7)
	f(3*piece+7, 0, piece-1, piece, 0)
}

// A file that is shorter than it was, one whose sums do not fit it, and a disk that reads other bytes the
// second time.
func TestPartsOfFilesThatAreNotWhole(t *testing.T) {
	text, file := summed(sumPieceBytes + 100)
	f := func(file checkedFile, want int, what string) {
		t.Helper()
		got, err := readPart(&file, 0, file.bytes)
		if !bytes.Equal(got, text[:want]) || err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	cut := *file
	cut.from = bytes.NewReader(text[:sumPieceBytes+50])
	f(cut, sumPieceBytes, "it ends here")
	few := *file
	few.sums = few.sums[:8]
	f(few, 0, "8 bytes of sums")
	moody := *file
	moody.from = &moodyReader{text: text}
	got, err := readPart(&moody, 0, file.bytes)
	if err == nil || !strings.Contains(err.Error(), "a moment before") || int64(len(got)) >= sumPieceBytes {
		t.Errorf("a moody disk: %d bytes, %v", len(got), err)
	}
	old := *file
	old.sums, old.from = nil, bytes.NewReader(append([]byte("X"), text[1:]...))
	if got, err := readPart(&old, 0, file.bytes); err != nil || got[0] != 'X' || len(got) != len(text) {
		t.Errorf("without sums: %d bytes, %v", len(got), err)
	}
}

// moodyReader reads a wrong first byte from the second time on.
type moodyReader struct {
	text []byte
	read bool
}

func (m *moodyReader) ReadAt(p []byte, at int64) (int, error) {
	n := copy(p, m.text[at:])
	if at == 0 {
		if m.read {
			p[0] ^= 1
		}
		m.read = true
	}
	return n, nil
}

// Lines are added to an error file only behind what was written, and its sums go on.
func TestErrorFilesGoOnBehindWhatWasWritten(t *testing.T) {
	disk := vfs.NewMem(1)
	files := newErrorFiles(disk, "data", 1)
	lines := make([]refusal, 3000)
	for i := range lines {
		lines[i] = refusal{line: int64(i), kind: refusedText, arg: strings.Repeat("x", 500)}
	}
	var at int64
	var sums []byte
	var err error
	for range 3 {
		if at, sums, err = files.append("f", at, sums, lines); err != nil {
			t.Fatal(err)
		}
	}
	file, err := disk.OpenWrite(path.Join(files.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	whole := &checkedFile{name: "f", from: file, bytes: at, sums: sums}
	if err := whole.verify(t.Context()); err != nil || at < 3*sumPieceBytes || len(sums) < 4*pieceSumBytes {
		t.Fatalf("%d bytes, %d of sums: %v", at, len(sums), err)
	}
	if _, err := file.WriteAt([]byte("?"), at-1); err != nil {
		t.Fatal(err)
	}
	var corrupt *vfs.CorruptError
	if _, _, err := files.append("f", at, sums, lines); !errors.As(err, &corrupt) {
		t.Errorf("the tail has changed: %v", err)
	}
	if end, more, err := files.append("f", at, nil, lines); err != nil || end <= at || more != nil {
		t.Errorf("an older build's file: %d bytes, %d of sums, %v", end, len(more), err)
	}
}

// spoil changes a byte of a file.
func (s *testSite) spoil(name string, at int64) {
	s.t.Helper()
	file, err := s.fs.OpenWrite(name)
	if err != nil {
		s.t.Fatal(err)
	}
	var b [1]byte
	if _, err = file.ReadAt(b[:], at); err == nil {
		b[0] ^= 1
		_, err = file.WriteAt(b[:], at)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		s.t.Fatal(err)
	}
}

func TestJobsFilesAreCheckedWhenTheyAreRead(t *testing.T) {
	s := newTestSite(t)
	imported := s.wait(s.start(IncrementalLoad, 0, s.file("in", patient("a", ""), "nothing")))
	exported, _ := s.exports(nil)
	name := path.Join(s.jobs.exportDir(exported.ID), exported.Files[0].Name)
	s.spoil(name, 3)
	errorName := imported.Inputs[0].ErrorFile
	s.spoil(path.Join(newErrorFiles(s.fs, "data", imported.ID).dir, errorName), 3)
	open := map[string]func() (*Download, error){
		"export": func() (*Download, error) { return s.jobs.ExportFile(exported.ID, exported.Files[0].Name) },
		"errors": func() (*Download, error) { return s.jobs.ErrorFile(imported.ID, errorName) },
	}
	f := func(what string, sound bool) {
		t.Helper()
		d, err := open[what]()
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		var corrupt *vfs.CorruptError
		if _, err = readDownload(d); (err == nil) != sound || !sound && !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f("export", false)
	f("errors", false)
	s.forgetSums(exported.ID, imported.ID)
	f("export", true)
	f("errors", true)
	if err := s.fs.Remove(name); err != nil {
		t.Fatal(err)
	}
	var corrupt *vfs.CorruptError
	if _, err := s.jobs.ExportFile(exported.ID, exported.Files[0].Name); !errors.As(err, &corrupt) {
		t.Errorf("the file is gone: %v", err)
	}
}

// forgetSums makes the records of jobs as older builds wrote them.
func (s *testSite) forgetSums(export, imported int64) {
	s.t.Helper()
	finished, err := s.jobs.finishedSections(export)
	if err != nil {
		s.t.Fatal(err)
	}
	for number, files := range finished {
		for i := range files {
			files[i].Sums = nil
		}
		raw, err := json.Marshal(files)
		if err == nil {
			err = s.jobs.opts.Store.CatalogPut(sectionKey(export, number), raw)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	record, err := s.jobs.getImport(imported)
	if err == nil {
		record.Result.Sums = nil
		err = s.jobs.putImport(record)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

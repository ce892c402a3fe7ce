package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const patientLine = `{"resourceType":"Patient","id":"a"}`

// writeMixedSet makes four lines in a plain file, a gzip file in a folder, and
// a zstd file; and files that are no part of the set.
func writeMixedSet(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, text []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a.ndjson", []byte(patientLine+"\r\n\n"+patientLine)) // CRLF, an empty line, no last line end
	packed, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	write("b.ndjson.zst", packed.EncodeAll([]byte(patientLine+"\n"), nil))
	zipped, err := os.Create(filepath.Join(dir, "z.ndjson.gz"))
	if err != nil {
		t.Fatal(err)
	}
	w := gzip.NewWriter(zipped)
	w.Write([]byte(patientLine + "\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	zipped.Close()
	write("folder/_versions.ndjson", []byte(patientLine+"\n"))
	write("notes.txt", []byte("no data"))
	return dir
}

func TestDataSetCountsLinesOfAllFormats(t *testing.T) {
	set, err := openDataSet(writeMixedSet(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(set.files) != 3 || set.resources != 4 || set.bytes != int64(4*(len(patientLine)+1)) {
		t.Errorf("%d files, %d resources, %d bytes", len(set.files), set.resources, set.bytes)
	}
}

func TestUnpackedSetIsTheSame(t *testing.T) {
	set, err := openDataSet(writeMixedSet(t))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := set.unpack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	again, err := openDataSet(plain.dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.resources != set.resources || again.bytes != set.bytes || len(again.files) != len(set.files) {
		t.Errorf("unpacked: %+v, want %+v", again, set)
	}
}

func TestCopyHasTheSameLinesUnderOtherIDs(t *testing.T) {
	set, err := openDataSet(writeMixedSet(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	paths, err := set.copies(2, dir)
	if err != nil || len(paths) != 2 {
		t.Fatalf("copies: %q, %v", paths, err)
	}
	copies, err := openDataSet(dir)
	if err != nil {
		t.Fatal(err)
	}
	const idBytes = len("00000000-0000-4000-8000-000000000000") - len("a")
	if copies.resources != 2*set.resources || copies.bytes != 2*(set.bytes+set.resources*int64(idBytes)) {
		t.Errorf("%d lines of %d bytes from %d of %d", copies.resources, copies.bytes, set.resources, set.bytes)
	}
	drawn, err := copies.sample(10, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	for _, s := range drawn {
		ids[s.path]++
	}
	// The set has one id, four times.
	if len(ids) != 2 || ids["Patient/a"] != 0 {
		t.Errorf("ids of two copies: %v", ids)
	}
}

func TestDirectoryWithoutDataIsRefused(t *testing.T) {
	if _, err := openDataSet(t.TempDir()); err == nil {
		t.Error("no error for an empty directory")
	}
}

func TestSampleDrawsEveryLineOnce(t *testing.T) {
	dir := t.TempDir()
	text := ""
	for _, id := range []string{"a", "b", "c", "d"} {
		text += `{"resourceType":"Patient","id":"` + id + `"}` + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "x.ndjson"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := openDataSet(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := func(n, want int) {
		t.Helper()
		drawn, err := set.sample(n, 1, true)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, s := range drawn {
			if string(s.body) != `{"resourceType":"Patient","id":"`+s.path[len("Patient/"):]+`"}` {
				t.Errorf("path %q with body %s", s.path, s.body)
			}
			seen[s.path] = true
		}
		if len(drawn) != want || len(seen) != want {
			t.Errorf("sample of %d: %d drawn, %d different, want %d", n, len(drawn), len(seen), want)
		}
	}
	f(10, 4)
	f(4, 4)
	f(2, 2)
}

func TestLinkedCopiesReferToTheirOwn(t *testing.T) {
	other := func(typeName, id string, number int) string {
		return string(appendOtherID(nil, []byte(typeName), []byte(id), number))
	}
	f := func(text, want string) {
		t.Helper()
		if got := string(appendLinked(nil, []byte(text), 3)); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
	f(`{"subject":{"reference":"Patient/a"},"x":1}`, `{"subject":{"reference":"Patient/`+other("Patient", "a", 3)+`"},"x":1}`)
	f(`[{"reference":"Patient/a"},{"reference":"Group/b-1"}]`, `[{"reference":"Patient/`+other("Patient", "a", 3)+`"},{"reference":"Group/`+other("Group", "b-1", 3)+`"}]`)
	f(`{"reference":"Practitioner?identifier=x|1"}`, `{"reference":"Practitioner?identifier=x|1"}`)
	f(`{"reference":"#contained"}`, `{"reference":"#contained"}`)
	if got := pathOfCopy("Patient/a", 3); got != "Patient/"+other("Patient", "a", 3) {
		t.Errorf("a path became %s", got)
	}
}

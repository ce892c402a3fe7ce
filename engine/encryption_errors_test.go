package engine

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// Error files that are plain, or under an old key, are under the new one afterwards, with
// the same content, and can be cut at the end of each line and added to; whatever is left
// at a power cut, each is whole. One that is not whole is left alone.
func TestErrorFilesAreEncryptedAnew(t *testing.T) {
	const line = `{"resourceType":"OperationOutcome"}` + "\n"
	text := strings.Repeat(line, 3) + strings.Repeat("x", 3*resealBytes) + "\n" + line + `{"cut`
	plain := vfs.NewMem(1)
	mustClose(t, mustOpen(t, testOptions(plain, 1)))
	put := func(fsys vfs.FS, name string) string {
		t.Helper()
		name = "/data/" + jobErrorsDir + "/" + name
		if err := fsys.MkdirAll(name[:strings.LastIndexByte(name, '/')]); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFileAtomic(fsys, name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	names := []string{put(plain, "1/a.ndjson"), put(encryptedBy(plain, "a"), "1/b.ndjson"), put(encryptedBy(plain, "ba"), "2/c.ndjson")}
	torn := put(encryptedBy(plain, "a"), "2/torn.ndjson")
	put(plain, "2/left.ndjson"+vfs.TempSuffix)
	appendRaw(t, plain, torn, "half a frame")
	fsys := encryptedBy(plain, "ba")
	s := mustOpen(t, testOptions(fsys, 1))
	defer mustClose(t, s)
	ops := plain.Ops()
	files, err := s.ResealErrorFiles(t.Context())
	if err != nil || files != 2 {
		t.Fatalf("%d files, %v", files, err)
	}
	if again, err := s.ResealErrorFiles(t.Context()); again != 0 || err != nil {
		t.Errorf("%d files the second time, %v", again, err)
	}
	for _, name := range names {
		is, err := sealed.Inspect(plain, name)
		if got := mustRead(t, fsys, name); err != nil || is.Plain || is.Key != sealed.KeysOf(fsys).Current() || got != text {
			t.Errorf("%s: %+v, %v, %d bytes", name, is, err, len(got))
		}
	}
	if is, err := sealed.Inspect(plain, torn); err != nil || is.Key == sealed.KeysOf(fsys).Current() {
		t.Errorf("the torn file: %+v, %v", is, err)
	}
	if _, err := plain.Stat("/data/" + jobErrorsDir + "/2/left.ndjson" + vfs.TempSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a crash left is there: %v", err)
	}
	mustCut(t, fsys, names[0], text, len(line))
	if ops == plain.Ops() {
		t.Error("nothing was written")
	}
	for seed := range uint64(20) {
		left := encryptedBy(plain.CrashClone(seed), "ba")
		if got := mustRead(t, left, names[1]); got != text {
			t.Fatalf("after a power cut there are %d bytes", len(got))
		}
	}
}

// mustCut cuts a file at the end of its first lines, one after the other from the last,
// and adds to it.
func mustCut(t *testing.T, fsys vfs.FS, name, text string, first int) {
	t.Helper()
	f, err := fsys.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []int{strings.LastIndexByte(text, '\n') + 1, 3 * first, first} {
		if err := f.Truncate(int64(end)); err != nil {
			t.Errorf("cut at %d: %v", end, err)
		}
	}
	if _, err := f.WriteAt([]byte("more\n"), int64(first)); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, fsys, name); got != text[:first]+"more\n" {
		t.Errorf("after a cut and a write: %.80q", got)
	}
}

func mustRead(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// appendRaw adds to a file as it is stored.
func appendRaw(t *testing.T, fsys vfs.FS, name, more string) {
	t.Helper()
	f, err := fsys.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := f.Bytes()
	if err == nil {
		_, err = f.WriteAt([]byte(more), bytes)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

package engine

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

func keysOf(letters string) *sealed.Keys { return sealed.KeysOf(encryptedBy(vfs.NewMem(1), letters)) }

func TestFormatOfAnEncryptedStore(t *testing.T) {
	id := keysOf("ab").IDs()
	for _, f := range []formatFile{{storeID: 1, keys: id[:1]}, {storeID: 1, keys: id, plain: true}, {storeID: 0xabcdef}} {
		got, err := parseFormatFile("FORMAT", f.marshal())
		if err != nil || got.storeID != f.storeID || got.plain != f.plain || idsText(got.keys) != idsText(f.keys) {
			t.Errorf("%+v came back as %+v, %v", f, got, err)
		}
	}
	refuse := func(text string) {
		t.Helper()
		var damage *vfs.CorruptError
		if f, err := parseFormatFile("FORMAT", []byte(text)); !errors.As(err, &damage) {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
	text := string(formatFile{storeID: 1, keys: id[:1]}.marshal())
	refuse(strings.Replace(text, "keys", "key", 1))
	refuse(strings.Replace(text, "kiln-data 2", "kiln-data 1", 1))
	refuse(strings.Replace(text, id[0].String(), id[1].String(), 1))
	refuse(text + "x")
}

// treeOf is every file's bytes.
func treeOf(t *testing.T, fsys vfs.FS, dir string, into map[string]string) map[string]string {
	t.Helper()
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range names {
		name := dir + "/" + base
		if info, err := fsys.Stat(name); err != nil {
			t.Fatal(err)
		} else if info.IsDir {
			treeOf(t, fsys, name, into)
			continue
		}
		data, err := vfs.ReadFile(fsys, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		into[name] = string(data)
	}
	return into
}

// Without its key, or with another, nothing opens the store, checks or repairs it, and
// nothing in it changes.
func TestAnEncryptedStoreWantsItsKey(t *testing.T) {
	d := newDamageStoreOf(t, damageSeed, true)
	f := func(what string, letters string, want error) {
		t.Helper()
		disk := d.fs.CrashClone(1)
		before := treeOf(t, disk, "/data", map[string]string{})
		var fsys vfs.FS = disk
		if letters != "" {
			fsys = encryptedBy(disk, letters)
		}
		opts := d.opts
		opts.FS, opts.Logger = fsys, discardLogger()
		_, openErr := Open(context.Background(), opts)
		fsckErr := Fsck(context.Background(), FsckOptions{FS: fsys, Dir: "/data", Report: func(p Problem) { t.Errorf("%s: %+v", what, p) }})
		_, repairErr := Repair(context.Background(), RepairOptions{FS: fsys, Dir: "/data", NewID: func() uint64 { return 1 }})
		for i, err := range []error{openErr, fsckErr, repairErr} {
			if !errors.Is(err, want) || !strings.Contains(err.Error(), keysOf("a").Current().String()) {
				t.Errorf("%s, %d: %v", what, i, err)
			}
		}
		after := treeOf(t, disk, "/data", map[string]string{})
		delete(after, "/data/LOCK")
		delete(before, "/data/LOCK")
		if len(after) != len(before) {
			t.Errorf("%s: %d files, there were %d", what, len(after), len(before))
		}
		for name, data := range before {
			if after[name] != data {
				t.Errorf("%s: %s has changed", what, name)
			}
		}
	}
	f("no key", "", ErrEncrypted)
	f("another key", "b", sealed.ErrKey)
	overwrite(t, d.fs, "/data/FORMAT", "?")
	disk := d.fs.CrashClone(1)
	if _, err := Repair(context.Background(), RepairOptions{FS: disk, Dir: "/data", NewID: func() uint64 { return 1 }}); !errors.Is(err, ErrEncrypted) {
		t.Errorf("repaired without FORMAT and key: %v", err)
	}
	if _, err := Repair(context.Background(), RepairOptions{FS: encryptedBy(disk, "b"), Dir: "/data", NewID: func() uint64 { return 1 }}); !errors.Is(err, sealed.ErrKey) {
		t.Errorf("repaired without FORMAT with another key: %v", err)
	}
}

// rotation is a store whose keys change.
type rotation struct {
	t    *testing.T
	disk *vfs.Mem
}

func (r rotation) open(letters string) *Store {
	r.t.Helper()
	opts := testOptions(r.disk, 1)
	opts.MergeFanIn = 4
	if letters != "" {
		opts.FS = encryptedBy(r.disk, letters)
	}
	return mustOpen(r.t, opts)
}

func (r rotation) put(s *Store, id string) {
	r.t.Helper()
	mustCommit(r.t, s, write(r.t, patient, id, "secretword"))
	if err := s.Flush(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// rotate merges what is due, and writes checkpoints under the present key.
func (r rotation) rotate(s *Store) []KeyUse {
	r.t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.mergeOnce(context.Background(), mergeSmall); err != nil {
			r.t.Fatal(err)
		}
	}
	for i := range 3 {
		r.put(s, fmt.Sprintf("again%d-%d", i, s.visible))
		if err := s.checkpointNow(); err != nil {
			r.t.Fatal(err)
		}
	}
	usage, err := s.KeyUsage(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return usage
}

// A plain store becomes an encrypted one, and then one of another key, by merges.
func TestKeysAreChangedByMerges(t *testing.T) {
	r := rotation{t, vfs.NewMem(1)}
	s := r.open("")
	r.put(s, "plain")
	mustClose(t, s)
	s = r.open("a")
	r.put(s, "a")
	usage := r.rotate(s)
	if n := len(usage); n != 2 || !usage[1].IsPlain() || usage[1].Files != 0 || usage[0].RunFiles == 0 {
		t.Errorf("after the merges: %+v", usage)
	}
	mustClose(t, s)
	s = r.open("ba")
	usage = r.rotate(s)
	for _, use := range usage[1:] {
		if use.Files != 0 {
			t.Errorf("after the second key's merges: %+v", use)
		}
	}
	if _, err := s.ForgetKeys(usage); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	again, err := Open(context.Background(), testOptions(encryptedBy(r.disk, "b"), 1))
	if inLog := usage[1].Records > 0; inLog != errors.Is(err, sealed.ErrKey) || !inLog && err != nil {
		t.Errorf("opened with the second key alone, %d records under the first: %v", usage[1].Records, err)
	}
	if err == nil {
		mustClose(t, again)
	}
	s = r.open("ba")
	for _, id := range []string{"plain", "a"} {
		n := mustSnapshot(t, s)
		if v, err := n.Get(patient, []byte(id)); err != nil || !bytes.Contains(v.Body, []byte("secretword")) {
			t.Errorf("%s: %v", id, err)
		}
		n.Release()
	}
	mustClose(t, s)
}

// Where all are encrypted, a plain file in a file's place is damage.
func TestAPlainFileInAnEncryptedStoreIsDamage(t *testing.T) {
	d := newDamageStoreOf(t, damageSeed, true)
	found, runs := 0, treeOf(t, d.fs, "/data/runs", map[string]string{})
	for name := range runs {
		fsys := d.fs.CrashClone(1)
		data, err := vfs.ReadFile(d.on(fsys), name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		overwrite(t, fsys, name, string(data))
		problems, err := fsckOf(d.on(fsys))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(problems) > 0 {
			found++
		}
	}
	if found < len(runs)-1 { // one was never published
		t.Errorf("%d of %d plain runs were found", found, len(runs))
	}
}

func TestTheCatalogIsEncrypted(t *testing.T) {
	dir := t.TempDir()
	open := func(letters string) *Store {
		t.Helper()
		options := Options{FS: vfs.OS(), Dir: dir, Now: time.Now, NewID: rand.Uint64, Logger: discardLogger(), FreeBytesMin: -1, SegmentBytes: 1 << 16, BallastBytes: -1}
		if letters != "" {
			options.FS = encryptedBy(vfs.OS(), letters)
		}
		return mustOpen(t, options)
	}
	large := strings.Repeat("verysecret ", CatalogValueBytesMax/11)
	s := open("a")
	for key, value := range map[string]string{"job/1": "verysecret", "job/2": large, "job/3": ""} {
		if err := s.CatalogPut(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for _, letters := range []string{"a", "ba", "b"} {
		mustBeUnreadable(t, dir, "verysecret") // while it is open, too
		if letters == "b" {
			usage, err := s.KeyUsage(context.Background())
			if err != nil || usage[1].Values != 0 || usage[0].Values < 3 {
				t.Errorf("%+v, %v", usage, err)
			}
			break
		}
		mustClose(t, s)
		s = open(letters)
		for key, want := range map[string]string{"job/1": "verysecret", "job/2": large, "job/3": ""} {
			if value, err := s.CatalogGet(key); err != nil || string(value) != want {
				t.Errorf("%s with keys %s: %d bytes, %v", key, letters, len(value), err)
			}
		}
	}
	mustClose(t, s)
	mustBeUnreadable(t, dir, "verysecret")
}

// mustBeUnreadable looks for a word in every file.
func mustBeUnreadable(t *testing.T, dir, word string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(word)) {
			t.Errorf("%s has the word %q", path, word)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A catalog's value as it was written once.
func TestGoldenCatalogValue(t *testing.T) {
	stored, err := hex.DecodeString("8b4b494c4e56414c6baafd372a653a2cb40d75e920890ed6206bda3c73a8ab1b2736fb124467c3f461a5ae77174de11d3c2e1d9a5181a0baefab583d")
	if err != nil {
		t.Fatal(err)
	}
	c := &catalog{keys: keysOf("a"), strict: true}
	if value, err := c.open("job/1", stored); err != nil || string(value) != "golden value" {
		t.Errorf("%q, %v", value, err)
	}
	var damage *vfs.CorruptError
	if value, err := c.open("job/2", stored); !errors.As(err, &damage) {
		t.Errorf("another key's value: %q, %v", value, err)
	}
	for i := range stored {
		stored[i] ^= 1
		if value, err := c.open("job/1", stored); !errors.As(err, &damage) && !errors.Is(err, sealed.ErrKey) {
			t.Errorf("byte %d: %q, %v", i, value, err)
		}
		stored[i] ^= 1
	}
}

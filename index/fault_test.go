package index

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// tryBuild feeds and seals a builder, stopping at the first error. b is nil
// when there was not even a file.
func (m *model) tryBuild(fs vfs.FS, id RunID) (b *Builder, meta RunMeta, err error) {
	if b, err = NewBuilder(BuilderOptions{FS: fs, Dir: testDir, ID: id}); err != nil {
		return nil, meta, err
	}
	for _, r := range m.rows {
		for _, term := range r.terms {
			b.AddTerm(Param(term[0])<<8|Param(term[1]), []byte(term[2:]))
		}
		if _, err := b.Append(r.typ, []byte(r.id), uint32(strings.Index(r.body, r.id)), []byte(r.body), r.splice); err != nil {
			return b, meta, err
		}
	}
	b.SortKeys()
	for i, r := range m.rows {
		if _, err := b.Body(Ordinal(i)); err != nil {
			return b, meta, err
		}
		b.SetRow(Ordinal(i), r.row)
		if r.dropped {
			b.Drop(Ordinal(i))
		}
	}
	meta, err = b.Seal(context.Background())
	return b, meta, err
}

// largeModel spills bodies to disk before Seal.
func largeModel() *model {
	rng := rand.New(rand.NewPCG(8, 8))
	m := smallModel()
	for i := range 24 {
		noise := make([]byte, 80<<10)
		for j := range noise {
			noise[j] = "0123456789abcdef"[rng.IntN(16)]
		}
		id := fmt.Sprintf("large-%d", i)
		r := modelRow{typ: 7, id: id, body: fmt.Sprintf(`{"resourceType":"T","id":%q,"x":"%s"}`, id, noise)}
		r.row = Row{Type: 7, VersionID: 1, LastUpdated: fhir.Instant{Milli: 5}}
		m.rows = append(m.rows, r)
	}
	return m
}

func TestPowerCutLeavesAWholeRunOrNone(t *testing.T) {
	m := largeModel()
	for op := int64(1); ; op++ {
		fs := newTestFS(t)
		if err := fs.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		fs.CutPowerAt(fs.Ops() + op)
		_, meta, err := m.tryBuild(fs, 5)
		for seed := range uint64(20) {
			after := fs.CrashClone(seed)
			if _, statErr := after.Stat(runPath(testDir, 5)); statErr != nil {
				if err == nil {
					t.Fatalf("a sealed run is gone after the power cut: %v", statErr)
				}
				continue
			}
			if n := problems(t, after, 5); n > 0 {
				t.Fatalf("power cut at operation %d, seed %d: a damaged run under its final name", op, seed)
			}
			if err == nil {
				r, err := OpenRun(after, testDir, meta, 0, nil)
				if err != nil {
					t.Fatal(err)
				}
				m.check(t, r, 0)
				_ = r.Close()
			}
		}
		if err == nil {
			return
		}
		if !errors.Is(err, vfs.ErrPowerCut) {
			t.Fatalf("operation %d: %v", op, err)
		}
	}
}

func TestFailedCallsEndTheBuildAndAbortCleansUp(t *testing.T) {
	m := largeModel()
	f := func(cause error, matches func(vfs.Op) bool) {
		t.Helper()
		for nth := 1; ; nth++ {
			fs, seen := newTestFS(t), 0
			fs.SetHook(func(op vfs.Op) error {
				if matches(op) {
					if seen++; seen == nth {
						return cause
					}
				}
				return nil
			})
			b, _, err := m.tryBuild(fs, 5)
			if err == nil {
				if nth == 1 {
					t.Fatal("no call matched")
				}
				return
			}
			if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the cause is lost: %v", err)
			}
			fs.SetHook(nil)
			if b == nil {
				continue
			}
			if err := b.Abort(); err != nil {
				t.Fatalf("Abort: %v", err)
			}
			if names, err := fs.List(testDir); err != nil || len(names) > 0 {
				t.Fatalf("%v is left after Abort: %v", names, err)
			}
		}
	}
	kind := func(k vfs.OpKind) func(vfs.Op) bool { return func(op vfs.Op) bool { return op.Kind == k } }
	f(syscall.EIO, kind(vfs.OpCreate))
	f(syscall.EIO, kind(vfs.OpWrite))
	f(syscall.ENOSPC, kind(vfs.OpWrite))
	f(&vfs.ShortWrite{Bytes: 100, Err: syscall.ENOSPC}, kind(vfs.OpWrite))
	f(syscall.EIO, kind(vfs.OpRead))
	f(syscall.EIO, kind(vfs.OpSync))
	f(syscall.EIO, kind(vfs.OpRename))
	f(syscall.EIO, kind(vfs.OpSyncDir))
}

func TestReadErrorsAreNoDamage(t *testing.T) {
	fs := newTestFS(t)
	m := smallModel()
	meta := m.build(t, fs, 5)
	r, err := OpenRun(fs, testDir, meta, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fs.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead {
			return syscall.EIO
		}
		return nil
	})
	var damage *vfs.CorruptError
	f := func(err error) {
		t.Helper()
		if !errors.Is(err, syscall.EIO) || errors.As(err, &damage) {
			t.Fatalf("a failed read is %v", err)
		}
	}
	_, err = r.Lookup(nil, []byte(m.key(0)))
	f(err)
	_, err = r.Row(0)
	f(err)
	_, err = r.Body(0)
	f(err)
	_, err = r.Postings(ParamType, []byte{0, 1})
	f(err)
	f(r.Scan(context.Background(), roaring.BitmapOf(0), nil))
	c := r.Terms(ParamType)
	if c.First() {
		t.Fatal("a cursor is on a term it could not read")
	}
	f(c.Err())
}

func TestSealEndsWithItsContext(t *testing.T) {
	fs := newTestFS(t)
	b, err := NewBuilder(BuilderOptions{FS: fs, Dir: testDir, ID: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Seal(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Seal with an ended context: %v", err)
	}
	if err := errors.Join(b.Abort(), b.Abort()); err != nil {
		t.Fatal(err)
	}
}

func TestSealRefusesAVersionTwice(t *testing.T) {
	m := &model{}
	for range 2 {
		m.rows = append(m.rows, modelRow{typ: 1, id: "a", body: `{"id":"a"}`, row: Row{Type: 1, VersionID: 3}})
	}
	b, _, err := m.tryBuild(newTestFS(t), 1)
	if err == nil || !strings.Contains(err.Error(), "rows 0 and 1 are both version 3 of Account/a") {
		t.Fatalf("a run with a version twice is sealed: %v", err)
	}
	if err := b.Abort(); err != nil {
		t.Fatal(err)
	}
}

func TestAppendRefusesHugeBodies(t *testing.T) {
	fs := newTestFS(t)
	b, err := NewBuilder(BuilderOptions{FS: fs, Dir: testDir, ID: 1})
	if err != nil {
		t.Fatal(err)
	}
	b.AddTerm(9, []byte("of the refused"))
	if _, err := b.Append(1, []byte("a"), 0, append([]byte("a"), make([]byte, BodyBytesMax)...), fhir.Splice{}); !errors.Is(err, ErrBodyTooLarge) {
		t.Fatalf("a huge body: %v", err)
	}
	if _, err := b.Append(1, []byte("a"), 0, []byte("a"), fhir.Splice{}); err != nil {
		t.Fatalf("the builder is useless after a refused body: %v", err)
	}
	b.SortKeys()
	b.SetRow(0, Row{Type: 1, VersionID: 1})
	meta, err := b.Seal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenRun(fs, testDir, meta, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if bm, err := r.Postings(9, []byte("of the refused")); err != nil || !bm.IsEmpty() {
		t.Fatalf("the refused body's terms are there: %v, %v", bm, err)
	}
}

func TestReadersShareARunAndACache(t *testing.T) {
	fs := newTestFS(t)
	m := randomModel(rand.New(rand.NewPCG(6, 6)), 400)
	meta := m.build(t, fs, 5)
	cache := NewCache(256 << 10) // too small, so that blocks come and go
	r, err := OpenRun(fs, testDir, meta, 9, cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("readers", func(t *testing.T) {
		for i := range 4 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				m.check(t, r, 9)
			})
		}
	})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if held := cache.Stats().Bytes; held != 0 {
		t.Fatalf("the cache holds %d bytes of closed runs", held)
	}
}

func TestCacheStaysInItsBounds(t *testing.T) {
	c := NewCache(1 << 20)
	for i := range int64(10_000) {
		k := cacheKey{space: 1, offset: i * 4096}
		c.put(k, &cachedBlock{payload: make([]byte, 4096)})
		if c.get(k) == nil {
			t.Fatal("a block is gone as soon as it came")
		}
		if held := c.Stats().Bytes; held > 1<<20 {
			t.Fatalf("the cache holds %d bytes", held)
		}
	}
	c.put(cacheKey{space: 2}, &cachedBlock{payload: make([]byte, 1<<19)})
	if c.get(cacheKey{space: 2}) != nil {
		t.Fatal("a block as large as many others was kept")
	}
	if st := c.Stats(); st.BytesMax != 1<<20 || st.Hits != 10_000 || st.Misses != 1 {
		t.Fatalf("bound, hits and misses are %+v", st)
	}
}

// TestFileLayoutIsGolden holds every byte of a small run. KILN_UPDATE=1 writes
// the golden file anew.
func TestFileLayoutIsGolden(t *testing.T) {
	fs := newTestFS(t)
	smallModel().build(t, fs, 5)
	got := hex.Dump(readAll(t, fs, runPath(testDir, 5)))
	name := filepath.Join("testdata", "run_v2.hex")
	if os.Getenv("KILN_UPDATE") != "" {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatal("the layout of a run changed: raise FormatVersion, or set KILN_UPDATE=1 if no run of it was ever kept")
	}
}

func TestRunNamesComeBack(t *testing.T) {
	f := func(name string, id RunID, temp, ok bool) {
		t.Helper()
		gotID, gotTemp, gotOK := ParseRunName(name)
		if gotOK != ok || ok && (gotID != id || gotTemp != temp) {
			t.Fatalf("%q is run %d, %v, %v", name, gotID, gotTemp, gotOK)
		}
	}
	f(RunName(0xabc), 0xabc, false, true)
	f(TempName(1<<63), 1<<63, true, true)
	f("0000000000000ABC.run", 0, false, false)
	f("abc.run", 0, false, false)
	f("0000000000000abc.run.bak", 0, false, false)
	f("LOCK", 0, false, false)
}

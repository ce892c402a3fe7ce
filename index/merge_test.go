package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/internal/vfs"
)

// mergePart is a run of a merge, and the model of what it holds.
type mergePart struct {
	model      *model
	meta       RunMeta
	publishLSN uint64
}

// mergeTest merges random runs on one file system.
type mergeTest struct {
	t    *testing.T
	fs   vfs.FS
	rng  *rand.Rand
	next RunID
	fuse uint64
}

func newMergeTest(t *testing.T, seed uint64) *mergeTest {
	t.Helper()
	return &mergeTest{t: t, fs: newTestFS(t), rng: rand.New(rand.NewPCG(seed, 3)), next: 1}
}

// leaf builds a run whose versions no other leaf has.
func (x *mergeTest) leaf(rows int) mergePart {
	m := randomModel(x.rng, rows)
	for i := range m.rows {
		m.rows[i].row.VersionID += int64(x.next) * 100_000
		m.rows[i].row.LastUpdated.Milli += int64(x.rng.IntN(3)) * 17
	}
	p := mergePart{model: m, meta: m.build(x.t, x.fs, x.next), publishLSN: uint64(x.next) * 7}
	x.next++
	return p
}

func (x *mergeTest) open(p mergePart) *Run {
	x.t.Helper()
	r, err := OpenRun(x.fs, testDir, p.meta, 0, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	return r
}

// void picks rows to take out: some, none, all of a block, or everything.
func (x *mergeTest) void(p mergePart) *roaring.Bitmap {
	void := roaring.New()
	switch x.rng.IntN(5) {
	case 0:
		return nil
	case 1:
		void.AddRange(0, uint64(len(p.model.rows)))
	case 2:
		void.AddRange(0, uint64(len(p.model.rows)/2))
	default:
		for o := range p.model.rows {
			if x.rng.IntN(4) == 0 {
				void.Add(uint32(o))
			}
		}
	}
	return void
}

// merge merges the parts and foretells the result.
func (x *mergeTest) merge(parts []mergePart, withVoid bool) (mergePart, error) {
	out := mergePart{model: &model{}, publishLSN: 1 << 40}
	opts := MergeOptions{FS: x.fs, Dir: testDir, ID: x.next, fuseKeysMax: x.fuse}
	x.next++
	for _, p := range parts {
		in := MergeInput{Run: x.open(p), PublishLSN: p.publishLSN}
		defer func() { _ = in.Run.Close() }()
		if withVoid {
			in.Void = x.void(p)
		}
		for o, row := range p.model.rows {
			if row.row.LSN == 0 {
				row.row.LSN = p.publishLSN
			}
			row.dropped = row.dropped || in.Void != nil && in.Void.Contains(uint32(o))
			out.model.rows = append(out.model.rows, row)
		}
		opts.Inputs = append(opts.Inputs, in)
	}
	var err error
	out.meta, err = Merge(context.Background(), opts)
	return out, err
}

func (x *mergeTest) mustMerge(parts []mergePart, withVoid bool) mergePart {
	x.t.Helper()
	out, err := x.merge(parts, withVoid)
	if err != nil {
		x.t.Fatal(err)
	}
	return out
}

// check asks the run everything, and lets Verify read it.
func (x *mergeTest) check(p mergePart) {
	x.t.Helper()
	r := x.open(p)
	p.model.check(x.t, r, p.publishLSN)
	if err := r.Close(); err != nil {
		x.t.Fatal(err)
	}
	err := Verify(context.Background(), x.fs, testDir, p.meta.ID, func(e *vfs.CorruptError) { x.t.Errorf("Verify: %v", e) })
	if err != nil {
		x.t.Fatal(err)
	}
}

func TestMergedRunAnswersAsItsInputsDid(t *testing.T) {
	f := func(seed uint64, fuse uint64, sizes ...int) {
		t.Helper()
		x := newMergeTest(t, seed)
		x.fuse = fuse
		var parts []mergePart
		for _, rows := range sizes {
			parts = append(parts, x.leaf(rows))
		}
		x.check(x.mustMerge(parts, seed%2 == 0))
	}
	f(1, 0, 0, 0)
	f(2, 0, 1, 0, 1)
	f(3, 1, 20, 300, 1)
	f(4, 0, 4096, 1, 4095, 5000)
	f(5, 1, 9000, 700)
	f(6, 1, 30, 20, 10, 5, 400, 200, 100, 50, 25, 12, 6, 3, 2, 1, 1, 900)
	for seed := range uint64(12) {
		f(20+seed, seed%3, int(seed*31), int(seed*7), 40)
	}
}

// TestMergeTreesAgree merges the same runs in random trees: neighbours first,
// all at once, and in between.
func TestMergeTreesAgree(t *testing.T) {
	for seed := range uint64(8) {
		x := newMergeTest(t, 100+seed)
		var parts []mergePart
		for range 2 + x.rng.IntN(7) {
			parts = append(parts, x.leaf(x.rng.IntN(300)))
		}
		for len(parts) > 1 {
			from := x.rng.IntN(len(parts) - 1)
			to := from + 2 + x.rng.IntN(len(parts)-from-1)
			parts = slices.Replace(parts, from, to, x.mustMerge(parts[from:to], x.rng.IntN(2) == 0))
		}
		x.check(parts[0])
	}
}

func TestMergeDependsOnItsInputsOnly(t *testing.T) {
	build := func() []byte {
		x := newMergeTest(t, 9)
		out := x.mustMerge([]mergePart{x.leaf(500), x.leaf(200)}, true)
		return readAll(t, x.fs, runPath(testDir, out.meta.ID))
	}
	if !bytes.Equal(build(), build()) {
		t.Fatal("the same runs made two different files")
	}
}

// TestMergeOfWideBitmaps shifts bitmaps of every container over container
// borders.
func TestMergeOfWideBitmaps(t *testing.T) {
	x := newMergeTest(t, 11)
	leaf := func(rows int) mergePart {
		m := &model{}
		for i := range rows {
			id := fmt.Sprint("n", x.next, "-", i)
			r := modelRow{typ: 1, id: id, body: fmt.Sprintf(`{"id":%q}`, id)}
			r.row = Row{Type: 1, VersionID: 1}
			r.row.LastUpdated.Milli = int64(i / 30_000)
			if i%3 == 0 || i > rows/2 {
				r.terms = append(r.terms, string(appendTermKey(nil, 9, []byte("many"))))
			}
			if i%1000 == 7 {
				r.terms = append(r.terms, string(appendTermKey(nil, 9, []byte("some"))))
			}
			m.rows = append(m.rows, r)
		}
		p := mergePart{model: m, meta: m.build(t, x.fs, x.next), publishLSN: uint64(x.next)}
		x.next++
		return p
	}
	out := x.mustMerge([]mergePart{leaf(7), leaf(70_000), leaf(66_001)}, false)
	r := x.open(out)
	out.model.checkTerms(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n := problems(t, x.fs, out.meta.ID); n > 0 {
		t.Fatalf("Verify finds %d problems", n)
	}
}

// TestMergeOfDamagedInputs: whatever byte of an input is damaged, the merge
// fails with the damage named, or its result is right.
func TestMergeOfDamagedInputs(t *testing.T) {
	x := newMergeTest(t, 5)
	m := smallModel()
	small := mergePart{model: m, meta: m.build(t, x.fs, x.next), publishLSN: 3}
	x.next++
	other := x.leaf(30)
	name := runPath(testDir, small.meta.ID)
	whole := readAll(t, x.fs, name)
	refused := 0
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= byte(1 << x.rng.IntN(8))
		overwrite(t, x.fs, name, damaged)
		r, err := OpenRun(x.fs, testDir, small.meta, 0, nil)
		if err != nil {
			refused++
			continue
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		out, err := x.merge([]mergePart{small, other}, false)
		var damage *vfs.CorruptError
		switch {
		case errors.As(err, &damage) && damage.File == name:
			refused++
		case err != nil:
			t.Fatalf("byte %d: %v", at, err)
		default:
			x.check(out)
			if err := x.fs.Remove(runPath(testDir, out.meta.ID)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if refused < len(whole)*9/10 {
		t.Fatalf("only %d of %d damaged bytes were noticed", refused, len(whole))
	}
	names, err := x.fs.List(testDir)
	if err != nil || len(names) != 2 {
		t.Fatalf("files left behind: %q, %v", names, err)
	}
}

func TestPowerCutLeavesAWholeMergedRunOrNone(t *testing.T) {
	for op := int64(1); ; op++ {
		x := newMergeTest(t, 6)
		parts := []mergePart{x.leaf(40), x.leaf(60)}
		fs := x.fs.(*vfs.Mem)
		if err := fs.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		id := x.next
		fs.CutPowerAt(fs.Ops() + op)
		out, err := x.merge(parts, false)
		for seed := range uint64(5) {
			after := fs.CrashClone(seed)
			if _, statErr := after.Stat(runPath(testDir, id)); statErr != nil {
				if err == nil {
					t.Fatalf("a merged run is gone after the power cut: %v", statErr)
				}
				continue
			}
			if n := problems(t, after, id); n > 0 {
				t.Fatalf("power cut at operation %d, seed %d: a damaged run under its final name", op, seed)
			}
		}
		if err == nil {
			x.check(out)
			return
		}
		if !errors.Is(err, vfs.ErrPowerCut) {
			t.Fatalf("operation %d: %v", op, err)
		}
	}
}

func TestFailedMergeLeavesNothing(t *testing.T) {
	f := func(cause error, kinds ...vfs.OpKind) {
		t.Helper()
		for nth := 1; ; nth++ {
			x := newMergeTest(t, 8)
			parts := []mergePart{x.leaf(300), x.leaf(200)}
			before, err := x.fs.List(testDir)
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			x.fs.(*vfs.Mem).SetHook(func(op vfs.Op) error {
				if slices.Contains(kinds, op.Kind) {
					if seen++; seen == nth {
						return cause
					}
				}
				return nil
			})
			_, err = x.merge(parts, true)
			x.fs.(*vfs.Mem).SetHook(nil)
			if err == nil {
				return
			}
			after, listErr := x.fs.List(testDir)
			if !errors.Is(err, cause) || listErr != nil || !slices.Equal(before, after) {
				t.Fatalf("call %d: %v; files %q, before %q", nth, err, after, before)
			}
		}
	}
	f(syscall.ENOSPC, vfs.OpCreate, vfs.OpWrite)
	f(syscall.EIO, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir)
}

func TestMergeStopsWhenTold(t *testing.T) {
	x := newMergeTest(t, 12)
	m := largeModel()
	parts := []mergePart{{model: m, meta: m.build(t, x.fs, 50)}, {model: m, meta: m.build(t, x.fs, 51)}}
	stop := errors.New("enough")
	ctx, cancel := context.WithCancel(context.Background())
	f := func(want error, pace func(context.Context, int) error) {
		t.Helper()
		opts := MergeOptions{FS: x.fs, Dir: testDir, ID: 77, Pace: pace}
		for _, p := range parts {
			r := x.open(p)
			defer func() { _ = r.Close() }()
			opts.Inputs = append(opts.Inputs, MergeInput{Run: r, PublishLSN: 1})
		}
		if _, err := Merge(ctx, opts); !errors.Is(err, want) {
			t.Fatalf("Merge: %v, want %v", err, want)
		}
		if names, _ := x.fs.List(testDir); len(names) != 2 {
			t.Fatalf("files left behind: %q", names)
		}
	}
	f(stop, func(context.Context, int) error { return stop })
	f(context.Canceled, func(context.Context, int) error { cancel(); return nil })
}

func TestBloomFilterHasNoFalseNegatives(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, keys := range []int{1, 2, 100, 50_000} {
		f := make(bloomFilter, bloomBytes(uint64(keys)))
		hashes := make([]uint64, keys)
		for i := range hashes {
			hashes[i] = rng.Uint64()
			f.add(hashes[i])
		}
		for _, h := range hashes {
			if !f.contains(h) {
				t.Fatalf("of %d keys the filter denies %x", keys, h)
			}
		}
		wrong := 0
		for range 100_000 {
			if f.contains(rng.Uint64()) {
				wrong++
			}
		}
		if keys == 50_000 && wrong > 1000 {
			t.Errorf("%d of 100,000 absent keys may be there", wrong)
		}
	}
}

// TestMergesLeaveOutTheBodiesOfVoidRows: nothing of them is in the result, not even unread.
func TestMergesLeaveOutTheBodiesOfVoidRows(t *testing.T) {
	x := newMergeTest(t, 11)
	part := x.leaf(500)
	r := x.open(part)
	defer func() { _ = r.Close() }()
	void, kept := roaring.New(), int64(0)
	for o, row := range part.model.rows {
		if row.dropped || o%3 == 0 && o > 200 {
			void.Add(uint32(o))
		} else {
			kept += int64(len(row.body))
		}
	}
	meta, err := Merge(context.Background(), MergeOptions{FS: x.fs, Dir: testDir, ID: 99, Inputs: []MergeInput{{Run: r, PublishLSN: 1, Void: void}}})
	if err != nil {
		t.Fatal(err)
	}
	if meta.BodyBytesRaw != kept {
		t.Errorf("the result has %d bytes of bodies, %d are not void", meta.BodyBytesRaw, kept)
	}
	out := x.open(mergePart{meta: meta})
	defer func() { _ = out.Close() }()
	for i := range out.bodies.count() {
		b, err := out.block(blockBodies, out.bodies, i)
		if err != nil {
			t.Fatal(err)
		}
		for j, e := range b.entries {
			o := out.bodies.first[i] + uint32(j)
			if want := part.model.rows[o].body; !void.Contains(o) && string(e.stored(b.payload).Body) != want || void.Contains(o) && e.length > 0 {
				t.Fatalf("row %d, void %v, has the body %q", o, void.Contains(o), e.stored(b.payload).Body)
			}
		}
	}
}

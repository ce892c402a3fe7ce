package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/engine"
	"kiln/internal/vfs"
)

// seeds is how many worlds the tests make; SEEDS asks for more.
func seeds(few uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("SEEDS"), 10, 64); err == nil {
		return n
	}
	return few
}

// Backups at random moments of a random history: each restores to what was
// written up to its LSN, and so does every LSN, and every time, that the log
// between two of them reaches. Those that it does not reach are refused.
func TestBackupsAreTheStoreAtTheirMoment(t *testing.T) {
	reached, refused := 0, 0
	for seed := range seeds(3) {
		w := newWorld(t, seed, nil)
		var backups []*Result
		for range 60 {
			switch w.rng.IntN(15) {
			case 0, 1:
				backups = append(backups, w.backup())
			case 2:
				w.flush()
			case 3:
				w.purge(fmt.Sprintf("p%d", w.rng.IntN(12)))
			case 4:
				w.close()
				w.open()
			default:
				w.write()
			}
		}
		backups = append(backups, w.backup())
		for _, b := range backups {
			if r := w.restore(Moment{Backup: b.ID}); r.LSN != b.LSN || r.Versions != b.Versions {
				t.Errorf("seed %d: backup %+v was restored as %+v", seed, b, r)
			}
		}
		in, out := w.restoreAll(backups)
		reached, refused = reached+in, refused+out
	}
	if reached < 10 || refused < 3 {
		t.Errorf("%d moments between backups were in reach, %d were not: the test shows too little", reached, refused)
	}
}

// restoreAll restores every LSN, by its number or by the date of its version.
func (w *world) restoreAll(backups []*Result) (in, out int) {
	w.t.Helper()
	for lsn := uint64(1); lsn <= backups[len(backups)-1].LSN; lsn++ {
		between := w.isBetween(backups, lsn)
		at := Moment{LSN: lsn}
		for _, v := range w.versions {
			if v.lsn == lsn && w.rng.IntN(2) == 0 {
				at = Moment{Time: time.UnixMilli(v.milli)}
			}
		}
		r, err := w.tryRestore(at)
		if between != (err == nil) || err != nil && !errors.Is(err, ErrOutOfReach) {
			w.t.Fatalf("%+v, at LSN %d, in reach %v: %v", at, lsn, between, err)
		}
		if err != nil {
			out++
			continue
		}
		in++
		if r.LSN != lsn && at.LSN != 0 || r.LSN < lsn {
			w.t.Errorf("%+v, at LSN %d, was restored as LSN %d", at, lsn, r.LSN)
		}
	}
	return in, out
}

// isBetween tells whether an LSN is a backup's, or the log between two leads over it.
func (w *world) isBetween(backups []*Result, lsn uint64) bool {
	for i, b := range backups {
		if b.LSN == lsn || b.Follows != "" && backups[i-1].LSN < lsn && lsn < b.LSN {
			return true
		}
	}
	return false
}

// A second backup copies what is new, to the byte, and says so.
func TestBackupsCopyWhatIsNew(t *testing.T) {
	w := newWorld(t, 1, nil)
	for range 1500 {
		w.write()
	}
	first := w.backup()
	if first.RunsCopied != first.Runs || first.BytesCopied < first.Bytes {
		t.Errorf("the first backup copied %+v", first)
	}
	for range 20 {
		w.write()
	}
	before, runsBefore := w.stored(""), w.stored(runsFolder)
	second := w.backup()
	if got := w.stored("") - before; got != second.BytesCopied {
		t.Errorf("the target grew by %d bytes, the backup says %d", got, second.BytesCopied)
	}
	if got := w.stored(runsFolder) - runsBefore; got != second.BytesRuns || second.RunsCopied != 1 || second.Runs != first.Runs+1 {
		t.Errorf("the runs grew by %d bytes, the backup says %+v", got, second)
	}
	if second.BytesCopied*3 > first.BytesCopied {
		t.Errorf("the second backup copied %d bytes, the first %d", second.BytesCopied, first.BytesCopied)
	}
	third := w.backup()
	if third.BytesRuns != 0 || third.BytesLog != 0 || third.Follows != second.ID {
		t.Errorf("a backup of nothing new copied %+v", third)
	}
	w.restore(Moment{})
}

// stored is how many bytes the target has in a folder, or in all.
func (w *world) stored(folder string) int64 {
	w.t.Helper()
	return storedIn(w.t, w.target, folder)
}

func storedIn(t *testing.T, target Target, folder string) (total int64) {
	t.Helper()
	folders := []string{folder}
	if folder == "" {
		folders = []string{runsFolder, checkpointsFolder, logFolder, manifestsFolder}
	}
	for _, folder := range folders {
		files, err := target.List(context.Background(), folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, bytes := range files {
			total += bytes
		}
	}
	return total
}

// Runs that a merge made are new bytes; what it took away stays in the older
// backups. A moment whose run was flushed and merged between two backups is refused, by name.
func TestBackupsAcrossMerges(t *testing.T) {
	w := newWorld(t, 1, func(o *engine.Options) { o.PrepareInline, o.MergeFanIn = false, 4 })
	w.write()
	first := w.backup()
	lsn := uint64(0)
	for range 8 {
		w.write()
		w.flush()
		lsn = max(lsn, w.lsn())
	}
	for w.store.Stats().Runs > 4 {
		runtime.Gosched()
	}
	second := w.backup()
	if second.BytesMerged == 0 || second.BytesMerged > second.BytesRuns {
		t.Errorf("after a merge %+v was copied", second)
	}
	w.restore(Moment{Backup: first.ID})
	w.restore(Moment{})
	if second.Follows == "" {
		t.Skip("the log between the backups was trimmed: nothing in between can be asked for")
	}
	holes := 0
	for at := first.LSN + 1; at < second.LSN; at++ {
		_, err := w.tryRestore(Moment{LSN: at})
		switch {
		case err == nil:
		case errors.Is(err, ErrOutOfReach) && strings.Contains(err.Error(), fmt.Sprintf("LSN %d (", second.LSN)):
			holes++
		default:
			t.Errorf("LSN %d: %v", at, err)
		}
	}
	if holes == 0 {
		t.Error("every moment can be restored, although runs came and went")
	}
}

// What was purged is in no file of a later backup but a run that was not merged,
// and a backup from before still has it.
func TestBackupsAfterAPurge(t *testing.T) {
	w := newWorld(t, 5, nil)
	const secret = "secretsecretsecret"
	w.commit(patientChange(t, "a", "male", "keep"))
	before := w.backup()
	w.commit(patientChange(t, "b", "female", secret))
	w.purge("b")
	after := w.backup()
	if after.Follows != "" {
		t.Errorf("the log of a backup leads over a purge: %+v", after)
	}
	for _, folder := range []string{runsFolder, checkpointsFolder, logFolder} {
		for name := range w.list(folder) {
			if strings.Contains(string(w.read(folder+"/"+name)), secret) {
				t.Errorf("%s/%s has what was purged", folder, name)
			}
		}
	}
	w.restore(Moment{Backup: before.ID})
	w.restore(Moment{Backup: after.ID})
}

func (w *world) list(folder string) map[string]int64 {
	w.t.Helper()
	files, err := w.target.List(context.Background(), folder)
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	data, err := vfs.ReadFile(w.disk, path.Join("/backups", name), 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// Every byte of every file of a backup counts: a changed one is found by a check,
// and a restore names the file instead of taking it.
func TestChangedBytesAreFound(t *testing.T) {
	w := newWorld(t, 1, nil)
	for range 30 {
		w.write()
	}
	w.backup()
	w.write()
	w.backup()
	tried := 0
	for _, folder := range []string{runsFolder, checkpointsFolder, logFolder, manifestsFolder} {
		for name, bytes := range w.list(folder) {
			for at := int64(0); at < bytes; at += 1 + w.rng.Int64N(max(1, bytes/12)) {
				tried++
				w.flip(folder+"/"+name, at)
			}
			if folder != manifestsFolder {
				w.miss(folder + "/" + name)
			}
		}
	}
	if tried < 40 {
		t.Errorf("only %d bytes were changed", tried)
	}
	if v, err := Verify(context.Background(), w.target, Pace{}, func(err error) { t.Error(err) }); err != nil || v.Damaged != 0 || v.Backups != 2 {
		t.Errorf("the target as it was: %+v, %v", v, err)
	}
}

func (w *world) flip(name string, at int64) {
	w.t.Helper()
	full := path.Join("/backups", name)
	w.disk.FlipBit(full, at, uint(at))
	defer w.disk.FlipBit(full, at, uint(at))
	w.mustBeNamed(name, fmt.Sprintf("byte %d of %s changed", at, name))
}

// miss takes a file away for a while.
func (w *world) miss(name string) {
	w.t.Helper()
	full := path.Join("/backups", name)
	if err := w.disk.Rename(full, "/away"); err != nil {
		w.t.Fatal(err)
	}
	w.mustBeNamed(name, name+" is missing")
	if err := w.disk.Rename("/away", full); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mustBeNamed(name, what string) {
	w.t.Helper()
	found := ""
	v, err := Verify(context.Background(), w.target, Pace{}, func(err error) { found += err.Error() })
	if err != nil || v.Damaged == 0 || !strings.Contains(found, name) {
		w.t.Errorf("%s: a check says %+v, %q, %v", what, v, found, err)
	}
	disk := vfs.NewMem(1)
	r, err := Restore(context.Background(), w.restoreOptions(disk, Moment{}))
	if err != nil && !strings.Contains(err.Error(), name) {
		w.t.Errorf("%s: a restore says %v", what, err)
	}
	// Of the newest backup not every file is needed; then the older one's is.
	if err == nil {
		w.compare(disk, r.LSN)
	}
	if _, err := disk.Stat("/restored/FORMAT"); r == nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("%s: a restore that failed left a store: %v", what, err)
	}
}

// A run that is damaged in the store is not backed up as if it were sound.
func TestDamageInTheStoreIsNotBackedUp(t *testing.T) {
	w := newWorld(t, 1, nil)
	for range 50 {
		w.write()
	}
	w.flush()
	names, err := w.fs.List("/data/runs")
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	for at := int64(10); w.fs.FlipBit("/data/runs/"+names[0], at, 1); at += 311 {
		_, err := Run(context.Background(), Options{Store: w.store, FS: w.fs, Target: w.target})
		if !isDamage(err) || !strings.Contains(err.Error(), names[0]) {
			t.Errorf("byte %d: %v", at, err)
		}
		w.fs.FlipBit("/data/runs/"+names[0], at, 1)
	}
	if len(w.list(manifestsFolder)) > 0 {
		t.Error("there is a manifest")
	}
	w.backup()
	w.restore(Moment{})
}

func TestPrune(t *testing.T) {
	w := newWorld(t, 3, nil)
	var results []*Result
	for range 5 {
		for range 40 {
			w.write()
		}
		results = append(results, w.backup())
	}
	// What a backup left that did not end.
	if err := w.target.Put(context.Background(), runsFolder+"/00000000000000ff-00000000000000ff-4.run", strings.NewReader("left")); err != nil {
		t.Fatal(err)
	}
	before := w.stored("")
	pruned, err := Prune(context.Background(), w.target, 2)
	if err != nil || len(pruned.Backups) != 3 || pruned.Backups[0] != results[0].ID {
		t.Fatalf("%+v, %v", pruned, err)
	}
	if got := before - w.stored(""); got <= pruned.Bytes || pruned.Files == 0 { // manifests are not files
		t.Errorf("the target shrank by %d bytes, the pruning says %+v", got, pruned)
	}
	for _, b := range results[3:] {
		w.restore(Moment{Backup: b.ID})
	}
	if _, err := Restore(context.Background(), w.restoreOptions(vfs.NewMem(1), Moment{Backup: results[0].ID})); !errors.Is(err, ErrNoBackup) {
		t.Errorf("a pruned backup: %v", err)
	}
	if again, err := Prune(context.Background(), w.target, 2); err != nil || again.Files != 0 || len(again.Backups) != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	// Where a manifest cannot be read, nothing is removed.
	for name := range w.list(manifestsFolder) {
		w.disk.FlipBit("/backups/manifests/"+name, 9, 1)
		if _, err := Prune(context.Background(), w.target, 1); !errors.Is(err, ErrUnsafe) {
			t.Errorf("with a damaged manifest: %v", err)
		}
		break
	}
}

func TestOneAtATime(t *testing.T) {
	w := newWorld(t, 1, nil)
	w.write()
	_, unlock, err := w.target.Lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), Options{Store: w.store, FS: w.fs, Target: w.target}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second backup: %v", err)
	}
	if _, err := Prune(context.Background(), w.target, 1); !errors.Is(err, ErrBusy) {
		t.Errorf("a pruning: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	w.backup()
}

func TestRestoreOverwritesNothing(t *testing.T) {
	w := newWorld(t, 1, nil)
	w.write()
	w.backup()
	f := func(what string, make func(*vfs.Mem) error, want error) {
		t.Helper()
		disk := vfs.NewMem(1)
		if err := errors.Join(disk.MkdirAll("/restored"), make(disk)); err != nil {
			t.Fatal(err)
		}
		_, err := Restore(context.Background(), w.restoreOptions(disk, Moment{}))
		if want == nil && err != nil || !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	f("an empty directory", func(*vfs.Mem) error { return nil }, nil)
	f("a file", func(d *vfs.Mem) error { return vfs.WriteFileAtomic(d, "/restored/x", nil) }, engine.ErrNotEmpty)
	f("a store", func(d *vfs.Mem) error {
		s, err := engine.Open(context.Background(), storeOptions(d, "/restored", 9))
		if err != nil {
			return err
		}
		return s.Close()
	}, engine.ErrNotEmpty)
	f("a locked directory", func(d *vfs.Mem) error {
		_, err := d.Lock("/restored/LOCK")
		return err
	}, engine.ErrLocked)
}

func TestPaceKeepsTheRate(t *testing.T) {
	w := newWorld(t, 1, nil)
	for range 200 {
		w.write()
	}
	at, slept, last := time.Unix(0, 0), time.Duration(0), int64(0)
	result, err := Run(context.Background(), Options{Store: w.store, FS: w.fs, Target: w.target, Pace: Pace{
		BytesPerSecond: 1000, Now: func() time.Time { return at },
		Sleep: func(_ context.Context, d time.Duration) error {
			slept += d
			at = at.Add(d)
			return nil
		},
		Progress: func(done, total int64) {
			if done < last || total < done {
				t.Errorf("%d of %d bytes, after %d", done, total, last)
			}
			last = done
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Duration(result.BytesRuns+result.BytesLog) * time.Millisecond; slept < want*9/10 || slept > want {
		t.Errorf("slept %s for %s", slept, want)
	}
}

// crashPoints picks up to n of the calls of an operation, the first and last ones always.
func crashPoints(rng *rand.Rand, ops int64, n uint64) []int64 {
	var points []int64
	for op := int64(1); op <= ops; op++ {
		if op < 4 || op > ops-4 || rng.Uint64N(uint64(ops)) < n {
			points = append(points, op)
		}
	}
	return points
}

// The power goes at any call of a backup: what is there is the older backups,
// whole, or the new one too, and the next one works.
func TestCrashOfABackup(t *testing.T) {
	w := newWorld(t, 2, nil)
	for range 60 {
		w.write()
	}
	w.backup()
	for range 60 {
		w.write()
	}
	clean := w.disk
	run := func(cut int64) (*vfs.Mem, error) {
		w.disk = clean.CrashClone(1)
		if cut > 0 {
			w.disk.CutPowerAt(cut)
		}
		w.target = NewDirTarget(w.disk, "/backups")
		_, err := Run(context.Background(), Options{Store: w.store, FS: w.fs, Target: w.target})
		return w.disk, err
	}
	disk, err := run(0)
	if err != nil {
		t.Fatal(err)
	}
	ops, news := disk.Ops(), 0
	for _, cut := range append(crashPoints(w.rng, ops, seeds(12)), ops, ops, ops) {
		disk, err := run(cut)
		if err == nil {
			continue // behind its last call
		}
		w.disk = disk.CrashClone(w.rng.Uint64())
		w.target = NewDirTarget(w.disk, "/backups")
		v, err := Verify(context.Background(), w.target, Pace{}, func(err error) { t.Errorf("cut at %d: %v", cut, err) })
		if err != nil || v.Damaged != 0 || v.Backups < 1 || v.Backups > 2 {
			t.Fatalf("cut at %d of %d: %+v, %v", cut, ops, v, err)
		}
		news += v.Backups - 1
		w.restore(Moment{})
		w.backup()
		w.restore(Moment{})
		if _, err := Prune(context.Background(), w.target, 1); err != nil {
			t.Fatal(err)
		}
		w.restore(Moment{})
	}
	t.Logf("%d calls; the new backup was there %d times", ops, news)
}

// The power goes at any call of a restore: the directory is the whole store, or
// nothing opens it and the restore can be run again.
func TestCrashOfARestore(t *testing.T) {
	w := newWorld(t, 4, nil)
	for range 60 {
		w.write()
	}
	w.backup()
	for range 9 {
		w.write()
	}
	last := w.backup()
	at := Moment{LSN: last.LSN - 3}
	whole := vfs.NewMem(1)
	if _, err := Restore(context.Background(), w.restoreOptions(whole, at)); err != nil {
		t.Fatal(err)
	}
	stores := 0
	for _, cut := range crashPoints(w.rng, whole.Ops(), seeds(40)) {
		disk := vfs.NewMem(w.rng.Uint64())
		disk.CutPowerAt(cut)
		if _, err := Restore(context.Background(), w.restoreOptions(disk, at)); err == nil {
			continue
		}
		disk = disk.CrashClone(w.rng.Uint64())
		if w.isStore(disk) {
			stores++
			w.compare(disk, at.LSN)
			continue
		}
		if _, err := Restore(context.Background(), w.restoreOptions(disk, at)); err != nil {
			t.Fatalf("cut at %d: the second restore: %v", cut, err)
		}
		w.compare(disk, at.LSN)
	}
	t.Logf("%d calls; the store was there %d times", whole.Ops(), stores)
}

// isStore tells whether the directory has a FORMAT. Otherwise a server refuses
// it, or begins a new store where nothing is.
func (w *world) isStore(disk *vfs.Mem) bool {
	w.t.Helper()
	if _, err := disk.Stat("/restored/FORMAT"); err == nil {
		return true
	}
	clone := disk.CrashClone(1)
	s, err := engine.Open(context.Background(), storeOptions(clone, "/restored", 9))
	if err == nil {
		if lsn := s.Stats().VisibleLSN; lsn != 0 {
			w.t.Errorf("a restore that was cut off opens as a store at LSN %d", lsn)
		}
		_ = s.Close()
	} else if !errors.Is(err, engine.ErrUnfinished) {
		w.t.Errorf("a restore that was cut off is refused with: %v", err)
	}
	return false
}

// A store that is served for reading only is backed up as it is, head and all.
func TestBackupOfAReadOnlyStore(t *testing.T) {
	w := newWorld(t, 1, nil)
	for range 30 {
		w.write()
	}
	w.close()
	w.opts.ReadOnly = true
	w.open()
	result, err := Run(context.Background(), Options{Store: w.store, FS: w.fs, Target: w.target})
	if err != nil || len(result.Warnings) != 1 || result.LSN != w.lsn() {
		t.Fatalf("%+v, %v", result, err)
	}
	w.restore(Moment{})
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

// clientsMax write while backups are made.
const clientsMax = 32

// TestBackupsWhileClientsWrite: 32 clients write, delete and purge, imports run,
// the head is flushed and runs are merged, and every backup made meanwhile
// restores to exactly what was acknowledged up to its LSN. KILN_BACKUPS says how
// many backups.
func TestBackupsWhileClientsWrite(t *testing.T) {
	backups := 2
	if n, err := strconv.Atoi(os.Getenv("KILN_BACKUPS")); err == nil {
		backups = n
	}
	s := newOnline(t)
	var clients sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	for n := range clientsMax {
		clients.Go(func() { s.client(ctx, n) })
	}
	clients.Go(func() { s.imports(ctx) })
	var results []*Result
	for len(results) < backups {
		before := s.store.Stats()
		for now := before; now.Commits < before.Commits+1000 || now.Merges == before.Merges; now = s.store.Stats() {
			if err := s.store.Flush(ctx); err != nil { // makes runs to merge
				t.Fatal(err)
			}
		}
		size := storedIn(t, s.target, "")
		result, err := Run(ctx, Options{Store: s.store, FS: vfs.OS(), Target: s.target, Kiln: "test"})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("backup at LSN %d of %d bytes: copied %d, of runs %d (%d that merges made), of the log %d; %d of %d runs",
			result.LSN, result.Bytes, result.BytesCopied, result.BytesRuns, result.BytesMerged, result.BytesLog, result.RunsCopied, result.Runs)
		if grown := storedIn(t, s.target, "") - size; grown != result.BytesCopied {
			t.Errorf("the target grew by %d bytes, the backup says %d", grown, result.BytesCopied)
		}
		results = append(results, result)
	}
	stop()
	clients.Wait()
	st := s.store.Stats()
	t.Logf("%d commits, %d merges, %d purges, %d imports", st.Commits, st.Merges, st.Purges, s.imported)
	if st.Merges == 0 || st.Purges == 0 || s.imported == 0 {
		t.Error("the test shows too little")
	}
	v, err := Verify(context.Background(), s.target, Pace{}, func(err error) { t.Error(err) })
	if err != nil || v.Backups != backups {
		t.Errorf("%+v, %v", v, err)
	}
	for _, result := range results {
		s.check(result)
	}
}

// online is a store on the real disk with everything that works on it.
type online struct {
	t        *testing.T
	dir      string
	store    *engine.Store
	jobs     *bulk.Manager
	target   Target
	imported int

	mu       sync.Mutex
	versions map[string]*told
	// purging are purges by the LSNs between which they happened.
	purging []purgedBetween
}

type purgedBetween struct {
	id            string
	before, after uint64
}

func newOnline(t *testing.T) *online {
	t.Helper()
	s := &online{t: t, dir: t.TempDir(), versions: map[string]*told{}}
	s.target = NewDirTarget(vfs.OS(), filepath.Join(s.dir, "backups"))
	logger := slog.New(slog.DiscardHandler)
	var err error
	s.store, err = engine.Open(context.Background(), engine.Options{
		FS: vfs.OS(), Dir: filepath.Join(s.dir, "data"), Now: time.Now, NewID: rand.Uint64, Logger: logger, CatalogInMem: true,
		FreeBytesMin: -1, SegmentBytes: 1 << 20, HeadBytes: 256 << 10, MergeFanIn: 4,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.jobs, err = bulk.NewManager(context.Background(), bulk.Options{
		Store: s.store, Now: time.Now, NewID: rand.Uint64, Logger: logger, ImportRoots: []string{s.dir}, Workers: 2, RoundBytes: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.jobs.Close(), s.store.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client writes resources of its own; nobody else's writes come between.
func (s *online) client(ctx context.Context, n int) {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("c%d-%d", n, rng.IntN(8))
		if rng.IntN(60) == 0 {
			s.purge(id)
			continue
		}
		change := engine.Change{Type: patient, ID: []byte(id), Delete: true}
		if rng.IntN(6) > 0 {
			change = patientChange(s.t, id, genders[rng.IntN(len(genders))], fmt.Sprint(n, i))
		}
		done, err := s.store.Commit(context.WithoutCancel(ctx), []engine.Change{change})
		if err != nil {
			s.t.Error(err)
			return
		}
		if c := done[0]; !c.Unchanged {
			s.note(&told{id: id, version: c.VersionID, body: string(change.Body), lsn: c.LSN, milli: c.LastUpdated.Milli})
		}
	}
}

func (s *online) note(v *told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[versionName(v.id, v.version, v.lsn)] = v
}

func (s *online) purge(id string) {
	before := s.store.Stats().VisibleLSN
	n, err := s.store.Purge(context.Background(), patient, []byte(id), engine.PurgeAll, engine.Precondition{})
	if err != nil {
		s.t.Error(err)
		return
	}
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purging = append(s.purging, purgedBetween{id: id, before: before, after: s.store.Stats().VisibleLSN})
}

// imports loads new resources, one file after the other.
func (s *online) imports(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		var lines strings.Builder
		for i := range 200 {
			fmt.Fprintf(&lines, `{"resourceType":"Patient","id":"i%d-%d","gender":"other"}`+"\n", n, i)
		}
		file := filepath.Join(s.dir, fmt.Sprintf("in%d.ndjson", n))
		if err := vfs.WriteFileAtomic(vfs.OS(), file, []byte(lines.String())); err != nil {
			s.t.Error(err)
			return
		}
		request, err := s.jobs.ParseImport(fmt.Appendf(nil, `{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"},`+
			`{"name":"mode","valueString":"IncrementalLoad"},{"name":"input","part":[{"name":"url","valueUri":"file://%s"}]}]}`, file), "test")
		if err != nil {
			s.t.Error(err)
			return
		}
		id, err := s.jobs.StartImport(context.WithoutCancel(ctx), request)
		if err == nil {
			_, err = s.jobs.WaitImport(context.WithoutCancel(ctx), id)
		}
		if err != nil {
			s.t.Error(err)
			return
		}
		s.imported++
	}
}

// check restores a backup and compares: what clients wrote with what they were
// told, and what imports wrote with what the store itself shows as of that LSN.
func (s *online) check(result *Result) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "restored-"+result.ID)
	if _, err := Restore(context.Background(), RestoreOptions{
		Source: s.target, FS: vfs.OS(), Dir: dir, NewID: rand.Uint64, At: Moment{Backup: result.ID}, Check: true,
	}); err != nil {
		s.t.Fatal(err)
	}
	opts := storeOptions(vfs.OS(), dir, 1)
	opts.SegmentBytes = 0
	restored, err := engine.Open(context.Background(), opts)
	if err != nil {
		s.t.Fatal(err)
	}
	defer restored.Close()
	want := map[string]*told{}
	for name, v := range s.versions {
		if v.lsn <= result.LSN {
			want[name] = v
		}
	}
	for _, p := range s.purging {
		if p.before < result.LSN && result.LSN < p.after {
			// It happened about when the backup was made: only the store knows.
			s.settle(restored, p.id, want)
			continue
		}
		if p.after <= result.LSN {
			for name, v := range want {
				if v.id == p.id && v.lsn <= p.after {
					delete(want, name)
				}
			}
		}
	}
	s.addImported(result.LSN, want)
	compareState(s.t, restored, result.LSN, want)
}

// settle takes what the store has of a resource: all that was there, or nothing.
func (s *online) settle(restored *engine.Store, id string, want map[string]*told) {
	snap, err := restored.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	defer snap.Release()
	for name, v := range want {
		if v.id != id {
			continue
		}
		if _, err := snap.Vread(patient, []byte(id), v.version); errors.Is(err, engine.ErrNotFound) {
			delete(want, name)
		}
	}
}

func (s *online) addImported(lsn uint64, want map[string]*told) {
	snap, err := s.store.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	defer snap.Release()
	_, _, err = snap.History(context.Background(), engine.HistoryQuery{LSN: lsn}, func(v *engine.Version) error {
		if v.ID[0] == 'i' {
			told := &told{id: string(v.ID), version: v.VersionID, body: string(v.Body), lsn: v.LSN, milli: v.LastUpdated.Milli}
			want[versionName(told.id, told.version, told.lsn)] = told
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

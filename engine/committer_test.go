package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kiln/internal/vfs"
)

// committerStore has its goroutines, as a server's has.
func committerStore(t *testing.T, fsys vfs.FS) *Store {
	t.Helper()
	opts := testOptions(fsys, 1)
	opts.PrepareInline = false
	return mustOpen(t, opts)
}

// TestWritersGroupBehindOneThatCommitsAlone: the first takes the turn itself; who
// comes while its fsync runs is one group, with one fsync.
func TestWritersGroupBehindOneThatCommitsAlone(t *testing.T) {
	m := vfs.NewMem(1)
	s := committerStore(t, m)
	const others = 20
	before := s.Stats()
	syncing, goOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	m.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			first.Do(func() {
				close(syncing)
				<-goOn
			})
		}
		return nil
	})
	var writers sync.WaitGroup
	commit := func(i int) {
		if _, err := s.Commit(context.Background(), []Change{write(t, patient, fmt.Sprint("r", i), "x")}); err != nil {
			t.Errorf("Commit: %v", err)
		}
	}
	writers.Go(func() { commit(0) })
	<-syncing
	for i := range others {
		writers.Go(func() { commit(i + 1) })
	}
	for len(s.commits) < others-1 { // the committer holds one and waits for its turn
		runtime.Gosched()
	}
	close(goOn)
	writers.Wait()
	after := s.Stats()
	if groups, commits := after.CommitGroups-before.CommitGroups, after.Commits-before.Commits; groups != 2 || commits != others+1 {
		t.Fatalf("%d commits in %d groups", commits, groups)
	}
	m.SetHook(nil)
	mustClose(t, s)
}

// TestCloseBesideCommits: what was acknowledged is there, what was refused is not.
func TestCloseBesideCommits(t *testing.T) {
	const writers, before = 3, 50
	m := vfs.NewMem(1)
	s := committerStore(t, m)
	var done atomic.Int64
	var acknowledged [writers]int64
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := 0; ; i++ {
				out, err := s.Commit(context.Background(), []Change{write(t, patient, fmt.Sprint("r", w), fmt.Sprint(i))})
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				acknowledged[w] = out[0].VersionID
				done.Add(1)
			}
		})
	}
	for done.Load() < before {
		runtime.Gosched()
	}
	mustClose(t, s)
	group.Wait()
	s = committerStore(t, m)
	defer mustClose(t, s)
	n := mustSnapshot(t, s)
	defer n.Release()
	for w, want := range acknowledged {
		if v, err := n.Get(patient, fmt.Append(nil, "r", w)); want > 0 && (err != nil || v.VersionID != want) {
			t.Errorf("writer %d was told of version %d, there is %d, %v", w, want, v.VersionID, err)
		}
	}
}

func TestCommitForAnEndedContextWritesNothing(t *testing.T) {
	s := committerStore(t, vfs.NewMem(1))
	defer mustClose(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := s.Stats().Commits
	_, err := s.Commit(ctx, []Change{write(t, patient, "a", "x")})
	if !errors.Is(err, context.Canceled) || s.Stats().Commits != before {
		t.Fatalf("error %v, %d commits", err, s.Stats().Commits-before)
	}
}

// TestAPanicInTheSlotEndsTheProcess, also when the caller recovers from it, as an
// HTTP server does. The test runs itself as the process that ends.
func TestAPanicInTheSlotEndsTheProcess(t *testing.T) {
	const env = "KILN_TEST_PANIC_IN_SLOT"
	if os.Getenv(env) != "" {
		m := vfs.NewMem(1)
		s := committerStore(t, m)
		m.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite {
				panic("BUG: broken on purpose")
			}
			return nil
		})
		defer func() {
			_ = recover()
			fmt.Println("the process went on")
		}()
		_, _ = s.Commit(context.Background(), []Change{write(t, patient, "a", "x")})
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAPanicInTheSlotEndsTheProcess$")
	cmd.Env = append(os.Environ(), env+"=1")
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err == nil || strings.Contains(text, "went on") || !strings.Contains(text, "panic: BUG: broken on purpose") || !strings.Contains(text, "commitGroup") {
		t.Fatalf("the process ended with %v:\n%s", err, text)
	}
}

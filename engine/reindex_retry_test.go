package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"kiln/fhir/search"
	"kiln/internal/vfs"
)

// messages gives each line that is logged to who waits for it.
type messages chan string

func (m messages) Write(line []byte) (int, error) {
	m <- string(line)
	return len(line), nil
}

// await reads lines until one has a text.
func (m messages) await(t *testing.T, text string) {
	t.Helper()
	for {
		select {
		case line := <-m:
			if strings.Contains(line, text) {
				return
			}
		case <-t.Context().Done():
			t.Fatalf("%q was never logged", text)
		}
	}
}

// Indexing again that fails is tried again by the clock, later each time, until it
// works; meanwhile it tells why it waits.
func TestFailedIndexingIsTriedAgain(t *testing.T) {
	fsys, lines := vfs.NewMem(1), make(messages, 100)
	waits, clock := make(chan time.Duration, 1), make(chan time.Time)
	opts := testOptions(fsys, 1)
	opts.PrepareInline, opts.MergeFanIn, opts.Logger = false, -1, slog.New(slog.NewTextHandler(lines, nil))
	opts.After = func(d time.Duration) <-chan time.Time {
		waits <- d
		return clock
	}
	s := mustOpen(t, opts)
	mustCommit(t, s, extended(t, "a", `{"url":"race","valueCode":"a"}`))
	mustFlush(t, s)
	fsys.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.Contains(op.Name, "/runs/") {
			return syscall.ENOSPC
		}
		return nil
	})
	field := define(t, s, search.Token, "race")
	for i, want := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
		if got := <-waits; got != want*time.Second {
			t.Fatalf("after failure %d it waits %v, want %v", i+1, got, want*time.Second)
		}
		lines.await(t, fmt.Sprintf("failures=%d", i+1))
		due := s.Reindexing()
		if due.Failures != i+1 || due.Runs != 1 || !errors.Is(due.Err, ErrNoSpace) || due.Retry.Before(opts.Now().Add(want*time.Second-time.Second)) {
			t.Fatalf("after failure %d it tells %+v", i+1, due)
		}
		s.kickReindex() // changes nothing: it waits
		if i == 7 {
			fsys.SetHook(nil)
		}
		clock <- time.Time{}
	}
	lines.await(t, `"indexed runs again" runs=1 left=0`)
	if got := having(t, s, field); got != "a" {
		t.Errorf("found %q", got)
	}
	if st := s.Stats(); st.Reindexing.Failures != 0 || st.Reindexing.Err != nil || st.ReindexFailures != 8 {
		t.Errorf("in the end it tells %+v and %d failures", st.Reindexing, st.ReindexFailures)
	}
	mustClose(t, s)
}

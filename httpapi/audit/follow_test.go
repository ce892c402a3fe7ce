package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kiln/internal/vfs"
)

// shelf is a Keeper in memory, which has each line once.
type shelf struct {
	mu         sync.Mutex
	lines      []string
	at         Position
	notes      int
	asked      int // bytes of all Keeps
	unwilling  error
	forgetting bool // it takes no notes
}

func (s *shelf) Position() (Position, error) { return s.at, nil }

func (s *shelf) Remember(p Position) error {
	if s.forgetting {
		return errors.New("no notes")
	}
	s.at, s.notes = p, s.notes+1
	return nil
}

func (s *shelf) Keep(_ context.Context, lines []byte) (kept, refused int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked += len(lines)
	if s.unwilling != nil {
		return 0, 0, s.unwilling
	}
	for line := range bytes.Lines(lines) {
		switch {
		case !bytes.HasPrefix(line, []byte("{")) || !bytes.HasSuffix(line, []byte("}\n")):
			refused++
		case !slices.Contains(s.lines, string(line)):
			s.lines = append(s.lines, string(line))
			kept++
		}
	}
	return kept, refused, nil
}

func (s *shelf) turn(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwilling = err
}

// paths are those of the events that are kept, in their order.
func (s *shelf) paths() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, line := range s.lines {
		_, rest, _ := strings.Cut(line, `"path","valueString":"/`)
		name, _, _ := strings.Cut(rest, `"`)
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

// life is one process: it writes events, a second apart, and ends well.
func life(t *testing.T, fs *vfs.Mem, s *shelf, instance string, names ...string) *Log {
	t.Helper()
	l := opened(t, fs, func(o *Options) { o.Keeper, o.Instance, o.FileBytes = s, instance, 2000 })
	for _, name := range names {
		l.Write(event("/" + name))
		time.Sleep(time.Second)
		synctest.Wait()
	}
	return l
}

func TestTheKeeperGetsWhatTheFilesHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, s := vfs.NewMem(1), &shelf{}
		l := life(t, fs, s, "i", "1", "2", "3", "4", "5")
		if got := s.paths(); got != "1 2 3 4 5" {
			t.Errorf("kept at once: %s", got)
		}
		l.Write(event("/6"))
		mustClose(t, l)
		if st := l.Stats().Kept; s.paths() != "1 2 3 4 5 6" || st.Events != 6 || st.Failing != nil || l.Behind() != 0 {
			t.Errorf("at the end: %s, %+v, %d behind", s.paths(), st, l.Behind())
		}
		asked := s.asked
		mustClose(t, life(t, fs, s, "j", "7"))
		if s.paths() != "1 2 3 4 5 6 7" || s.asked-asked > 1000 {
			t.Errorf("after another life: %s; asked for %d bytes again", s.paths(), s.asked-asked)
		}
	})
}

// TestWhatTheKeeperMissesIsTakenOver has events from before there was one, and from while
// it failed, and forgets where it was.
func TestWhatTheKeeperMissesIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, s := vfs.NewMem(1), &shelf{}
		l := opened(t, fs, nil)
		l.Write(event("/before"))
		mustClose(t, l)
		s.turn(errors.New("full"))
		l = life(t, fs, s, "j", "1", "2", "3", "4")
		if st := l.Stats().Kept; st.Failing == nil || st.Failures < 3 || l.Behind() < 3000 {
			t.Errorf("%+v, %d behind", st, l.Behind())
		}
		if err := l.Admit(); err != nil {
			t.Errorf("requests are refused: %v", err)
		}
		mustClose(t, l)
		s.turn(nil)
		mustClose(t, life(t, fs, s, "k", "5"))
		if got := s.paths(); got != "before 1 2 3 4 5" {
			t.Errorf("taken over: %s", got)
		}
		s.at = Position{}
		mustClose(t, life(t, fs, s, "l"))
		if got := s.paths(); got != "before 1 2 3 4 5" {
			t.Errorf("looked through again: %s", got)
		}
	})
}

// TestTheKeeperRecovers goes on by itself when the Keeper does.
func TestTheKeeperRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{unwilling: errors.New("full")}
		l := life(t, vfs.NewMem(1), s, "i", "1", "2")
		s.turn(nil)
		time.Sleep(2 * retryEvery)
		synctest.Wait()
		if st := l.Stats().Kept; s.paths() != "1 2" || st.Failing != nil || l.Behind() != 0 {
			t.Errorf("kept %s, %+v", s.paths(), st)
		}
		mustClose(t, l)
	})
}

// TestWhatIsNoEventIsLeftOut reads what a crash and others may leave in a file.
func TestWhatIsNoEventIsLeftOut(t *testing.T) {
	f := func(text, want string, refused uint64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			fs, s := vfs.NewMem(1), &shelf{}
			if err := fs.MkdirAll("/audit"); err != nil {
				t.Fatal(err)
			}
			file, err := fs.Create("/audit/" + fileName(time.Now()))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteAt([]byte(text), 0); err != nil {
				t.Fatal(err)
			}
			l := life(t, fs, s, "i", "new")
			time.Sleep(5 * time.Second)
			mustClose(t, l)
			if got := strings.TrimSpace(s.paths()); got != want || l.Stats().Kept.Refused != refused || l.Behind() != 0 {
				t.Errorf("%.40q: kept %q, refused %d", text, got, l.Stats().Kept.Refused)
			}
		})
	}
	line := `{"path","valueString":"/old"}` + "\n"
	f("", "new", 0)
	f(line+`{"torn`, "old new", 0)
	f(line+"\x00\x00\x00", "old new", 0)
	f("\x00\x00\n"+line, "old new", 1)
	f(strings.Repeat("x", 3*keptBytes)+"\n"+line, "old new", 1)
	f(strings.Repeat("x", lineBytesMax+10)+"\n"+line, "old new", 2)
}

func TestFilesThatAreNotKeptStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, s := vfs.NewMem(1), &shelf{unwilling: errors.New("full")}
		l := opened(t, fs, func(o *Options) { o.Keeper, o.FileBytes, o.KeepBytes = s, 1, 1 })
		more := func(from, to int) {
			for n := from; n < to; n++ {
				l.Write(event(fmt.Sprintf("/%d", n)))
				time.Sleep(2 * time.Second)
				synctest.Wait()
			}
		}
		more(0, 5)
		if _, files := written(t, fs); files != 5 {
			t.Errorf("%d files", files)
		}
		s.turn(nil)
		more(5, 8)
		if _, files := written(t, fs); files != 2 || s.paths() != "0 1 2 3 4 5 6 7" {
			t.Errorf("%d files, kept %s", files, s.paths())
		}
		mustClose(t, l)
	})
}

// TestFilesFollowEachOther sets the clock back between lives: a file comes behind those
// that were there, and behind where the Keeper is.
func TestFilesFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, s := vfs.NewMem(1), &shelf{}
		mustClose(t, life(t, fs, s, "i", "1"))
		back := func(o *Options) {
			o.Keeper, o.Instance = s, "j"
			o.Now = func() time.Time { return time.Now().Add(-time.Hour) }
		}
		l := opened(t, fs, back)
		l.Write(event("/2"))
		mustClose(t, l)
		names, err := fs.List("/audit")
		if err != nil || s.paths() != "1 2" {
			t.Errorf("kept %s, error %v", s.paths(), err)
		}
		for _, name := range names {
			if name != lockName && fs.Remove("/audit/"+name) != nil {
				t.Error("a file cannot be removed")
			}
		}
		l = opened(t, fs, back)
		l.Write(event("/3"))
		mustClose(t, l)
		if s.paths() != "1 2 3" {
			t.Errorf("with the old files gone: kept %s", s.paths())
		}
	})
}

func TestNotesMayBeLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, s := vfs.NewMem(1), &shelf{forgetting: true}
		mustClose(t, life(t, fs, s, "i", "1", "2"))
		mustClose(t, life(t, fs, s, "j", "3"))
		if s.paths() != "1 2 3" || s.notes != 0 {
			t.Errorf("kept %s", s.paths())
		}
	})
}

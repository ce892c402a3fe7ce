package audit

import (
	"bytes"
	"errors"
	"log/slog"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kiln/internal/vfs"
)

// opened is a log on a file system in memory, in a bubble with a clock of its own.
func opened(t *testing.T, fs *vfs.Mem, change func(*Options)) *Log {
	t.Helper()
	opts := Options{FS: fs, Dir: "/audit", Now: time.Now, Instance: "i", Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opts)
	}
	l, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func event(path string) *Event {
	return &Event{Recorded: time.Now(), Action: ActionRead, Interaction: "read", Name: "read", Method: "GET", Path: path, Status: 200}
}

// written is what all files hold, one after the other, and how many there are.
func written(t *testing.T, fs vfs.FS) (string, int) {
	t.Helper()
	names, err := fs.List("/audit")
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	names = slices.DeleteFunc(names, func(name string) bool { return name == lockName })
	for _, name := range names {
		text, err := vfs.ReadFile(fs, path.Join("/audit", name), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String(), len(names)
}

// noRoom is a full disk, on which files can still be made.
func noRoom(op vfs.Op) error {
	if op.Kind == vfs.OpWrite {
		return &vfs.ShortWrite{Bytes: 10, Err: syscall.ENOSPC}
	}
	return nil
}

func mustClose(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestEventsAreDurableAMomentLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem(1)
		l := opened(t, fs, nil)
		l.Write(event("/one"))
		time.Sleep(flushEveryDefault + time.Millisecond)
		synctest.Wait()
		if text, _ := written(t, fs); strings.Count(text, "\n") != 1 || !strings.Contains(text, `"id":"i-1"`) {
			t.Errorf("got %q", text)
		}
		l.Write(event("/two"))
		mustClose(t, l)
		if text, files := written(t, fs); strings.Count(text, "\n") != 2 || files != 1 {
			t.Errorf("after the end: %q in %d files", text, files)
		}
		mustClose(t, l) // again
	})
}

func TestFilesEndBySizeAndAgeAndTheOldestGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem(1)
		l := opened(t, fs, func(o *Options) { o.FileBytes, o.KeepBytes, o.FileAge = 2000, 4000, time.Hour })
		step := func(name string, wait time.Duration) int {
			l.Write(event(name))
			time.Sleep(wait + flushEveryDefault + time.Millisecond)
			synctest.Wait()
			_, files := written(t, fs)
			return files
		}
		if a, b, c := step("/1", 0), step("/2", 0), step("/3", 0); a != 1 || b != 1 || c != 2 {
			t.Errorf("by size: %d, %d, %d files", a, b, c)
		}
		time.Sleep(time.Hour)
		if got := step("/4", 0); got != 3 {
			t.Errorf("by age: %d files", got)
		}
		for range 6 {
			step("/more", 0)
		}
		text, _ := written(t, fs)
		if strings.Contains(text, `"/1"`) || len(text) > 4000+2000 {
			t.Errorf("%d bytes are kept: %s", len(text), text)
		}
		mustClose(t, l)
	})
}

// TestAFullDiskRefusesAndLosesNothing fills the disk: who comes then is refused, what
// was admitted is written when there is room.
func TestAFullDiskRefusesAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem(1)
		l := opened(t, fs, nil)
		l.Write(event("/before"))
		time.Sleep(time.Second)
		synctest.Wait()
		fs.SetHook(noRoom)
		if err := l.Admit(); err != nil {
			t.Errorf("refused before anybody knows: %v", err)
		}
		l.Write(event("/admitted"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if err := l.Admit(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("admitted on a full disk: %v", err)
		}
		fs.SetHook(nil)
		time.Sleep(2 * retryEvery)
		synctest.Wait()
		if err := l.Admit(); err != nil {
			t.Errorf("refused with room: %v", err)
		}
		text, _ := written(t, fs)
		if strings.Count(text, "/before") != 1 || strings.Count(text, "/admitted") != 1 || strings.Count(text, "\n") != 2 {
			t.Errorf("got %s", text)
		}
		if st := l.Stats(); st.Failures < 4 || st.Refusals != 1 || st.Failing != nil || st.QueuedBytes != 0 {
			t.Errorf("got %+v", st)
		}
		mustClose(t, l)
	})
}

func TestAnEndWithoutRoomIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem(1)
		l := opened(t, fs, nil)
		fs.SetHook(noRoom)
		l.Write(event("/lost"))
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "bytes of audit events") {
			t.Errorf("got %v", err)
		}
	})
}

// TestAFailedSyncIsNotTrusted fails each sync once: all events are there afterwards,
// perhaps twice.
func TestAFailedSyncIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem(1)
		l := opened(t, fs, nil)
		failed := false
		fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && !failed {
				failed = true
				return errors.New("the disk failed")
			}
			return nil
		})
		l.Write(event("/one"))
		time.Sleep(time.Minute)
		synctest.Wait()
		text, files := written(t, fs)
		if !failed || !strings.Contains(text, "/one") || l.Stats().Failing != nil || files != 1 {
			t.Errorf("got %q in %d files, %+v", text, files, l.Stats())
		}
		mustClose(t, l)
	})
}

// TestAFullQueueIsWaitedFor holds up a sync until the queue is full: requests wait for
// room, and are refused when that takes too long.
func TestAFullQueueIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, goOn := vfs.NewMem(1), make(chan struct{})
		fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				<-goOn
			}
			return nil
		})
		l := opened(t, fs, nil)
		for path := "/" + strings.Repeat("a", 4000); l.HasRoom(); {
			l.Write(event(path))
			synctest.Wait()
		}
		began := time.Now()
		if err := l.Admit(); !errors.Is(err, ErrUnavailable) || time.Since(began) != roomWaitMax {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		answers := make(chan error, 3)
		for range cap(answers) {
			go func() { answers <- l.Admit() }()
		}
		time.Sleep(roomWaitMax / 2)
		if synctest.Wait(); len(answers) > 0 {
			t.Errorf("answered without room: %v", <-answers)
		}
		close(goOn)
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if st := l.Stats(); st.Refusals != 1 {
			t.Errorf("got %+v", st)
		}
		mustClose(t, l)
	})
}

func TestNamesThatAreTakenAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem(1)
		for range 3 { // at the same instant
			l := opened(t, fs, nil)
			l.Write(event("/x"))
			mustClose(t, l)
		}
		if text, files := written(t, fs); files != 3 || strings.Count(text, "\n") != 3 {
			t.Errorf("%d files with %q", files, text)
		}
	})
}

func TestADirectoryHasOneServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem(1)
		l := opened(t, fs, nil)
		_, err := Open(Options{FS: fs, Dir: "/audit", Now: time.Now, Instance: "j"})
		if err == nil || !strings.Contains(err.Error(), "another server has the directory") {
			t.Errorf("got %v", err)
		}
		mustClose(t, l)
		mustClose(t, opened(t, fs, nil))
	})
}

// TestARemovedFileIsNoticed removes the file under the server, which would write on into
// what nobody finds.
func TestARemovedFileIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem(1)
		l := opened(t, fs, nil)
		l.Write(event("/gone"))
		time.Sleep(time.Second)
		synctest.Wait()
		if err := fs.RemoveAll("/audit"); err != nil {
			t.Fatal(err)
		}
		l.Write(event("/next"))
		time.Sleep(flushEveryDefault)
		synctest.Wait()
		if err := l.Admit(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("nobody has noticed: %v", err)
		}
		time.Sleep(2 * retryEvery)
		synctest.Wait()
		if text, files := written(t, fs); !strings.Contains(text, "/next") || files != 1 || l.Admit() != nil {
			t.Errorf("%q in %d files", text, files)
		}
		mustClose(t, l)
	})
}

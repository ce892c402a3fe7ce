package bulk

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"kiln/engine"
	"kiln/internal/vfs"
)

// lateMark is the real disk; from the second change on, writes to the catalog's mark fail.
type lateMark struct{ vfs.FS }

func (d lateMark) OpenWrite(name string) (vfs.File, error) {
	file, err := d.FS.OpenWrite(name)
	if err == nil && strings.HasSuffix(name, "/CATALOG") {
		file = lateMarkFile{file}
	}
	return file, err
}

type lateMarkFile struct{ vfs.File }

func (lateMarkFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.EIO }

// A job whose registration was refused is not in the catalog: it would run at the next
// start beside the one that is asked for again.
func TestARefusedRegistrationLeavesNothing(t *testing.T) {
	f := func(start func(m *Manager) error) {
		t.Helper()
		logger := slog.New(slog.DiscardHandler)
		store, err := engine.Open(context.Background(), engine.Options{
			FS: lateMark{vfs.OS()}, Dir: t.TempDir() + "/data", Now: time.Now, NewID: rand.Uint64, Logger: logger,
			MergeFanIn: -1, FreeBytesMin: -1, BallastBytes: -1, SegmentBytes: 1 << 20,
		})
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := NewManager(context.Background(), Options{Store: store, Now: time.Now, NewID: rand.Uint64, Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		if err := start(jobs); !errors.Is(err, syscall.EIO) {
			t.Errorf("the registration ends with %v", err)
		}
		for _, prefix := range []string{keyImport, keyImportHash, keyExport} {
			if err := store.CatalogList(prefix, func(key string, _ []byte) error { return errors.New(key) }); err != nil {
				t.Errorf("a refused job left %v", err)
			}
		}
		if err := errors.Join(jobs.Close(), store.Close()); err != nil {
			t.Fatal(err)
		}
	}
	f(func(m *Manager) error {
		_, err := m.StartImport(context.Background(), &ImportRequest{Inputs: []ImportInput{{URL: "file:///none"}}})
		return err
	})
	f(func(m *Manager) error {
		_, err := m.StartExport(context.Background(), &ExportRequest{})
		return err
	})
}

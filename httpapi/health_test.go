package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

// health asks for /healthz, which always answers 200.
func (s *testServer) health(t *testing.T) string {
	t.Helper()
	a := s.do(t, "GET", "/healthz", "")
	if a.status != 200 || a.header.Get("Content-Type") != contentTypeJSON {
		t.Errorf("/healthz: %d %s", a.status, a.header.Get("Content-Type"))
	}
	return a.body
}

// TestAHangingDiskIsTold holds a sync back and lets the store's clock go on.
func TestAHangingDiskIsTold(t *testing.T) {
	disk := &slowDisk{Mem: vfs.NewMem(1), waiting: make(chan struct{}, 100)}
	disk.SetHook(disk.hook)
	var clock atomic.Int64
	began := time.Now()
	s := newAPI(t, func(store *engine.Options, _ *bulk.Options, o *Options) {
		store.FS, store.CatalogInMem, store.FreeBytesMin = disk, true, -1
		store.Now = func() time.Time { return began.Add(time.Duration(clock.Load())) }
		store.Logger = slog.New(slog.DiscardHandler)
		o.Timeouts = Timeouts{Stall: 3 * time.Second}
	})
	f := func(after time.Duration, ready int, health, metric string) {
		t.Helper()
		clock.Add(int64(after))
		if body := s.health(t); !strings.Contains(body, health) {
			t.Errorf("/healthz has no %s: %s", health, body)
		}
		a := s.do(t, "GET", "/readyz", "")
		if a.status != ready || (ready == 503) != strings.Contains(a.body, "waiting for "+time.Duration(clock.Load()).String()) {
			t.Errorf("/readyz: %d %s", a.status, a.body)
		}
		if text := s.do(t, "GET", "/metrics", "").body; !strings.Contains(text, metric+"\n") {
			t.Errorf("/metrics has no %q", metric)
		}
	}
	const answers = `{"status":"ok","writes":"on","log":{"waitingSeconds":0,"stalled":false}`
	f(0, 200, answers, "kiln_log_sync_stalled_seconds 0")
	letGo := disk.stall()
	defer letGo()
	done := make(chan *answer, 1)
	go func() { done <- s.put(t, "a", "") }()
	<-disk.waiting
	f(500*time.Millisecond, 200, `"waitingSeconds":0.5,"stalled":false`, "kiln_log_sync_stalled_seconds 0")
	f(500*time.Millisecond, 200, `"status":"degraded","writes":"on","log":{"waitingSeconds":1,"stalled":true}`, "kiln_log_sync_stalled_seconds 1")
	f(2*time.Second, 503, `"waitingSeconds":3,"stalled":true`, "kiln_log_sync_stalled_seconds 3")
	letGo()
	(<-done).expect(t, "the write that waited", 201, `W/"1"`)
	f(0, 200, answers, "kiln_log_sync_stalled_seconds 0")
}

// TestAFailedSyncIsTold: the store takes no more writes, and whoever asks knows why.
func TestAFailedSyncIsTold(t *testing.T) {
	disk := vfs.NewMem(1)
	s := newAPI(t, func(store *engine.Options, _ *bulk.Options, _ *Options) {
		store.FS, store.CatalogInMem, store.FreeBytesMin, store.Logger = disk, true, -1, slog.New(slog.DiscardHandler)
	})
	s.put(t, "a", "").expect(t, "before", 201, `W/"1"`)
	disk.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	if code, text := s.put(t, "b", "").expect(t, "the write", 503, "").outcome(t); code != "no-store" || !strings.Contains(text, "unknown") {
		t.Errorf("the write: %s %q", code, text)
	}
	s.put(t, "c", "").expect(t, "the next write", 503, "")
	s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "a read", 200, `W/"1"`)
	if a := s.do(t, "GET", "/readyz", ""); a.status != 503 || !strings.Contains(a.body, "input/output error") {
		t.Errorf("/readyz: %d %s", a.status, a.body)
	}
	if body := s.health(t); !strings.Contains(body, `"status":"degraded","writes":"failed"`) || !strings.Contains(body, `"failure":"`) {
		t.Errorf("/healthz: %s", body)
	}
	if text := s.do(t, "GET", "/metrics", "").body; !strings.Contains(text, "kiln_store_read_only 1\n") {
		t.Error("/metrics does not tell")
	}
	// The store ends with the error that it is in.
	if err := s.opts.Store.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close: %v", err)
	}
}

// TestDamageThatAClientMeetsIsTold: the answer says what to do, others go on, and
// health and metrics know the place.
func TestDamageThatAClientMeetsIsTold(t *testing.T) {
	disk := vfs.NewMem(1)
	s := newAPI(t, func(store *engine.Options, _ *bulk.Options, _ *Options) {
		store.FS, store.Dir, store.CatalogInMem, store.FreeBytesMin, store.Logger = disk, "data", true, -1, slog.New(slog.DiscardHandler)
	})
	s.put(t, "a", "").expect(t, "write", 201, "-")
	if err := s.opts.Store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.put(t, "b", "").expect(t, "write", 201, "-")
	names, err := disk.List("data/runs")
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	run, err := disk.OpenWrite("data/runs/" + names[0])
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if _, err := run.WriteAt([]byte("damage"), 60); err != nil { // in the first block of bodies
		t.Fatal(err)
	}
	for range 2 {
		if code, text := s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "the damaged one", 500, "").outcome(t); code != "exception" || !strings.Contains(text, "kiln repair") {
			t.Errorf("got %s %q", code, text)
		}
	}
	s.do(t, "GET", "/fhir/Patient/b", "").expect(t, "the other one", 200, "-")
	s.put(t, "c", "").expect(t, "a write", 201, "-")
	if body := s.health(t); !strings.Contains(body, `"status":"degraded","writes":"on"`) || !strings.Contains(body, `"damages":[{"file":"data/runs/`+names[0]+`","offset":32,`) {
		t.Errorf("/healthz: %s", body)
	}
	if text := s.do(t, "GET", "/metrics", "").body; !strings.Contains(text, "kiln_damages 1\n") || !strings.Contains(text, "kiln_damaged_reads_total 2\n") {
		t.Error("/metrics does not tell")
	}
	s.do(t, "GET", "/readyz", "").expect(t, "readiness", 200, "-")
}

package bulk

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"kiln/engine"
)

// A catalog that a newer Kiln wrote is refused as that, whatever the record is of.
func TestANewerRecordOfAJobIsRefused(t *testing.T) {
	const newer = `{"format":3,"id":7,"state":0}`
	f := func(key string) {
		s := newTestSite(t)
		if err := s.jobs.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.store.CatalogPut(key, []byte(newer)); err != nil {
			t.Fatal(err)
		}
		jobs, err := NewManager(context.Background(), s.options(rand.Uint64))
		if !errors.Is(err, engine.ErrNewerFormat) {
			t.Errorf("with %q a manager starts: %v", key, err)
		}
		if err == nil {
			s.jobs = jobs
			return
		}
		if err := errors.Join(s.store.CatalogDelete(key), s.store.Close()); err != nil {
			t.Fatal(err)
		}
		s.store = nil
	}
	f(jobKey(keyImport, 7))
	f(jobKey(keyExport, 7))
	f(jobKey(keyExportRemains, 7))
	if _, err := parseSection([]byte(newer)); !errors.Is(err, engine.ErrNewerFormat) {
		t.Errorf("a section: %v", err)
	}
	if _, err := parseProgress([]byte(newer), 1); !errors.Is(err, engine.ErrNewerFormat) {
		t.Errorf("the progress in the log: %v", err)
	}
}

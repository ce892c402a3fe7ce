package fhir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/shareddata"
)

func TestScanAgreesWithReferenceOnSharedData(t *testing.T) {
	f := func(accepted int, elements ...string) {
		t.Helper()
		d := newDifferential(t)
		got := 0
		for _, line := range shareddata.Lines(t, elements...) {
			d.check(t, line)
			if d.scanner.err == nil {
				got++
			} else {
				t.Logf("%v: %s: %.80s", elements, d.scanner.err, line)
			}
		}
		if got != accepted {
			t.Errorf("%v: accepted %d lines, want %d", elements, got, accepted)
		}
	}
	f(60250, "data", "public")
	f(761, "data", "examples-r4.ndjson.gz")
	f(308, "data", "odd-r4.ndjson.gz")
	f(486, "data", "validator-cases.ndjson.gz") // one repeats a key, one has a meta that is no object
	f(13, "data", "huge-r4.ndjson.gz")
	f(26937, "data", "native-ndjson") // and 8 lines of export logs
}

func TestScanRefusesMalformedFiles(t *testing.T) {
	paths, err := filepath.Glob(shareddata.Path(t, "data", "malformed") + "/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no malformed files: %v", err)
	}
	d := newDifferential(t)
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d.check(t, src)
		var scanErr *ScanError
		if _, err := d.scanner.Scan(src, nil); !errors.As(err, &scanErr) || !strings.Contains(err.Error(), " at byte ") {
			t.Errorf("%s: got error %v, want one with an offset", filepath.Base(path), err)
		} else {
			t.Logf("%s: %s", filepath.Base(path), err)
		}
	}
}

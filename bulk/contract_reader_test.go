package bulk

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"kiln/engine"
	"kiln/fhir"
)

// readHistory reads all that a store has as users do, by history, read and
// vread, and fails where the three differ.
func (s *testSite) readHistory(t *testing.T) contractHistory {
	t.Helper()
	snap, err := s.store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	reader := &contractReader{t: t, snap: snap, served: map[string][]byte{}}
	all := reader.history(engine.HistoryQuery{Count: 1000})
	live := uint64(0)
	for key, versions := range all {
		if reader.resource(key, versions) {
			live++
		}
	}
	parts, err := snap.ScanParts(context.Background(), engine.ScanQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range parts {
		live -= parts[i].Rows()
	}
	if live != 0 {
		t.Errorf("a scan gives %d current versions too few", int64(live))
	}
	return all
}

// contractReader reads from one snapshot.
type contractReader struct {
	t      *testing.T
	snap   *engine.Snapshot
	served map[string][]byte // by key and version: as the history of all gave it
}

// history reads by pages and describes each version; current versions are
// found by reads.
func (r *contractReader) history(q engine.HistoryQuery) contractHistory {
	r.t.Helper()
	h := contractHistory{}
	for more := true; more; {
		var err error
		q.After, more, err = r.snap.History(context.Background(), q, func(v *engine.Version) error {
			key := v.Type.String() + "/" + string(v.ID)
			current, err := r.snap.Get(v.Type, v.ID)
			if err != nil && !errors.Is(err, engine.ErrNotFound) {
				return err
			}
			served := v.AppendJSON(nil)
			text := describeVersion(r.t, served, err == nil && current.VersionID == v.VersionID, v.Deleted)
			h[key] = append(h[key], text)
			r.served[key+" "+text] = served
			return nil
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return h
}

// resource checks one resource's history, read and vreads against the history
// of all; live tells whether a read finds it.
func (r *contractReader) resource(key string, want []string) (live bool) {
	r.t.Helper()
	typ, id := contractType(r.t, key)
	own := r.history(engine.HistoryQuery{Type: typ, ID: id, Count: 2})
	if len(own) != 1 || !slices.Equal(own[key], want) {
		r.t.Errorf("%s has the history %q, and in that of all %q", key, own[key], want)
	}
	current, err := r.snap.Get(typ, id)
	found := err == nil
	if !found && !errors.Is(err, engine.ErrNotFound) {
		r.t.Fatal(err)
	}
	highest := int64(0)
	for _, text := range want {
		v := r.vread(typ, id, text)
		highest = max(highest, v.VersionID)
		if served := v.AppendJSON(nil); !bytes.Equal(served, r.served[key+" "+text]) {
			r.t.Errorf("vread of %s %s gives %s", key, text, served)
		}
		if found && v.VersionID == current.VersionID && !bytes.Equal(v.AppendJSON(nil), current.AppendJSON(nil)) {
			r.t.Errorf("read of %s gives %s, which is not version %d", key, current.AppendJSON(nil), v.VersionID)
		}
	}
	if found != (highest > 0) || found && current.VersionID != highest {
		r.t.Errorf("read of %s gives version %d (%t), the highest is %d", key, current.VersionID, found, highest)
	}
	for _, missing := range []int64{0, highest + 1} {
		if _, err := r.snap.Vread(typ, id, missing); !errors.Is(err, engine.ErrNotFound) {
			r.t.Errorf("vread of %s version %d, which is not there: %v", key, missing, err)
		}
	}
	return found && !current.Deleted
}

// vread reads the version that a description names.
func (r *contractReader) vread(typ fhir.TypeCode, id []byte, text string) engine.Version {
	r.t.Helper()
	number, _, _ := strings.Cut(strings.TrimPrefix(text, "v"), "@")
	version, ok := parseVersion([]byte(number))
	if !ok {
		r.t.Fatalf("no version in %q", text)
	}
	v, err := r.snap.Vread(typ, id, version)
	if err != nil {
		r.t.Fatalf("vread of %v/%s %s: %v", typ, id, text, err)
	}
	if described := describeVersion(r.t, v.AppendJSON(nil), strings.Contains(text, "*"), v.Deleted); described != text {
		r.t.Errorf("vread of %v/%s %s gives %s", typ, id, text, described)
	}
	return v
}

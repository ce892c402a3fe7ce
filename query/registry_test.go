package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/vfs"
)

func registryStore(t *testing.T, fsys vfs.FS) *engine.Store {
	t.Helper()
	n := uint64(0)
	store, err := engine.Open(context.Background(), engine.Options{
		FS: fsys, Dir: "/data", Now: time.Now, NewID: func() uint64 { n++; return n }, PrepareInline: true, CatalogInMem: true, FreeBytesMin: -1, SegmentBytes: 1 << 16,
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func parameterChange(t *testing.T, id, members string) engine.Change {
	t.Helper()
	body := fmt.Sprintf(`{"resourceType":"SearchParameter","id":%q,"url":"http://x.org/%s","status":"active",%s}`, id, id, members)
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(body), nil)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Change{Type: r.Type, ID: []byte(id), IDAt: r.IDAt, Body: r.Body, Splice: r.Splice}
}

func commitAll(t *testing.T, store *engine.Store, changes ...engine.Change) {
	t.Helper()
	if _, err := store.Commit(context.Background(), changes); err != nil {
		t.Fatal(err)
	}
}

// states are the added parameters by id, and why they have no effect.
func states(r *Registry) string {
	var all []string
	for _, a := range r.Current().Added {
		all = append(all, fmt.Sprintf("%s=%.60s", a.ID, a.Refused))
	}
	return strings.Join(all, "; ")
}

const (
	onRace   = `"code":"race","base":["Patient"],"type":"token","expression":"Patient.extension('race').value"`
	onFamily = `"code":"surname","base":["Patient","Practitioner"],"type":"string","expression":"Patient.name.family | Practitioner.name.family"`
	onPart   = `"code":"part","base":["Observation"],"type":"token","expression":"Observation.component.extension('p').value"`
	onPair   = `"code":"pair","base":["Observation"],"type":"composite","expression":"Observation.component","component":[` +
		`{"definition":"http://x.org/part","expression":"code"},{"definition":"http://hl7.org/fhir/SearchParameter/Observation-component-value-quantity","expression":"value.as(Quantity)"}]`
)

// What a store has from before is used as far as it works, and gets its fields.
func TestRegistryReadsWhatIsStored(t *testing.T) {
	fsys := vfs.NewMem(1)
	store := registryStore(t, fsys)
	commitAll(t, store,
		parameterChange(t, "race", onRace), parameterChange(t, "taken", strings.Replace(onRace, "race'", "other'", 1)),
		parameterChange(t, "bad", `"code":"bad","base":["Patient"],"type":"token","expression":"Patient.bad"`),
		parameterChange(t, "shape", `"code":{"a":1},"base":["Patient"],"type":"token","expression":"Patient.gender"`),
		parameterChange(t, "surname", onFamily))
	for range 2 {
		r, err := NewRegistry(context.Background(), store, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		want := "bad=cannot compile expression \"Patient.bad\" for Patient: Patient; race=; shape=its code is not of the right kind; surname=; taken=the code 'race' is the one of http://x.org/race for Patient "
		if got := states(r); got != want {
			t.Errorf("the parameters are %s\nwant %s", got, want)
		}
		patient := fhir.TypeByName([]byte("Patient"))
		if p := r.Current().Table.Param(patient, "race"); p == nil || p.FieldMax() != search.FieldCustomMin || !Usable(p, store.Reindexing()) {
			t.Errorf("race is %+v", p)
		}
		if p := r.Current().Table.Param(patient, "surname"); p == nil || p.FieldMax() >= search.FieldCustomMin {
			t.Errorf("surname is %+v", p)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		store = registryStore(t, fsys)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRegistryFollowsWrites(t *testing.T) {
	store := registryStore(t, vfs.NewMem(1))
	r, err := NewRegistry(context.Background(), store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	write := func(refusal string, changes ...engine.Change) {
		t.Helper()
		end, err := r.Begin(context.Background(), changes)
		var refused *DefinitionError
		if (err != nil) != (refusal != "") || err != nil && (!errors.As(err, &refused) || !strings.Contains(err.Error(), refusal)) {
			t.Fatalf("the write gives %v, want %q", err, refusal)
		}
		if err == nil {
			commitAll(t, store, changes...)
			end()
		}
	}
	write("component 1 is defined by 'http://x.org/part'", parameterChange(t, "pair", onPair))
	write("", parameterChange(t, "pair", onPair), parameterChange(t, "part", onPart))
	observation := fhir.TypeByName([]byte("Observation"))
	if p := r.Current().Table.Param(observation, "pair"); p == nil || p.Pairings[0].Group == nil {
		t.Errorf("the composite is %+v", p)
	}
	before := r.Current()
	write("", engine.Change{Type: fhir.TypeByName([]byte("SearchParameter")), ID: []byte("part"), Delete: true})
	if got := states(r); !strings.HasPrefix(got, "pair=component 1 is defined by") {
		t.Errorf("without its component the composite is %s", got)
	}
	if before.Table.Param(observation, "part") == nil || r.Current().Table.Param(observation, "part") != nil {
		t.Error("a table changed, or did not follow")
	}
	if len(store.Fields()) != 1 {
		t.Errorf("%d fields", len(store.Fields()))
	}
	// Who has no time does not wait for another's turn.
	end, err := r.Begin(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Begin(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a second turn gives %v", err)
	}
	end()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

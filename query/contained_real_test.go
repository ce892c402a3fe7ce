package query

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/shareddata"
	"kiln/internal/vfs"
)

// copied is a contained resource of real data, and the id of its copy in a store where
// it stands for itself.
type copied struct {
	typ, from string // as the answer names it: Container/id#place
	copy      string
	texts     []string // short ones in it
}

// realStore is a store with some resources, a part of them in a run.
func realStore(t *testing.T, bodies [][]byte) *engine.Store {
	t.Helper()
	ctx := context.Background()
	store, err := engine.Open(ctx, engine.Options{
		FS: vfs.NewMem(1), Dir: "/data", NewID: rand.New(rand.NewPCG(1, 1)).Uint64, CatalogInMem: true, FreeBytesMin: -1,
		Now: func() time.Time { return time.UnixMilli(1_700_000_000_000) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	for i, body := range bodies {
		r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan(body, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = store.Commit(ctx, []engine.Change{{Type: r.Type, ID: r.ID, IDAt: r.IDAt, Body: r.Body, Splice: r.Splice}})
		if err == nil && i == len(bodies)/2 {
			err = store.Flush(ctx)
		}
		if err != nil {
			t.Fatalf("%.200s: %v", body, err)
		}
	}
	return store
}

// copies takes what real resources contain out of them.
func copies(t *testing.T, lines [][]byte) (bodies [][]byte, all []copied) {
	t.Helper()
	for _, line := range lines {
		var v struct {
			ResourceType, ID string
			Contained        []json.RawMessage
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		for i, text := range v.Contained {
			d := json.NewDecoder(bytes.NewReader(text))
			d.UseNumber()
			var tree map[string]any
			if err := d.Decode(&tree); err != nil {
				t.Fatal(err)
			}
			c := copied{typ: tree["resourceType"].(string), from: fmt.Sprintf("%s/%s#%d", v.ResourceType, v.ID, i), copy: fmt.Sprintf("copy%d", len(all))}
			c.texts = textsIn(tree, nil)
			tree["id"] = c.copy
			body, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			bodies, all = append(bodies, body), append(all, c)
		}
	}
	return bodies, all
}

// textsIn are the short texts and numbers of a value.
func textsIn(node any, texts []string) []string {
	switch v := node.(type) {
	case string:
		if v != "" && len(v) < 60 && !strings.ContainsAny(v, "<,|$") {
			texts = append(texts, v)
		}
	case json.Number:
		texts = append(texts, v.String())
	case []any:
		for _, element := range v {
			texts = textsIn(element, texts)
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			texts = textsIn(v[name], texts)
		}
	}
	return texts
}

// TestRealContainedResourcesAreFoundAsIfTheyStoodForThemselves: what HL7's examples
// contain is found by every parameter and every value by which its copies are found
// that stand for themselves.
func TestRealContainedResourcesAreFoundAsIfTheyStoodForThemselves(t *testing.T) {
	lines := shareddata.Lines(t, "data", "examples-r4.ndjson.gz")
	bodies, all := copies(t, lines)
	holding, standing := realStore(t, lines), realStore(t, bodies)
	names, types := map[string]string{}, map[string][]copied{}
	for _, c := range all {
		names[c.typ+"/"+c.copy] = c.from
		types[c.typ] = append(types[c.typ], c)
	}
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	checked, matched := 0, 0
	check := func(typ, name, value string) {
		t.Helper()
		parameters := []Parameter{{name, value}}
		want, refused := found(t, standing, typ, parameters)
		got, alsoRefused := found(t, holding, typ, append(parameters, Parameter{"_contained", "true"}, Parameter{"_containedType", "contained"}))
		for i := range want {
			want[i] = names[want[i]]
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || refused != alsoRefused {
			t.Errorf("%s?%s=%s finds %v (refused: %t), want %v (%t)", typ, name, value, got, alsoRefused, want, refused)
		}
		checked, matched = checked+1, matched+len(want)
	}
	for _, typ := range sortedKeys(types) {
		code := fhir.TypeByName([]byte(typ))
		for _, p := range table.Params() {
			if p.Type != code && p.Type != 0 || !Supports(p) || p.Code == "_lastUpdated" || p.Code == "_id" || p.Code == "_list" {
				continue
			}
			check(typ, p.Code+":missing", "false")
			check(typ, p.Code+":missing", "true")
			for i, c := range types[typ] {
				if i >= 2 || p.Kind == search.Composite || p.Kind == search.Special {
					break
				}
				for _, text := range c.texts[:min(realTexts, len(c.texts))] {
					check(typ, p.Code, text)
				}
			}
		}
	}
	if matched < 1000 || len(all) < 200 {
		t.Errorf("%d contained resources, %d searches, %d matches", len(all), checked, matched)
	}
	t.Logf("%d contained resources, %d searches, %d matches", len(all), checked, matched)
}

// found is what a search finds: Type/id, or Type/id#place for a contained one.
func found(t *testing.T, store *engine.Store, typ string, parameters []Parameter) (lines []string, refused bool) {
	t.Helper()
	s, err := Parse([]fhir.TypeCode{fhir.TypeByName([]byte(typ))}, parameters, Options{Base: modelBase, Now: time.UnixMilli(1_700_000_000_000)})
	if err != nil {
		return nil, true
	}
	n, err := store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Release()
	r, err := s.Run(context.Background(), store, n, Page{Limit: 1000, Bytes: 1 << 30})
	if err != nil {
		t.Fatalf("%s %v: %v", typ, parameters, err)
	}
	m := &searchModel{T: t}
	for i := range r.Matches {
		v := &r.Matches[i]
		line := fmt.Sprintf("%v/%s", v.Type, v.ID)
		if r.Parts != nil && r.Parts[i] != nil {
			line += fmt.Sprintf("#%d", m.placeOf(v.Body, r.Parts[i].Body))
		}
		lines = append(lines, line)
	}
	return lines, false
}

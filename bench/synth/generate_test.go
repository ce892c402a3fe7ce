package synth

import (
	"bytes"
	"encoding/json"
	"hash/fnv"
	"io"
	"testing"

	"kiln/internal/shareddata"

	"github.com/klauspost/compress/gzip"
)

func TestSameSeedSameBytes(t *testing.T) {
	f := func(seed uint64) uint64 {
		t.Helper()
		sum := fnv.New64a()
		generate(t, Options{Seed: seed, Patients: 3}, func(name string, line []byte) { sum.Write(append(line, '\n')) })
		return sum.Sum64()
	}
	first := f(7)
	if again := f(7); again != first {
		t.Error("two runs of one seed differ")
	}
	if f(8) == first {
		t.Error("two seeds give the same data")
	}
}

func TestPatientDoesNotDependOnCount(t *testing.T) {
	f := func(opts Options) (lines []string) {
		t.Helper()
		generate(t, opts, func(name string, line []byte) { lines = append(lines, string(line)) })
		return lines
	}
	four, two := f(Options{Seed: 1, Patients: 4}), f(Options{Seed: 1, Patients: 2})
	rest := f(Options{Seed: 1, First: 2, Patients: 2})
	if len(two)+len(rest) != len(four) {
		t.Fatalf("%d lines and %d lines, want together %d", len(two), len(rest), len(four))
	}
	for i, line := range append(two, rest...) {
		if line != four[i] {
			t.Fatalf("line %d differs:\n%s\n%s", i, line, four[i])
		}
	}
}

func TestLinesAreCompactJSONWithTypeAndID(t *testing.T) {
	var compact bytes.Buffer
	generate(t, Options{Seed: 2, Patients: 20}, func(name string, line []byte) {
		var head struct{ ResourceType, ID string }
		if err := json.Unmarshal(line, &head); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if head.ResourceType != name || len(head.ID) != 36 {
			t.Fatalf("type %q and id %q in a %s: %s", head.ResourceType, head.ID, name, line)
		}
		compact.Reset()
		if err := json.Compact(&compact, line); err != nil || !bytes.Equal(compact.Bytes(), line) {
			t.Fatalf("not compact: %s", line)
		}
	})
}

func TestReferencesResolve(t *testing.T) {
	have, want := map[string]bool{}, map[string]string{}
	generate(t, Options{Seed: 3, Patients: 20}, func(name string, line []byte) {
		var resource map[string]any
		if err := json.Unmarshal(line, &resource); err != nil {
			t.Fatal(err)
		}
		key := name + "/" + resource["id"].(string)
		if have[key] {
			t.Errorf("%s appears twice", key)
		}
		have[key] = true
		eachReference(resource, func(ref string) { want[ref] = key })
	})
	if len(want) == 0 {
		t.Fatal("no references at all")
	}
	for ref, from := range want {
		if ref[0] != '#' && !have[ref] {
			t.Fatalf("%s refers to %s, which is not there", from, ref)
		}
	}
}

func eachReference(v any, fn func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if ref, ok := value.(string); ok && key == "reference" {
				fn(ref)
			}
			eachReference(value, fn)
		}
	case []any:
		for _, value := range v {
			eachReference(value, fn)
		}
	}
}

func TestErrorOfSinkEndsGeneration(t *testing.T) {
	calls := 0
	_, err := Generate(Options{Patients: 5}, func(string, []byte) error {
		calls++
		if calls == 1000 {
			return io.ErrShortWrite
		}
		return nil
	})
	if err != io.ErrShortWrite || calls != 1000 {
		t.Errorf("error %v after %d calls, want %v after 1000", err, calls, io.ErrShortWrite)
	}
}

// TestShapeIsThatOfSynthea compares counts per patient and mean sizes per
// type with real Synthea data of 85 patients.
func TestShapeIsThatOfSynthea(t *testing.T) {
	const patients, publicPatients = 400, 85
	public := publicStats(t)
	stats := generate(t, Options{Seed: 4, Patients: patients}, func(string, []byte) {})
	f := func(what, name string, got, want, times float64) {
		t.Helper()
		if got > want*times || got < want/times {
			t.Errorf("%s: %s %.1f, public data %.1f", name, what, got, want)
		}
	}
	for name, count := range public.Counts {
		got := stats.Types[name]
		if got.Resources == 0 {
			t.Errorf("no %s", name)
			continue
		}
		f("mean bytes", name, float64(got.Bytes)/float64(got.Resources), float64(public.Bytes[name])/count, 1.3)
		if name != "Organization" && name != "Location" && name != "Practitioner" && name != "PractitionerRole" {
			f("per patient", name, float64(got.Resources)/patients, count/publicPatients, 1.6)
		}
	}
	for name := range stats.Types {
		if public.Counts[name] == 0 {
			t.Errorf("%s is not in the public data", name)
		}
	}
}

type shape struct {
	Counts map[string]float64 `json:"counts"`
	Bytes  map[string]float64 `json:"bytes_by_type"`
}

func publicStats(t *testing.T) (s shape) {
	t.Helper()
	text := shareddata.Read(t, shareddata.Path(t, "data", "public", "stats.json"))
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCompressesLikeSynthea holds the variety of the data: lines that repeat
// each other would flatter every measurement of size.
func TestCompressesLikeSynthea(t *testing.T) {
	var packed bytes.Buffer
	zip, raw := gzip.NewWriter(&packed), 0
	generate(t, Options{Seed: 5, Patients: 10}, func(name string, line []byte) {
		raw += len(line)
		zip.Write(append(line, '\n'))
	})
	zip.Close()
	if ratio := float64(raw) / float64(packed.Len()); ratio < 8 || ratio > 16 {
		t.Errorf("gzip packs it %.1f times, Synthea's bundles 11 times", ratio)
	}
}

func generate(t testing.TB, opts Options, fn func(name string, line []byte)) Stats {
	t.Helper()
	stats, err := Generate(opts, func(name string, line []byte) error {
		fn(name, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

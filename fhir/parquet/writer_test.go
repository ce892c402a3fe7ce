package parquet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"testing"

	lib "github.com/parquet-go/parquet-go"

	"kiln/fhir"
	"kiln/internal/shareddata"
)

// file writes resources of one type and gives the file's bytes.
func file(t *testing.T, typ fhir.TypeCode, resources [][]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := NewWriter(&buf, typ, NewSchemas())
	for _, r := range resources {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Bytes() != int64(buf.Len()) {
		t.Errorf("%d bytes counted, %d written", w.Bytes(), buf.Len())
	}
	return buf.Bytes()
}

// read gives the file's rows as the library's reader assembles them from the file's
// own schema; it knows nothing of ours.
func read(t *testing.T, file []byte) []map[string]any {
	t.Helper()
	f, err := lib.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	r := lib.NewGenericReader[any](f)
	defer r.Close()
	rows := make([]any, f.NumRows())
	if n, err := r.Read(rows); int64(n) != f.NumRows() || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%d rows of %d: %v", n, f.NumRows(), err)
	}
	back := make([]map[string]any, len(rows))
	for i, row := range rows {
		back[i] = row.(map[string]any)
	}
	return back
}

// differ tells where a row is not its resource: absent columns do not count, and
// what is in _other stands beside them.
func differ(path string, want, got any) error {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: an object became %v", path, got)
		}
		return differObject(path, want, got)
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return fmt.Errorf("%s: %d elements became %v", path, len(want), got)
		}
		for i := range want {
			if err := differ(path+"["+strconv.Itoa(i)+"]", want[i], got[i]); err != nil {
				return err
			}
		}
		return nil
	case json.Number:
		return differNumber(path, string(want), got)
	}
	if want != got {
		return fmt.Errorf("%s: %v became %v", path, want, got)
	}
	return nil
}

func differObject(path string, want, got map[string]any) error {
	all := map[string]any{}
	for key, value := range got {
		if key != otherName && value != nil {
			all[key] = value
		}
	}
	if others, ok := got[otherName].(map[string]any); ok {
		for key, value := range others {
			if all[key] != nil {
				return fmt.Errorf("%s.%s is there twice", path, key)
			}
			all[key] = value
		}
	}
	for key, value := range want {
		if key == "resourceType" && path == "" {
			continue
		}
		back, ok := all[key]
		if !ok {
			return fmt.Errorf("%s.%s is lost", path, key)
		}
		if err := differ(path+"."+key, value, back); err != nil {
			return err
		}
		delete(all, key)
	}
	if len(all) > 0 {
		return fmt.Errorf("%s: %v was not there", path, all)
	}
	return nil
}

// differNumber: columns of decimals have the text; those of integers the number, and
// the library's reader gives numbers of JSON columns as float64.
func differNumber(path, want string, got any) error {
	switch got := got.(type) {
	case string:
		if got == want {
			return nil
		}
	case int32:
		if strconv.Itoa(int(got)) == want {
			return nil
		}
	case json.Number: // of another reader, which has doubles only
		a, errA := strconv.ParseFloat(want, 64)
		b, errB := got.Float64()
		if errA == nil && errB == nil && a == b {
			return nil
		}
	case float64:
		if f, err := strconv.ParseFloat(want, 64); err == nil && (f == got || math.IsInf(f, 0)) {
			return nil
		}
	}
	return fmt.Errorf("%s: number %s became %T %v", path, want, got, got)
}

func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%s: %.200s", err, text)
	}
	return m
}

// Every resource of the real data comes back out of its file.
func TestRealResourcesComeBack(t *testing.T) {
	f := func(name string) {
		t.Helper()
		byType := map[fhir.TypeCode][][]byte{}
		for _, line := range shareddata.Lines(t, "data", name) {
			text, err := fhir.Minify(line)
			if err != nil || text[0] != '{' {
				continue
			}
			var typed struct{ ResourceType string }
			if json.Unmarshal(text, &typed) != nil {
				continue
			}
			if c := fhir.TypeByName([]byte(typed.ResourceType)); c != 0 {
				byType[c] = append(byType[c], text)
			}
		}
		for typ, resources := range byType {
			rows := read(t, file(t, typ, resources))
			for i, r := range resources {
				if err := differ("", decode(t, r), rows[i]); err != nil {
					t.Errorf("%s %s %d: %s", name, typ, i, err)
				}
			}
		}
	}
	f("examples-r4.ndjson.gz")
	f("odd-r4.ndjson.gz")
}

// oddResources have what does not fit a column.
func oddResources() (texts [][]byte) {
	for _, r := range []string{
		`{"resourceType":"Observation","id":"nulls","category":[null,{"text":"x"},null],"component":[{"referenceRange":[{},{"low":{"value":1.50}}]},{}]}`,
		`{"resourceType":"Observation","id":"empty","category":[],"component":[{"referenceRange":[]}],"code":{},"note":[]}`,
		`{"resourceType":"Observation","valueInteger":2147483648,"status":1,"issued":null,"code":"text","category":{"text":"no list"},"performer":["x"]}`,
		`{"resourceType":"Observation","valueInteger":1.0,"valueQuantity":{"value":1e400,"unit":"\u00e9\n\"\\"},"_status":{"id":"a"},"_other":{"id":"mine"}}`,
		`{"resourceType":"Observation","valueInteger":-0,"valueString":"lone \ud800 surrogate","valueBoolean":"true","stat\u0075s":"final"}`,
		`{"resourceType":"Observation","valueString":"pair \ud83d\ude00, replacement \ufffd ` + "\ufffd" + `","identifier":[{"assigner":{"identifier":{"value":"deep"}}}]}`,
		`{"valueQuantity":{"value":"1.5","code":7},"meta":{"tag":[{"code":"c","id":"t"}],"extension":[{"url":"u"}]},"resourceType":"Observation"}`,
		`{}`,
	} {
		texts = append(texts, []byte(r))
	}
	return texts
}

// What does not fit a column is not lost.
func TestOddResourcesComeBack(t *testing.T) {
	texts := oddResources()
	rows := read(t, file(t, fhir.TypeByName([]byte("Observation")), texts))
	for i, text := range texts {
		if err := differ("", decode(t, text), rows[i]); err != nil {
			t.Errorf("%s: %s", text, err)
		}
	}
}

// More than one row group, and the same rows in each.
func TestRowGroups(t *testing.T) {
	resource := []byte(`{"resourceType":"Binary","id":"a","contentType":"text/plain","data":"` + string(bytes.Repeat([]byte("QUJD"), 1<<18)) + `"}`)
	const count = 70 // of a megabyte
	resources := make([][]byte, count)
	for i := range resources {
		resources[i] = resource
	}
	text := file(t, fhir.TypeByName([]byte("Binary")), resources)
	f, err := lib.OpenFile(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.RowGroups()); n != 5 {
		t.Errorf("%d row groups", n)
	}
	if f.NumRows() != count {
		t.Errorf("%d rows", f.NumRows())
	}
	if name, ok := f.Lookup("fhir.resourceType"); !ok || name != "Binary" {
		t.Errorf("resource type %q", name)
	}
}

// A full disk is told, not swallowed.
func TestWriteErrors(t *testing.T) {
	w := NewWriter(fullDisk{}, fhir.TypeByName([]byte("Patient")), NewSchemas())
	if err := w.Add([]byte(`{"resourceType":"Patient","id":"a"}`)); err != nil {
		t.Fatal(err) // it is in memory
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("the footer on a full disk: %v", err)
	}
}

var errFull = errors.New("the disk is full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/vfs"
)

// exports runs an export and returns its status and its lines, sorted, by file.
func (s *testSite) exports(query map[string][]string) (*ExportStatus, map[string][]string) {
	s.t.Helper()
	r, err := s.jobs.ParseExport(&ExportKickOff{URL: "http://host/$export", Base: "http://host", Query: query})
	if err != nil {
		s.t.Fatal(err)
	}
	id, err := s.jobs.StartExport(context.Background(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	status, err := s.jobs.WaitExport(context.Background(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	if status.State != Completed {
		s.t.Fatalf("the export ended as %d: %+v", status.State, status.Error)
	}
	files := make(map[string][]string)
	for _, f := range status.Files {
		lines := strings.Split(strings.TrimSuffix(s.exportFile(id, f.Name), "\n"), "\n")
		if int64(len(lines)) != f.Count {
			s.t.Errorf("file %s has %d lines, and %d are told", f.Name, len(lines), f.Count)
		}
		slices.Sort(lines)
		files[f.Type] = append(files[f.Type], lines...)
	}
	return status, files
}

// readDownload reads a file as it is served.
func readDownload(d *Download) ([]byte, error) {
	part, err := d.Part(0, d.Bytes)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(part)
}

func (s *testSite) exportFile(id int64, name string) string {
	s.t.Helper()
	d, err := s.jobs.ExportFile(id, name)
	if err != nil {
		s.t.Fatal(err)
	}
	defer d.Close()
	raw, err := readDownload(d)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(raw)
}

func TestExportGivesBackTheCurrentVersions(t *testing.T) {
	s := newTestSite(t)
	observation := `{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.00}}`
	s.imports(IncrementalLoad, 0, s.file("1", patient("a", ""), patient("b", ""), observation))
	s.imports(IncrementalLoad, 0, s.file("2", patient("a", `,"active":true`),
		patient("b", `,"meta":{"extension":[{"url":"http://azurehealthcareapis.com/data-extensions/deleted-state","valueString":"soft-deleted"}]}`)))
	status, files := s.exports(nil)
	date := func(line string) string { // dates differ
		before, after, _ := strings.Cut(line, `"lastUpdated":"`)
		_, after, _ = strings.Cut(after, `"`)
		return before + after
	}
	want := map[string]string{
		"Observation": `{"resourceType":"Observation","id":"o","meta":{"versionId":"1",},"valueQuantity":{"value":1.00}}`,
		"Patient":     `{"resourceType":"Patient","id":"a","meta":{"versionId":"2",},"active":true}`,
	}
	if len(files) != len(want) {
		t.Errorf("exported %v", files)
	}
	for name, line := range want {
		if len(files[name]) != 1 || date(files[name][0]) != line {
			t.Errorf("%s is exported as %q, want %s", name, files[name], line)
		}
	}
	if status.RowsDone != 2 || status.RowsTotal != 2 || status.TransactionTime.Milli == 0 {
		t.Errorf("status is %+v", status)
	}
	if status.Files[0].Name != "Observation-1-1.ndjson" && status.Files[0].Name != "Observation-2-1.ndjson" {
		t.Errorf("the first file is %s", status.Files[0].Name)
	}

	_, files = s.exports(map[string][]string{"_type": {"Patient,Device"}, "_outputFormat": {"ndjson"}})
	if len(files) != 1 || len(files["Patient"]) != 1 {
		t.Errorf("with _type=Patient,Device: %v", files)
	}
	// What was written since the first export is in the next one since its time.
	s.imports(IncrementalLoad, 0, s.file("3", patient("c", "")))
	_, files = s.exports(map[string][]string{"_since": {status.TransactionTime.String()}})
	if len(files) != 1 || len(files["Patient"]) != 1 || !strings.Contains(files["Patient"][0], `"id":"c"`) {
		t.Errorf("since %s: %v", status.TransactionTime, files)
	}
}

func TestExportFilesHaveAtMostSoManyLines(t *testing.T) {
	fsys := vfs.NewMem(1)
	if err := fsys.MkdirAll("out"); err != nil {
		t.Fatal(err)
	}
	names := 0
	sink := &exportSink{space: new(exportSpace),
		out: &localOutput{fs: fsys, dir: "out", room: func() error { return nil }}, format: lineFormat{},
		maximum: exportFileMax{lines: 1000, bytes: 1 << 20},
		name:    func(t fhir.TypeCode) string { names++; return exportFileName(t.String(), 1, names, ".ndjson") },
	}
	code := fhir.TypeByName([]byte("Patient"))
	body := []byte(`{"resourceType":"Patient","id":"a"}`)
	v := &engine.Version{Type: code, ID: []byte("a"), VersionID: 1, Body: body, Splice: fhir.Splice{At: uint32(len(body) - 1), Kind: fhir.SpliceNewMeta}}
	for range 1007 {
		if err := sink.write(context.Background(), v); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.close(context.Background()); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(sink.done, func(a, b ExportFile) int { return strings.Compare(a.Name, b.Name) })
	if len(sink.done) != 2 || sink.done[0].Count != 1000 || sink.done[1].Count != 7 || sink.done[1].Name != "Patient-1-2.ndjson" {
		t.Errorf("files are %+v", sink.done)
	}
	for _, f := range sink.done {
		if info, err := fsys.Stat("out/" + f.Name); err != nil || info.Bytes != f.Bytes {
			t.Errorf("%s has %d bytes, %d are told (%v)", f.Name, info.Bytes, f.Bytes, err)
		}
	}
}

func TestDeletedExportIsUnknown(t *testing.T) {
	s := newTestSite(t)
	s.imports(InitialLoad, 0, s.file("1", patient("a", "")))
	status, _ := s.exports(nil)
	if err := s.jobs.DeleteExport(context.Background(), status.ID); err != nil {
		t.Fatal(err)
	}
	var refused *RequestError
	_, err := s.jobs.ExportStatus(status.ID)
	if !errors.As(err, &refused) || refused.Status != 404 || refused.Text != fmt.Sprintf("The requested job %q was not found.", fmt.Sprint(status.ID)) {
		t.Errorf("its status is %v", err)
	}
	if err = s.jobs.DeleteExport(context.Background(), status.ID); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("deleting it again gives %v", err)
	}
	if _, err = s.jobs.ExportFile(status.ID, status.Files[0].Name); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("its file gives %v", err)
	}
	if _, err = s.fs.Stat("data/exports/" + fmt.Sprint(status.ID)); err == nil {
		t.Error("its files are still there")
	}
}

func TestExportFileNamesAreLookedUp(t *testing.T) {
	s := newTestSite(t)
	s.imports(InitialLoad, 0, s.file("1", patient("a", "")))
	status, _ := s.exports(nil)
	for _, name := range []string{"", ".", "../FORMAT", "../../FORMAT", status.Files[0].Name + "/", "./" + status.Files[0].Name} {
		if d, err := s.jobs.ExportFile(status.ID, name); err == nil {
			t.Errorf("%q is served with %d bytes", name, d.Bytes)
		}
	}
}

func TestExportOnAFullDiskFails(t *testing.T) {
	s := newTestSite(t)
	var lines []string
	for i := range 2000 {
		lines = append(lines, patient(fmt.Sprintf("p%d", i), `,"active":true`))
	}
	s.imports(InitialLoad, 0, s.file("1", lines...))
	disk := s.fs.(*vfs.Mem)
	disk.SetCapacity(disk.UsedBytes() + 4096)
	id, err := s.jobs.StartExport(context.Background(), &ExportRequest{})
	if err != nil {
		t.Fatal(err)
	}
	status, err := s.jobs.WaitExport(context.Background(), id)
	if err != nil || status.State != Failed || status.Error.Status != 507 || len(status.Files) != 0 {
		t.Fatalf("it ends as %+v, %v", status, err)
	}
	disk.SetCapacity(1 << 40)
	if _, files := s.exports(nil); len(files["Patient"]) != 2000 {
		t.Errorf("with room %d lines are exported", len(files["Patient"]))
	}
}

// TestExportEndsBeforeTheStoreRefusesWrites leaves less room than the export
// needs above what must stay free.
func TestExportEndsBeforeTheStoreRefusesWrites(t *testing.T) {
	s := newTestSite(t)
	var lines []string
	for i := range 5000 {
		lines = append(lines, patient(fmt.Sprintf("p%d", i), `,"active":true`))
	}
	s.imports(InitialLoad, 0, s.file("1", lines...))
	status := s.exportAboveWatermark(2 * exportBufferBytes)
	if status.State != Failed || status.Error.Status != 507 {
		t.Fatalf("it ends as %+v", status)
	}
	if err := s.store.CheckRoom("data"); err != nil {
		t.Errorf("the failed export still takes room: %v", err)
	}
}

// TestAnEndTheCatalogCannotTakeIsTold: a small export ends on a disk that has
// just become too full for the record of its files, and stays too full for that
// of its end.
func TestAnEndTheCatalogCannotTakeIsTold(t *testing.T) {
	s := newTestSite(t)
	s.imports(InitialLoad, 0, s.file("1", patient("a", "")))
	disk := s.fs.(*vfs.Mem)
	disk.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRemoveAll {
			return errors.New("stopped here")
		}
		return nil
	})
	status := s.exportAboveWatermark(16)
	if status.State != Failed || status.Error.Status != 507 || len(status.Files) != 0 {
		t.Fatalf("it ends as %+v", status)
	}
	disk.SetHook(nil)
	if err := s.jobs.DeleteExport(context.Background(), status.ID); err != nil {
		t.Fatal(err)
	}
	var gone *RequestError
	if _, err := s.jobs.ExportStatus(status.ID); !errors.As(err, &gone) || gone.Status != 404 {
		t.Errorf("a deleted export is still known: %v", err)
	}
}

// exportAboveWatermark runs an export with so many bytes of room above what
// must stay free.
func (s *testSite) exportAboveWatermark(room int64) *ExportStatus {
	s.t.Helper()
	s.close()
	s.freeMin = 1 << 20
	s.open()
	disk := s.fs.(*vfs.Mem)
	disk.SetCapacity(disk.UsedBytes() + s.freeMin + room)
	id, err := s.jobs.StartExport(context.Background(), &ExportRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	status, err := s.jobs.WaitExport(context.Background(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

func TestExportRequestIsRefused(t *testing.T) {
	m := testManager(t)
	f := func(name, value string, lenient bool, want string) {
		t.Helper()
		_, err := m.ParseExport(&ExportKickOff{URL: "u", Query: map[string][]string{name: {value}}, Lenient: lenient})
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != want {
			t.Errorf("%s=%s gives %q, want %q", name, value, text, want)
		}
	}
	f("_outputFormat", "application/fhir+ndjson", false, "")
	f("_outputFormat", "application/ndjson", false, "")
	f("_outputFormat", "csv", false, "The output format 'csv' is not supported.")
	f("_since", "2020", false, "")
	f("_since", "2020-01-01T00:00:00.123+01:00", false, "")
	f("_since", "soon", false, "Value of the following parameter _since is invalid: 'soon' is not an instant or a date.")
	f("_type", "Patient", false, "")
	f("_type", "Patient,patient", false, "Requested operation does not support resource type: patient.")
	f("_type", "", false, "Requested operation does not support resource type: .")
	f("_type", "patient", true, "Value of the following parameter _type is invalid: it names no resource type that can be exported here.")
	f("_nonsense", "1", false, `The "_nonsense" parameter is not supported.`)
	f("_nonsense", "1", true, "")
	f("_typeFilter", "Patient?x=y", false, "The _typeFilter segment 'Patient?x=y' is not a search: The search parameter 'x' is not supported for resource type 'Patient'.")
	f("_typeFilter", "Patient?x=y", true, "")
	f("_typeFilter", "Patient", true, "The _typeFilter segment 'Patient' could not be parsed. It is a resource type, a question mark and a search.")
	f("_anonymizationConfig", "x", true, `The "_anonymizationConfig" parameter is not supported.`)
}

package bulk

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// The Patient compartment of R4 by brute force, of the types that these tests
// write: where the references are that put a resource into a patient's compartment.
var compartmentPaths = map[string][]string{
	"Observation": {"subject", "performer"}, "Encounter": {"subject"}, "Condition": {"subject", "asserter"},
	"Appointment": {"participant.actor"}, "Group": {"member.entity"}, "AllergyIntolerance": {"patient", "recorder", "asserter"},
}

// localRef is the resource of http://host that a reference names.
func localRef(text string) (typ, id string, ok bool) {
	text = strings.TrimPrefix(text, "http://host/")
	parts := strings.Split(text, "/")
	if len(parts) == 4 && parts[2] == "_history" {
		parts = parts[:2]
	}
	if len(parts) != 2 || fhir.TypeByName([]byte(parts[0])) == 0 {
		return "", "", false
	}
	return parts[0], parts[1], true
}

// refsAt are the references at a path of a resource.
func refsAt(value any, path []string) (refs []string) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			refs = append(refs, refsAt(item, path)...)
		}
	case map[string]any:
		if len(path) == 0 {
			text, _ := v["reference"].(string)
			return []string{text}
		}
		return refsAt(v[path[0]], path[1:])
	}
	return refs
}

// modelResource is a version as a line of an export.
type modelResource struct {
	line, key string
	body      map[string]any
	deleted   bool
}

func readModel(t *testing.T, line string) modelResource {
	t.Helper()
	r := modelResource{line: line}
	if err := json.Unmarshal([]byte(line), &r.body); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	r.key = fmt.Sprint(r.body["resourceType"], "/", r.body["id"])
	r.deleted = strings.Contains(line, fhir.DeletedStateURL)
	return r
}

// own are the patients that a version refers to itself.
func (r *modelResource) own() (owners []string) {
	typ, id, _ := strings.Cut(r.key, "/")
	paths := compartmentPaths[typ]
	if typ == "Provenance" {
		paths = []string{"target"}
	}
	if typ == "Patient" {
		return []string{id}
	}
	for _, path := range paths {
		for _, text := range refsAt(r.body, strings.Split(path, ".")) {
			if t, id, ok := localRef(text); ok && t == "Patient" {
				owners = append(owners, id)
			}
		}
	}
	return owners
}

// modelOwners are all patients of a version; versions are those of the store that tell.
func modelOwners(r modelResource, versions []modelResource) []string {
	owners := r.own()
	keys := map[string]bool{}
	if strings.HasPrefix(r.key, "Provenance/") {
		for _, text := range refsAt(r.body, []string{"target"}) {
			if t, id, ok := localRef(text); ok {
				keys[t+"/"+id] = true
			}
		}
	}
	if r.deleted {
		keys[r.key] = true
	}
	for _, v := range versions {
		if keys[v.key] && !strings.HasPrefix(v.key, "Patient/") {
			owners = append(owners, v.own()...)
		}
	}
	slices.Sort(owners)
	return slices.Compact(owners)
}

const uuidPatient = "0c5ff6ba-44ab-4c12-b0b9-2f3c4f5a6b7c"

// randomRef is a reference to a patient, or something else.
func randomRef(r *rand.Rand) string {
	id := fmt.Sprint("p", r.IntN(8)) // p6 and p7 are never stored
	if r.IntN(8) == 0 {
		id = uuidPatient
	}
	switch r.IntN(12) {
	case 0:
		return "http://host/Patient/" + id
	case 1:
		return "http://other/Patient/" + id
	case 2:
		return "Patient/" + id + "/_history/1"
	case 3:
		return []string{"#p1", "urn:uuid:" + uuidPatient, "Device/p1", "Practitioner/p1", "http://host/fhir/Patient/p1"}[r.IntN(5)]
	}
	return "Patient/" + id
}

func randomResource(r *rand.Rand) string {
	ref := func() string { return `{"reference":"` + randomRef(r) + `"}` }
	id := r.IntN(12)
	switch r.IntN(10) {
	case 0:
		return patient([]string{"p0", "p1", "p2", "p3", "p4", "p5", uuidPatient}[r.IntN(7)], fmt.Sprintf(`,"link":[{"other":%s,"type":"seealso"}],"language":"l%d"`, ref(), r.IntN(99)))
	case 1, 2:
		return fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","valueString":"%d","subject":%s,"performer":[%s,%s]}`, id, r.IntN(99), ref(), ref(), ref())
	case 3:
		return fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","subject":{"reference":"Device/d"},"valueString":"%s"}`, id, strings.Repeat("x", r.IntN(600)))
	case 4:
		return fmt.Sprintf(`{"resourceType":"Encounter","id":"e%d","status":"finished","class":{"code":"AMB"},"subject":%s,"participant":[{"individual":%s}]}`, id, ref(), ref())
	case 5:
		return fmt.Sprintf(`{"resourceType":"Condition","id":"c%d","subject":%s,"asserter":%s,"recorder":%s}`, id, ref(), ref(), ref())
	case 6:
		return fmt.Sprintf(`{"resourceType":"Appointment","id":"a%d","status":"booked","participant":[{"status":"accepted","actor":%s},{"status":"accepted","actor":%s}]}`, id, ref(), ref())
	case 7:
		return fmt.Sprintf(`{"resourceType":"AllergyIntolerance","id":"y%d","patient":%s,"recorder":%s}`, id, ref(), ref())
	case 8:
		return fmt.Sprintf(`{"resourceType":"Organization","id":"g%d","name":"n"}`, id)
	}
	targets := []string{ref()}
	for range r.IntN(4) {
		targets = append(targets, fmt.Sprintf(`{"reference":"%s%d"}`, []string{"Observation/o", "Condition/c", "Organization/g", "http://host/Encounter/e", "Provenance/v"}[r.IntN(5)], r.IntN(12)))
	}
	return fmt.Sprintf(`{"resourceType":"Provenance","id":"v%d","recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"reference":"Practitioner/x"}}],"target":[%s]}`, id, strings.Join(targets[r.IntN(len(targets)):], ","))
}

// randomStore fills a site with histories of a few runs and a head.
func (s *testSite) randomStore(r *rand.Rand) {
	s.t.Helper()
	s.imports(IncrementalLoad, 0, s.file("group", `{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p1"}},{"entity":{"reference":"Patient/p4"}},{"entity":{"reference":"Patient/p6"}},{"entity":{"reference":"Patient/`+uuidPatient+`"}},{"entity":{"reference":"Patient/p2"},"inactive":true}]}`,
		patient("p1", ""), patient("p4", "")))
	for round := range 4 {
		var lines []string
		for range 40 {
			lines = append(lines, randomResource(r))
		}
		s.imports(IncrementalLoad, 2000, s.file(fmt.Sprint("random", round), lines...))
	}
	for i := range 6 {
		s.change(fmt.Sprint("o", i), "", true)
	}
	s.change("p5", "", true)
}

// block is what an export has of a patient.
type block struct {
	lines []string
	files []string
}

// readBlocks reads the files of an export that is organized by patients, and makes
// sure that they are built as the specification says.
func (s *testSite) readBlocks(status *ExportStatus, linesMax int) map[string]*block {
	s.t.Helper()
	blocks := map[string]*block{}
	continued := map[string]string{} // the patient that a file goes on with, by its name
	for _, f := range status.Files {
		if f.IsDeleted() {
			continue
		}
		text := s.exportFile(status.ID, f.Name)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if int64(len(lines)) != f.Count || int64(len(text)) != f.Bytes || f.Type != "" || !strings.HasPrefix(f.Name, "ByPatient-") || !isExportFile(f.Name) {
			s.t.Fatalf("%+v has %d lines", f, len(lines))
		}
		if len(lines) > max(linesMax, 2) {
			s.t.Errorf("%s has %d lines, above %d", f.Name, len(lines), linesMax)
		}
		owner, here := "", 0
		for i, line := range lines {
			header, isHeader := strings.CutPrefix(line, `{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/`)
			if !isHeader {
				if owner == "" {
					s.t.Fatalf("%s does not begin with a header", f.Name)
				}
				if here++; strings.Contains(line, `"resourceType":"Patient"`) && len(blocks[owner].lines) > 0 && !strings.Contains(blocks[owner].lines[0], `"resourceType":"Patient"`) {
					s.t.Errorf("the Patient of %s is not the first", owner)
				}
				blocks[owner].lines = append(blocks[owner].lines, line)
				continue
			}
			if i > 0 && here == 0 {
				s.t.Errorf("the block of %s in %s is empty", owner, f.Name)
			}
			owner, here = strings.TrimSuffix(header, `"}}]}`), 0
			b := blocks[owner]
			if b == nil {
				b = new(block)
				blocks[owner] = b
			} else if i > 0 || continued[f.Name] != owner {
				s.t.Errorf("%s goes on in line %d of %s, and no file says so", owner, i+1, f.Name)
			}
			b.files = append(b.files, f.Name)
		}
		if f.Continues != "" {
			continued[f.Continues] = owner
		}
	}
	for name, owner := range continued {
		if !slices.Contains(blocks[owner].files, name) {
			s.t.Errorf("%s should go on in %s", owner, name)
		}
	}
	for owner, b := range blocks {
		if len(b.lines)+1 <= linesMax && len(b.files) > 1 {
			s.t.Errorf("%s has %d lines in %v", owner, len(b.lines), b.files)
		}
		slices.Sort(b.lines)
	}
	return blocks
}

// exportParsed runs an export as it is asked for over HTTP.
func (s *testSite) exportParsed(k ExportKickOff) *ExportStatus {
	s.t.Helper()
	k.URL, k.Base = "http://host/$export", "http://host"
	r, err := s.jobs.ParseExport(&k)
	if err != nil {
		s.t.Fatal(err)
	}
	s.request = r
	defer func() { s.request = nil }()
	status := s.runAll()
	if status.State != Completed {
		s.t.Fatalf("%+v ends as %+v", k, status.Error)
	}
	return status
}

// plainLines are the lines of an export by type, those of deletions apart.
func (s *testSite) plainLines(status *ExportStatus) (lines, deletions []string) {
	for _, f := range status.Files {
		text := strings.Split(strings.TrimSuffix(s.exportFile(status.ID, f.Name), "\n"), "\n")
		if f.IsDeleted() {
			deletions = append(deletions, text...)
		} else {
			lines = append(lines, text...)
		}
	}
	slices.Sort(deletions)
	return lines, deletions
}

func with(query map[string][]string, name, value string) map[string][]string {
	more := maps.Clone(query)
	if more == nil {
		more = map[string][]string{}
	}
	more[name] = append(slices.Clone(more[name]), value)
	return more
}

// checkOrganized compares an export organized by patients with the same one by
// type, parted by the compartments that the model finds.
func (s *testSite) checkOrganized(k ExportKickOff, members []string, linesMax int) {
	s.t.Helper()
	plain, deletions := s.plainLines(s.exportParsed(k))
	tells, _ := s.plainLines(s.exportParsed(ExportKickOff{}))
	history := slices.ContainsFunc(k.Query["includeAssociatedData"], func(v string) bool { return v[0] == '_' })
	if history {
		tells, _ = s.plainLines(s.exportParsed(ExportKickOff{Query: map[string][]string{"includeAssociatedData": {"_history,_deleted"}}}))
	}
	var versions []modelResource
	whole := map[string]modelResource{}
	for _, line := range tells {
		v := readModel(s.t, line)
		versions, whole[v.key] = append(versions, v), v
	}
	want := map[string][]string{}
	for _, line := range plain {
		r := readModel(s.t, line)
		if k.Query["_elements"] != nil { // the line does not show all
			r.body = whole[r.key].body
		}
		owners := modelOwners(r, versions)
		if members != nil {
			owners = slices.DeleteFunc(owners, func(id string) bool { return !slices.Contains(members, id) })
		}
		if len(owners) == 0 && (k.PatientLevel || k.Group != "") && !strings.HasPrefix(r.key, "Provenance/") {
			s.t.Errorf("%v has %s, which is nobody's", k, line)
		}
		for _, owner := range owners {
			want[owner] = append(want[owner], line)
		}
	}
	organized := k
	organized.Query = with(with(k.Query, "organizeOutputBy", "Patient"), "_maxCount", fmt.Sprint(linesMax))
	status := s.exportParsed(organized)
	got := s.readBlocks(status, linesMax)
	for _, owner := range slices.Sorted(maps.Keys(want)) {
		slices.Sort(want[owner])
		if got[owner] == nil || !slices.Equal(got[owner].lines, want[owner]) {
			s.t.Errorf("%+v: %s has\n%+v\nand not\n%s", k.Query, owner, got[owner], strings.Join(want[owner], "\n"))
		}
	}
	for owner := range got {
		if want[owner] == nil {
			s.t.Errorf("%+v: there is a block of %s", k.Query, owner)
		}
	}
	if _, told := s.plainLines(status); !slices.Equal(deletions, told) && (k.PatientLevel || k.Group != "") {
		s.t.Errorf("%+v: deleted are %v and not %v", k.Query, told, deletions)
	}
	names, err := s.fs.List(s.jobs.exportDir(status.ID))
	if err != nil || len(names) != len(status.Files) {
		s.t.Errorf("the directory has %v, and %d files are told: %v", names, len(status.Files), err)
	}
}

// For random stores, at each level and with each parameter, an export organized by
// patients has what the one by type has, each line in the block of every patient in
// whose compartment it is.
func TestOrganizedExportsHaveEachPatientsCompartment(t *testing.T) {
	for seed := range uint64(organizeSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			s := newTestSite(t)
			s.close()
			s.sectionRows, s.blocksBytes, s.rounds = uint64(10+r.IntN(200)), int64(500+r.IntN(20000)), 1
			s.open()
			s.randomStore(r)
			since := s.now().UTC().Format("2006-01-02T15:04:05.000Z")
			s.imports(IncrementalLoad, 0, s.file("later", randomResource(r), randomResource(r), randomResource(r), randomResource(r), randomResource(r)))
			s.change("o7", "", true)
			members := []string{"p1", "p4", "p6", uuidPatient}
			levels := []struct {
				kickOff ExportKickOff
				members []string
			}{
				{ExportKickOff{}, nil},
				{ExportKickOff{PatientLevel: true}, nil},
				{ExportKickOff{Group: "g"}, members},
				{ExportKickOff{PatientLevel: true, Body: map[string][]string{"patient": {"Patient/p4", "Patient/p1"}}}, []string{"p1", "p4"}},
			}
			for _, level := range levels {
				f := func(name, value string) {
					t.Helper()
					k := level.kickOff
					if name != "" {
						k.Query = map[string][]string{name: {value}}
					}
					s.checkOrganized(k, level.members, 1+r.IntN(40))
				}
				f("", "")
				f("_type", "Observation,Provenance")
				f("_since", since)
				f("_until", since)
				f("_elements", "id,status")
				f("_typeFilter", "Observation?status=final&subject=Patient/p1")
				f("includeAssociatedData", "RelevantProvenanceResources")
				f("includeAssociatedData", "LatestProvenanceResources")
				if !level.kickOff.PatientLevel && level.kickOff.Group == "" {
					f("includeAssociatedData", "_history")
					f("includeAssociatedData", "_deleted")
					f("includeAssociatedData", "_history,_deleted")
				}
			}
		})
	}
}

// The power is cut at every file operation of an export organized by patients. It
// goes on as of the same instant, whatever is written until then.
func TestOrganizedExportCrashGoesOn(t *testing.T) {
	first := newTestSite(t)
	first.randomStore(rand.New(rand.NewPCG(7, 7)))
	if err := first.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.close()
	disk := first.fs.(*vfs.Mem)
	s := makeTestSite(t)
	s.sectionRows, s.blocksBytes = 10, 2000
	s.request = &ExportRequest{Base: "http://host", ByPatient: true, PatientLevel: true, FileLines: 20}
	var want map[string]*block
	resumed := 0
	for cut := int64(1); ; cut++ {
		left, catalog, _ := s.crashExport(disk.CrashClone(1), cut)
		if left == nil {
			if cut < 50 || resumed < 4 {
				t.Fatalf("the export took %d file operations, and %d times a section was whole", cut, resumed)
			}
			return
		}
		var record exportRecord
		if err := json.Unmarshal(catalog[jobKey(keyExport, 1)], &record); err != nil {
			t.Fatal(err)
		}
		s.recover(left, catalog, func() {
			if record.LSN == 0 {
				return
			}
			s.change("p1", `,"active":false`, false)
			s.change("o8", "", true)
			if err := s.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		status := s.waitExport(1)
		if status.State != Completed {
			t.Fatalf("cut at %d: the export ends as %+v", cut, status.Error)
		}
		got := s.readBlocks(status, 20)
		if want == nil {
			want = got
		}
		for owner, b := range want {
			if got[owner] == nil || !slices.Equal(got[owner].lines, b.lines) || len(got) != len(want) {
				t.Fatalf("cut at %d: %s has\n%+v\nand not\n%+v", cut, owner, got[owner], b)
			}
		}
		if len(catalog) > 2 {
			resumed++
		}
		if names, err := s.fs.List(s.jobs.exportDir(1)); err != nil || len(names) != len(status.Files) {
			t.Fatalf("cut at %d: the directory has %v: %v", cut, names, err)
		}
		s.close()
	}
}

// An import takes the resources of files organized by patients, those of several
// blocks once, and refuses the other copies, and the headers with a text that says what they are.
func TestOrganizedFilesAreImported(t *testing.T) {
	s := newTestSite(t)
	both := `{"resourceType":"Observation","id":"o","status":"final","subject":{"reference":"Patient/a"},"performer":[{"reference":"Patient/b"}]}`
	s.imports(IncrementalLoad, 0, s.file("1", patient("a", ""), patient("b", ""), both))
	status := s.exportParsed(ExportKickOff{Query: map[string][]string{"organizeOutputBy": {"Patient"}}})
	back := newTestSite(t)
	imported := back.wait(back.start(IncrementalLoad, 0, back.file("in", strings.TrimSuffix(s.exportFile(status.ID, status.Files[0].Name), "\n"))))
	if counts := testCounts(imported); counts != "3/3" { // the second copy is told as a duplicate
		t.Errorf("loaded/refused are %s", counts)
	}
	if got, want := back.lines(), s.lines(); !slices.Equal(got, want) {
		t.Errorf("there are %v and not %v", got, want)
	}
	d, err := back.jobs.ErrorFile(imported.ID, imported.Inputs[0].ErrorFile)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if text, err := readDownload(d); err != nil || strings.Count(string(text), "the header of a patient's block") != 2 {
		t.Errorf("%s: %v", text, err)
	}
}

// What an export set aside is checked when it is read back.
func TestSpillIsChecked(t *testing.T) {
	disk := vfs.NewMem(1)
	s := newSpill(disk, "out", func() error { return nil }, 2, 400)
	for i := range 40 {
		if err := s.add(i%2, fmt.Append(nil, "p", i), 7, fmt.Appendf(nil, "line %d\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	f := func(part int) (lines []string, err error) {
		err = s.each(part, func(e spilled) error {
			lines = append(lines, string(e.owner)+" "+string(e.text))
			return nil
		})
		return lines, err
	}
	for part := range 2 {
		lines, err := f(part)
		if err != nil || len(lines) != 20 || lines[0] != fmt.Sprintf("p%d line %d\n", part, part) || lines[19] != fmt.Sprintf("p%d line %d\n", 38+part, 38+part) {
			t.Errorf("part %d has %q: %v", part, lines, err)
		}
	}
	file, err := disk.OpenWrite("out/" + exportSpillName)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	end := s.at.Load()
	for at := range end {
		var b [1]byte
		_, err := file.ReadAt(b[:], at)
		if err == nil {
			_, err = file.WriteAt([]byte{b[0] ^ 0x10}, at)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, first := f(0)
		if _, second := f(1); first == nil && second == nil {
			t.Errorf("byte %d of %d may change unseen", at, end)
		}
		if _, err := file.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if names, err := disk.List("out"); err != nil || len(names) > 0 {
		t.Errorf("it leaves %v: %v", names, err)
	}
}

func TestOrganizeIsRefusedWhereItCannotBe(t *testing.T) {
	m := testManager(t)
	f := func(query map[string][]string, lenient bool, want string, ignored int) {
		t.Helper()
		r, err := m.ParseExport(&ExportKickOff{URL: "u", Query: query, Lenient: lenient})
		if text := fmt.Sprint(err); want != "" && (err == nil || !strings.Contains(text, want)) || want == "" && err != nil {
			t.Errorf("%v gives %q, want %q", query, text, want)
		}
		if err == nil && len(r.Ignored) != ignored {
			t.Errorf("%v leaves out %v", query, r.Ignored)
		}
	}
	by := func(value string) map[string][]string { return map[string][]string{"organizeOutputBy": {value}} }
	f(by("Patient"), false, "", 1)
	f(by("Practitioner"), false, "files are organized by Patient or", 0)
	f(by("Nothing"), false, "files are organized by Patient or", 0)
	f(by(""), false, "files are organized by Patient or", 0)
	f(by("Practitioner"), true, "", 1)
	f(with(by("Patient"), "organizeOutputBy", "Group"), true, "more than one value", 0)
	f(with(by("Patient"), "_type", "Organization"), false, "in no patient's compartment", 0)
	f(with(by("Patient"), "_type", "Organization,Observation"), true, "", 2)
	f(with(by("Patient"), "_typeFilter", "Organization?name=x"), false, "in no patient's compartment", 0)
	f(with(by("Patient"), "_outputFormat", formatParquet), false, "are NDJSON", 0)
}

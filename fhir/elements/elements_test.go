package elements

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// row is a line of the specification's table of elements.
type row struct{ kind, path, min, max, types, reference, summary, modifier string }

func specification(t *testing.T) []row {
	t.Helper()
	dir := os.Getenv("KILN_SHARED")
	if dir == "" {
		dir = "../../../shared"
	}
	data, err := os.ReadFile(dir + "/definitions/elements-r4.tsv")
	if os.IsNotExist(err) {
		t.Skipf("the specification's tables are not at %s", dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		f := strings.Split(line, "\t")
		if i > 0 {
			rows = append(rows, row{kind: f[0], path: f[2], min: f[3], max: f[4], types: f[5], reference: f[7], summary: f[8], modifier: f[9]})
		}
	}
	return rows
}

// made is what elements.txt has to hold.
func made(rows []row) string {
	parents := map[string]bool{}
	for _, r := range rows {
		if i := strings.LastIndexByte(r.path, '.'); i >= 0 {
			parents[r.path[:i]] = true
		}
	}
	var order []string
	lines := map[string][]string{}
	for _, r := range rows {
		if !strings.Contains(r.path, ".") && parents[r.path] {
			order = append(order, r.path)
			if strings.HasPrefix(r.kind, "resource") {
				lines[r.path] = []string{resourceMark}
			}
			continue
		}
		i := strings.LastIndexByte(r.path, '.')
		if i < 0 {
			continue
		}
		parent, name := r.path[:i], r.path[i+1:]
		if parents[r.path] {
			order = append(order, r.path)
		}
		_, common := shared[name]
		_, ofResources := sharedByResources[name]
		isResource := slices.Equal(lines[parent][:min(1, len(lines[parent]))], []string{resourceMark})
		if !common && !(ofResources && isResource) {
			lines[parent] = append(lines[parent], field(r, name, parents[r.path]))
		}
	}
	var out strings.Builder
	for _, parent := range order {
		out.WriteString(parent)
		for _, f := range lines[parent] {
			out.WriteString("\t" + f)
		}
		out.WriteString("\n")
	}
	return out.String()
}

func field(r row, name string, inPlace bool) string {
	f := name
	if r.max == "*" {
		f += "*"
	}
	if r.min != "0" {
		f += "+"
	}
	if r.summary == "1" {
		f += "!"
	}
	if r.modifier == "1" {
		f += "?"
	}
	switch {
	case inPlace:
		return f + ":" + r.path
	case r.reference != "":
		return f + ":" + strings.TrimPrefix(r.reference, "#")
	case r.types != "":
		return f + ":" + r.types
	}
	return f
}

func TestTableIsTheSpecifications(t *testing.T) {
	want := made(specification(t))
	if os.Getenv("KILN_UPDATE") != "" {
		if err := os.WriteFile("elements.txt", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text != want {
		t.Error("elements.txt is not what the specification's table gives; make it anew with KILN_UPDATE=1")
	}
}

func TestElementsAreFound(t *testing.T) {
	f := func(parent, key, name string, want Element) {
		t.Helper()
		gotName, got, ok := ByKey(parent, key)
		if !ok || gotName != name || got.List != want.List || got.Mandatory != want.Mandatory || got.Summary != want.Summary ||
			got.Modifier != want.Modifier || got.Choice != want.Choice || !slices.Equal(got.Types, want.Types) {
			t.Errorf("%s of %s: got %q %+v %v", key, parent, gotName, got, ok)
		}
	}
	f("Patient", "active", "active", Element{Summary: true, Modifier: true, Types: []string{"boolean"}})
	f("Patient", "modifierExtension", "modifierExtension", Element{List: true, Modifier: true, Types: []string{"Extension"}})
	f("Patient", "name", "name", Element{List: true, Summary: true, Types: []string{"HumanName"}})
	f("Patient", "meta", "meta", Element{Summary: true, Types: []string{"Meta"}})
	f("Patient", "contact", "contact", Element{List: true, Types: []string{"Patient.contact"}})
	f("Patient.contact", "name", "name", Element{Types: []string{"HumanName"}})
	f("Observation", "valueQuantity", "value", Element{Choice: true, Summary: true, Types: []string{"Quantity"}})
	f("Observation", "effectiveDateTime", "effective", Element{Choice: true, Summary: true, Types: []string{"dateTime"}})
	f("Observation", "status", "status", Element{Mandatory: true, Summary: true, Modifier: true, Types: []string{"code"}})
	f("Bundle.entry", "link", "link", Element{List: true, Summary: true, Types: []string{"Bundle.link"}})
	f("HumanName", "extension", "extension", Element{List: true, Types: []string{"Extension"}})
	for _, bad := range [][2]string{{"Patient", "nam"}, {"Observation", "value"}, {"Observation", "valueAddress"}, {"HumanName", "meta"}, {"Nothing", "id"}} {
		if _, _, ok := ByKey(bad[0], bad[1]); ok {
			t.Errorf("%s has a member %s", bad[0], bad[1])
		}
	}
}

package search

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"kiln/internal/shareddata"
)

// definitions reads a table of the specification beside the repository, or skips.
func definitions(t *testing.T, name string) [][]string {
	t.Helper()
	text := shareddata.Read(t, shareddata.Path(t, "definitions", name))
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows[1:]
}

// wholeTypes is from how many targets on a reference may be to anything.
const wholeTypes = 145

// definedParameters is parametersTable as the definitions give it.
func definedParameters(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	rows := definitions(t, "search-params-r4.tsv")
	for _, every := range []bool{false, true} {
		for _, r := range rows {
			if (r[0] == "Resource" || r[0] == "DomainResource") != every {
				continue
			}
			targets := r[4]
			if strings.Count(targets, ",")+1 >= wholeTypes {
				targets = ""
			}
			if !strings.HasPrefix(r[6], URLPrefix) {
				t.Fatalf("the URL of %v begins in another way", r)
			}
			fmt.Fprintln(&out, strings.Join([]string{r[0], r[1], r[2], r[3], targets, r[5], r[6][len(URLPrefix):]}, "\t"))
		}
	}
	return out.String()
}

// The embedded tables are what the definitions say. KILN_UPDATE=1 writes them.
func TestTablesAreTheDefinitions(t *testing.T) {
	parameters := definedParameters(t)
	if n := strings.Count(parameters, "\n"); n != 1706 {
		t.Errorf("the definitions have %d parameters, not 1,706", n)
	}
	numbers, err := fieldNumbers(fieldsTable)
	if err != nil {
		t.Fatal(err)
	}
	fields := fieldsTable
	_, err = compileTable(parameters, func(kind Kind, name string) uint16 {
		key := kind.String() + "\t" + name
		if numbers[key] == 0 {
			numbers[key] = uint16(FieldMin + len(numbers))
			fields += fmt.Sprintf("%d\t%s\n", numbers[key], key)
		}
		return numbers[key]
	})
	if err != nil {
		t.Fatal(err)
	}
	f := func(file, embedded, defined string) {
		t.Helper()
		if embedded == defined {
			return
		}
		t.Errorf("%s is not what the definitions give", file)
		if os.Getenv("KILN_UPDATE") != "" {
			if err := os.WriteFile(file, []byte(defined), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	f("parameters.tsv", parametersTable, parameters)
	f("fields.tsv", fieldsTable, fields)
}

package search

import (
	_ "embed" // the table
	"fmt"
	"strings"
	"sync"

	"kiln/fhir"
)

// compartmentsTable has a row for every type in a compartment of R4: the
// compartment's type, the type, and the codes of the parameters that tie it
// (parted by commas; none: it is the compartment's own resource).
//
//go:embed compartments.tsv
var compartmentsTable string

// Member is a resource type in a compartment, and the parameters by which its
// resources belong to it: those that refer to the compartment's resource.
type Member struct {
	Type   fhir.TypeCode
	Params []*Param
}

// Compartment gives the members of a type's compartment in the order of their
// types; none: the type has no compartment.
func Compartment(of fhir.TypeCode) ([]Member, error) {
	all, err := compartments()
	return all[of], err
}

var compartments = sync.OnceValues(func() (map[fhir.TypeCode][]Member, error) {
	table, err := Load()
	if err != nil {
		return nil, err
	}
	all := map[fhir.TypeCode][]Member{}
	for line := range strings.Lines(compartmentsTable) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(cells) != 3 {
			return nil, fmt.Errorf("cannot read the table of compartments: %q", line)
		}
		of, m := fhir.TypeByName([]byte(cells[0])), Member{Type: fhir.TypeByName([]byte(cells[1]))}
		if of == 0 || m.Type == 0 {
			return nil, fmt.Errorf("cannot read the table of compartments: %q", line)
		}
		for _, code := range strings.FieldsFunc(cells[2], func(r rune) bool { return r == ',' }) {
			p := table.Param(m.Type, code)
			if p == nil || p.Kind != Reference {
				return nil, fmt.Errorf("the compartment of %s has no parameter %s of %s", cells[0], code, cells[1])
			}
			m.Params = append(m.Params, p)
		}
		all[of] = append(all[of], m)
	}
	return all, nil
})

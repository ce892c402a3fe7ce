package search

import (
	_ "embed" // the tables
	"fmt"
	"strconv"
	"strings"
	"sync"

	"kiln/fhir"
)

// parametersTable has a row for every search parameter of R4: type, code,
// search type, expression, targets (parted by commas; empty: any), components,
// and the URL behind URLPrefix.
//
//go:embed parameters.tsv
var parametersTable string

// fieldsTable gives every field its number: number, search type, name. Rows are
// only ever added at the end: the numbers are in runs.
//
//go:embed fields.tsv
var fieldsTable string

// URLPrefix begins the URL of every parameter of the specification.
const URLPrefix = "http://hl7.org/fhir/SearchParameter/"

// Table is all search parameters of R4, and perhaps more; see With. It is immutable and safe for concurrent use.
type Table struct {
	params []*Param
	fields []*Field
	byCode map[paramKey]*Param
	byName map[string]*Field // by kind and name
}

type paramKey struct {
	t    fhir.TypeCode
	code string
}

// Load gives the table, which is compiled when the first caller asks: about 10
// milliseconds. An error means that the embedded tables do not fit each other.
func Load() (*Table, error) { return load() }

var load = sync.OnceValues(newTable)

func newTable() (*Table, error) {
	numbers, err := fieldNumbers(fieldsTable)
	if err != nil {
		return nil, err
	}
	missing := ""
	t, err := compileTable(parametersTable, func(kind Kind, name string) uint16 {
		n := numbers[kind.String()+"\t"+name]
		if n == 0 {
			missing = name
		}
		return n
	})
	if err == nil && missing != "" {
		err = fmt.Errorf("field %q has no number", missing)
	}
	return t, err
}

// Param finds a parameter by the type that is searched and its code, also one
// of every type ("_tag"); nil: there is none.
func (t *Table) Param(of fhir.TypeCode, code string) *Param {
	if p := t.byCode[paramKey{of, code}]; p != nil {
		return p
	}
	return t.byCode[paramKey{0, code}]
}

// Params is every parameter in the order of type and code, those of every type
// last; those that were added follow. Fields is every field of R4 in the order of
// their numbers. The caller does not change them.
func (t *Table) Params() []*Param { return t.params }
func (t *Table) Fields() []*Field { return t.fields }

func fieldNumbers(table string) (map[string]uint16, error) {
	numbers, last := map[string]uint16{}, uint64(FieldMin-1)
	for line := range strings.Lines(table) {
		number, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n != last+1 || n >= FieldCustomMin || numbers[name] != 0 {
			return nil, fmt.Errorf("cannot read the table of fields: %q", line)
		}
		numbers[name], last = uint16(n), n
	}
	return numbers, nil
}

// compileTable compiles every row of a parameters table.
func compileTable(table string, number func(Kind, string) uint16) (*Table, error) {
	t := &Table{byCode: map[paramKey]*Param{}}
	c := &compiler{fields: map[string]*Field{}}
	c.number = number
	kinds := map[string]Kind{}
	var rows [][]string
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(cells) != 7 || kindByName(cells[2]) == 0 {
			return nil, fmt.Errorf("cannot read the table of parameters: %q", line)
		}
		kinds[cells[0]+"\t"+cells[1]] = kindByName(cells[2])
		rows = append(rows, cells)
	}
	for _, cells := range rows {
		p, err := c.param(cells, kinds)
		if err != nil {
			return nil, fmt.Errorf("cannot compile parameter %s of %s: %w", cells[1], cells[0], err)
		}
		t.params = append(t.params, p)
		t.byCode[paramKey{p.Type, p.Code}] = p
	}
	t.fields, t.byName = c.sorted(), c.fields
	return t, nil
}

func (c *compiler) param(cells []string, kinds map[string]Kind) (*Param, error) {
	root, components := cells[0], cells[5]
	p := &Param{
		Type: fhir.TypeByName([]byte(root)), Code: cells[1], Kind: kindByName(cells[2]),
		URL: URLPrefix + cells[6], Expression: cells[3], Components: components, Targets: targets(cells[4]),
	}
	if p.Type == 0 && root != "Resource" && root != "DomainResource" {
		return nil, fmt.Errorf("%q is no resource type", root)
	}
	var err error
	switch {
	case p.Expression == "":
		p.Virtual = Unsupported
	case p.Type == 0 && p.Code == "_id":
		p.Virtual = ByKey
	case p.Type == 0 && p.Code == "_lastUpdated":
		p.Virtual = ByClock
	case p.Kind == Composite:
		p.Pairings, err = c.pairings(root, p.Expression, components, func(code string) Kind { return kinds[root+"\t"+code] })
	default:
		p.Sources, err = c.sources(root, p.Kind, p.Expression)
	}
	return p, err
}

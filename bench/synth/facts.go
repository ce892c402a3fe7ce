package synth

import (
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed facts/*.tsv
var factFiles embed.FS

// facts is everything measured, in the form the writers need.
type facts struct {
	kinds        []encounterKind
	kindPick     picker
	coded        map[string]*coded // by kind + " " + code
	observations map[string]*observation
	panels       map[string]*panel
	allergies    []*coded
	names        map[string][]string // by kind: family, given-female, given-male, city, street
}

// encounterKind is one line of encounters.tsv with its lines of content.tsv.
type encounterKind struct {
	class         string
	concept       string // CodeableConcept
	display       string
	minutes       int
	reasonPercent int
	content       []content
}

// content is something that an encounter of a kind brings, so many times on
// average. One of the pointers is set.
type content struct {
	kind        string
	mean        float64
	coded       *coded
	observation *observation
	panel       *panel
}

// coded is one line of codes.tsv.
type coded struct {
	display string
	coding  string // Coding
	concept string // CodeableConcept with text
	lower   string // display in lower case, for notes
	more    map[string]string
}

func (c *coded) number(name string) int {
	n, _ := strconv.Atoi(c.more[name])
	return n
}

type observation struct {
	concept    string
	display    string // quoted
	category   string // code, the same as its display
	profiles   string // the meta member with its comma, or empty
	kind       string
	quantity   quantity
	choices    []string // ready value members, for concept and string
	choicePick picker
	components []component
}

type component struct {
	concept string
	observation
}

type quantity struct {
	low, high float64
	precision byte // 'i', 's' or 'd'
	digits    int
	unit      string // the members after the value
}

type panel struct {
	concept string
	results []*observation
}

// loadFacts reads the embedded tables. An error is a table that was edited
// wrongly.
func loadFacts() (*facts, error) {
	f := &facts{
		coded:        map[string]*coded{},
		observations: map[string]*observation{},
		panels:       map[string]*panel{},
		names:        map[string][]string{},
	}
	steps := []struct {
		file    string
		columns int
		row     func([]string) error
	}{
		{"encounters.tsv", 6, f.addKind},
		{"codes.tsv", 6, f.addCoded},
		{"observations.tsv", 10, f.addObservation},
		{"values.tsv", 9, f.addValue},
		{"panels.tsv", 4, f.addPanel},
		{"content.tsv", 4, f.addContent},
		{"names.tsv", 2, f.addName},
	}
	for _, step := range steps {
		if err := readTable(step.file, step.columns, step.row); err != nil {
			return nil, err
		}
	}
	for i := range f.kinds {
		slices.SortStableFunc(f.kinds[i].content, func(a, b content) int {
			return contentOrder(a.kind) - contentOrder(b.kind)
		})
	}
	return f, nil
}

// contentOrder is the order of a Synthea bundle: reasons come before what is
// done for them.
func contentOrder(kind string) int {
	return slices.Index([]string{"condition", "observation", "panel", "procedure", "medication", "immunization", "careplan", "imaging", "device", "supply"}, kind)
}

func readTable(file string, columns int, row func([]string) error) error {
	text, err := factFiles.ReadFile("facts/" + file)
	if err != nil {
		return fmt.Errorf("cannot read table %q: %w", file, err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(line, "\t")
		if len(cells) != columns {
			return fmt.Errorf("cannot read table %q line %d: %d columns, want %d", file, i+1, len(cells), columns)
		}
		if err := row(cells); err != nil {
			return fmt.Errorf("cannot read table %q line %d: %w", file, i+1, err)
		}
	}
	return nil
}

const (
	snomed = "http://snomed.info/sct"
	loinc  = "http://loinc.org"
)

func coding(system, code, display string) string {
	return `{"system":"` + system + `","code":"` + code + `","display":` + quote(display) + `}`
}

func concept(system, code, display string) string {
	return `{"coding":[` + coding(system, code, display) + `],"text":` + quote(display) + `}`
}

func (f *facts) addKind(c []string) error {
	weight, err := strconv.Atoi(c[0])
	if err != nil {
		return err
	}
	kind := encounterKind{class: c[1], concept: concept(snomed, c[2], c[3]), display: c[3]}
	if kind.minutes, err = strconv.Atoi(c[4]); err != nil {
		return err
	}
	if kind.reasonPercent, err = strconv.Atoi(c[5]); err != nil {
		return err
	}
	f.kinds = append(f.kinds, kind)
	f.kindPick.add(weight)
	return nil
}

func (f *facts) addCoded(c []string) error {
	entry := &coded{
		display: c[4],
		coding:  coding(c[2], c[3], c[4]),
		concept: concept(c[2], c[3], c[4]),
		lower:   strings.ToLower(c[4]),
		more:    map[string]string{},
	}
	for _, pair := range strings.Split(c[5], ";") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			entry.more[name] = value
		}
	}
	if c[0] == "allergy" {
		f.allergies = append(f.allergies, entry)
	}
	key := c[0] + " " + c[3]
	if f.coded[key] == nil { // the more frequent spelling stands first
		f.coded[key] = entry
	}
	return nil
}

func (f *facts) addObservation(c []string) error {
	o := &observation{concept: concept(loinc, c[0], c[1]), display: quote(c[1]), category: c[2], kind: c[4]}
	if c[3] != "" {
		o.profiles = `,"meta":{"profile":["` + strings.ReplaceAll(c[3], " ", `","`) + `"]}`
	}
	var err error
	if o.kind == "quantity" {
		o.quantity, err = parseQuantity(c[5:])
	}
	f.observations[c[0]] = o
	return err
}

// parseQuantity reads unit, UCUM code, low, high, precision.
func parseQuantity(c []string) (q quantity, err error) {
	q.unit = `}`
	if c[0] != "" { // FHIR has no empty strings: what has no unit has no member for it
		q.unit = `,"unit":` + quote(c[0]) + `,"system":"http://unitsofmeasure.org","code":` + quote(c[1]) + `}`
	}
	if q.low, err = strconv.ParseFloat(c[2], 64); err != nil {
		return q, err
	}
	if q.high, err = strconv.ParseFloat(c[3], 64); err != nil {
		return q, err
	}
	q.precision = c[4][0]
	if q.precision != 'i' {
		q.digits, err = strconv.Atoi(c[4][1:])
	}
	return q, err
}

func (f *facts) addValue(c []string) error {
	o := f.observations[c[0]]
	if o == nil {
		return fmt.Errorf("unknown observation %q", c[0])
	}
	if c[1] != "" {
		o = o.component(concept(loinc, c[1], c[2]))
	}
	o.kind = c[3]
	switch c[3] {
	case "quantity":
		var err error
		o.quantity, err = parseQuantity(c[4:])
		return err
	case "concept":
		return o.addChoice(`"valueCodeableConcept":`+concept(c[4], c[5], c[6]), c[7])
	default:
		return o.addChoice(`"valueString":`+quote(c[4]), c[7])
	}
}

// component finds or adds the part of o with this code.
func (o *observation) component(concept string) *observation {
	for i := range o.components {
		if o.components[i].concept == concept {
			return &o.components[i].observation
		}
	}
	o.components = append(o.components, component{concept: concept})
	return &o.components[len(o.components)-1].observation
}

func (o *observation) addChoice(member, count string) error {
	weight := 1
	if count != "" {
		var err error
		if weight, err = strconv.Atoi(count); err != nil {
			return err
		}
	}
	o.choices = append(o.choices, member)
	o.choicePick.add(weight)
	return nil
}

func (f *facts) addPanel(c []string) error {
	p := &panel{concept: concept(loinc, c[1], c[2])}
	for _, code := range strings.Split(c[3], ",") {
		o := f.observations[code]
		if o == nil {
			return fmt.Errorf("unknown observation %q", code)
		}
		p.results = append(p.results, o)
	}
	f.panels[c[0]] = p
	return nil
}

func (f *facts) addContent(c []string) error {
	kind, err := strconv.Atoi(c[0])
	if err != nil {
		return err
	}
	item := content{kind: c[1], coded: f.coded[c[1]+" "+c[2]], observation: f.observations[c[2]], panel: f.panels[c[2]]}
	if item.coded == nil && item.observation == nil && item.panel == nil {
		return fmt.Errorf("unknown %s %q", c[1], c[2])
	}
	if item.mean, err = strconv.ParseFloat(c[3], 64); err != nil {
		return err
	}
	f.kinds[kind].content = append(f.kinds[kind].content, item)
	return nil
}

func (f *facts) addName(c []string) error {
	f.names[c[0]] = append(f.names[c[0]], c[1])
	return nil
}

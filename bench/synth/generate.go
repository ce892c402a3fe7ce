package synth

import "fmt"

// Options are explicit; Patients is required.
type Options struct {
	Seed     uint64
	Patients int
	First    int // number of the first patient, to continue a data set; providers come only with 0
}

// TypeStats counts the resources of one type. Bytes include no line ends.
type TypeStats struct {
	Resources int64
	Bytes     int64
}

// Stats says what was made.
type Stats struct {
	Resources int64
	Bytes     int64 // without line ends
	Types     map[string]TypeStats
}

// Sink takes one resource as compact JSON. The line holds until the call
// returns. An error ends the generation.
type Sink func(resourceType string, line []byte) error

// Generate makes the providers and then one patient after the other, each
// with a Patient first and a Provenance last. The error is the sink's, or says
// which option is wrong.
func Generate(opts Options, sink Sink) (Stats, error) {
	if opts.Patients < 0 || opts.First < 0 {
		return Stats{}, fmt.Errorf("cannot generate %d patients from number %d: negative", opts.Patients, opts.First)
	}
	known, err := loadFacts()
	if err != nil {
		return Stats{}, err
	}
	g := newGenerator(known, opts.Seed, sink)
	g.makeProviders(opts.First == 0)
	for k := opts.First; k < opts.First+opts.Patients && g.err == nil; k++ {
		g.makePatient(k)
	}
	return g.stats(), g.err
}

// generator writes one line at a time. The first error of the sink sticks;
// nothing is given to the sink after it.
type generator struct {
	known *facts
	seed  uint64
	sink  Sink
	err   error
	rnd   random
	out   line

	sites []*site // providers, the same for every number of patients

	typeName string // of the line in out
	id       string
	targets  []byte // the references of one patient's Provenance, each with a comma behind it
	counts   map[string]*TypeStats
}

func newGenerator(known *facts, seed uint64, sink Sink) *generator {
	return &generator{known: known, seed: seed, sink: sink, counts: map[string]*TypeStats{}}
}

// begin starts a resource. The profile is the last part of a US Core profile's
// address, or empty.
func (g *generator) begin(typeName, id, profile string) *line {
	g.typeName, g.id = typeName, id
	g.out = g.out[:0]
	g.out.add(`{"resourceType":"`, typeName, `","id":"`, id, `"`)
	if profile != "" {
		g.out.add(`,"meta":{"profile":["`, usCore, profile, `"]}`)
	}
	return &g.out
}

const usCore = "http://hl7.org/fhir/us/core/StructureDefinition/"

// end closes the resource, gives it to the sink and remembers it for the
// Provenance.
func (g *generator) end() {
	g.out = append(g.out, '}')
	if g.err != nil {
		return
	}
	count := g.counts[g.typeName]
	if count == nil {
		count = &TypeStats{}
		g.counts[g.typeName] = count
	}
	count.Resources++
	count.Bytes += int64(len(g.out))
	g.targets = append(g.targets, `{"reference":"`...)
	g.targets = append(g.targets, g.typeName...)
	g.targets = append(g.targets, '/')
	g.targets = append(g.targets, g.id...)
	g.targets = append(g.targets, `"},`...)
	g.err = g.sink(g.typeName, g.out)
}

func (g *generator) stats() Stats {
	s := Stats{Types: make(map[string]TypeStats, len(g.counts))}
	for name, count := range g.counts {
		s.Types[name] = *count
		s.Resources += count.Resources
		s.Bytes += count.Bytes
	}
	return s
}

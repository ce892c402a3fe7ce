package synth

// provenance says who recorded everything of a patient: the longest line of
// the record, with one reference per resource.
func (g *generator) provenance(p *person, v *visit) {
	agent := func(system, code, display string) string {
		return `{"type":` + concept(system, code, display) + `,"who":` + v.site.practitioner + `,"onBehalfOf":` + v.site.organization + `}`
	}
	l := g.begin("Provenance", g.rnd.uuid(), "us-core-provenance")
	l.add(`,"target":[`)
	*l = append(*l, g.targets[:len(g.targets)-1]...)
	l.add(`],"recorded":"`, v.instant(p, v.startText), `","agent":[`,
		agent("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "author", "Author"), `,`,
		agent("http://hl7.org/fhir/us/core/CodeSystem/us-core-provenance-participant-type", "transmitter", "Transmitter"), `]`)
	g.end()
}

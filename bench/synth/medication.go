package synth

// medication writes a prescription with the claim of the pharmacy. What is
// given on the ward also has a Medication and its administration.
func (g *generator) medication(p *person, v *visit, code *coded) {
	r := g.rnd
	id, status := r.uuid(), "stopped"
	if r.percent(8) {
		status = "active"
	}
	member := `"medicationCodeableConcept":` + code.concept
	administered := r.percent(code.number("admin"))
	if administered {
		member = `"medicationReference":` + reference("Medication", g.medicationOnly(code), "")
	}
	l := g.begin("MedicationRequest", id, "us-core-medicationrequest")
	l.add(`,"status":"`, status, `","intent":"order",`, member, `,"subject":`, p.ref, `,"encounter":`, v.ref,
		`,"authoredOn":"`, v.startText, `","requester":`, v.site.practitioner)
	if reason := v.because(p); reason != nil && r.percent(code.number("reason")) {
		l.add(`,"reasonReference":[`, reason.ref, `]`)
	}
	if r.percent(code.number("dosage")) {
		g.dosage(l, code)
	}
	g.end()
	if administered {
		g.administration(p, v, code)
	}
	g.pharmacyClaim(p, v, id, code)
	v.prescribed = append(v.prescribed, code)
	p.medications = append(p.medications, code)
}

func (g *generator) dosage(l *line, code *coded) {
	if g.rnd.percent(code.number("needed")) {
		l.add(`,"dosageInstruction":[{"sequence":1,"text":"Take as needed.","asNeededBoolean":true}]`)
		return
	}
	l.add(`,"dosageInstruction":[{"sequence":1,`)
	if g.rnd.percent(16) {
		const text = `Every four to six hours (qualifier value)`
		l.add(`"text":"`, text, `\n","additionalInstruction":[`, concept(snomed, "225757006", text), `],`)
	}
	l.add(`"timing":{"repeat":{"frequency":`)
	l.integer(1 + g.rnd.IntN(4))
	l.add(`,"period":1.0,"periodUnit":"d"}},"asNeededBoolean":false,"doseAndRate":[{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/dose-rate-type","code":"ordered","display":"Ordered"}]},"doseQuantity":{"value":`)
	l.integer(1 + g.rnd.IntN(2))
	l.add(`.0}}]}]`)
}

func (g *generator) medicationOnly(code *coded) string {
	id := g.rnd.uuid()
	l := g.begin("Medication", id, "us-core-medication")
	l.add(`,"code":`, code.concept, `,"status":"active"`)
	g.end()
	return id
}

func (g *generator) administration(p *person, v *visit, code *coded) {
	l := g.begin("MedicationAdministration", g.rnd.uuid(), "")
	l.add(`,"status":"completed","medicationCodeableConcept":`, code.concept, `,"subject":`, p.ref, `,"context":`, v.ref, `,"effectiveDateTime":"`, v.startText, `"`)
	if reason := v.because(p); reason != nil {
		l.add(`,"reasonReference":[`, reason.ref, `]`)
	}
	if g.rnd.percent(28) {
		l.add(`,"dosage":{"dose":{"value":`)
		l.integer(1 + g.rnd.IntN(4))
		l.add(`.0},"rateQuantity":{"value":2}}`)
	}
	g.end()
}

package synth

import (
	"fmt"
	"strings"
)

// allergies gives a patient about five of them, on one day of childhood.
func (g *generator) allergies(p *person) {
	at := (p.birth + moment(float64(p.end()-p.birth)*0.1)).text()
	for i := 1 + g.rnd.IntN(9); i > 0; i-- {
		code := g.known.allergies[g.rnd.IntN(len(g.known.allergies))]
		l := g.begin("AllergyIntolerance", g.rnd.uuid(), "us-core-allergyintolerance")
		l.add(`,"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]}`,
			`,"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-verification","code":"confirmed"}]}`,
			`,"type":"allergy","category":["`, code.more["category"], `"],"criticality":"low","code":`, code.concept, `,"patient":`, p.ref, `,"recordedDate":"`, at, `"`)
		g.end()
	}
}

func (g *generator) condition(p *person, v *visit, code *coded) {
	id := g.rnd.uuid()
	resolved := g.rnd.percent(code.number("resolved"))
	status := "active"
	if resolved {
		status = "resolved"
	}
	l := g.begin("Condition", id, "us-core-condition")
	l.add(`,"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"`, status, `"}]}`,
		`,"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-ver-status","code":"confirmed"}]}`,
		`,"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category","code":"encounter-diagnosis","display":"Encounter Diagnosis"}]}]`,
		`,"code":`, code.concept, `,"subject":`, p.ref, `,"encounter":`, v.ref, `,"onsetDateTime":"`, v.startText, `"`)
	if resolved {
		days := g.rnd.logNormal(float64(1+code.number("days")), 0.5)
		l.add(`,"abatementDateTime":"`, (v.start + moment(days*day)).text(), `"`)
	}
	l.add(`,"recordedDate":"`, v.startText, `"`)
	g.end()
	c := &condition{ref: reference("Condition", id, ""), code: code}
	v.conditions = append(v.conditions, c)
	p.conditions = append(p.conditions, c)
}

func (g *generator) procedure(p *person, v *visit, code *coded, n int) {
	id := g.rnd.uuid()
	start := v.start + moment(n)*hour
	end := start + moment(code.number("minutes")*minute)
	l := g.begin("Procedure", id, "us-core-procedure")
	l.add(`,"status":"completed","code":`, code.concept, `,"subject":`, p.ref, `,"encounter":`, v.ref,
		`,"performedPeriod":{"start":"`, start.text(), `","end":"`, end.text(), `"},"location":`, v.site.location)
	if reason := v.because(p); reason != nil && g.rnd.percent(code.number("reason")) {
		l.add(`,"reasonReference":[{"reference":"`, refText(reason.ref), `","display":`, quote(reason.code.display), `}]`)
	}
	g.end()
	v.procedures = append(v.procedures, billed{reference("Procedure", id, ""), code, g.rnd.logNormal(520, 0.6)})
}

// refText cuts "Type/id" out of a Reference without display.
func refText(ref string) string {
	return strings.TrimSuffix(strings.TrimPrefix(ref, `{"reference":"`), `"}`)
}

// because is the condition that something is done for: one of this visit, or
// the newest of the patient.
func (v *visit) because(p *person) *condition {
	switch {
	case len(v.conditions) > 0:
		return v.conditions[0]
	case v.reason != nil:
		return v.reason
	case len(p.conditions) > 0:
		return p.conditions[len(p.conditions)-1]
	}
	return nil
}

func (g *generator) immunization(p *person, v *visit, code *coded) {
	const costUSD = 140.52 // of every vaccine in the measured data
	id := g.rnd.uuid()
	l := g.begin("Immunization", id, "us-core-immunization")
	l.add(`,"status":"completed","vaccineCode":`, code.concept, `,"patient":`, p.ref, `,"encounter":`, v.ref,
		`,"occurrenceDateTime":"`, v.startText, `","primarySource":true,"location":`, v.site.location)
	g.end()
	v.immunizations = append(v.immunizations, billed{reference("Immunization", id, ""), code, costUSD})
}

// carePlan writes the team and the plan that it carries out.
func (g *generator) carePlan(p *person, v *visit, code *coded) {
	teamID, reason := g.rnd.uuid(), v.because(p)
	status, teamStatus, end := "active", "active", ""
	if g.rnd.percent(68) {
		status, teamStatus = "completed", "inactive"
		end = `,"end":"` + (v.start + moment(g.rnd.logNormal(60, 0.8)*day)).text() + `"`
	}
	period := `,"period":{"start":"` + v.startText + `"` + end + `}`
	g.careTeam(p, v, teamID, teamStatus, period, reason)

	l := g.begin("CarePlan", g.rnd.uuid(), "us-core-careplan")
	activities := g.activities(code)
	l.add(`,"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">Care Plan for `, inner(code.display), `.<br/>Activities: <ul>`)
	for range activities {
		l.add(`<li>`, inner(code.display), `</li>`)
	}
	l.add(`</ul>`)
	if reason != nil {
		l.add(`<br/>Care plan is meant to treat `, inner(reason.code.display), `.`)
	}
	l.add(`</div>"},"status":"`, status, `","intent":"order","category":[{"coding":[{"system":"http://hl7.org/fhir/us/core/CodeSystem/careplan-category","code":"assess-plan"}]},`,
		code.concept, `],"subject":`, p.ref, `,"encounter":`, v.ref, period, `,"careTeam":[{"reference":"CareTeam/`, teamID, `"}]`)
	if reason != nil {
		l.add(`,"addresses":[`, reason.ref, `]`)
	}
	separator := `,"activity":[`
	for _, activity := range activities {
		l.add(separator, `{"detail":{"code":`, activity.concept, `,"status":"`, []string{"completed", "in-progress"}[btoi(status == "active")], `","location":{"display":`, quote(v.site.name), `}}}`)
		separator = `,`
	}
	l.add(`]`)
	g.end()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// inner is s for use inside a JSON string.
func inner(s string) string {
	quoted := quote(s)
	return quoted[1 : len(quoted)-1]
}

func (g *generator) activities(code *coded) []*coded {
	var list []*coded
	for _, name := range strings.Split(code.more["activities"], ",") {
		if activity := g.known.coded["activity "+name]; activity != nil {
			list = append(list, activity)
		}
	}
	return list
}

func (g *generator) careTeam(p *person, v *visit, id, status, period string, reason *condition) {
	role := func(code, display, member string) string {
		return `{"role":[` + concept(snomed, code, display) + `],"member":` + member + `}`
	}
	l := g.begin("CareTeam", id, "us-core-careteam")
	l.add(`,"status":"`, status, `","subject":`, p.ref, `,"encounter":`, v.ref, period, `,"participant":[`,
		role("116154003", "Patient", p.named), `,`,
		role("223366009", "Healthcare professional (occupation)", v.site.practitioner), `,`,
		role("224891009", "Healthcare services (qualifier value)", v.site.organization), `]`)
	if reason != nil {
		l.add(`,"reasonCode":[`, reason.code.concept, `]`)
	}
	l.add(`,"managingOrganization":[`, v.site.organization, `]`)
	g.end()
}

func (g *generator) imagingStudy(p *person, v *visit, code *coded) {
	modality, modalityName, _ := strings.Cut(code.more["modality"], "|")
	part, partName, _ := strings.Cut(code.more["site"], "|")
	uid := fmt.Sprintf("%d.%d", g.rnd.IntN(100_000_000), int64(v.start)*1000)
	l := g.begin("ImagingStudy", g.rnd.uuid(), "")
	l.add(`,"identifier":[{"use":"official","system":"urn:ietf:rfc:3986","value":"urn:oid:1.2.840.99999999.`, uid, `"}],"status":"available","subject":`, p.ref,
		`,"encounter":`, v.ref, `,"started":"`, v.startText, `","numberOfSeries":1,"numberOfInstances":1,"procedureCode":[`, code.concept, `],"location":`, v.site.location,
		`,"series":[{"uid":"1.2.840.99999999.1.`, uid, `","number":1,"modality":{"system":"http://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_29.html","code":"`,
		modality, `","display":"`, modalityName, `"},"numberOfInstances":1,"bodySite":`, coding(snomed, part, partName), `,"started":"`, v.startText,
		`","instance":[{"uid":"1.2.840.99999999.1.1.`, uid, `","sopClass":{"system":"urn:ietf:rfc:3986","code":"1.2.840.10008.5.1.4.1.1.1.1"},"number":1,"title":"Image of `,
		strings.ToLower(partName), `"}]}]`)
	g.end()
}

func (g *generator) device(p *person, v *visit, code *coded) {
	identifier := fmt.Sprintf("%014d", g.rnd.Int64N(100_000_000_000_000))
	lot, serial := fmt.Sprint(g.rnd.Int64N(1e17)), fmt.Sprint(g.rnd.Int64N(1e18))
	name := quote(code.display)
	l := g.begin("Device", g.rnd.uuid(), "us-core-implantable-device")
	l.add(`,"udiCarrier":[{"deviceIdentifier":"`, identifier, `","carrierHRF":"(01)`, identifier, `(11)200223(17)450309(10)`, lot, `(21)`, serial,
		`"}],"status":"active","distinctIdentifier":"`, identifier, `","manufactureDate":"`, (v.start - 20*day).text(), `","expirationDate":"`, (v.start + 25*year).text(),
		`","lotNumber":"`, lot, `","serialNumber":"`, serial, `","deviceName":[{"name":`, name, `,"type":"user-friendly-name"}],"type":`, code.concept, `,"patient":`, p.ref)
	g.end()
}

func (g *generator) supplyDelivery(p *person, v *visit, code *coded, n int) {
	l := g.begin("SupplyDelivery", g.rnd.uuid(), "")
	l.add(`,"status":"completed","patient":`, p.ref,
		`,"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/supply-item-type","code":"device","display":"Device"}]},"suppliedItem":{"quantity":{"value":`)
	l.integer(code.number("quantity"))
	l.add(`},"itemCodeableConcept":`, code.concept, `},"occurrenceDateTime":"`, v.at(n), `"`)
	g.end()
}

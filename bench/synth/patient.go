package synth

import (
	"fmt"
	"sort"
)

// person is what the visits of one patient share.
type person struct {
	id           string
	male         bool
	given        string
	family       string
	display      string
	ref          string // Reference
	named        string // Reference with display
	birth, death moment // death is 0 for the living
	home         *site
	insurer      string // quoted
	social       string // paragraph of the notes
	fraction     string // of a second, in every instant of this patient
	conditions   []*condition
	medications  []*coded
	recent       *site
}

type condition struct {
	ref  string // Reference
	code *coded
}

// endOfTime is 1 January 2026: nothing is dated later.
const endOfTime moment = 1767225600

// Shape of the measured patients: half of them have 27 encounters or fewer,
// the mean is 36, nobody has fewer than 3 or many more than 135.
const (
	visitsMedian = 27
	visitsSpread = 0.76
	visitsMin    = 3
	visitsMax    = 150
)

func (g *generator) makePatient(k int) {
	g.rnd = newRandom(g.seed, uint64(k))
	g.targets = g.targets[:0]
	p := g.newPerson()
	g.patient(p)
	for i := g.rnd.times(0.15); i > 0; i-- { // one of seven patients has allergies, then about five
		g.allergies(p)
	}
	visits := g.planVisits(p)
	for i := 0; i < len(visits) && g.err == nil; i++ {
		g.makeVisit(p, visits[i], i == len(visits)-1)
	}
	g.provenance(p, visits[len(visits)-1])
}

func (g *generator) newPerson() *person {
	r := g.rnd
	p := &person{id: r.uuid(), male: r.percent(50)}
	p.given, p.family = g.personName(p.male)
	p.display = p.title() + " " + p.given + " " + p.family
	p.ref = reference("Patient", p.id, "")
	p.named = reference("Patient", p.id, p.display)
	p.birth = endOfTime - moment((2+r.Float64()*90)*year)
	if r.percent(13) {
		p.death = p.birth + moment(float64(endOfTime-p.birth)*(0.6+0.4*r.Float64()))
	}
	p.home = g.sites[r.IntN(len(g.sites))]
	p.recent = p.home
	p.insurer = quote(one(r, []string{"NO_INSURANCE", "NO_INSURANCE", "Cigna Health", "Cigna Health", "Medicare", "Medicaid", "Humana", "Anthem", "UnitedHealthcare", "Blue Cross Blue Shield", "Aetna", "Dual Eligible"}))
	p.social = g.social()
	p.fraction = fmt.Sprintf(".%03d", r.IntN(1000))
	return p
}

func (g *generator) social() string {
	r := g.rnd
	return "Patient is " + one(r, []string{"married", "single", "widowed", "divorced"}) +
		". Patient " + one(r, []string{"has never smoked", "has never smoked", "is an active smoker", "quit smoking at age 25"}) +
		" and " + one(r, []string{"does not drink alcohol", "drinks alcohol on occasion"}) +
		".\n\nPatient comes from a " + one(r, []string{"low", "middle", "high"}) +
		" socioeconomic background.\n Patient has " + one(r, []string{"a high school education", "completed some college courses", "a college degree"}) + ".\n"
}

func (p *person) title() string {
	if p.male {
		return "Mr."
	}
	return "Mrs."
}

func (p *person) end() moment {
	if p.death != 0 {
		return p.death
	}
	return endOfTime
}

// planVisits chooses kinds of encounter by their measured frequency, places
// them in the life of the patient, and sorts them by time.
func (g *generator) planVisits(p *person) []*visit {
	n := int(g.rnd.logNormal(visitsMedian, visitsSpread))
	n = min(max(n, visitsMin), visitsMax)
	visits := make([]*visit, 0, n)
	for range n {
		kind := &g.known.kinds[g.known.kindPick.pick(g.rnd)]
		visits = append(visits, g.newVisit(p, kind, g.visitTime(p, kind)))
	}
	sort.SliceStable(visits, func(i, j int) bool { return visits[i].start < visits[j].start })
	return visits
}

// visitTime puts visits of children into childhood and others near the end of
// the record, as a record keeps its last years best.
func (g *generator) visitTime(p *person, kind *encounterKind) moment {
	life := float64(p.end() - p.birth)
	at := life * (1 - g.rnd.Float64()*g.rnd.Float64())
	if kind.display == "Well child visit (procedure)" {
		at = min(life, 18*year) * g.rnd.Float64()
	}
	return p.birth + moment(at*0.99)
}

func (g *generator) patient(p *person) {
	r := g.rnd
	l := g.begin("Patient", p.id, "us-core-patient")
	l.add(`,"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">Generated for benchmarks and tests.\n .   Person seed: `)
	l.integer(int(r.Int64()))
	l.add(`  Population seed: `)
	l.integer(int(r.Int64()))
	l.add(`</div>"}`)
	g.patientExtensions(l, p)
	g.patientIdentifiers(l, p)
	gender, letter := "female", one(r, []string{"M", "S"})
	if p.male {
		gender = "male"
	}
	l.add(`,"name":[{"use":"official","family":`, quote(p.family), `,"given":[`, quote(p.given), `],"prefix":["`, p.title(), `"]}]`)
	l.add(fmt.Sprintf(`,"telecom":[{"system":"phone","value":"555-%03d-%04d","use":"home"}]`, r.IntN(1000), r.IntN(10000)))
	l.add(`,"gender":"`, gender, `","birthDate":"`, p.birth.dayText(), `"`)
	if p.death != 0 {
		l.add(`,"deceasedDateTime":"`, p.death.text(), `"`)
	}
	l.add(`,"address":[{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/geolocation","extension":[{"url":"latitude","valueDecimal":`)
	l.shortest(41.3 + 1.4*r.Float64())
	l.add(`},{"url":"longitude","valueDecimal":`)
	l.shortest(-70.1 - 3*r.Float64())
	l.add(`}]}],"line":["`)
	l.integer(1 + r.IntN(990))
	l.add(` `, one(r, g.known.names["street"]), `"],"city":`, quote(one(r, g.known.names["city"])), `,"state":"MA","postalCode":"0`)
	l.integer(1001 + r.IntN(1700))
	l.add(`","country":"US"}]`)
	l.add(`,"maritalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-MaritalStatus","code":"`, letter, `","display":"`, letter, `"}],"text":"`, letter, `"}`)
	l.add(`,"multipleBirthBoolean":false,"communication":[{"language":{"coding":[{"system":"urn:ietf:bcp:47","code":"en-US","display":"English"}],"text":"English"}}]`)
	g.end()
}

func (g *generator) patientExtensions(l *line, p *person) {
	r := g.rnd
	const omb = `,"extension":[{"url":"ombCategory","valueCoding":{"system":"urn:oid:2.16.840.1.113883.6.238","code":"`
	race := []string{"2106-3|White", "2106-3|White", "2106-3|White", "2054-5|Black or African American", "2028-9|Asian"}[r.IntN(5)]
	code, text := race[:6], race[7:]
	letter := "F"
	if p.male {
		letter = "M"
	}
	mother, maiden := g.personName(false)
	l.add(`,"extension":[{"url":"`, usCore, `us-core-race"`, omb, code, `","display":"`, text, `"}},{"url":"text","valueString":"`, text, `"}]}`,
		`,{"url":"`, usCore, `us-core-ethnicity"`, omb, `2186-5","display":"Non Hispanic or Latino"}},{"url":"text","valueString":"Non Hispanic or Latino"}]}`,
		`,{"url":"http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName","valueString":`, quote(mother+" "+maiden), `}`,
		`,{"url":"`, usCore, `us-core-birthsex","valueCode":"`, letter, `"}`,
		`,{"url":"http://hl7.org/fhir/StructureDefinition/patient-birthPlace","valueAddress":{"city":`, quote(one(r, g.known.names["city"])), `,"state":"Massachusetts","country":"US"}}`,
		`,{"url":"http://synthetichealth.github.io/synthea/disability-adjusted-life-years","valueDecimal":`)
	healthy := float64((p.end() - p.birth) / year)
	lost := 0.0 // in four of ten records nothing is lost, and the years stand as 28.0
	if r.percent(60) {
		lost = 5 * r.Float64()
	}
	l.shortest(lost)
	l.add(`},{"url":"http://synthetichealth.github.io/synthea/quality-adjusted-life-years","valueDecimal":`)
	l.shortest(healthy - lost)
	l.add(`}]`)
}

func (g *generator) patientIdentifiers(l *line, p *person) {
	typed := func(code, name, system, value string) {
		l.add(`,{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"`, code, `","display":"`, name,
			`"}],"text":"`, name, `"},"system":"`, system, `","value":"`, value, `"}`)
	}
	l.add(`,"identifier":[{"system":"https://github.com/synthetichealth/synthea","value":"`, p.id, `"}`)
	typed("MR", "Medical Record Number", "http://hospital.smarthealthit.org", p.id)
	typed("SS", "Social Security Number", "http://hl7.org/fhir/sid/us-ssn", fmt.Sprintf("999-%02d-%04d", g.rnd.IntN(100), g.rnd.IntN(10000)))
	typed("DL", "Driver's License", "urn:oid:2.16.840.1.113883.4.3.25", fmt.Sprintf("S999%05d", g.rnd.IntN(100000)))
	typed("PPN", "Passport Number", "http://standardhealthrecord.org/fhir/StructureDefinition/passportNumber", fmt.Sprintf("X%08dX", g.rnd.IntN(100000000)))
	l.add(`]`)
}

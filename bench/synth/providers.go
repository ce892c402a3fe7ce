package synth

import (
	"fmt"
	"strings"
)

// sitesCount is how many hospitals and practices there are. It does not
// depend on the number of patients, so that patient k is the same in every
// data set of a seed.
const sitesCount = 194

// providersPart is the random stream of the providers; patient k has stream k.
const providersPart = 1<<64 - 1

// site is a hospital with its place and its one doctor.
type site struct {
	organizationID, locationID, practitionerID, roleID string

	name         string
	organization string // Reference with display
	location     string // Reference with display
	practitioner string // Reference with display
	doctor       string // Reference without display
	address      string // Address
	phone        string
	given        string
	family       string
	male         bool
	npi          string
}

// makeProviders chooses the sites and, when emit is set, writes them.
func (g *generator) makeProviders(emit bool) {
	g.rnd = newRandom(g.seed, providersPart)
	for i := range sitesCount {
		s := g.newSite(i)
		g.sites = append(g.sites, s)
		encounters := g.rnd.IntN(900)
		longitude, latitude := -70.1-3*g.rnd.Float64(), 41.3+1.4*g.rnd.Float64()
		if !emit {
			continue
		}
		g.organization(s, encounters)
		g.location(s, longitude, latitude)
		g.practitioner(s, encounters)
		g.practitionerRole(s)
	}
}

func (g *generator) newSite(i int) *site {
	r := g.rnd
	s := &site{organizationID: r.uuid(), locationID: r.uuid(), practitionerID: r.uuid(), roleID: r.uuid()}
	city := strings.ToUpper(one(r, g.known.names["city"]))
	endings := []string{"GENERAL HOSPITAL", "MEDICAL CENTER", "MEDICAL GROUP, INC.", "COMMUNITY HOSPITAL", "FAMILY PRACTICE", "PHYSICIAN SERVICES INC", "URGENT CARE", "REHABILITATION HOSPITAL"}
	s.name = city + " " + one(r, endings)
	s.male = r.percent(50)
	s.given, s.family = g.personName(s.male)
	s.npi = fmt.Sprintf("99999%05d", 99999-i*10)
	s.phone = fmt.Sprintf("978%07d", r.IntN(10_000_000))
	s.address = fmt.Sprintf(`[{"line":["%d %s"],"city":"%s","state":"MA","postalCode":"0%d","country":"US"}]`,
		1+r.IntN(990), strings.ToUpper(one(r, g.known.names["street"])), city, 1001+r.IntN(1700))
	s.organization = reference("Organization", s.organizationID, s.name)
	s.location = reference("Location", s.locationID, s.name)
	s.doctor = reference("Practitioner", s.practitionerID, "")
	s.practitioner = reference("Practitioner", s.practitionerID, s.doctorName())
	return s
}

func (s *site) doctorName() string { return "Dr. " + s.given + " " + s.family }

func one(r random, names []string) string { return names[r.IntN(len(names))] }

// personName adds a number to each name, so that nobody carries it.
func (g *generator) personName(male bool) (given, family string) {
	kind := "given-female"
	if male {
		kind = "given-male"
	}
	given = fmt.Sprint(one(g.rnd, g.known.names[kind]), 1+g.rnd.IntN(999))
	return given, fmt.Sprint(one(g.rnd, g.known.names["family"]), 1+g.rnd.IntN(999))
}

func (g *generator) organization(s *site, encounters int) {
	l := g.begin("Organization", s.organizationID, "us-core-organization")
	for i, name := range []string{"encounters", "procedures", "labs", "prescriptions"} {
		l.add([]string{`,"extension":[`, `,`}[min(i, 1)], `{"url":"http://synthetichealth.github.io/synthea/utilization-`, name, `-extension","valueInteger":`)
		l.integer(encounters / (1 + i))
		l.add(`}`)
	}
	l.add(`],"identifier":[{"system":"https://github.com/synthetichealth/synthea","value":"`, s.organizationID, `"}]`,
		`,"active":true,"type":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/organization-type","code":"prov","display":"Healthcare Provider"}],"text":"Healthcare Provider"}]`,
		`,"name":`, quote(s.name), `,"telecom":[{"system":"phone","value":"`, s.phone, `"}],"address":`, s.address)
	g.end()
}

func (g *generator) location(s *site, longitude, latitude float64) {
	l := g.begin("Location", s.locationID, "us-core-location")
	l.add(`,"identifier":[{"system":"https://github.com/synthetichealth/synthea","value":"`, s.locationID, `"}]`,
		`,"status":"active","name":`, quote(s.name), `,"telecom":[{"system":"phone","value":"`, s.phone, `"}]`,
		`,"address":`, s.address[1:len(s.address)-1], `,"position":{"longitude":`)
	l.shortest(longitude)
	l.add(`,"latitude":`)
	l.shortest(latitude)
	l.add(`},"managingOrganization":{"identifier":{"system":"https://github.com/synthetichealth/synthea","value":"`,
		s.organizationID, `"},"display":`, quote(s.name), `}`)
	g.end()
}

func (g *generator) practitioner(s *site, encounters int) {
	gender := "female"
	if s.male {
		gender = "male"
	}
	l := g.begin("Practitioner", s.practitionerID, "us-core-practitioner")
	l.add(`,"extension":[{"url":"http://synthetichealth.github.io/synthea/utilization-encounters-extension","valueInteger":`)
	l.integer(encounters)
	l.add(`}],"identifier":[{"system":"http://hl7.org/fhir/sid/us-npi","value":"`, s.npi, `"}],"active":true`,
		`,"name":[{"family":`, quote(s.family), `,"given":[`, quote(s.given), `],"prefix":["Dr."]}],"telecom":[`, s.email(),
		`],"address":`, s.address, `,"gender":"`, gender, `"`)
	g.end()
}

func (s *site) email() string {
	return `{"extension":[{"url":"` + usCore + `us-core-direct","valueBoolean":true}],"system":"email","value":` +
		quote(s.given+"."+s.family+"@example.com") + `,"use":"work"}`
}

func (g *generator) practitionerRole(s *site) {
	const general = `[{"coding":[{"system":"http://nucc.org/provider-taxonomy","code":"208D00000X","display":"General Practice"}],"text":"General Practice"}]`
	l := g.begin("PractitionerRole", s.roleID, "us-core-practitionerrole")
	l.add(`,"practitioner":{"identifier":{"system":"http://hl7.org/fhir/sid/us-npi","value":"`, s.npi, `"},"display":`, quote(s.doctorName()), `}`,
		`,"organization":{"identifier":{"system":"https://github.com/synthetichealth/synthea","value":"`, s.organizationID, `"},"display":`, quote(s.name), `}`,
		`,"code":`, general, `,"specialty":`, general,
		`,"location":[{"identifier":{"system":"https://github.com/synthetichealth/synthea","value":"`, s.locationID, `"},"display":`, quote(s.name), `}]`,
		`,"telecom":[{"system":"phone","value":"`, s.phone, `"},`, s.email(), `]`)
	g.end()
}

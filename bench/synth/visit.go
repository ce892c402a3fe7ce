package synth

// visit is one encounter and what the resources about it share.
type visit struct {
	id         string
	kind       *encounterKind
	start, end moment
	startText  string
	endText    string
	ref        string // Reference
	site       *site
	reason     *condition

	// What the note and the claim are about.
	conditions    []*condition
	procedures    []billed
	immunizations []billed
	prescribed    []*coded
	note          []byte
	total         float64
}

// billed is something that an encounter's claim asks money for.
type billed struct {
	ref  string // Reference
	code *coded
	cost float64
}

func (g *generator) newVisit(p *person, kind *encounterKind, start moment) *visit {
	v := &visit{id: g.rnd.uuid(), kind: kind, start: start, site: p.recent}
	v.end = start + moment(kind.minutes*minute)
	v.startText, v.endText = v.start.text(), v.end.text()
	v.ref = reference("Encounter", v.id, "")
	if g.rnd.percent(15) {
		p.recent = g.sites[g.rnd.IntN(len(g.sites))]
	}
	return v
}

// instant is the start of the visit with milliseconds.
func (v *visit) instant(p *person, at string) string {
	const seconds = len("2006-01-02T15:04:05")
	return at[:seconds] + p.fraction + at[seconds:]
}

// at spreads what happens n times over a stay: once a day, as the ward does.
func (v *visit) at(i int) string {
	if i == 0 {
		return v.startText
	}
	at := v.start + moment(i)*day
	if at > v.end {
		at = v.start + moment(i)*minute
	}
	return at.text()
}

// makeVisit writes the encounter and everything it brings.
func (g *generator) makeVisit(p *person, v *visit, last bool) {
	if len(p.conditions) > 0 && g.rnd.percent(v.kind.reasonPercent) {
		v.reason = p.conditions[g.rnd.IntN(len(p.conditions))]
	}
	g.encounter(p, v)
	for i := range v.kind.content {
		item := &v.kind.content[i]
		for n := range g.rnd.times(item.mean) {
			g.bring(p, v, item, n)
		}
	}
	g.writeNote(p, v)
	g.noteReport(p, v)
	g.noteDocument(p, v, last)
	g.visitClaim(p, v)
	g.explanation(p, v)
}

// bring writes the n-th resource of an item of content.
func (g *generator) bring(p *person, v *visit, item *content, n int) {
	switch item.kind {
	case "condition":
		g.condition(p, v, item.coded)
	case "observation":
		g.observation(p, v, item.observation, v.at(n))
	case "panel":
		g.laboratory(p, v, item.panel, v.at(n))
	case "procedure":
		g.procedure(p, v, item.coded, n)
	case "medication":
		g.medication(p, v, item.coded)
	case "immunization":
		g.immunization(p, v, item.coded)
	case "careplan":
		g.carePlan(p, v, item.coded)
	case "imaging":
		g.imagingStudy(p, v, item.coded)
	case "device":
		g.device(p, v, item.coded)
	case "supply":
		g.supplyDelivery(p, v, item.coded, n)
	default:
		panic("BUG: unknown kind of content " + item.kind)
	}
}

func (g *generator) encounter(p *person, v *visit) {
	l := g.begin("Encounter", v.id, "us-core-encounter")
	period := `"period":{"start":"` + v.startText + `","end":"` + v.endText + `"}`
	l.add(`,"identifier":[{"use":"official","system":"https://github.com/synthetichealth/synthea","value":"`, v.id, `"}]`,
		`,"status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"`, v.kind.class, `"}`,
		`,"type":[`, v.kind.concept, `],"subject":`, p.named,
		`,"participant":[{"type":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"PPRF","display":"primary performer"}],"text":"primary performer"}],`,
		period, `,"individual":`, v.site.practitioner, `}],`, period)
	if v.reason != nil {
		l.add(`,"reasonCode":[{"coding":[`, v.reason.code.coding, `]}]`)
	}
	l.add(`,"location":[{"location":`, v.site.location, `}],"serviceProvider":`, v.site.organization)
	g.end()
}

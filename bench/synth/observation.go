package synth

import "strings"

// observation writes one and gives its id.
func (g *generator) observation(p *person, v *visit, o *observation, at string) string {
	id := g.rnd.uuid()
	l := g.begin("Observation", id, "")
	l.add(o.profiles, `,"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"`,
		o.category, `","display":"`, o.category, `"}]}],"code":`, o.concept, `,"subject":`, p.ref, `,"encounter":`, v.ref,
		`,"effectiveDateTime":"`, at, `","issued":"`, v.instant(p, at), `"`)
	if len(o.components) == 0 {
		l.add(`,`)
		g.value(l, o)
		g.end()
		return id
	}
	separator := `,"component":[{"code":`
	for i := range o.components {
		l.add(separator, o.components[i].concept, `,`)
		g.value(l, &o.components[i].observation)
		separator = `},{"code":`
	}
	l.add(`}]`)
	g.end()
	return id
}

// value writes the member value[x].
func (g *generator) value(l *line, o *observation) {
	if o.kind != "quantity" {
		l.add(o.choices[o.choicePick.pick(g.rnd)])
		return
	}
	q := &o.quantity
	l.add(`"valueQuantity":{"value":`)
	v := g.rnd.between(q.low, q.high)
	switch q.precision {
	case 'i':
		l.integer(int(v + 0.5))
	case 's':
		l.significant(v, q.digits)
	default:
		l.rounded(v, q.digits)
	}
	l.add(q.unit)
}

// laboratory writes the observations of a panel and the report that lists them.
func (g *generator) laboratory(p *person, v *visit, panel *panel, at string) {
	var results strings.Builder
	for i, o := range panel.results {
		if i > 0 {
			results.WriteByte(',')
		}
		id := g.observation(p, v, o, at)
		results.WriteString(`{"reference":"Observation/`)
		results.WriteString(id)
		results.WriteString(`","display":`)
		results.WriteString(o.display)
		results.WriteByte('}')
	}
	l := g.begin("DiagnosticReport", g.rnd.uuid(), "us-core-diagnosticreport-lab")
	l.add(`,"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0074","code":"LAB","display":"Laboratory"}]}],"code":`,
		panel.concept, `,"subject":`, p.ref, `,"encounter":`, v.ref, `,"effectiveDateTime":"`, at, `","issued":"`, v.instant(p, at),
		`","performer":[`, v.site.organization, `],"result":[`, results.String(), `]`)
	g.end()
}

package synth

// visitCostUSD is the price of an encounter alone, in every measured claim
// but the old ones.
const visitCostUSD = 129.16

// claimStart writes the members that all claims begin with, after the id.
func (g *generator) claimStart(l *line, p *person, v *visit, kind, patient string) {
	l.add(`,"status":"active","type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/claim-type","code":"`, kind,
		`"}]},"use":"claim","patient":`, patient, `,"billablePeriod":{"start":"`, v.startText, `","end":"`, v.endText, `"},"created":"`, v.endText,
		`","provider":`, v.site.organization, `,"priority":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/processpriority","code":"normal"}]}`)
}

// claimItems writes the insurance and the first item, which is the encounter.
func (g *generator) claimItems(l *line, p *person, v *visit) {
	l.add(`,"insurance":[{"sequence":1,"focal":true,"coverage":{"display":`, p.insurer, `}}],"item":[{"sequence":1,"productOrService":`, v.kind.concept,
		`,"encounter":[`, v.ref, `]}`)
}

func (g *generator) pharmacyClaim(p *person, v *visit, requestID string, code *coded) {
	l := g.begin("Claim", g.rnd.uuid(), "")
	g.claimStart(l, p, v, "pharmacy", p.ref)
	l.add(`,"prescription":{"reference":"MedicationRequest/`, requestID, `"}`)
	g.claimItems(l, p, v)
	l.add(`],"total":{"value":`)
	l.rounded(g.rnd.logNormal(90, 0.9), 2)
	l.add(`,"currency":"USD"}`)
	g.end()
}

// visitClaim asks for the encounter, its procedures and its immunizations.
func (g *generator) visitClaim(p *person, v *visit) {
	l := g.begin("Claim", g.rnd.uuid(), "")
	g.claimStart(l, p, v, "institutional", p.named)
	l.add(`,"facility":`, v.site.location)
	g.claimLists(l, v)
	g.claimItems(l, p, v)
	sequence := 1
	item := func(member string, at int, code *coded, cost float64) {
		sequence++
		l.add(`,{"sequence":`)
		l.integer(sequence)
		l.add(`,"`, member, `":[`)
		l.integer(at)
		l.add(`],"productOrService":`, code.concept)
		if cost > 0 {
			l.add(`,"net":{"value":`)
			l.rounded(cost, 2)
			l.add(`,"currency":"USD"}`)
		}
		l.add(`}`)
	}
	for i, c := range v.conditions {
		item("diagnosisSequence", i+1, c.code, 0)
	}
	v.total = visitCostUSD
	for i, b := range v.procedures {
		item("procedureSequence", i+1, b.code, b.cost)
		v.total += b.cost
	}
	for i, b := range v.immunizations {
		item("informationSequence", i+1, b.code, b.cost)
		v.total += b.cost
	}
	l.add(`],"total":{"value":`)
	l.rounded(v.total, 2)
	l.add(`,"currency":"USD"}`)
	g.end()
}

// claimLists names what the items point to by number.
func (g *generator) claimLists(l *line, v *visit) {
	list := func(name string, n int, entry func(i int)) {
		for i := range n {
			if i == 0 {
				l.add(`,"`, name, `":[`)
			} else {
				l.add(`,`)
			}
			l.add(`{"sequence":`)
			l.integer(i + 1)
			entry(i)
			l.add(`}`)
		}
		if n > 0 {
			l.add(`]`)
		}
	}
	list("supportingInfo", len(v.immunizations), func(i int) {
		l.add(`,"category":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/claiminformationcategory","code":"info"}]},"valueReference":`, v.immunizations[i].ref)
	})
	list("diagnosis", len(v.conditions), func(i int) { l.add(`,"diagnosisReference":`, v.conditions[i].ref) })
	list("procedure", len(v.procedures), func(i int) { l.add(`,"procedureReference":`, v.procedures[i].ref) })
}

// explanation is the insurer's answer to the claim written before it.
func (g *generator) explanation(p *person, v *visit) {
	claimID := g.id
	l := g.begin("ExplanationOfBenefit", g.rnd.uuid(), "")
	l.add(`,"contained":[{"resourceType":"ServiceRequest","id":"referral","status":"completed","intent":"order","subject":`, p.ref,
		`,"requester":`, v.site.doctor, `,"performer":[`, v.site.doctor, `]},{"resourceType":"Coverage","id":"coverage","status":"active","type":{"text":`, p.insurer,
		`},"beneficiary":`, p.ref, `,"payor":[{"display":`, p.insurer, `}]}],"identifier":[{"system":"https://bluebutton.cms.gov/resources/variables/clm_id","value":"`, claimID,
		`"},{"system":"https://bluebutton.cms.gov/resources/identifier/claim-group","value":"99999999999"}]`,
		`,"status":"active","type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/claim-type","code":"institutional"}]},"use":"claim","patient":`, p.ref,
		`,"billablePeriod":{"start":"`, v.endText, `","end":"`, (v.end + year).text(), `"},"created":"`, v.endText, `","insurer":{"display":`, p.insurer, `},"provider":`, v.site.doctor,
		`,"referral":{"reference":"#referral"},"facility":`, v.site.location, `,"claim":{"reference":"Claim/`, claimID, `"},"outcome":"complete"`,
		`,"careTeam":[{"sequence":1,"provider":`, v.site.doctor, `,"role":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/claimcareteamrole","code":"primary","display":"Primary Care Practitioner"}]}}]`)
	for i, c := range v.conditions {
		l.add([]string{`,"diagnosis":[`, `,`}[min(i, 1)], `{"sequence":`)
		l.integer(i + 1)
		l.add(`,"diagnosisReference":`, c.ref, `,"type":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/ex-diagnosistype","code":"principal"}]}]}`)
	}
	if len(v.conditions) > 0 {
		l.add(`]`)
	}
	l.add(`,"insurance":[{"focal":true,"coverage":{"reference":"#coverage","display":`, p.insurer, `}}],"item":[`)
	paid := g.explanationItems(l, v)
	l.add(`],"total":[{"category":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/adjudication","code":"submitted","display":"Submitted Amount"}],"text":"Submitted Amount"},"amount":{"value":`)
	l.rounded(v.total, 2)
	l.add(`,"currency":"USD"}}],"payment":{"amount":{"value":`)
	l.shortest(paid)
	l.add(`,"currency":"USD"}}`)
	g.end()
}

// explanationItems repeats the claim's items, with what is paid for each.
func (g *generator) explanationItems(l *line, v *visit) (paid float64) {
	sequence := 0
	item := func(concept string, diagnosis int, cost float64) {
		if sequence > 0 {
			l.add(`,`)
		}
		sequence++
		l.add(`{"sequence":`)
		l.integer(sequence)
		if diagnosis > 0 {
			l.add(`,"diagnosisSequence":[`)
			l.integer(diagnosis)
			l.add(`]`)
		}
		l.add(`,"category":{"coding":[{"system":"https://bluebutton.cms.gov/resources/variables/line_cms_type_srvc_cd","code":"1","display":"Medical care"}]},"productOrService":`, concept,
			`,"servicedPeriod":{"start":"`, v.startText, `","end":"`, v.endText, `"},"locationCodeableConcept":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/ex-serviceplace","code":"19","display":"Off Campus-Outpatient Hospital"}]}`)
		if sequence == 1 {
			l.add(`,"encounter":[`, v.ref, `]`)
		}
		if cost > 0 {
			paid += cost * 0.8
			g.adjudication(l, cost)
		}
		l.add(`}`)
	}
	item(v.kind.concept, 0, 0)
	for i, c := range v.conditions {
		item(c.code.concept, i+1, 0)
	}
	for _, b := range v.procedures {
		item(b.code.concept, 0, b.cost)
	}
	for _, b := range v.immunizations {
		item(b.code.concept, 0, b.cost)
	}
	return paid
}

// adjudication splits a price. The products are written with all the digits of
// a float64, as Synthea does: these are the long fractions of the data.
func (g *generator) adjudication(l *line, cost float64) {
	part := func(separator, code, display string, amount float64) {
		l.add(separator, `{"category":{"coding":[{"system":"https://bluebutton.cms.gov/resources/codesystem/adjudication","code":"https://bluebutton.cms.gov/resources/variables/`,
			code, `","display":"`, display, `"}]}`)
		if amount >= 0 {
			l.add(`,"amount":{"value":`)
			l.shortest(amount)
			l.add(`,"currency":"USD"}`)
		}
		l.add(`}`)
	}
	cost = float64(int64(cost*100)) / 100
	l.add(`,"net":{"value":`)
	l.shortest(cost)
	l.add(`,"currency":"USD"}`)
	part(`,"adjudication":[`, "line_coinsrnc_amt", "Line Beneficiary Coinsurance Amount", cost*0.2)
	part(`,`, "line_prvdr_pmt_amt", "Line Provider Payment Amount", cost*0.8)
	part(`,`, "line_sbmtd_chrg_amt", "Line Submitted Charge Amount", cost)
	part(`,`, "line_alowd_chrg_amt", "Line Allowed Charge Amount", cost)
	part(`,`, "line_bene_ptb_ddctbl_amt", "Line Beneficiary Part B Deductible Amount", 0)
	part(`,`, "line_prcsg_ind_cd", "Line Processing Indicator Code", -1)
	l.add(`]`)
}

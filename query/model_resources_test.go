package query

import (
	"encoding/json"
	"fmt"
)

// What random resources are made of: few values, so that searches meet them,
// and neighbours of each that must not be taken for it.

func modelTypes() []string {
	return []string{"Patient", "Patient", "Organization", "Encounter", "Observation", "Observation", "Observation", "RiskAssessment", "ChargeItem", "PlanDefinition", "List"}
}

func modelSystems() []string { return []string{"", "http://s", "http://s/2", "http:// s", "urn:s|x"} }

func modelCodes() []string {
	return []string{"a", "b", "A", "a b", "a,b", "a|b", `a\b`, "a$b", "1234-5", "1234", "c1a7f3e2-5b64-4a0e-9a39-0d1f2e3b4c5d", "C1A7F3E2-5B64-4A0E-9A39-0D1F2E3B4C5D"}
}

func modelTexts() []string {
	return []string{"Eve", "eve", "Éve", "E\u0301ve", "Evelyn", "Stevens", "STRASSE", "Straße", "van der Berg", "Berg", "Müller", "Muller", "a,b", "x$y|z", "Ærø", "İstanbul", "O'Neil", "ﬁsh", "Ω", "ώς", "  pad"}
}

func modelDates() []string {
	return []string{
		"2019", "2020", "2020-01", "2020-02", "2020-02-29", "2020-03-01", "2020-12-31", "2020-02-29T00:00:00Z", "2020-02-29T23:59:59Z",
		"2020-02-29T10:00:00+02:00", "2020-02-29T23:30:00-05:00", "2020-02-29T10:00:00.250Z", "2020-02-29T10:00:00.25Z", "2020-02-29T10:00:00Z",
		"2020-03-01T01:00:00+14:00", "2020-02-29T10:00:00.2509Z", "2022-01-01", "2021-06-15", "1900-01-01", "0001-01-01", "9999-12-31",
	}
}

func modelNumbers() []string {
	return []string{"0", "-0.0", "5", "5.0", "5.4", "5.40", "5.35", "5.45", "5.449999", "-5.4", "-5.35", "100", "99.5", "100.5", "1e2", "1E+2", "95", "105", "0.1", "0.0001", "1e-4", "110", "90", "123456789012345678901234567890", "1e40"}
}

func modelURIs() []string {
	return []string{"http://h/a", "http://h/a/", "http://h/a/b", "http://h/ab", "http://h/a/b/c", "http://h", "urn:oid:1.2.3", "urn:oid:1.2", "http://h/a|1", "http://H/a", "http://h/a,b"}
}

func modelCanonicals() []string {
	return []string{"http://h/p", "http://h/p|1", "http://h/p|2", "http://h/p|1.0", "http://h/p/q", "PlanDefinition/1", "#x"}
}

// resource is a random resource.
func (m *searchModel) resource() map[string]any {
	typ := oneOf(m.rng, modelTypes()...)
	r := map[string]any{"resourceType": typ, "id": m.id()}
	if meta := m.some(0.5, map[string]func() any{
		"tag": m.many(m.coding), "security": m.many(m.coding), "profile": m.many(m.from(modelURIs())), "source": m.from(modelURIs()),
	}); len(meta) > 0 {
		r["meta"] = meta
	}
	for name, value := range m.some(0.7, m.members(typ)) {
		r[name] = value
	}
	m.choose(r, "effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming")
	m.choose(r, "valueQuantity", "valueCodeableConcept", "valueString", "valueDateTime", "valuePeriod")
	m.choose(r, "occurrenceDateTime", "occurrencePeriod", "occurrenceTiming")
	m.choose(r, "deceasedDateTime", "deceasedBoolean")
	return r
}

// members are the makers of a type's elements.
func (m *searchModel) members(typ string) map[string]func() any {
	switch typ {
	case "Patient":
		return map[string]func() any{
			"active": func() any { return m.rng.IntN(2) == 0 }, "address": m.many(m.address), "birthDate": m.from([]string{"1970", "1970-05", "1970-05-06", "2001-01-01"}),
			"deceasedDateTime": m.from(modelDates()), "deceasedBoolean": func() any { return m.rng.IntN(2) == 0 }, "telecom": m.many(m.contact), "name": m.many(m.humanName),
			"gender": m.from([]string{"male", "female", "other"}), "generalPractitioner": m.many(m.refer("Organization")), "identifier": m.many(m.identifier), "managingOrganization": m.refer("Organization"),
			"communication": m.many(func() any { return map[string]any{"language": m.concept()} }), "link": m.many(func() any { return map[string]any{"other": m.refer("Patient")()} }),
		}
	case "Organization":
		return map[string]func() any{"name": m.from(modelTexts()), "alias": m.many(m.from(modelTexts())), "partOf": m.refer("Organization"), "type": m.many(m.concept), "identifier": m.many(m.identifier)}
	case "Encounter":
		return map[string]func() any{
			"class": m.coding, "period": m.period, "length": m.quantity, "partOf": m.refer("Encounter"), "status": m.from([]string{"planned", "finished"}), "subject": m.refer("Patient", "Patient", "Group"),
			"location": m.many(func() any { return m.some(0.8, map[string]func() any{"period": m.period}) }),
		}
	case "Observation":
		o := m.observed()
		for name, maker := range map[string]func() any{
			"category": m.many(m.concept), "effectiveDateTime": m.from(modelDates()), "effectivePeriod": m.period, "effectiveInstant": m.from([]string{"2020-02-29T10:00:00.250Z", "2020-02-29T12:00:00+02:00"}),
			"effectiveTiming": m.timing, "encounter": m.refer("Encounter"), "focus": m.many(m.refer(modelTypes()...)), "hasMember": m.many(m.refer("Observation")), "identifier": m.many(m.identifier),
			"performer": m.many(m.refer("Organization", "Patient")), "status": m.from([]string{"final", "amended"}), "subject": m.refer("Patient", "Patient", "Group"),
			"component": m.many(func() any {
				c := m.some(0.8, m.observed())
				m.choose(c, "valueQuantity", "valueCodeableConcept", "valueString", "valueDateTime", "valuePeriod")
				return c
			}),
		} {
			o[name] = maker
		}
		return o
	case "RiskAssessment":
		return map[string]func() any{"occurrenceDateTime": m.from(modelDates()), "subject": m.refer("Patient", "Patient", "Group"), "prediction": m.many(m.prediction)}
	case "ChargeItem":
		return map[string]func() any{
			"factorOverride": m.number, "occurrenceDateTime": m.from(modelDates()), "occurrencePeriod": m.period, "occurrenceTiming": m.timing, "quantity": m.quantity, "subject": m.refer("Patient", "Patient", "Group"),
			"priceOverride": func() any { return map[string]any{"value": m.number(), "currency": oneOf(m.rng, "EUR", "USD")} },
		}
	case "PlanDefinition":
		return map[string]func() any{
			"url": m.from(modelURIs()), "version": m.from(modelCodes()), "title": m.from(modelTexts()), "description": m.from(modelTexts()), "useContext": m.many(m.useContext),
			"action": m.many(func() any { return map[string]any{"definitionCanonical": oneOf(m.rng, modelCanonicals()...)} }), "library": m.many(m.from(modelCanonicals())),
			"relatedArtifact": m.many(func() any {
				return map[string]any{"type": oneOf(m.rng, "depends-on", "composed-of"), "resource": oneOf(m.rng, modelCanonicals()...)}
			}),
		}
	}
	return map[string]func() any{ // a List
		"title": m.from(modelTexts()), "date": m.from(modelDates()), "entry": m.many(func() any { return map[string]any{"item": m.refer(modelTypes()...)()} }),
	}
}

func (m *searchModel) observed() map[string]func() any {
	return map[string]func() any{
		"code": m.concept, "valueQuantity": m.quantity, "valueCodeableConcept": m.concept, "valueString": m.from(modelTexts()), "valueDateTime": m.from(modelDates()), "valuePeriod": m.period,
	}
}

// some makes each member with a probability.
func (m *searchModel) some(probability float64, makers map[string]func() any) map[string]any {
	object := map[string]any{}
	for _, name := range sortedKeys(makers) {
		if m.rng.Float64() < probability {
			object[name] = makers[name]()
		}
	}
	return object
}

// choose keeps one of several members at most.
func (m *searchModel) choose(object map[string]any, names ...string) {
	kept := oneOf(m.rng, names...)
	for _, name := range names {
		if name != kept {
			delete(object, name)
		}
	}
}

func (m *searchModel) many(maker func() any) func() any {
	return func() any {
		var all []any
		for range 1 + m.rng.IntN(3) {
			all = append(all, maker())
		}
		return all
	}
}

func (m *searchModel) from(texts []string) func() any {
	return func() any { return oneOf(m.rng, texts...) }
}

func (m *searchModel) id() string {
	n := m.rng.IntN(m.ids)
	if n%5 == 0 {
		return fmt.Sprintf("0b2d37a4-5e0b-4a55-9bb7-%012d", n)
	}
	return fmt.Sprint(n)
}

func (m *searchModel) number() any { return json.Number(oneOf(m.rng, modelNumbers()...)) }

func (m *searchModel) coding() any {
	return m.some(0.7, map[string]func() any{"system": m.system, "code": m.from(modelCodes()), "display": m.from(modelTexts())})
}

func (m *searchModel) system() any { return oneOf(m.rng, modelSystems()[1:]...) }

func (m *searchModel) concept() any {
	return m.some(0.8, map[string]func() any{"coding": m.many(m.coding), "text": m.from(modelTexts())})
}

func (m *searchModel) identifier() any {
	return m.some(0.8, map[string]func() any{"system": m.system, "value": m.from(modelCodes()), "type": m.concept})
}

func (m *searchModel) contact() any {
	return map[string]any{"system": oneOf(m.rng, "phone", "email", "fax"), "value": oneOf(m.rng, modelCodes()...)}
}

func (m *searchModel) humanName() any {
	text := m.from(modelTexts())
	return m.some(0.6, map[string]func() any{"family": text, "given": m.many(text), "prefix": m.many(text), "text": text, "use": m.from([]string{"usual", "old"})})
}

func (m *searchModel) address() any {
	text := m.from(modelTexts())
	return m.some(0.6, map[string]func() any{"line": m.many(text), "city": text, "country": text, "postalCode": text, "text": text, "use": m.from([]string{"home", "work"})})
}

func (m *searchModel) period() any {
	p := m.some(0.8, map[string]func() any{"start": m.from(modelDates()[:14]), "end": m.from(modelDates()[9:])})
	if len(p) == 2 {
		start, _ := oracleSpan(p["start"].(string))
		if end, _ := oracleSpan(p["end"].(string)); end.last < start.first {
			delete(p, "end")
		}
	}
	return p
}

func (m *searchModel) timing() any {
	return m.some(0.7, map[string]func() any{
		"event":  m.many(m.from(modelDates())),
		"repeat": func() any { return map[string]any{"frequency": 1, "boundsPeriod": m.period()} },
	})
}

func (m *searchModel) quantity() any {
	q := m.some(0.9, map[string]func() any{"value": m.number})
	unit := oneOf(m.rng, map[string]any{}, map[string]any{"unit": "mg"}, map[string]any{"unit": "mg", "system": "http://u", "code": "mg"},
		map[string]any{"unit": "milligram", "system": "http://u", "code": "mg"}, map[string]any{"unit": "mg", "system": "http://v", "code": "g"}, map[string]any{"code": "mg"})
	for name, value := range unit {
		q[name] = value
	}
	if m.rng.IntN(6) == 0 {
		q["comparator"] = oneOf(m.rng, "<", "<=", ">", ">=")
	}
	return q
}

// interval is a Range with ends in order.
func (m *searchModel) interval() any {
	r := map[string]any{}
	low, high := m.rng.IntN(120)-10, m.rng.IntN(120)-10
	if m.rng.IntN(4) > 0 {
		r["low"] = map[string]any{"value": json.Number(fmt.Sprint(min(low, high))), "unit": "mg", "system": "http://u", "code": "mg"}
	}
	if m.rng.IntN(4) > 0 {
		r["high"] = map[string]any{"value": json.Number(fmt.Sprint(max(low, high))), "unit": "mg", "system": "http://u", "code": "mg"}
	}
	return r
}

func (m *searchModel) prediction() any {
	p := m.some(0.8, map[string]func() any{"probabilityDecimal": m.number, "probabilityRange": m.interval, "qualitativeRisk": m.concept})
	m.choose(p, "probabilityDecimal", "probabilityRange")
	return p
}

func (m *searchModel) useContext() any {
	c := m.some(0.8, map[string]func() any{"code": m.coding, "valueQuantity": m.quantity, "valueRange": m.interval, "valueCodeableConcept": m.concept})
	m.choose(c, "valueQuantity", "valueRange", "valueCodeableConcept")
	return c
}

// refer makes a Reference in one of its forms, mostly to one of some types.
func (m *searchModel) refer(types ...string) func() any {
	return func() any {
		if m.rng.IntN(8) == 0 {
			return map[string]any{"identifier": m.identifier()}
		}
		r := map[string]any{"reference": m.referenceText(types...)}
		if m.rng.IntN(8) == 0 {
			r["identifier"] = m.identifier()
		}
		return r
	}
}

func (m *searchModel) referenceText(types ...string) string {
	if m.rng.IntN(6) == 0 {
		types = []string{"Patient", "Organization", "Encounter", "Observation", "Group", "PlanDefinition", "List"}
	}
	text := oneOf(m.rng, types...) + "/" + m.id()
	switch m.rng.IntN(12) {
	case 0:
		return text + "/_history/" + fmt.Sprint(1+m.rng.IntN(2))
	case 1:
		return modelBase + "/" + text
	case 2:
		return modelBase + "/" + text + "/_history/1"
	case 3:
		return "http://other/fhir/" + text
	case 4:
		return oneOf(m.rng, "#x", "urn:uuid:0b2d37a4-5e0b-4a55-9bb7-000000000005", "urn:oid:1.2.3", "http://h/p", "http://other/fhir/Nothing/1", "x y")
	}
	return text
}

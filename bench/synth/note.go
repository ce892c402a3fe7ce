package synth

import (
	"encoding/base64"
	"strconv"
)

// noteMedicationsMax bounds the list of medications in a note; the measured
// notes name few.
const noteMedicationsMax = 6

// writeNote makes the text of the visit. The report and the document carry
// the same one.
func (g *generator) writeNote(p *person, v *visit) {
	l := line(v.note[:0])
	l.add("\n", v.startText[:len("2006-01-02")], "\n\n# Chief Complaint\nNo complaints.\n\n# History of Present Illness\n", p.given, "\n is a ")
	l.add(strconv.Itoa(int((v.start-p.birth)/year)), " year-old non-hispanic white ", []string{"female", "male"}[btoi(p.male)], ".")
	if n := len(p.conditions) - len(v.conditions); n > 0 {
		l.add(" Patient has a history of ", p.conditions[0].code.lower)
		for _, c := range p.conditions[1:min(n, noteMedicationsMax)] {
			l.add(", ", c.code.lower)
		}
		l.add(".")
	}
	l.add("\n\n# Social History\n", p.social, "Patient currently has ",
		p.insurer[1:len(p.insurer)-1], ".\n\n# Allergies\nNo Known Allergies.\n\n# Medications\n")
	g.noteMedications(&l, p, v)
	l.add("\n\n# Assessment and Plan\n")
	if len(v.conditions) > 0 {
		l.add("Patient is presenting with ", v.conditions[0].code.lower, ". ")
	}
	l.add("\n\n## Plan\n\n")
	if len(v.procedures) > 0 {
		l.add("The following procedures were conducted:\n")
		for _, b := range v.procedures {
			l.add("- ", b.code.lower, "\n")
		}
	}
	if len(v.prescribed) > 0 {
		l.add("The patient was prescribed the following medications:\n")
		for _, code := range v.prescribed {
			l.add("- ", code.lower, "\n")
		}
	}
	v.note = base64.StdEncoding.AppendEncode(nil, l)
}

func (g *generator) noteMedications(l *line, p *person, v *visit) {
	before := p.medications[:len(p.medications)-len(v.prescribed)]
	if len(before) == 0 {
		l.add("No Active Medications.")
		return
	}
	separator := ""
	for _, code := range before[max(0, len(before)-noteMedicationsMax):] {
		l.add(separator, code.lower)
		separator = "; "
	}
}

const noteCodes = `{"coding":[{"system":"http://loinc.org","code":"34117-2","display":"History and physical note"},{"system":"http://loinc.org","code":"51847-2","display":"Evaluation+Plan note"}]}`

func (g *generator) noteReport(p *person, v *visit) {
	l := g.begin("DiagnosticReport", g.rnd.uuid(), "us-core-diagnosticreport-note")
	l.add(`,"status":"final","category":[`, noteCodes, `],"code":`, noteCodes, `,"subject":`, p.ref, `,"encounter":`, v.ref,
		`,"effectiveDateTime":"`, v.startText, `","issued":"`, v.instant(p, v.startText), `","performer":[`, v.site.practitioner,
		`],"presentedForm":[{"contentType":"text/plain; charset=utf-8","data":"`)
	*l = append(*l, v.note...)
	l.add(`"}]`)
	g.end()
}

// noteDocument points to the report before it.
func (g *generator) noteDocument(p *person, v *visit, last bool) {
	reportID, status := g.id, "superseded"
	if last {
		status = "current"
	}
	l := g.begin("DocumentReference", g.rnd.uuid(), "us-core-documentreference")
	l.add(`,"identifier":[{"system":"urn:ietf:rfc:3986","value":"urn:uuid:`, reportID, `"}],"status":"`, status, `","type":`, noteCodes,
		`,"category":[{"coding":[{"system":"http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category","code":"clinical-note","display":"Clinical Note"}]}]`,
		`,"subject":`, p.ref, `,"date":"`, v.instant(p, v.startText), `","author":[`, v.site.practitioner, `],"custodian":`, v.site.organization,
		`,"content":[{"attachment":{"contentType":"text/plain; charset=utf-8","data":"`)
	*l = append(*l, v.note...)
	l.add(`"},"format":{"system":"http://ihe.net/fhir/ValueSet/IHE.FormatCode.codesystem","code":"urn:ihe:iti:xds:2017:mimeTypeSufficient","display":"mimeType Sufficient"}}]`,
		`,"context":{"encounter":[`, v.ref, `],"period":{"start":"`, v.startText, `","end":"`, v.endText, `"}}`)
	g.end()
}

package query

import (
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
)

// oracleTable says by hand, and in JSON's own names, where the values of some
// parameters of each kind stand: type, code, kind, path=data type, and the
// types that a reference may be to (none: any). "+" joins paths; [system=phone] picks
// elements by a member and @Patient references by their type. A composite has
// its groups ("." is the resource) and then its components.
const oracleTable = `
Patient active token active=boolean
Patient address string address=Address
Patient address-city string address.city=string
Patient address-use token address.use=code
Patient birthdate date birthDate=date
Patient death-date date deceasedDateTime=dateTime
Patient email token telecom[system=email]=ContactPoint
Patient family string name.family=string
Patient general-practitioner reference generalPractitioner=Reference Organization,Practitioner,PractitionerRole
Patient gender token gender=code
Patient given string name.given=string
Patient identifier token identifier=Identifier
Patient language token communication.language=CodeableConcept
Patient link reference link.other=Reference Patient,RelatedPerson
Patient name string name=HumanName
Patient organization reference managingOrganization=Reference Organization
Patient phone token telecom[system=phone]=ContactPoint
Patient telecom token telecom=ContactPoint
Organization name string name=string+alias=string
Organization partof reference partOf=Reference Organization
Organization type token type=CodeableConcept
Organization identifier token identifier=Identifier
Encounter class token class=Coding
Encounter date date period=Period
Encounter length quantity length=Quantity
Encounter location-period date location.period=Period
Encounter part-of reference partOf=Reference Encounter
Encounter patient reference subject@Patient=Reference Group,Patient
Encounter status token status=code
Encounter subject reference subject=Reference Group,Patient
Observation category token category=CodeableConcept
Observation code token code=CodeableConcept
Observation combo-code token code=CodeableConcept+component.code=CodeableConcept
Observation combo-value-quantity quantity valueQuantity=Quantity+component.valueQuantity=Quantity
Observation component-code token component.code=CodeableConcept
Observation date date effectiveDateTime=dateTime+effectivePeriod=Period+effectiveInstant=instant+effectiveTiming=Timing
Observation encounter reference encounter=Reference Encounter,EpisodeOfCare
Observation focus reference focus=Reference
Observation has-member reference hasMember=Reference MolecularSequence,Observation,QuestionnaireResponse
Observation identifier token identifier=Identifier
Observation patient reference subject@Patient=Reference Group,Patient
Observation performer reference performer=Reference CareTeam,Organization,Patient,Practitioner,PractitionerRole,RelatedPerson
Observation status token status=code
Observation subject reference subject=Reference Device,Group,Location,Patient
Observation value-concept token valueCodeableConcept=CodeableConcept
Observation value-date date valueDateTime=dateTime+valuePeriod=Period
Observation value-quantity quantity valueQuantity=Quantity
Observation value-string string valueString=string+valueCodeableConcept.text=string
Observation code-value-concept composite . token:code=CodeableConcept token:valueCodeableConcept=CodeableConcept
Observation code-value-date composite . token:code=CodeableConcept date:valueDateTime=dateTime+valuePeriod=Period
Observation code-value-quantity composite . token:code=CodeableConcept quantity:valueQuantity=Quantity
Observation code-value-string composite . token:code=CodeableConcept string:valueString=string
Observation combo-code-value-quantity composite .+component token:code=CodeableConcept quantity:valueQuantity=Quantity
Observation component-code-value-quantity composite component token:code=CodeableConcept quantity:valueQuantity=Quantity
Observation component-code-value-concept composite component token:code=CodeableConcept token:valueCodeableConcept=CodeableConcept
RiskAssessment date date occurrenceDateTime=dateTime
RiskAssessment probability number prediction.probabilityDecimal=decimal+prediction.probabilityRange=Range
RiskAssessment patient reference subject@Patient=Reference Group,Patient
RiskAssessment subject reference subject=Reference Group,Patient
RiskAssessment risk token prediction.qualitativeRisk=CodeableConcept
ChargeItem factor-override number factorOverride=decimal
ChargeItem occurrence date occurrenceDateTime=dateTime+occurrencePeriod=Period+occurrenceTiming=Timing
ChargeItem price-override quantity priceOverride=Money
ChargeItem quantity quantity quantity=Quantity
ChargeItem subject reference subject=Reference Group,Patient
PlanDefinition url uri url=uri
PlanDefinition version token version=string
PlanDefinition title string title=string
PlanDefinition description string description=string
PlanDefinition context-quantity quantity useContext.valueQuantity=Quantity+useContext.valueRange=Range
PlanDefinition context-type token useContext.code=Coding
PlanDefinition context-type-quantity composite useContext token:code=Coding quantity:valueQuantity=Quantity+valueRange=Range
PlanDefinition context-type-value composite useContext token:code=Coding token:valueCodeableConcept=CodeableConcept
PlanDefinition definition reference action.definitionCanonical=canonical+action.definitionUri=uri ActivityDefinition,PlanDefinition,Questionnaire
PlanDefinition depends-on reference relatedArtifact[type=depends-on].resource=canonical+library=canonical
List item reference entry.item=Reference
List date date date=dateTime
List title string title=string
* _tag token meta.tag=Coding
* _security token meta.security=Coding
* _profile uri meta.profile=canonical
* _source uri meta.source=uri
`

// oraclePath is a place of values and their data type.
type oraclePath struct{ steps, typ string }

// oracleDef is a line of oracleTable.
type oracleDef struct {
	typ, code, kind string
	paths           []oraclePath
	targets         []string
	groups          []string    // of a composite
	components      []oracleDef // likewise, relative to a group
}

func oraclePaths(text string) (paths []oraclePath) {
	for part := range strings.SplitSeq(text, "+") {
		at := strings.LastIndexByte(part, '=')
		paths = append(paths, oraclePath{part[:at], part[at+1:]})
	}
	return paths
}

// oracleDefs reads oracleTable.
func oracleDefs() (defs []*oracleDef) {
	for line := range strings.Lines(strings.TrimSpace(oracleTable)) {
		words := strings.Fields(line)
		d := &oracleDef{typ: words[0], code: words[1], kind: words[2]}
		if d.kind == "composite" {
			d.groups = strings.Split(words[3], "+")
			for _, word := range words[4:] {
				kind, paths, _ := strings.Cut(word, ":")
				d.components = append(d.components, oracleDef{typ: d.typ, code: d.code, kind: kind, paths: oraclePaths(paths)})
			}
		} else {
			d.paths = oraclePaths(words[3])
			if len(words) > 4 {
				d.targets = strings.Split(words[4], ",")
			}
		}
		defs = append(defs, d)
	}
	return defs
}

// TestOracleKnowsTheParametersOfR4 holds the hand-made table against the
// parameters that the server has.
func TestOracleKnowsTheParametersOfR4(t *testing.T) {
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range oracleDefs() {
		p := table.Param(fhir.TypeByName([]byte(d.typ)), d.code)
		if p == nil || p.Kind.String() != d.kind {
			t.Errorf("the server's parameter %s of %s is %+v", d.code, d.typ, p)
			continue
		}
		for _, target := range d.targets {
			if code := fhir.TypeByName([]byte(target)); code == 0 || !containsType(p.Targets, code) {
				t.Errorf("%s of %s does not refer to %s", d.code, d.typ, target)
			}
		}
		if len(d.targets) > 0 && len(d.targets) != len(p.Targets) {
			t.Errorf("%s of %s refers to %v", d.code, d.typ, p.Targets)
		}
	}
}

func containsType(types []fhir.TypeCode, t fhir.TypeCode) bool {
	for _, other := range types {
		if other == t {
			return true
		}
	}
	return false
}

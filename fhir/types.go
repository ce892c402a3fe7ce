package fhir

// TypeCode is the stable number of a concrete R4 resource type: its 1-based
// position in the alphabetical list of the 146 R4 types. It is written to disk
// and never renumbered. 0 is no type.
type TypeCode uint16

// TypeMax is the largest TypeCode.
const TypeMax TypeCode = 146

// TypeByName returns the code of a type's exact name, 0 when it is not the name
// of a concrete R4 resource type. It does not allocate.
func TypeByName(name []byte) TypeCode {
	if len(name) == 0 {
		return 0
	}
	for at := typeHash(string(name)); ; at++ {
		code := typeSlots[at%typeSlotCount]
		if code == 0 || typeNames[code] == string(name) {
			return TypeCode(code)
		}
	}
}

// String is the type's name, "" for a number that is no type.
func (t TypeCode) String() string {
	if t > TypeMax {
		return ""
	}
	return typeNames[t]
}

// typeSlotCount keeps the table below one third full, so that nearly every
// lookup ends at its first slot.
const typeSlotCount = 512

// typeSlots is the hash table from names to codes; it is built once and only read.
var typeSlots = makeTypeSlots()

func makeTypeSlots() (slots [typeSlotCount]uint8) {
	for code := 1; code < len(typeNames); code++ {
		at := typeHash(typeNames[code])
		for slots[at%typeSlotCount] != 0 {
			at++
		}
		slots[at%typeSlotCount] = uint8(code)
	}
	return slots
}

// typeHash of a name that is not empty.
func typeHash(name string) uint32 {
	first, middle, last := uint32(name[0]), uint32(name[len(name)/2]), uint32(name[len(name)-1])
	return (uint32(len(name))<<24 ^ first<<16 ^ middle<<8 ^ last) * 0x9E3779B1 >> 16
}

// typeNames are the concrete resource types of FHIR R4 4.0.1 by code.
var typeNames = [TypeMax + 1]string{
	"",
	"Account",
	"ActivityDefinition",
	"AdverseEvent",
	"AllergyIntolerance",
	"Appointment",
	"AppointmentResponse",
	"AuditEvent",
	"Basic",
	"Binary",
	"BiologicallyDerivedProduct",
	"BodyStructure",
	"Bundle",
	"CapabilityStatement",
	"CarePlan",
	"CareTeam",
	"CatalogEntry",
	"ChargeItem",
	"ChargeItemDefinition",
	"Claim",
	"ClaimResponse",
	"ClinicalImpression",
	"CodeSystem",
	"Communication",
	"CommunicationRequest",
	"CompartmentDefinition",
	"Composition",
	"ConceptMap",
	"Condition",
	"Consent",
	"Contract",
	"Coverage",
	"CoverageEligibilityRequest",
	"CoverageEligibilityResponse",
	"DetectedIssue",
	"Device",
	"DeviceDefinition",
	"DeviceMetric",
	"DeviceRequest",
	"DeviceUseStatement",
	"DiagnosticReport",
	"DocumentManifest",
	"DocumentReference",
	"EffectEvidenceSynthesis",
	"Encounter",
	"Endpoint",
	"EnrollmentRequest",
	"EnrollmentResponse",
	"EpisodeOfCare",
	"EventDefinition",
	"Evidence",
	"EvidenceVariable",
	"ExampleScenario",
	"ExplanationOfBenefit",
	"FamilyMemberHistory",
	"Flag",
	"Goal",
	"GraphDefinition",
	"Group",
	"GuidanceResponse",
	"HealthcareService",
	"ImagingStudy",
	"Immunization",
	"ImmunizationEvaluation",
	"ImmunizationRecommendation",
	"ImplementationGuide",
	"InsurancePlan",
	"Invoice",
	"Library",
	"Linkage",
	"List",
	"Location",
	"Measure",
	"MeasureReport",
	"Media",
	"Medication",
	"MedicationAdministration",
	"MedicationDispense",
	"MedicationKnowledge",
	"MedicationRequest",
	"MedicationStatement",
	"MedicinalProduct",
	"MedicinalProductAuthorization",
	"MedicinalProductContraindication",
	"MedicinalProductIndication",
	"MedicinalProductIngredient",
	"MedicinalProductInteraction",
	"MedicinalProductManufactured",
	"MedicinalProductPackaged",
	"MedicinalProductPharmaceutical",
	"MedicinalProductUndesirableEffect",
	"MessageDefinition",
	"MessageHeader",
	"MolecularSequence",
	"NamingSystem",
	"NutritionOrder",
	"Observation",
	"ObservationDefinition",
	"OperationDefinition",
	"OperationOutcome",
	"Organization",
	"OrganizationAffiliation",
	"Parameters",
	"Patient",
	"PaymentNotice",
	"PaymentReconciliation",
	"Person",
	"PlanDefinition",
	"Practitioner",
	"PractitionerRole",
	"Procedure",
	"Provenance",
	"Questionnaire",
	"QuestionnaireResponse",
	"RelatedPerson",
	"RequestGroup",
	"ResearchDefinition",
	"ResearchElementDefinition",
	"ResearchStudy",
	"ResearchSubject",
	"RiskAssessment",
	"RiskEvidenceSynthesis",
	"Schedule",
	"SearchParameter",
	"ServiceRequest",
	"Slot",
	"Specimen",
	"SpecimenDefinition",
	"StructureDefinition",
	"StructureMap",
	"Subscription",
	"Substance",
	"SubstanceNucleicAcid",
	"SubstancePolymer",
	"SubstanceProtein",
	"SubstanceReferenceInformation",
	"SubstanceSourceMaterial",
	"SubstanceSpecification",
	"SupplyDelivery",
	"SupplyRequest",
	"Task",
	"TerminologyCapabilities",
	"TestReport",
	"TestScript",
	"ValueSet",
	"VerificationResult",
	"VisionPrescription",
}

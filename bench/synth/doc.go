// Package synth makes realistic patients: FHIR R4 resources in the shapes,
// sizes and code distributions of Synthea's output, for the demo, the
// benchmarks and any test that needs more data than can be kept in a
// repository.
//
// Invariants:
//   - The same Seed gives the same bytes (on one architecture: others may round
//     a product differently in its last digit).
//   - Patient k depends on Seed and k only, so a larger data set starts with
//     the smaller one.
//   - Every reference points to a resource of the same data set; the providers
//     that patients refer to come first.
//   - A line is compact JSON without a line end. It is written by appending,
//     in one pass, because the generator has to be faster than what it feeds.
//
// What was measured lies in facts/*.tsv: which encounters happen, what they
// bring on average, which values are seen. Everything else is shape and stands
// in the code, one file a theme:
//
//	generate.go     entry: options, counts, order of resources
//	facts.go        reads facts/*.tsv
//	random.go       seeded draws, ids, distributions
//	line.go         appending JSON, local dates
//	providers.go    Organization, Location, Practitioner, PractitionerRole
//	patient.go      Patient, and the state that its visits share
//	visit.go        Encounter and the order of what it brings
//	observation.go  Observation, laboratory DiagnosticReport
//	clinical.go     Condition, Procedure, Immunization, CarePlan, ...
//	medication.go   MedicationRequest, Medication, MedicationAdministration
//	note.go         the note: DiagnosticReport and DocumentReference
//	claim.go        Claim, ExplanationOfBenefit
//	provenance.go   Provenance over everything of a patient
//	files.go        one NDJSON file per type
package synth

// Package search holds the search parameters of FHIR R4 as facts: every
// parameter of the specification, compiled to the elements whose values answer
// it. It reads no resource; package index does, with what this package says.
//
// A parameter's expression is a union of paths. Each path, as it is read by one
// search type, is a Field; a field has a number that is written to disk. What
// several parameters share is one field: Observation's combo-code is the fields
// of code and component-code, patient is the field of subject with the
// references that name a Patient, and phone is the field of telecom with its
// system. So a value is stored once, however many parameters find it.
package search

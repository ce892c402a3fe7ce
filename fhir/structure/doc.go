// Package structure checks that a resource is built as FHIR R4 says: it knows the
// elements of every type, their JSON types, how often they occur, and how
// primitive values are written.
//
// Not checked, because it takes more than one resource's own bytes and one table:
// terminology (codes of required bindings too), profiles, invariants other than
// that an extension has either a value or extensions, the types that references
// point to, and whether what they point to exists.
//
// Invariants:
//   - A check is one pass over bytes that fhir.Scanner has accepted. Only a
//     resource inside a resource whose resourceType does not come first is read
//     up to there beforehand.
//   - A number's text is judged as text.
//   - A resource without issues costs no allocation once the buffers have grown.
//   - Order of keys and white space do not matter.
//
// Files: check.go the Checker and what it gives; object.go objects and which of
// their members there are; value.go values and arrays; pairs.go primitives and
// their extensions side by side; lexical.go, times.go how primitives are written;
// report.go issues and their paths; node.go the table's types and the lookup of
// keys; table.go the table, made from elements.tsv by ./generate.
package structure

//go:generate go run ./generate

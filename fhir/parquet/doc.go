// Package parquet writes resources as rows of Parquet files, one type a file.
//
// The columns follow R4's elements, so that a file's schema depends on its
// resource type alone, never on the data (SchemaVersion counts changes):
//
//   - An object is a group, an array a LIST, both optional; names are those of the
//     JSON. A choice has a column for each of its types: valueQuantity, valueString.
//   - boolean is BOOLEAN; integer, positiveInt and unsignedInt are INT32; every other
//     primitive is STRING. A decimal stays the text it was written as, since 1.0 and
//     1.00 differ in FHIR and a double would change them; dates stay texts, since
//     they may be partial.
//   - JSON texts (logical type JSON) stand for what has no bound or no fixed shape:
//     contained resources, extensions, a type inside itself (Reference.identifier's
//     assigner), objects below groupDepthMax groups, and the complex types of choices
//     that are open to all types.
//   - _other, in each group, is a JSON object with the members that have no column or
//     do not fit theirs: the id of an element, ids and extensions of primitives
//     ("_birthDate"), names that R4 does not know, a number where R4 has a text.
//
// Nothing of a resource is left out: columns and _other together hold all of it,
// but for the order of keys, escapes in strings, and resourceType, which is the
// file's (key "fhir.resourceType" of its metadata).
package parquet

// Package fhir holds the facts of FHIR R4 that the store depends on (resource
// types, ids, instants) and the scanner that reads one resource in one pass
// over its bytes.
//
// Invariants:
//   - The text of numbers, the order of keys and the escapes of strings are
//     never changed; a resource comes back as it came, but for white space,
//     meta.versionId, meta.lastUpdated and the mark of a deleted version.
//   - What Scan accepts is one JSON object by RFC 8259 in valid UTF-8, at most
//     DepthMax deep. What it refuses, it refuses with the byte offset.
//   - A Scanner allocates nothing for a resource once its buffers have grown.
//   - TypeCode numbers are on disk and are never reassigned.
//
// Files: types.go resource types; id.go the id rule; instant.go instants and
// partial dates; errors.go refusals; resource.go what a scan gives, and the way
// back from a body to a served resource; scanner.go the top level of a resource;
// meta.go its meta element; walk.go all other values; text.go strings; paths.go
// the automaton that hands element values to a Visitor; keyset.go repeated keys;
// equal.go the comparison of contents.
package fhir

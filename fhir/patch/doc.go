// Package patch changes FHIR resources by patches: JSON Patch (RFC 6902), JSON
// Merge Patch (RFC 7396) and FHIRPath Patch (FHIR R4 fhirpatch.html).
//
// Rules:
//   - What a patch does not touch keeps its text: numbers, the order of keys,
//     the escapes of strings. A document is a tree of pieces of its own bytes, and
//     only the objects and arrays that a patch goes through are taken apart.
//   - FHIR has no empty arrays and objects: those that a patch has emptied are left
//     out of the result.
//   - Work and memory are bounded (limits.go).
//   - Errors say which operation, counted from 1, and what to do.
//
// Files: tree.go the tree; compare.go equality of values; errors.go; limits.go;
// json_patch.go; pointer.go; merge_patch.go; path.go the FHIRPath subset; select.go
// what a path finds; fhirpath_patch.go its operations; fhirpath_value.go their values.
package patch

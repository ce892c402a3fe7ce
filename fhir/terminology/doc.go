// Package terminology finds the codes of a value set, and what a code subsumes,
// from ValueSets and CodeSystems that are stored: their expansions, their
// enumerated codes, and the concepts of code systems that are complete. It is no
// terminology server: what stored resources cannot answer for certain is refused
// with a reason, and never guessed.
//
// Invariants:
//   - A set is exact or there is none. An expansion that may lack codes, a code
//     system that is not complete, a filter whose meaning is the code system's own:
//     all are errors.
//   - Bounds are in limits.go; work ends when its context does.
//
// Files: code.go codes and sets of them; canonical.go which of several resources
// a canonical reference names; expand.go the Expander; compose.go the definition
// of a value set; filter.go its filters; subsume.go hierarchies; value_set.go,
// code_system.go and node.go how the resources are read; errors.go refusals.
package terminology

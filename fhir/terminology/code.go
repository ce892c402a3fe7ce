package terminology

import (
	"cmp"
	"iter"
	"slices"
)

// Code is a code of a code system.
type Code struct{ System, Code string }

// Set is a set of codes. Read only once it was given out.
type Set struct {
	// codes says of each whether it is abstract: there to group others. Abstract
	// ones can be excluded as others can, but are not in the set.
	codes map[Code]bool
}

func newSet() *Set { return &Set{codes: map[Code]bool{}} }

// Has tells whether a code is in the set.
func (s *Set) Has(c Code) bool {
	abstract, known := s.codes[c]
	return known && !abstract
}

// All gives each code, in no order.
func (s *Set) All() iter.Seq[Code] {
	return func(yield func(Code) bool) {
		for c, abstract := range s.codes {
			if !abstract && !yield(c) {
				return
			}
		}
	}
}

// Codes gives all, by system and code.
func (s *Set) Codes() []Code {
	all := slices.Collect(s.All())
	slices.SortFunc(all, func(a, b Code) int {
		return cmp.Or(cmp.Compare(a.System, b.System), cmp.Compare(a.Code, b.Code))
	})
	return all
}

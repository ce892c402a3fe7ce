package terminology

import (
	"cmp"
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

// Codes gives all, by system and code.
func (s *Set) Codes() []Code {
	all := make([]Code, 0, len(s.codes))
	for c, abstract := range s.codes {
		if !abstract {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b Code) int {
		return cmp.Or(cmp.Compare(a.System, b.System), cmp.Compare(a.Code, b.Code))
	})
	return all
}

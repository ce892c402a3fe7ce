package engine

import (
	"fmt"
	"time"
)

// Explanation is what a search did: a tree like that of the query's expression,
// with the numbers of all runs and of the head added up.
type Explanation struct {
	Name  string
	Found uint64        // versions that were left by this step
	Took  time.Duration // with the steps inside
	Steps []*Explanation
}

var opNames = [...]string{All: "all", And: "and", Or: "or", Not: "not", Terms: "terms", Keys: "keys"}

// step is the explanation of an argument; nil when nobody asked.
func (x *Explanation) step(i int) *Explanation {
	if x == nil {
		return nil
	}
	for len(x.Steps) <= i {
		x.Steps = append(x.Steps, &Explanation{})
	}
	return x.Steps[i]
}

// explain begins a step; what it gives ends it. nil when nobody asked.
func (s *searching) explain(e *Expr, x *Explanation) func(found uint64) {
	if x == nil {
		return nil
	}
	if x.Name == "" {
		if x.Name = e.Name; x.Name == "" {
			x.Name = opNames[e.Op]
		}
		if e.Op == Terms {
			x.Name += fmt.Sprintf(" (%d walks)", len(e.Walks))
		}
	}
	began := s.n.s.opts.Now()
	return func(found uint64) {
		x.Found += found
		x.Took += s.n.s.opts.Now().Sub(began)
	}
}

package synth

import (
	"math"
	"math/rand/v2"
	"sort"
)

// random draws from one seeded stream.
type random struct{ *rand.Rand }

// newRandom gives the stream of one part of the data set: streams of
// different parts do not depend on each other.
func newRandom(seed, part uint64) random {
	return random{rand.New(rand.NewPCG(seed, part))}
}

const hexDigits = "0123456789abcdef"

// uuid is random in all its digits, as Synthea's are.
func (r random) uuid() string {
	var text [36]byte
	at := 0
	for half := 0; half < 2; half++ {
		bits := r.Uint64()
		for i := 0; i < 16; i++ {
			if at == 8 || at == 13 || at == 18 || at == 23 {
				text[at] = '-'
				at++
			}
			text[at] = hexDigits[bits&15]
			bits >>= 4
			at++
		}
	}
	return string(text[:])
}

// percent is true in n of 100 draws.
func (r random) percent(n int) bool { return r.IntN(100) < n }

// times turns a mean into a count: its whole part, and one more as often as
// its fraction says.
func (r random) times(mean float64) int {
	whole := int(mean)
	if r.Float64() < mean-float64(whole) {
		whole++
	}
	return whole
}

// between is a value that lies mostly in the middle of low and high.
func (r random) between(low, high float64) float64 {
	return low + (high-low)*(r.Float64()+r.Float64())/2
}

// logNormal has the median m and the spread s.
func (r random) logNormal(m, s float64) float64 {
	return m * math.Exp(s*r.NormFloat64())
}

// picker draws indexes by weight.
type picker struct{ upTo []int }

func (p *picker) add(weight int) {
	if len(p.upTo) > 0 {
		weight += p.upTo[len(p.upTo)-1]
	}
	p.upTo = append(p.upTo, weight)
}

func (p *picker) pick(r random) int {
	at := r.IntN(p.upTo[len(p.upTo)-1])
	return sort.SearchInts(p.upTo, at+1)
}

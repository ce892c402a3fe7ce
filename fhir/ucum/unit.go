package ucum

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// Unit is what a number in some unit means: times factor, plus offset, it is in
// base units.
type Unit struct {
	factor *big.Rat
	offset *big.Rat // nil: none
	kind   string   // units of the same kind can be converted
}

// To tells how a number in u becomes one in v: times scale, plus offset. ok is false
// when they are of different kinds.
func (u Unit) To(v Unit) (scale, offset *big.Rat, ok bool) {
	if u.kind != v.kind {
		return nil, nil, false
	}
	offset = new(big.Rat)
	if u.offset != nil {
		offset.Add(offset, u.offset)
	}
	if v.offset != nil {
		offset.Sub(offset, v.offset)
	}
	return new(big.Rat).Quo(u.factor, v.factor), offset.Quo(offset, v.factor), true
}

// term is a unit while it is read: a factor and powers of what it is made of.
type term struct {
	factor *big.Rat
	powers map[string]int
	affine *big.Rat // offset in base units; only of a unit that stands alone
}

func newTerm() *term { return &term{factor: big.NewRat(1, 1), powers: map[string]int{}} }

// base is a unit that is made of nothing else.
func base(name string) *term {
	t := newTerm()
	t.powers[name] = 1
	return t
}

// times multiplies t by a power of another. It fails for numbers that no unit has,
// and for units that are no multiples.
func (t *term) times(other *term, exponent int) error {
	if other.affine != nil {
		return errSpecial
	}
	factor := new(big.Rat).Set(other.factor)
	if exponent < 0 {
		factor.Inv(factor)
	}
	for range max(exponent, -exponent) {
		t.factor.Mul(t.factor, factor)
		if t.factor.Num().BitLen()+t.factor.Denom().BitLen() > factorBitsMax {
			return errUnit
		}
	}
	for name, power := range other.powers {
		if t.powers[name] += power * exponent; t.powers[name] == 0 {
			delete(t.powers, name)
		}
	}
	return nil
}

func (t *term) unit() Unit {
	var kind strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t.powers)) {
		fmt.Fprintf(&kind, "%s^%d ", name, t.powers[name])
	}
	return Unit{factor: t.factor, offset: t.affine, kind: kind.String()}
}

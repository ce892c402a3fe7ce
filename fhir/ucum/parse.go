package ucum

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

const (
	// codeBytesMax bounds the text of a unit; the longest in use have some thirty.
	codeBytesMax = 128
	// exponentMax bounds exponents: numbers of particles go to 10*24.
	exponentMax = 99
	// depthMax bounds parentheses.
	depthMax = 8
	// factorBitsMax bounds the digits of a factor; the largest of the table has 250.
	factorBitsMax = 4096
)

var (
	errUnit    = errors.New("it is no unit")
	errSpecial = errors.New("a unit that is no multiple of others stands among others")
)

// parser reads a unit:
//
//	term       /component, or components parted by "." and "/", from left to right
//	component  symbol, exponent and annotation · number · annotation · (term)
//	symbol     an atom, or a prefix and a metric atom
type parser struct {
	table *Table
	rest  string
	depth int
}

func (p *parser) next(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// term reads up to a parenthesis that was not opened, or the end.
func (p *parser) term() (*term, error) {
	all, sign := newTerm(), 1
	if p.next('/') {
		sign = -1
	}
	alone := sign == 1
	for {
		one, err := p.component()
		if err != nil {
			return nil, err
		}
		if alone && (p.rest == "" || p.rest[0] == ')') {
			return one, nil
		}
		alone = false
		if err := all.times(one, sign); err != nil {
			return nil, err
		}
		switch {
		case p.next('.'):
			sign = 1
		case p.next('/'):
			sign = -1
		default:
			return all, nil
		}
	}
}

func (p *parser) component() (*term, error) {
	switch {
	case p.next('('):
		if p.depth++; p.depth > depthMax {
			return nil, errUnit
		}
		inner, err := p.term()
		p.depth--
		if err == nil && !p.next(')') {
			err = errUnit
		}
		return inner, err
	case p.rest != "" && p.rest[0] == '{':
		return p.annotation()
	}
	one, err := p.simple()
	if err == nil && p.rest != "" && p.rest[0] == '{' {
		var note *term
		if note, err = p.annotation(); err == nil {
			err = one.times(note, 1)
		}
	}
	return one, err
}

// annotation reads {text}, which is a kind of its own.
func (p *parser) annotation() (*term, error) {
	end := strings.IndexByte(p.rest, '}')
	if end < 0 || strings.IndexByte(p.rest[1:end], '{') >= 0 {
		return nil, errUnit
	}
	text := p.rest[:end+1]
	p.rest = p.rest[end+1:]
	return base(text), nil
}

// simple reads a number, or a symbol and its exponent.
func (p *parser) simple() (*term, error) {
	symbol := p.symbol()
	if symbol == "" {
		return p.number()
	}
	one, err := p.table.symbol(symbol)
	if err != nil {
		return nil, err
	}
	exponent, given, err := p.exponent()
	if err != nil || !given {
		return one, err
	}
	power := newTerm()
	return power, power.times(one, exponent)
}

// symbol takes what a symbol can have: anything in brackets, and no digits, but for
// the atoms 10* and 10^.
func (p *parser) symbol() string {
	end := 0
	if strings.HasPrefix(p.rest, "10*") || strings.HasPrefix(p.rest, "10^") {
		end = 3
	} else {
		inside := false
		for ; end < len(p.rest); end++ {
			c := p.rest[end]
			if c == '[' || c == ']' {
				inside = c == '['
			} else if !inside && strings.IndexByte("./(){}+-0123456789", c) >= 0 {
				break
			}
		}
	}
	symbol := p.rest[:end]
	p.rest = p.rest[end:]
	return symbol
}

// number reads a whole number, which counts as a unit.
func (p *parser) number() (*term, error) {
	digits := p.digits()
	n, err := strconv.Atoi(digits)
	if err != nil || n == 0 || len(digits) > 9 {
		return nil, errUnit
	}
	one := newTerm()
	one.factor = big.NewRat(int64(n), 1)
	return one, nil
}

func (p *parser) exponent() (n int, given bool, err error) {
	negative := p.next('-')
	signed := negative || p.next('+')
	digits := p.digits()
	if digits == "" {
		if signed {
			return 0, false, errUnit
		}
		return 0, false, nil
	}
	n, err = strconv.Atoi(digits)
	if err != nil || n > exponentMax {
		return 0, false, errUnit
	}
	if negative {
		n = -n
	}
	return n, true, nil
}

func (p *parser) digits() string {
	end := 0
	for end < len(p.rest) && '0' <= p.rest[end] && p.rest[end] <= '9' {
		end++
	}
	digits := p.rest[:end]
	p.rest = p.rest[end:]
	return digits
}

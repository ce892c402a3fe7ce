package query

import (
	"errors"
	"math/big"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

// walks are the terms of some fields that a value of a parameter is; group is
// set for a part of a composite. Errors are *Error.
func (r *reader) walks(p *search.Param, sources []search.Source, modifier, text string) (walks []index.Walk, err error) {
	switch p.Kind {
	case search.Token:
		walks, err = r.token(p, sources, modifier, text)
	case search.String:
		walks, err = stringWalks(p, sources, modifier, []byte(plain(text)))
	case search.Reference:
		walks, err = r.reference(p, sources, modifier, text)
	case search.URI:
		walks, err = uriWalks(p, sources, modifier, []byte(plain(text)))
	case search.Date, search.Number, search.Quantity:
		if modifier != "" {
			return nil, badModifier(p, modifier)
		}
		walks, err = r.ordered(p, sources, text)
	case search.Special:
		walks, err = near(p, sources, modifier, text)
	default:
		return nil, notSupported("The search parameter '%s' is not supported.", p.Code)
	}
	return walks, badValue(p, text, err)
}

// badValue words the index's refusal of a value.
func badValue(p *search.Param, text string, err error) error {
	if errors.Is(err, index.ErrWalk) {
		return invalid("The value '%.100s' of the parameter '%s' is too long, or is not a value of type %s.", text, p.Code, p.Kind)
	}
	return err
}

func badModifier(p *search.Param, modifier string) error {
	return notSupported("The modifier ':%s' is not supported for the parameter '%s' of type %s.", modifier, p.Code, p.Kind)
}

// token reads a value of a token (R4 search.html#token).
func (r *reader) token(p *search.Param, sources []search.Source, modifier, text string) ([]index.Walk, error) {
	switch modifier {
	case "":
	case "text":
		return index.TokenTextWalks(sources, []byte(plain(text)))
	case "of-type":
		return ofType(p, sources, text)
	default:
		return nil, badModifier(p, modifier)
	}
	token, err := knownToken(p, sources, text)
	if err != nil {
		return nil, err
	}
	return index.TokenWalks(sources, token)
}

// knownToken reads a token of fields that have systems, when it has one.
func knownToken(p *search.Param, sources []search.Source, text string) (index.Token, error) {
	token, err := readToken(p, text)
	if err != nil {
		return token, err
	}
	for _, s := range sources {
		if len(token.System) > 0 && hasNoSystem(p, s.Field) {
			return token, notSupported("The value '%s' of the parameter '%s' has a system, and what is searched has none: leave it out.", text, p.Code)
		}
	}
	return token, nil
}

// readToken reads code, system|code, |code or system|.
func readToken(p *search.Param, text string) (t index.Token, err error) {
	system, code, both := cut(text, '|')
	if !both {
		return index.Token{Code: []byte(plain(system)), AnySystem: true}, nil
	}
	if system == "" && code == "" {
		return t, invalid("The value '%s' of the parameter '%s' has neither system nor code.", text, p.Code)
	}
	return index.Token{System: []byte(plain(system)), Code: []byte(plain(code))}, nil
}

// hasNoSystem tells fields whose every element is a code or the like: their
// systems are fixed by the specification and not stored.
func hasNoSystem(p *search.Param, f *search.Field) bool {
	for _, e := range f.Elements {
		switch e.Type {
		case "CodeableConcept", "Coding", "Identifier", "ContactPoint":
			return false
		}
	}
	return len(f.Elements) > 0
}

// ofType reads system|code|value of an identifier.
func ofType(p *search.Param, sources []search.Source, text string) ([]index.Walk, error) {
	parts := split(text, '|')
	if len(parts) != 3 || parts[1] == "" || parts[2] == "" {
		return nil, invalid("The value '%s' of '%s:of-type' is not of the form system|code|value.", text, p.Code)
	}
	return index.TokenOfTypeWalks(sources, []byte(plain(parts[0])), []byte(plain(parts[1])), []byte(plain(parts[2]))), nil
}

// stringWalks reads a value of a string (R4 search.html#string).
func stringWalks(p *search.Param, sources []search.Source, modifier string, text []byte) ([]index.Walk, error) {
	switch modifier {
	case "":
		return index.StringWalks(sources, text)
	case "exact":
		return index.StringExactWalks(sources, text), nil
	case "contains":
		return index.StringContainsWalks(sources, text), nil
	}
	return nil, badModifier(p, modifier)
}

// uriWalks reads a value of a uri (R4 search.html#uri).
func uriWalks(p *search.Param, sources []search.Source, modifier string, text []byte) ([]index.Walk, error) {
	switch modifier {
	case "":
		return index.URIWalks(sources, text), nil
	case "below":
		return index.URIBelowWalks(sources, text)
	case "above":
		return index.URIAboveWalks(sources, text), nil
	}
	return nil, badModifier(p, modifier)
}

// ordered reads values that may have a prefix: dates, numbers and quantities.
func (r *reader) ordered(p *search.Param, sources []search.Source, text string) ([]index.Walk, error) {
	compare, rest := index.CutCompare([]byte(text))
	switch p.Kind {
	case search.Date:
		first, last, err := r.span(p.Code, compare, rest)
		return index.DateWalks(sources, compare, first, last), err
	case search.Number:
		return index.NumberWalks(sources, compare, rest)
	}
	parts := split(string(rest), '|')
	if len(parts) == 2 || len(parts) > 3 {
		return nil, invalid("The value '%s' of the parameter '%s' is not of the form number, number|system|code or number||code.", text, p.Code)
	}
	unit := index.Unit{AnySystem: true}
	if len(parts) == 3 {
		unit = index.Unit{System: []byte(plain(parts[1])), Code: []byte(plain(parts[2])), AnySystem: parts[1] == ""}
	}
	walks, err := index.QuantityWalks(sources, compare, []byte(parts[0]), unit)
	if err != nil {
		return nil, err
	}
	converted, err := r.inOtherUnits(sources, compare, []byte(parts[0]), unit)
	return append(walks, converted...), err
}

// unitSystem is the system of UCUM's units.
const unitSystem = "http://unitsofmeasure.org"

// inOtherUnits is the walks of a quantity in other units of its kind; none, when its
// own is not known.
func (r *reader) inOtherUnits(sources []search.Source, compare index.Compare, number []byte, unit index.Unit) ([]index.Walk, error) {
	if r.Units == nil || string(unit.System) != unitSystem || len(unit.Code) == 0 {
		return nil, nil
	}
	asked, ok := r.Units.Unit(string(unit.Code))
	if !ok {
		return nil, nil
	}
	return index.ConvertedQuantityWalks(sources, compare, number, unit, func(code []byte) (scale, offset *big.Rat, ok bool) {
		stored, ok := r.Units.Unit(string(code))
		if !ok {
			return nil, nil, false
		}
		return stored.To(asked)
	})
}

// approximateShare: "ap" of a date allows a tenth of the time between now and the
// date, as R4 recommends.
const approximateShare = 10

// span reads a date, widened for "ap".
func (r *reader) span(code string, compare index.Compare, text []byte) (first, last int64, err error) {
	first, last, err = dateSpan(code, text)
	if compare == index.Ap && err == nil {
		now := r.Now.UnixMilli()
		wider := max(now-last, first-now, 0) / approximateShare
		first, last = first-wider, last+wider
	}
	return first, last, err
}

// dateSpan reads a date.
func dateSpan(code string, text []byte) (first, last int64, err error) {
	first, last, ok := fhir.ParseDate([]byte(unescapedPlus(string(text))))
	if !ok {
		return 0, 0, invalid("The value '%s' of the parameter '%s' is not a date.", text, code)
	}
	return first, last, nil
}

// unescapedPlus gives back the '+' of an offset from UTC, which many clients
// forget to escape: in a URL it means a space.
func unescapedPlus(text string) string { return strings.ReplaceAll(text, " ", "+") }

// updated reads a value of _lastUpdated, which is an instant.
func (r *reader) updated(modifier, text string) (*filter, error) {
	if modifier != "" {
		return nil, notSupported("The modifier ':%s' is not supported for the parameter '_lastUpdated'.", modifier)
	}
	compare, rest := index.CutCompare([]byte(text))
	first, last, err := r.span("_lastUpdated", compare, rest)
	if err != nil {
		return nil, err
	}
	return terms(index.LastUpdatedWalks(compare, first, last)), nil
}

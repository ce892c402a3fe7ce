package index

import (
	"bytes"

	"kiln/fhir/search"
)

// StringEqualWalks gives the walks of strings that are text, whatever their case
// and accents. ErrWalk for one that is too long.
func StringEqualWalks(sources []search.Source, text []byte) ([]Walk, error) {
	return prefixWalks(sources, wholeString(text))
}

// StringOrderWalks gives the walks of strings that stand where c says (Ne, Gt, Lt,
// Ge or Le) in the order of code points, without case and accents. ErrWalk for a
// text that is too long.
func StringOrderWalks(sources []search.Source, c Compare, text []byte) (walks []Walk, err error) {
	from := wholeString(text)
	if len(from) > TermPrefixBytes {
		return nil, errLong
	}
	behind := successor(from)
	for _, s := range sources {
		p := Param(s.Field.Number)
		below, above := Walk{Param: p, To: from}, Walk{Param: p, From: behind}
		switch c {
		case Ne:
			walks = append(walks, below, above)
		case Gt:
			walks = append(walks, above)
		case Lt:
			walks = append(walks, below)
		case Ge:
			walks = append(walks, Walk{Param: p, From: from})
		case Le:
			walks = append(walks, Walk{Param: p, To: behind})
		default:
			panic("BUG: strings have no order " + c.String())
		}
	}
	return walks, nil
}

// wholeString is what the values of all strings that are text, whatever their
// case and accents, begin with.
func wholeString(text []byte) []byte {
	return append(AppendStringPrefix(nil, text, NewFolder()), termSeparator)
}

// StringEndWalks gives the walks of strings that end with text, whatever their
// case and accents: over all values.
func StringEndWalks(sources []search.Source, text []byte) (walks []Walk) {
	end := AppendStringPrefix(nil, text, NewFolder())
	look := func(value, _ []byte) (Verdict, []byte) {
		folded, _, _ := bytes.Cut(value, []byte{termSeparator})
		if bytes.HasSuffix(folded, end) {
			return Take, nil
		}
		return Pass, nil
	}
	for _, s := range sources {
		walks = append(walks, Walk{Param: Param(s.Field.Number), Look: look})
	}
	return walks
}

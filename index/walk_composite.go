package index

import (
	"bytes"
	"fmt"

	"kiln/fhir/search"
)

// CompositeWalks gives the walks of a composite's group: parts holds, for each of
// group.Parts, the walks of that component, made as of a source whose field is
// the group: search.Source{Field: group}. ErrWalk for values that are too long.
func CompositeWalks(group *search.Field, parts [][]Walk) ([]Walk, error) {
	if len(parts) != len(group.Parts) {
		return nil, fmt.Errorf("%w: it has %d parts and not %d", ErrWalk, len(parts), len(group.Parts))
	}
	c := composite{field: group, parts: parts}
	if err := c.add(nil, 0); err != nil {
		return nil, err
	}
	return c.walks, nil
}

type composite struct {
	field *search.Field
	parts [][]Walk
	walks []Walk
}

// add makes the walks below a prefix that holds the parts before the i-th. The
// first part that is not exact bounds the walk; Look judges all.
func (c *composite) add(prefix []byte, i int) error {
	for _, w := range c.parts[i] {
		from := append(bytes.Clone(prefix), w.From...)
		switch {
		case w.Exact && i+1 < len(c.parts):
			if err := c.add(append(from, termSeparator), i+1); err != nil {
				return err
			}
			continue
		case w.Exact:
			c.walks = append(c.walks, ExactWalk(Param(c.field.Number), append(from, termSeparator)))
			continue
		case len(from) > TermPrefixBytes || len(prefix)+len(w.To) >= TermPrefixBytes:
			return errLong
		}
		to := successor(prefix)
		if w.To != nil {
			// The separator behind a part must not lift it over its bound.
			to = append(append(bytes.Clone(prefix), w.To...), 0xFF)
		}
		c.walks = append(c.walks, Walk{Param: Param(c.field.Number), From: from, To: to, Look: c.look})
	}
	return nil
}

// look takes a value whose parts all are in one of their walks.
func (c *composite) look(value, _ []byte) (Verdict, []byte) {
	for i := range c.parts {
		n := compositePartLength(c.field.Parts[i].Kind, value)
		if n < 0 || n >= len(value) || value[n] != termSeparator {
			return Pass, nil
		}
		taken := false
		for j := range c.parts[i] {
			taken = taken || c.parts[i][j].Takes(value[:n])
		}
		if !taken {
			return Pass, nil
		}
		value = value[n+1:]
	}
	return Take, nil
}

// compositePartLength is the length of the part that value begins with, without the
// separator behind it; -1 when there is none.
func compositePartLength(kind search.Kind, value []byte) int {
	if len(value) == 0 {
		return -1
	}
	switch kind {
	case search.Token:
		return codeEnd(value, textEnds(value, 0, 1))
	case search.String:
		return textEnds(value, 0, 2) - 1
	case search.URI:
		return textEnds(value, 0, 1) - 1
	case search.Date:
		if class := value[0]; class <= dateClassMax {
			return 9 + int(class+1)/2
		}
		return 9
	case search.Number:
		return decimalsEnd(value, 1, int(value[0]))
	case search.Quantity:
		texts := 2 - int(value[0]+1)%2 // coded units have two, texts one
		return decimalsEnd(value, textEnds(value, 0, texts), 1+int(value[0])/quantityInterval)
	case search.Reference:
		return referenceLength(value)
	}
	return -1
}

// textEnds gives the place behind n separators from at on; 0 when there are fewer.
func textEnds(value []byte, at, n int) int {
	for ; n > 0; n-- {
		end := bytes.IndexByte(value[at:], termSeparator)
		if end < 0 {
			return 0
		}
		at += end + 1
	}
	return at
}

// codeEnd gives the end of the code at a place (appendCodeText).
func codeEnd(value []byte, at int) int {
	switch {
	case at <= 0:
		return -1
	case at < len(value) && value[at] == termUUID:
		return at + 1 + uuidBytes
	}
	return textEnds(value, at, 1) - 1
}

// decimalsEnd gives the end of n decimals at a place.
func decimalsEnd(value []byte, at, n int) int {
	if at <= 0 {
		return -1
	}
	for ; n > 0; n-- {
		if at >= len(value) {
			return -1
		}
		length := decimalLength(value[at:])
		if length < 0 {
			return -1
		}
		at += length
	}
	return at
}

func referenceLength(value []byte) int {
	switch value[0] {
	case refUUID:
		if len(value) < 3+uuidBytes {
			return -1
		}
		return textEnds(value, 3+uuidBytes, 1) - 1
	case refID:
		return textEnds(value, min(3, len(value)), 2) - 1
	case refAbsolute:
		return textEnds(value, min(3, len(value)), 3) - 1
	case refURN:
		return 1 + uuidBytes
	case refCanonical:
		return textEnds(value, 0, 2) - 1
	case refText:
		return textEnds(value, 0, 1) - 1
	case refIdentifier:
		return codeEnd(value, textEnds(value, 0, 1))
	}
	return -1
}

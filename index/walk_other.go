package index

import "kiln/fhir/search"

// TokenOtherWalks gives the walks of codes other than a token. ErrWalk for a
// system that is too long.
func TokenOtherWalks(sources []search.Source, t Token) (walks []Walk, err error) {
	for i, s := range sources {
		equal, err := TokenWalks(sources[i:i+1], t)
		if err != nil {
			return nil, err
		}
		all := Walk{Param: Param(s.Field.Number), From: []byte{tokenCode}, To: []byte{tokenCode + 1}}
		if s.System != "" {
			all.From = AppendTokenSystem(nil, []byte(s.System))
			all.To = successor(all.From)
		}
		walks = append(walks, all.without(equal))
	}
	return walks, nil
}

// URIOtherWalks gives the walks of URIs other than one.
func URIOtherWalks(sources []search.Source, uri []byte) (walks []Walk) {
	for i, s := range sources {
		all := Walk{Param: Param(s.Field.Number)}
		walks = append(walks, all.without(URIWalks(sources[i:i+1], uri)))
	}
	return walks
}

// without is a walk, which has no Look, but for the values of others in its field.
func (w Walk) without(others []Walk) Walk {
	w.Look = func(value, _ []byte) (Verdict, []byte) {
		for i := range others {
			if others[i].Takes(value) {
				return Pass, nil
			}
		}
		return Take, nil
	}
	return w
}

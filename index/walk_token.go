package index

import (
	"bytes"
	"slices"

	"kiln/fhir/search"
)

// Token is a query's token: code, system|code, |code or system|.
type Token struct {
	System, Code []byte
	AnySystem    bool // no "|" was given; System is empty
}

// TokenWalks gives the walks of a token. ErrWalk for a system that is too long.
//
// A source that keeps the tokens of one system (telecom's phones) has only that:
// a query that names another finds nothing in it.
func TokenWalks(sources []search.Source, t Token) ([]Walk, error) {
	var walks []Walk
	for _, s := range sources {
		p, system, any := Param(s.Field.Number), t.System, t.AnySystem
		if s.System != "" {
			if len(system) > 0 && string(system) != s.System {
				continue
			}
			system, any = []byte(s.System), false
		}
		switch {
		case any:
			walks = append(walks, anySystemWalk(p, tokenCode, appendCodeText(nil, t.Code)))
		case len(t.Code) > 0:
			walks = append(walks, ExactWalk(p, AppendToken(nil, system, t.Code)))
		default:
			w, err := PrefixWalk(p, AppendTokenSystem(nil, system))
			if err != nil {
				return nil, err
			}
			walks = append(walks, w)
		}
	}
	return walks, nil
}

// TokenTextWalks gives the walks of :text: displays and texts that begin with
// text, whatever their case and accents.
func TokenTextWalks(sources []search.Source, text []byte) ([]Walk, error) {
	return prefixWalks(sources, AppendTokenText(nil, text, NewFolder()))
}

// TokenOfTypeWalks gives the walks of :of-type: type system, type code and value.
func TokenOfTypeWalks(sources []search.Source, system, code, value []byte) []Walk {
	return exactWalks(sources, AppendTokenOfType(nil, system, code, value))
}

func exactWalks(sources []search.Source, value []byte) (walks []Walk) {
	for _, s := range sources {
		walks = append(walks, ExactWalk(Param(s.Field.Number), value))
	}
	return walks
}

func prefixWalks(sources []search.Source, prefix []byte) (walks []Walk, err error) {
	for _, s := range sources {
		w, err := PrefixWalk(Param(s.Field.Number), prefix)
		if err != nil {
			return nil, err
		}
		walks = append(walks, w)
	}
	return walks, nil
}

// anySystemWalk finds rest behind any system in a family: from system to
// system, a seek or two for each.
func anySystemWalk(p Param, family byte, rest []byte) Walk {
	look := func(value, room []byte) (Verdict, []byte) {
		at := bytes.IndexByte(value[1:], termSeparator)
		if at < 0 {
			return Pass, nil
		}
		system := value[:1+at+1]
		switch c := bytes.Compare(value[len(system):], rest); {
		case c < 0:
			return Pass, append(append(room, system...), rest...)
		case c == 0:
			return Take, behind(room, system)
		}
		return Pass, behind(room, system)
	}
	return Walk{Param: p, From: []byte{family}, To: []byte{family + 1}, Look: look, rest: rest}
}

// anySystemsWalk is anySystemWalk for several rests, which ascend.
func anySystemsWalk(p Param, family byte, rests [][]byte) Walk {
	look := func(value, room []byte) (Verdict, []byte) {
		end := bytes.IndexByte(value[1:], termSeparator)
		if end < 0 {
			return Pass, nil
		}
		system := value[:1+end+1]
		at, found := slices.BinarySearchFunc(rests, value[len(system):], bytes.Compare)
		verdict := Pass
		if found {
			verdict = Take
			at++
		}
		if at == len(rests) {
			return verdict, behind(room, system)
		}
		return verdict, append(append(room, system...), rests[at]...)
	}
	return Walk{Param: p, From: []byte{family}, To: []byte{family + 1}, Look: look}
}

// behind appends what is above all values that begin with a prefix that ends
// with a separator.
func behind(room, prefix []byte) []byte {
	room = append(room, prefix...)
	room[len(room)-1]++
	return room
}

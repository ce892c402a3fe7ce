package httpapi

import (
	"encoding/binary"
	"slices"

	"kiln/engine"
)

// A search's paging token is base64url, without padding, of this (big endian), where
// all behind the version is sealed (seal_token.go):
//
//	0   version      1 byte, 6
//	1   asOf         u64   LSN of the first page
//	9   now          i64   when the first page was read, in milliseconds: what "ap" is relative to
//	17  total        i64   matches on all pages; -1: nobody counted
//	25  scope        u64   hash of the address and the parameters
//	33  after        engine.Cursor of the page
//	    before       engine.Cursor of each earlier page, the last first, to the end
const (
	searchTokenVersion   = 6 // 7 is a history's
	searchTokenHeadBytes = 33
)

// searchToken is what a page but the first needs besides the search's parameters.
type searchToken struct {
	asOf  uint64
	now   int64
	total int64
	scope uint64
	after engine.Cursor
	// before are the places of earlier pages, the last first: what previous links
	// lead to. Of those that are far back, earlierBytesMax says which, nothing is left.
	before []engine.Cursor
}

// isFirst tells the first page's token, to which only previous and first links lead.
func (t *searchToken) isFirst() bool { return t.after == engine.Cursor{} }

// following is the token of the next page, which begins at next.
func (t *searchToken) following(next engine.Cursor) *searchToken {
	to := *t
	to.after, to.before = next, slices.Concat([]engine.Cursor{t.after}, t.before)
	return &to
}

// preceding is the token of the page before; nil: there is none, or it is too far back.
func (t *searchToken) preceding() *searchToken {
	if len(t.before) == 0 {
		return nil
	}
	to := *t
	to.after, to.before = t.before[0], t.before[1:]
	return &to
}

// first is the token of the first page.
func (t *searchToken) first() *searchToken {
	to := *t
	to.after, to.before = engine.Cursor{}, nil
	return &to
}

// encode returns the token's text.
func (t *searchToken) encode(key []byte) string {
	b := append(make([]byte, 0, tokenBytesMax), searchTokenVersion)
	b = binary.BigEndian.AppendUint64(b, t.asOf)
	b = binary.BigEndian.AppendUint64(b, uint64(t.now))
	b = binary.BigEndian.AppendUint64(b, uint64(t.total))
	b = binary.BigEndian.AppendUint64(b, t.scope)
	b = appendCursor(b, t.after)
	end := len(b)
	for _, c := range t.before {
		more := appendCursor(b, c)
		if len(more)-end > earlierBytesMax {
			break
		}
		b = more
	}
	return sealToken(key, b)
}

func appendCursor(dst []byte, c engine.Cursor) []byte {
	dst, err := c.AppendBinary(dst)
	if err != nil {
		panic("BUG: a cursor cannot be written: " + err.Error())
	}
	return dst
}

// decodeSearchToken reads a token's text; errToken when it is none that was
// sealed with the key.
func decodeSearchToken(key []byte, text string) (t searchToken, err error) {
	b, err := openToken(key, text, searchTokenVersion, searchTokenHeadBytes)
	if err != nil {
		return t, err
	}
	t = searchToken{
		asOf:  binary.BigEndian.Uint64(b[1:]),
		now:   int64(binary.BigEndian.Uint64(b[9:])),
		total: int64(binary.BigEndian.Uint64(b[17:])),
		scope: binary.BigEndian.Uint64(b[25:]),
	}
	rest := b[searchTokenHeadBytes:]
	if t.after, rest, err = engine.ParseCursor(rest); err != nil {
		return t, errToken
	}
	for len(rest) > 0 {
		var c engine.Cursor
		if c, rest, err = engine.ParseCursor(rest); err != nil {
			return t, errToken
		}
		t.before = append(t.before, c)
	}
	return t, nil
}

package httpapi

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"

	"kiln/engine"
)

// A search's paging token is base64url, without padding, of this (big endian):
//
//	0   version      1 byte, 3
//	1   asOf         u64   LSN of the first page
//	9   total        i64   matches on all pages; -1: nobody counted
//	17  scope        u64   hash of the address and the parameters
//	25  cursor       engine.Cursor, to the end but 16 bytes
//	    hmac         16 bytes of HMAC-SHA256 of the bytes before
//
// See paging_token.go for what the signature is for.
const (
	searchTokenVersion   = 3
	searchTokenHeadBytes = 25
)

// searchToken is what a following page needs besides the search's parameters.
type searchToken struct {
	asOf  uint64
	total int64
	scope uint64
	after engine.Cursor
}

// encode returns the token's text, signed.
func (t *searchToken) encode(key []byte) string {
	b := append(make([]byte, 0, tokenBytes+searchTokenHeadBytes), searchTokenVersion)
	b = binary.BigEndian.AppendUint64(b, t.asOf)
	b = binary.BigEndian.AppendUint64(b, uint64(t.total))
	b = binary.BigEndian.AppendUint64(b, t.scope)
	b, err := t.after.AppendBinary(b)
	if err != nil {
		panic("BUG: a cursor cannot be written: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(append(b, tokenMAC(key, b)...))
}

// decodeSearchToken reads a token's text; errToken when it is none that was
// signed with the key.
func decodeSearchToken(key []byte, text string) (t searchToken, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	signed := len(b) - tokenMACBytes
	if err != nil || signed <= searchTokenHeadBytes || b[0] != searchTokenVersion || !hmac.Equal(tokenMAC(key, b[:signed]), b[signed:]) {
		return t, errToken
	}
	t = searchToken{
		asOf:  binary.BigEndian.Uint64(b[1:]),
		total: int64(binary.BigEndian.Uint64(b[9:])),
		scope: binary.BigEndian.Uint64(b[17:]),
	}
	if t.after, err = engine.ParseCursor(b[searchTokenHeadBytes:signed]); err != nil {
		return t, errToken
	}
	return t, nil
}

package httpapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"kiln/engine"
)

// A paging token is base64url, without padding, of this (big endian):
//
//	0   version      1 byte, 3
//	1   count        u16   entries a page; the highest bit: the oldest first
//	3   lsn          u64   the history's snapshot: later versions stay out
//	11  since        i64   lastUpdated >= (milliseconds; 0: no bound)
//	19  before       i64   lastUpdated <  (milliseconds; 0: no bound)
//	27  cursor milli i64   } where the page starts
//	35  cursor lsn   u64   }
//	43  cursor skip  u32   }
//	47  cursor last  u64   }
//	55  total        i64   entries on all pages
//	63  scope        u64   hash of the address (system, type or resource)
//	71  hmac         16 bytes of HMAC-SHA256 of the bytes before
//
// It grants nothing that its address does not give, and is signed so that nobody
// relies on what is in it, or has the server work on numbers it never gave out.
const (
	tokenVersion  = 3
	tokenMACBytes = 16
	tokenBytes    = 71 + tokenMACBytes

	tokenOldestFirst = 1 << 15
)

// pagingToken is everything that a following page needs.
type pagingToken struct {
	count       int
	lsn         uint64
	sinceMilli  int64
	beforeMilli int64
	oldestFirst bool
	cursor      engine.HistoryCursor
	total       int64
	scope       uint64
}

var errToken = errors.New("not a paging token of this server")

// tokenMAC signs a token's bytes.
func tokenMAC(key, b []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(b)
	return mac.Sum(nil)[:tokenMACBytes]
}

// checkTokenLSN refuses a token whose first page is of a moment that this server
// has not seen: it is one of another store with the same key.
func checkTokenLSN(lsn uint64, snap *engine.Snapshot) error {
	if lsn > snap.LSN() {
		return badRequest("The value of the parameter 'ct' is not a paging token of this server.")
	}
	return nil
}

// encode returns the token's text, signed.
func (t *pagingToken) encode(key []byte) string {
	b := make([]byte, 0, tokenBytes)
	b = append(b, tokenVersion)
	count := uint16(t.count)
	if t.oldestFirst {
		count |= tokenOldestFirst
	}
	b = binary.BigEndian.AppendUint16(b, count)
	b = binary.BigEndian.AppendUint64(b, t.lsn)
	b = binary.BigEndian.AppendUint64(b, uint64(t.sinceMilli))
	b = binary.BigEndian.AppendUint64(b, uint64(t.beforeMilli))
	b = binary.BigEndian.AppendUint64(b, uint64(t.cursor.Milli))
	b = binary.BigEndian.AppendUint64(b, t.cursor.LSN)
	b = binary.BigEndian.AppendUint32(b, t.cursor.Skip)
	b = binary.BigEndian.AppendUint64(b, t.cursor.Last)
	b = binary.BigEndian.AppendUint64(b, uint64(t.total))
	b = binary.BigEndian.AppendUint64(b, t.scope)
	b = append(b, tokenMAC(key, b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodePagingToken reads a token's text; errToken when it is none
// that was signed with the key.
func decodePagingToken(key []byte, text string) (pagingToken, error) {
	if len(text) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return pagingToken{}, errToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != tokenBytes || b[0] != tokenVersion { // line ends are skipped by the decoder
		return pagingToken{}, errToken
	}
	if signed := tokenBytes - tokenMACBytes; !hmac.Equal(tokenMAC(key, b[:signed]), b[signed:]) {
		return pagingToken{}, errToken
	}
	count := binary.BigEndian.Uint16(b[1:])
	t := pagingToken{
		count:       int(count &^ tokenOldestFirst),
		oldestFirst: count&tokenOldestFirst != 0,
		lsn:         binary.BigEndian.Uint64(b[3:]),
		sinceMilli:  int64(binary.BigEndian.Uint64(b[11:])),
		beforeMilli: int64(binary.BigEndian.Uint64(b[19:])),
		cursor: engine.HistoryCursor{
			Milli: int64(binary.BigEndian.Uint64(b[27:])),
			LSN:   binary.BigEndian.Uint64(b[35:]),
			Skip:  binary.BigEndian.Uint32(b[43:]),
			Last:  binary.BigEndian.Uint64(b[47:]),
		},
		total: int64(binary.BigEndian.Uint64(b[55:])),
		scope: binary.BigEndian.Uint64(b[63:]),
	}
	if t.count < 1 || t.count > historyCountMax || t.total < 0 || t.lsn == 0 {
		return pagingToken{}, errToken
	}
	return t, nil
}

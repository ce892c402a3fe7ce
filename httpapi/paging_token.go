package httpapi

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"kiln/engine"
)

// A paging token is base64url, without padding, of this (big endian), where all behind
// the version is sealed (seal_token.go):
//
//	0   version      1 byte, 7
//	1   count        u16   entries a page; the highest bit: the oldest first
//	3   lsn          u64   the history's snapshot: later versions stay out
//	11  since        i64   lastUpdated >= (milliseconds; 0: no bound)
//	19  before       i64   lastUpdated <  (milliseconds; 0: no bound)
//	27  cursor milli i64   } where the page starts
//	35  cursor lsn   u64   }
//	43  cursor skip  u32   }
//	47  cursor last  u64   }
//	55  total        i64   entries on all pages; -1: not told
//	63  scope        u64   hash of the address (system, type or resource)
//	71  earlier      where each earlier page starts, the last first, to the end
//
// An earlier page's cursor is told by what it differs in from the one in front of it:
//
//	+--------------+------------+--------------+----------+
//	| milli varint | lsn varint | skip uvarint | last u64 |
//	+--------------+------------+--------------+----------+
const (
	tokenVersion   = 7 // 6 is a search's
	tokenHeadBytes = 71
	tokenBytesMax  = tokenHeadBytes + earlierBytesMax + tokenSealBytes

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
	// earlier are the cursors of earlier pages, the last first: what previous links
	// lead to. Of those that are far back, earlierBytesMax says which, nothing is left.
	earlier []engine.HistoryCursor
}

// isFirst tells the first page's token, to which only previous and first links lead.
func (t *pagingToken) isFirst() bool { return t.cursor == engine.HistoryCursor{} }

// following is the token of the next page, which begins at next.
func (t *pagingToken) following(next engine.HistoryCursor) *pagingToken {
	to := *t
	to.cursor, to.earlier = next, slices.Concat([]engine.HistoryCursor{t.cursor}, t.earlier)
	return &to
}

// preceding is the token of the page before; nil: there is none, or it is too far back.
func (t *pagingToken) preceding() *pagingToken {
	if len(t.earlier) == 0 {
		return nil
	}
	to := *t
	to.cursor, to.earlier = t.earlier[0], t.earlier[1:]
	return &to
}

// first is the token of the first page.
func (t *pagingToken) first() *pagingToken {
	to := *t
	to.cursor, to.earlier = engine.HistoryCursor{}, nil
	return &to
}

var errToken = errors.New("not a paging token of this server")

// checkTokenLSN refuses a token whose first page is of a moment that this server
// has not seen: it is one of another store with the same key.
func checkTokenLSN(lsn uint64, snap *engine.Snapshot) error {
	if lsn > snap.LSN() {
		return badRequest("The value of the parameter 'ct' is not a paging token of this server.")
	}
	return nil
}

// encode returns the token's text.
func (t *pagingToken) encode(key []byte) string {
	b := make([]byte, 0, tokenBytesMax)
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
	from := t.cursor
	for _, c := range t.earlier {
		more := appendCursorChange(b, from, c)
		if len(more) > tokenHeadBytes+earlierBytesMax {
			break
		}
		b, from = more, c
	}
	return sealToken(key, b)
}

// appendCursorChange appends what c differs in from another cursor.
func appendCursorChange(dst []byte, from, c engine.HistoryCursor) []byte {
	dst = binary.AppendVarint(dst, c.Milli-from.Milli)
	dst = binary.AppendVarint(dst, int64(c.LSN-from.LSN))
	dst = binary.AppendUvarint(dst, uint64(c.Skip))
	return binary.BigEndian.AppendUint64(dst, c.Last)
}

// parseCursorChange undoes appendCursorChange, and gives what follows.
func parseCursorChange(b []byte, from engine.HistoryCursor) (c engine.HistoryCursor, rest []byte, ok bool) {
	milli, n := binary.Varint(b)
	lsn, m := binary.Varint(b[max(n, 0):])
	if n <= 0 || m <= 0 {
		return c, b, false
	}
	b = b[n+m:]
	skip, n := binary.Uvarint(b)
	if n <= 0 || skip > math.MaxUint32 || len(b) < n+8 {
		return c, b, false
	}
	c = engine.HistoryCursor{Milli: from.Milli + milli, LSN: from.LSN + uint64(lsn), Skip: uint32(skip), Last: binary.BigEndian.Uint64(b[n:])}
	return c, b[n+8:], true
}

// decodePagingToken reads a token's text; errToken when it is none
// that was signed with the key.
func decodePagingToken(key []byte, text string) (pagingToken, error) {
	b, err := openToken(key, text, tokenVersion, tokenHeadBytes)
	if err != nil {
		return pagingToken{}, err
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
	if t.count < 1 || t.count > historyCountMax || t.total < -1 || t.lsn == 0 {
		return pagingToken{}, errToken
	}
	from := t.cursor
	for rest, ok := b[tokenHeadBytes:], true; len(rest) > 0; {
		if from, rest, ok = parseCursorChange(rest, from); !ok {
			return pagingToken{}, errToken
		}
		t.earlier = append(t.earlier, from)
	}
	return t, nil
}

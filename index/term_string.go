package index

import (
	"bytes"
	"encoding/binary"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// The value of a string field:
//
//	+--------+----+----------+
//	| folded | 00 | original |
//	+--------+----+----------+
//
// folded is the text without case and without marks (accents); original is left
// out when it is the same. Both are escaped.
//
//	name=eve        all terms that begin with AppendStringPrefix: "Eve", "Évelyn"
//	name:exact=Eve  the one term AppendString gives
//	name:contains   a walk over all terms of the field, looking into the folded text
//
// Values over TermBytesMax keep TermPrefixBytes: :contains does not see what is
// behind, :exact is right.

// AppendString appends the value of a string.
func AppendString(dst, text []byte, f *Folder) []byte {
	folded := f.Fold(text)
	dst = append(appendText(dst, folded), termSeparator)
	if bytes.Equal(folded, text) {
		return dst
	}
	return appendText(dst, text)
}

// AppendStringPrefix appends what the values of all strings that begin with
// text, whatever their case and accents, begin with.
func AppendStringPrefix(dst, text []byte, f *Folder) []byte {
	return appendText(dst, f.Fold(text))
}

// ParseString gives back both texts of a value that was not cut.
func ParseString(value []byte) (folded, original []byte) {
	folded, rest := cutText(nil, value)
	if len(rest) == 0 {
		return folded, folded
	}
	original, _ = cutText(nil, rest)
	return folded, original
}

// Folder takes case and marks out of texts. Not safe for concurrent use; the
// zero value is not ready, see NewFolder.
type Folder struct {
	caser  cases.Caser
	apart  []byte // decomposed
	folded []byte
}

// NewFolder makes a Folder.
func NewFolder() *Folder { return &Folder{caser: cases.Fold()} }

// Fold gives text decomposed (NFD), without nonspacing marks, with Unicode's
// full case folding. The result holds until the next call.
func (f *Folder) Fold(text []byte) []byte {
	f.folded = append(f.folded[:0], text...)
	if !lowerASCII(f.folded) {
		return f.foldUnicode(text)
	}
	return f.folded
}

const (
	eachByte    = 0x0101010101010101
	eachHighBit = 0x80 * eachByte
)

// lowerASCII makes small letters of capitals in place, eight bytes at a time; false
// when text is not ASCII alone. A sum sets a byte's high bit from 'A' on, another one
// behind 'Z', and no sum of ASCII spills into the byte beside it.
func lowerASCII(text []byte) bool {
	for ; len(text) >= 8; text = text[8:] {
		word := binary.LittleEndian.Uint64(text)
		if word&eachHighBit != 0 {
			return false
		}
		capitals := (word + (0x80-'A')*eachByte) &^ (word + (0x80-'Z'-1)*eachByte) & eachHighBit
		binary.LittleEndian.PutUint64(text, word|capitals>>2)
	}
	for i, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
		if 'A' <= c && c <= 'Z' {
			text[i] = c | 0x20
		}
	}
	return true
}

func (f *Folder) foldUnicode(text []byte) []byte {
	f.apart = withoutMarks(appendDecomposed(f.apart[:0], text))
	// Full folding makes up to three characters of one, none longer than three
	// times its bytes.
	if need := 3*len(f.apart) + utf8.UTFMax; cap(f.folded) < need {
		f.folded = make([]byte, 0, need)
	}
	n, _, err := f.caser.Transform(f.folded[:cap(f.folded)], f.apart, true)
	if err != nil {
		panic("BUG: cannot fold a text: " + err.Error())
	}
	f.folded = withoutMarks(f.folded[:n])
	return f.folded
}

// Hangul syllables decompose by rule: leading consonant, vowel and, for most, a
// trailing consonant (Unicode 3.12).
const (
	hangulFirst, hangulLast          = 0xAC00, 0xD7A3
	hangulL, hangulV, hangulT        = 0x1100, 0x1161, 0x11A7
	hangulTrailing, hangulAfterVowel = 28, 21
)

// appendDecomposed appends text with every character decomposed. Unlike norm's
// own Append it allocates nothing; it does not order marks, which go anyway.
func appendDecomposed(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r < utf8.RuneSelf:
			dst = append(dst, text[i])
		case hangulFirst <= r && r <= hangulLast:
			r -= hangulFirst
			dst = utf8.AppendRune(dst, hangulL+r/hangulTrailing/hangulAfterVowel)
			dst = utf8.AppendRune(dst, hangulV+r/hangulTrailing%hangulAfterVowel)
			if r %= hangulTrailing; r > 0 {
				dst = utf8.AppendRune(dst, hangulT+r)
			}
		default:
			if parts := norm.NFD.Properties(text[i:]).Decomposition(); parts != nil {
				dst = append(dst, parts...)
			} else {
				dst = append(dst, text[i:i+n]...)
			}
		}
		i += n
	}
	return dst
}

// withoutMarks takes the nonspacing marks out of text, in place.
func withoutMarks(text []byte) []byte {
	kept := text[:0]
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r < utf8.RuneSelf || !unicode.Is(unicode.Mn, r) {
			kept = append(kept, text[i:i+n]...)
		}
		i += n
	}
	return kept
}

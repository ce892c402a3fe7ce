package index

// The values of a token field. The first byte tells the family.
//
//	+------+---------+----+------+
//	| 0x01 | system  | 00 | code |      what is searched by system and code
//	+------+---------+----+------+
//	| 0x02 | folded text         |      display and text, for :text
//	+------+-------------+----+-----------+----+-------+
//	| 0x03 | type system | 00 | type code | 00 | value |   an identifier by its type, for :of-type
//	+------+-------------+----+-----------+----+-------+
//
// system is escaped and empty when there is none; code is as in appendCodeText.
//
//	code           any system: walk from system to system, a seek for each
//	               (TermCursor.SeekGE of the next system); fields have few
//	system|code    the one term AppendToken gives
//	|code          the same with an empty system
//	system|        all terms that begin with AppendTokenSystem
//	:text          a walk over AppendTokenText of the query's text: prefixes
//	:of-type       the one term AppendTokenOfType gives
//
// System first, because then the terms of one system share it as a prefix:
// code first costs 30 to 45 bytes more for every identifier. A value that has
// a system and no code ends at the separator.
//
// ContactPoint has its system (phone, email) for system and its value for code;
// code, boolean, id, string and uri have no system.
const (
	tokenCode   = 1
	tokenText   = 2
	tokenOfType = 3
)

// AppendToken appends the value of a code; system is empty when there is none.
func AppendToken(dst, system, code []byte) []byte {
	return appendCodeText(AppendTokenSystem(dst, system), code)
}

// AppendTokenSystem appends what the values of all codes of a system begin with.
func AppendTokenSystem(dst, system []byte) []byte {
	return append(appendText(append(dst, tokenCode), system), termSeparator)
}

// AppendTokenText appends the value of a display or a text, or, for the first
// part of one, what the values of all texts that begin so begin with. The folder
// is the caller's own.
func AppendTokenText(dst, text []byte, f *Folder) []byte {
	return appendText(append(dst, tokenText), f.Fold(text))
}

// AppendTokenOfType appends the value of an identifier's value with its type.
func AppendTokenOfType(dst, system, code, value []byte) []byte {
	dst = append(appendText(append(dst, tokenOfType), system), termSeparator)
	dst = append(appendText(dst, code), termSeparator)
	return appendCodeText(dst, value)
}

// ParseToken gives back system and code of AppendToken; ok is false for a value
// of another family.
func ParseToken(value []byte) (system, code []byte, ok bool) {
	if len(value) == 0 || value[0] != tokenCode {
		return nil, nil, false
	}
	system, rest := cutText(nil, value[1:])
	return system, cutCodeText(nil, rest), true
}

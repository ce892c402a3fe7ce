package bulk

import (
	"strconv"
	"unicode/utf8"

	"kiln/fhir/structure"
)

// refusalKind says why a line was not loaded.
type refusalKind uint8

const (
	refusedText        refusalKind = iota // arg is the whole text
	refusedID                             // arg is the id
	refusedNoID                           // there is no id
	refusedConditional                    // a conditional reference in InitialLoad
	refusedInstant                        // arg is the malformed lastUpdated
	refusedFuture                         // lastUpdated is ahead of the clock
	refusedType                           // not the type that the input was said to hold
	refusedSearchParam                    // SearchParameter
	refusedTooLong                        // longer than LineBytesMax
	refusedDuplicate                      // arg is the id
	refusedVersion                        // arg is the id: the version or date is taken or out of order
	refusedStructure                      // arg is the whole text: an element does not belong there
	refusedRequired                       // arg is the whole text: an element is missing
	refusedValue                          // arg is the whole text: a primitive is not written as its type is
	refusalKinds                          // how many there are
)

// refusal is one line that was not loaded. line and offset count within the
// chunk while the chunk is scanned, and within the input when it is written.
type refusal struct {
	arg    string
	line   int64 // 1-based, empty lines not counted
	offset int64 // of the line's first byte
	kind   refusalKind
}

// structureRefusal words what is wrong with a resource's structure: its first
// errors, and whether there are more issues. The kind is the first one's.
func structureRefusal(issues []structure.Issue) (refusalKind, string) {
	kind, told := refusalKinds, 0
	var text []byte
	for _, is := range issues {
		if is.Severity != structure.SeverityError || told == refusedIssuesMax {
			continue
		}
		if told++; told == 1 {
			kind = kindOfIssue(is.Code)
		} else {
			text = append(text, ' ')
		}
		text = append(append(append(text, is.Expression...), ": "...), is.Text...)
	}
	if len(issues) > told {
		text = append(text, " There are more issues."...)
	}
	return kind, string(text)
}

func kindOfIssue(code string) refusalKind {
	switch code {
	case structure.CodeRequired:
		return refusedRequired
	case structure.CodeValue:
		return refusedValue
	default:
		return refusedStructure
	}
}

// refusalBytes is what a refusal takes in memory besides its arg.
const refusalBytes = 40

// code is the OperationOutcome issue code of a kind.
func (k refusalKind) code() string {
	switch k {
	case refusedConditional, refusedSearchParam:
		return "not-supported"
	case refusedTooLong:
		return "too-long"
	case refusedDuplicate:
		return "duplicate"
	case refusedVersion:
		return "conflict"
	case refusedStructure:
		return "structure"
	case refusedRequired:
		return "required"
	case refusedValue:
		return "value"
	default:
		return "invalid"
	}
}

// The texts that Microsoft's server gives; clients may know them.
const (
	textIDBefore = "Invalid resource id: '"
	// textBlockHeader is ours: that server writes no such files.
	textBlockHeader = "This Parameters resource is not stored: it is the header of a patient's block in a file that is organized by Patient. The lines behind it are loaded."
	textIDAfter     = "'. Id must be any combination of upper or lower case ASCII letters ('A'..'Z', and 'a'..'z'), numerals ('0'..'9'), '-' and '.', with a length limit of 64 characters. (This might be an integer, an un-prefixed OID, UUID, or any other identifier pattern that meets these constraints.)"
)

// appendText appends the text of a refusal.
func (r *refusal) appendText(dst []byte) []byte {
	switch r.kind {
	case refusedText, refusedStructure, refusedRequired, refusedValue:
		return append(dst, r.arg...)
	case refusedID:
		return append(append(append(dst, textIDBefore...), r.arg...), textIDAfter...)
	case refusedNoID:
		return append(append(append(dst, textIDBefore...), "null or empty"...), textIDAfter...)
	case refusedConditional:
		return append(dst, "Conditional reference is not supported for $import in InitialLoad."...)
	case refusedInstant:
		dst = append(append(dst, "LastUpdated in the resource is not a valid instant: '"...), r.arg...)
		return append(dst, "'."...)
	case refusedFuture:
		return append(dst, "LastUpdated in the resource cannot be in the future."...)
	case refusedType:
		return append(dst, "Resource type not match."...)
	case refusedSearchParam:
		return append(dst, "SearchParameter resources cannot be processed by import."...)
	case refusedTooLong:
		dst = append(dst, "The line is longer than "...)
		return append(strconv.AppendInt(dst, LineBytesMax, 10), " bytes."...)
	case refusedDuplicate:
		return r.appendIDText(dst, "Failed to import duplicate resource")
	case refusedVersion:
		return r.appendIDText(dst, "Failed to import resource with version conflict")
	}
	panic("BUG: a refusal of an unknown kind")
}

func (r *refusal) appendIDText(dst []byte, what string) []byte {
	dst = append(append(dst, what...), ", resource id: "...)
	dst = append(append(dst, r.arg...), ", line: "...)
	return strconv.AppendInt(dst, r.line, 10)
}

// appendLine appends the refusal as one line of an error file.
func (r *refusal) appendLine(dst []byte) []byte {
	dst = append(dst, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"`...)
	dst = append(append(dst, r.kind.code()...), `","details":{"text":`...)
	dst = appendJSONString(dst, r.appendText(nil))
	dst = append(dst, `},"diagnostics":"Failed to process resource at line: `...)
	dst = strconv.AppendInt(dst, r.line, 10)
	dst = append(dst, " with stream start offset: "...)
	dst = strconv.AppendInt(dst, r.offset, 10)
	return append(dst, "\"}]}\n"...)
}

// appendJSONString appends text as a JSON string; bytes that are not UTF-8
// become U+FFFD.
func appendJSONString(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRune(text[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}

// quoted bounds what a refusal repeats from its line.
func quoted(text []byte) string {
	if len(text) <= refusedTextMax {
		return string(text)
	}
	cut := refusedTextMax
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return string(text[:cut]) + "..."
}

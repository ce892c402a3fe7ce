package httpapi

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Issue codes of an OperationOutcome (FHIR R4 valueset-issue-type) in use.
const (
	codeConflict      = "conflict"
	codeDeleted       = "deleted"
	codeException     = "exception"
	codeForbidden     = "forbidden"
	codeInformational = "informational"
	codeInvalid       = "invalid"
	codeLockError     = "lock-error"
	codeLogin         = "login"
	codeNoStore       = "no-store"
	codeNotFound      = "not-found"
	codeNotSupported  = "not-supported"
	codeProcessing    = "processing"
	codeStructure     = "structure"
	codeThrottled     = "throttled"
	codeTimeout       = "timeout"
	codeTooCostly     = "too-costly"
	codeTooLong       = "too-long"
	codeTransient     = "transient"
	codeUnknown       = "unknown"
)

// issue is one entry of an OperationOutcome.
type issue struct {
	severity   string // "error", "warning", "information"
	code       string
	text       string // goes to diagnostics
	expression string // FHIRPath of the element at fault; may be ""
}

// appendOutcome appends an OperationOutcome. id is the request's id, which
// also is in the server's log.
func appendOutcome(dst []byte, id string, now time.Time, issues ...issue) []byte {
	dst = append(dst, `{"resourceType":"OperationOutcome","id":`...)
	dst = appendString(dst, id)
	dst = append(dst, `,"meta":{"lastUpdated":"`...)
	dst = now.UTC().AppendFormat(dst, instantLayout)
	dst = append(dst, `"},"issue":[`...)
	for i, is := range issues {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"severity":"`...)
		dst = append(dst, is.severity...)
		dst = append(dst, `","code":"`...)
		dst = append(dst, is.code...)
		dst = append(dst, `","diagnostics":`...)
		dst = appendString(dst, is.text)
		if is.expression != "" {
			dst = append(dst, `,"expression":[`...)
			dst = append(appendString(dst, is.expression), ']')
		}
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

// instantLayout writes instants as the import contract's answers do.
const instantLayout = "2006-01-02T15:04:05.000-07:00"

// appendString appends a JSON string. Text that is not valid UTF-8, which only
// an odd request can bring in, has its bad bytes replaced.
func appendString(dst []byte, s string) []byte {
	return append(appendEscaped(append(dst, '"'), s), '"')
}

// appendEscaped is appendString without the quotes.
func appendEscaped(dst []byte, s string) []byte {
	plain := 0
	for plain < len(s) && s[plain] >= 0x20 && s[plain] < 0x7f && s[plain] != '"' && s[plain] != '\\' {
		plain++
	}
	dst = append(dst, s[:plain]...)
	for _, r := range s[plain:] {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20 || r == 0x7f || r == 0x2028 || r == 0x2029:
			dst = append(dst, '\\', 'u')
			dst = appendHex4(dst, r)
		case r < utf8.RuneSelf:
			dst = append(dst, byte(r))
		default:
			dst = append(dst, string(r)...)
		}
	}
	return dst
}

func appendHex4(dst []byte, r rune) []byte {
	hex := strconv.FormatInt(int64(r)+0x10000, 16) // one digit more than wanted
	return append(dst, hex[1:]...)
}

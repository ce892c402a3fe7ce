package structure

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// quotedMax bounds what an issue repeats from the resource, in bytes.
const quotedMax = 64

// report notes an error of the element where the check stands.
func (c *Checker) report(code, format string, args ...any) {
	if c.errors == IssuesMax {
		c.unlisted++
		return
	}
	c.errors++
	c.add(Issue{Severity: SeverityError, Code: code, Expression: string(c.expression("")), Text: fmt.Sprintf(format, args...)})
}

// reportMember notes an issue of a member called name of the element where the
// check stands.
func (c *Checker) reportMember(severity, code, name, text string) {
	count, limit := &c.errors, IssuesMax
	if severity == SeverityWarning {
		count, limit = &c.warnings, WarningsMax
	}
	if *count == limit {
		c.unlisted++
		return
	}
	*count++
	c.add(Issue{Severity: severity, Code: code, Expression: string(c.expression(name)), Text: text})
}

func (c *Checker) add(issue Issue) { c.issues = append(c.issues, issue) }

// closeReport counts the issues that are not listed.
func (c *Checker) closeReport() {
	if c.unlisted > 0 {
		text := strconv.Itoa(c.unlisted) + " more issues are not listed."
		c.issues = append(c.issues, Issue{Severity: SeverityInformation, Code: CodeInformational, Text: text})
	}
}

// expression is the path to where the check stands, and on to the member called
// name, unless that is a name that no element can have.
func (c *Checker) expression(name string) []byte {
	path := []byte(c.root)
	for _, f := range c.frames[:c.depth] {
		m := &members[f.member]
		path = append(append(path, '.'), m.key[:m.name]...)
		if f.index >= 0 {
			path = append(strconv.AppendInt(append(path, '['), int64(f.index), 10), ']')
		}
	}
	if isName(name) {
		path = append(append(path, '.'), name...)
	}
	return path
}

func isName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return 0 < len(name) && len(name) <= quotedMax
}

// missing reports that an element of a node is required and not there.
func (c *Checker) missing(n uint16, element uint8) {
	number := nodes[n].first
	for members[number].element != element {
		number++
	}
	m := &members[number]
	name := m.key[:m.name]
	text := "The element '" + name + "' is missing; " + nodes[n].path + " must have it."
	switch {
	case m.is(lenient):
		text += " This is a warning only, because examples of the specification lack it too."
		c.reportMember(SeverityWarning, CodeRequired, name, text)
		return
	case m.is(choice):
		text = "The element '" + name + "[x]' is missing; " + nodes[n].path + " must have it, with its type in its name as in '" + m.key + "'."
	}
	c.reportMember(SeverityError, CodeRequired, name, text)
}

// unknown reports a member that the node does not have; number is the primitive
// or other member that a key with an underscore belongs to.
func (c *Checker) unknown(n, number uint16, key []byte, sibling bool) {
	name, path := string(key), nodes[n].path
	shown := quoted(key)
	if sibling {
		shown = quoted([]byte("_" + name))
	}
	var text string
	switch base := choiceOf(n, key); {
	case name == "fhir_comments" && !sibling:
		text = "Comments as 'fhir_comments' are not part of R4; leave them out."
	case number != 0:
		text = "The key " + shown + " is unknown: '" + name + "' of " + path + " is not a primitive that can have an id or extensions."
	case base != "":
		text = "Unknown element " + shown + ": '" + base + "[x]' of " + path + " has its type in its name, and only some types are allowed there."
	default:
		text = "Unknown element " + shown + ": " + path + " has none of that name."
	}
	c.reportMember(SeverityError, CodeStructure, name, text)
}

// choiceOf is the name of the choice that a key begins like.
func choiceOf(n uint16, key []byte) string {
	for number := nodes[n].first; number < nodes[n].end; number++ {
		m := &members[number]
		if base := m.key[:m.name]; m.is(choice) && len(key) >= len(base) && string(key[:len(base)]) == base {
			if rest := key[len(base):]; len(rest) == 0 || 'A' <= rest[0] && rest[0] <= 'Z' {
				return base
			}
		}
	}
	return ""
}

// wrongType reports the JSON type of the value at i and steps over it.
func (c *Checker) wrongType(i int, k kind) int {
	c.report(CodeStructure, "Expected %s, found %s.", kindText(k), found(c.src[i]))
	return c.skip(i)
}

func (c *Checker) repeated(key string, sibling bool) {
	if sibling {
		key = "_" + key
	}
	c.report(CodeStructure, "The key '%s' is repeated.", key)
}

// badValue reports a primitive that is not written as its type is.
func (c *Checker) badValue(k kind, text []byte) {
	if len(text) == 0 {
		c.report(CodeValue, "The value is empty; expected %s, or leave the element out.", kindText(k))
		return
	}
	c.report(CodeValue, "%s is not %s.", quoted(text), kindText(k))
}

// found says what JSON type a value is that begins with a byte.
func found(first byte) string {
	switch first {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// kindTexts say what a primitive is written like, after "expected" and "is not".
var kindTexts = [kindPrimitives]string{
	kindBoolean:      "a boolean (true or false, without quotes)",
	kindInteger:      "an integer (a whole number from -2147483648 to 2147483647, without quotes)",
	kindUnsignedInt:  "an unsignedInt (a whole number from 0 to 2147483647, without quotes)",
	kindPositiveInt:  "a positiveInt (a whole number from 1 to 2147483647, without quotes)",
	kindDecimal:      "a decimal (a number without quotes)",
	kindString:       "a string (a text of at most 1048576 characters, none of them a control character)",
	kindMarkdown:     "a markdown (a text without control characters)",
	kindCode:         "a code (a text without white space other than single spaces inside)",
	kindID:           "an id (1 to 64 letters A-Z and a-z, digits, '-' and '.')",
	kindURI:          "a uri (a text without white space)",
	kindURL:          "a url (a text without white space)",
	kindCanonical:    "a canonical (a uri, maybe with |version)",
	kindOID:          "an oid (such as urn:oid:1.2.3.4)",
	kindUUID:         "a uuid (such as urn:uuid:c757873d-ec9a-4326-a141-556f43239520, in lower case)",
	kindDate:         "a date (YYYY, YYYY-MM or YYYY-MM-DD)",
	kindDateTime:     "a dateTime (YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a zone, Z or +hh:mm)",
	kindInstant:      "an instant (YYYY-MM-DDThh:mm:ss with a zone, Z or +hh:mm)",
	kindTime:         "a time (hh:mm:ss)",
	kindBase64Binary: "a base64Binary (digits of base64 in groups of four)",
	kindXHTML:        "an xhtml (a text that begins with <div)",
}

// kindText says what a value of a kind looks like.
func kindText(k kind) string {
	switch {
	case k.isPrimitive():
		return kindTexts[k]
	case k == kindResource:
		return "a resource, which is an object"
	case k == kindResourceType:
		return "a string"
	}
	return "an object (" + nodes[k-kindNode].path + ")"
}

// quoted is a text in quotes, cut to quotedMax bytes.
func quoted(text []byte) string {
	if len(text) <= quotedMax {
		return strconv.Quote(string(text))
	}
	cut := quotedMax
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strconv.Quote(string(text[:cut]) + "...")
}

package access

import (
	"fmt"
	"strings"

	"kiln/fhir"
)

const (
	// scopesBytesMax bounds a list of scopes: one for each type with its letters is
	// 5 KB, and headers end at 32 KiB.
	scopesBytesMax = 16 << 10
	// scopesMax bounds their number, as each is looked at for every request.
	scopesMax = 500
)

// Scopes is what a list of scopes says.
type Scopes struct {
	// Known are those about resources, in their order.
	Known []Scope
	// Other are those about something else: openid, fhirUser, launch/patient,
	// offline_access and whatever else an issuer has.
	Other []string
	// Malformed begin as those about resources do and are none: system/Patient.sr,
	// user/Nothing.read. They grant nothing.
	Malformed []string
}

// ParseScopes reads scopes parted by blanks, SMART's first version (.read, .write,
// .*) and second (.rs, .cruds?category=laboratory) mixed (SMART App Launch 2.2,
// scopes and launch context). The error is about the list: its length, or a
// character that OAuth does not allow (RFC 6749 section 3.3).
func ParseScopes(text string) (all Scopes, err error) {
	if len(text) > scopesBytesMax {
		return all, fmt.Errorf("cannot read scopes: they have more than %d bytes", scopesBytesMax)
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return all, fmt.Errorf("cannot read scopes: byte %d is not allowed in them", i)
		}
	}
	words := strings.Fields(text)
	if len(words) > scopesMax {
		return all, fmt.Errorf("cannot read scopes: there are more than %d", scopesMax)
	}
	for _, word := range words {
		context, rest := cutContext(word)
		if context == 0 {
			all.Other = append(all.Other, word)
			continue
		}
		if s, ok := parseScope(context, rest, word); ok {
			all.Known = append(all.Known, s)
		} else {
			all.Malformed = append(all.Malformed, word)
		}
	}
	return all, nil
}

// contextNames are by Context.
var contextNames = [...]string{ContextPatient: "patient", ContextUser: "user", ContextSystem: "system"}

// cutContext takes "system/" and the like off; 0: the word is about something else.
func cutContext(word string) (Context, string) {
	for c := ContextPatient; c <= ContextSystem; c++ {
		if rest, ok := strings.CutPrefix(word, contextNames[c]+"/"); ok {
			return c, rest
		}
	}
	return 0, word
}

// parseScope reads what follows the slash: a type or "*", a dot, and what is allowed.
func parseScope(context Context, rest, word string) (s Scope, ok bool) {
	s = Scope{Context: context, Text: word}
	head, filter, filtered := strings.Cut(rest, "?")
	name, letters, ok := strings.Cut(head, ".")
	if !ok {
		return s, false
	}
	if name != "*" {
		if s.Type = fhir.TypeByName([]byte(name)); s.Type == 0 {
			return s, false
		}
	}
	switch letters { // the first version's, which has no filters
	case "read":
		s.Permissions = PermissionRead | PermissionSearch
	case "write":
		s.Permissions = PermissionCreate | PermissionUpdate | PermissionDelete
	case "*":
		s.Permissions = permissionAll
	}
	if s.Permissions != 0 {
		return s, !filtered
	}
	s.Filter = filter
	s.Permissions, ok = parseLetters(letters)
	return s, ok && filtered == (filter != "")
}

// permissionLetters are in the order of Permission's bits.
const permissionLetters = "cruds"

const permissionAll = PermissionCreate | PermissionRead | PermissionUpdate | PermissionDelete | PermissionSearch

// parseLetters reads some of the letters cruds, in that order and each once.
func parseLetters(text string) (p Permission, ok bool) {
	at := 0
	for i := range len(text) {
		n := strings.IndexByte(permissionLetters[at:], text[i])
		if n < 0 {
			return 0, false
		}
		at += n
		p |= 1 << at
		at++
	}
	return p, p != 0
}

// String is the letters.
func (p Permission) String() string {
	var letters []byte
	for i := range len(permissionLetters) {
		if p&(1<<i) != 0 {
			letters = append(letters, permissionLetters[i])
		}
	}
	return string(letters)
}

// Only is the scope with those of its permissions that p has, as the second version
// of SMART writes it; ok is false when none is left. A scope that loses nothing stays
// as it was written.
func (s Scope) Only(p Permission) (narrowed Scope, ok bool) {
	if s.Permissions&^p == 0 {
		return s, true
	}
	s.Permissions &= p
	name := "*"
	if s.Type != 0 {
		name = s.Type.String()
	}
	s.Text = contextNames[s.Context] + "/" + name + "." + s.Permissions.String()
	if s.Filter != "" {
		s.Text += "?" + s.Filter
	}
	return s, s.Permissions != 0
}

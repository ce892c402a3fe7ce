package auth

import (
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/httpapi/access"
)

// grantScopes narrows what a client asks for to what it is registered for, in the
// second version of SMART's scopes. A word that is no scope of a backend service
// refuses all of it; ok is false then, and when nothing is left.
func grantScopes(asked string, registered []access.Scope) (granted string, ok bool) {
	all, err := access.ParseScopes(asked)
	if err != nil || len(all.Other)+len(all.Malformed) > 0 {
		return "", false
	}
	var words []string
	seen, bytes := map[string]bool{}, 0
	for _, one := range all.Known {
		if one.Context != access.ContextSystem {
			return "", false
		}
		if seen[one.Text] {
			continue
		}
		seen[one.Text] = true
		for _, may := range registered {
			word := meet(one, may)
			if word == "" || slices.Contains(words, word) {
				continue
			}
			words = append(words, word)
			if bytes += len(word) + 1; bytes > grantBytesMax {
				return "", false
			}
		}
	}
	granted = strings.Join(words, " ")
	return granted, len(words) > 0 && isRead(granted, len(words))
}

// isRead says whether granted will be read as so many scopes, each with its filter, when
// its token comes back.
func isRead(granted string, scopes int) bool {
	again, err := access.ParseScopes(granted)
	return err == nil && len(again.Known) == scopes
}

// meet is what two scopes have in common; "": nothing.
func meet(asked, may access.Scope) string {
	if may.Context != asked.Context || may.Type != 0 && asked.Type != 0 && may.Type != asked.Type {
		return ""
	}
	permissions := asked.Permissions & may.Permissions
	if permissions == 0 {
		return ""
	}
	word := "system/" + typeName(max(asked.Type, may.Type)) + "." + permissions.String()
	switch {
	case asked.Filter == may.Filter || may.Filter == "":
		return withFilter(word, asked.Filter)
	case asked.Filter == "":
		return withFilter(word, may.Filter)
	default: // a search by both
		return withFilter(word, may.Filter+"&"+asked.Filter)
	}
}

func withFilter(word, filter string) string {
	if filter == "" {
		return word
	}
	return word + "?" + filter
}

func typeName(t fhir.TypeCode) string {
	if t == 0 {
		return "*"
	}
	return t.String()
}

package access

import (
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
)

func TestScopes(t *testing.T) {
	f := func(text string, context Context, typ string, permissions, filter string) {
		t.Helper()
		all, err := ParseScopes(text)
		if err != nil || len(all.Known) != 1 || len(all.Other)+len(all.Malformed) > 0 {
			t.Errorf("%q: %+v, error %v", text, all, err)
			return
		}
		s := all.Known[0]
		if s.Context != context || s.Type != fhir.TypeByName([]byte(typ)) || s.Permissions.String() != permissions || s.Filter != filter || s.Text != text {
			t.Errorf("%q: %+v", text, s)
		}
	}
	f("system/*.read", ContextSystem, "", "rs", "")
	f("user/Patient.write", ContextUser, "Patient", "cud", "")
	f("patient/*.*", ContextPatient, "", "cruds", "")
	f("system/*.rs", ContextSystem, "", "rs", "")
	f("patient/Observation.cruds", ContextPatient, "Observation", "cruds", "")
	f("user/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory", ContextUser, "Observation", "rs",
		"category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory")
	f("system/Patient.c", ContextSystem, "Patient", "c", "")
	f("system/Patient.us", ContextSystem, "Patient", "us", "")
}

func TestScopesThatAreNone(t *testing.T) {
	all, err := ParseScopes("openid  fhirUser launch/patient offline_access https://example.org/.default system.read systems/*.read")
	if err != nil || len(all.Known)+len(all.Malformed) > 0 || len(all.Other) != 7 {
		t.Errorf("scopes about other things: %+v, error %v", all, err)
	}
	for _, word := range strings.Fields("system/ system/Patient system/Patient. system/Patient.sr system/Patient.rr system/Patient.x system/Patient.rsx " +
		"system/Nothing.read system/patient.read system/.rs system/*.read?a=b system/Patient.rs? user/*.READ patient/*/x.rs system/Patient.rs.c system/**.rs") {
		all, err := ParseScopes(word)
		if err != nil || !slices.Equal(all.Malformed, []string{word}) || len(all.Known)+len(all.Other) > 0 {
			t.Errorf("%q: %+v, error %v", word, all, err)
		}
	}
	for _, text := range []string{"a\"b", "a\\b", "a\nb", "a\tb", "a\x00", "ä", strings.Repeat("a", scopesBytesMax+1), strings.Repeat("a ", scopesMax+1)} {
		if all, err := ParseScopes(text); err == nil {
			t.Errorf("%.20q is taken: %d other", text, len(all.Other))
		}
	}
	if all, err := ParseScopes(""); err != nil || len(all.Known)+len(all.Other)+len(all.Malformed) > 0 {
		t.Errorf("no scopes: %+v, error %v", all, err)
	}
}

func TestScopesAreNarrowed(t *testing.T) {
	f := func(text, only, want string) {
		t.Helper()
		all, err := ParseScopes(text)
		if err != nil || len(all.Known) != 1 {
			t.Fatalf("%q: %+v, error %v", text, all, err)
		}
		p, _ := parseLetters(only)
		got, ok := all.Known[0].Only(p)
		if ok != (want != "") || ok && got.Text != want {
			t.Errorf("%q with %q: %q, %v", text, only, got.Text, ok)
		}
	}
	f("system/*.read", "rs", "system/*.read")
	f("system/*.*", "rs", "system/*.rs")
	f("system/Patient.cruds?name=a", "rs", "system/Patient.rs?name=a")
	f("system/Patient.write", "rs", "")
	f("user/*.cud", "rs", "")
}

// What a scope says, written out again, says the same.
func FuzzParseScopes(f *testing.F) {
	for _, seed := range []string{"system/*.rs", "patient/Observation.cruds?code=a|b openid", "user/Patient.read launch/patient", "system/Patient.sr", "a\"", "  "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ParseScopes(text)
		if err != nil {
			return
		}
		if n := len(all.Known) + len(all.Other) + len(all.Malformed); n != len(strings.Fields(text)) || n > scopesMax {
			t.Fatalf("%q: %d scopes of %d words", text, n, len(strings.Fields(text)))
		}
		for _, s := range all.Known {
			if s.Permissions == 0 || s.Permissions&^permissionAll != 0 || s.Context == 0 {
				t.Fatalf("%q grants %v", s.Text, s.Permissions)
			}
			for bit := PermissionCreate; bit <= PermissionSearch; bit <<= 1 {
				narrowed, ok := s.Only(bit)
				if ok != (s.Permissions&bit != 0) {
					t.Fatalf("%q with %v: %v", s.Text, bit, ok)
				}
				if !ok {
					continue
				}
				again, err := ParseScopes(narrowed.Text)
				if err != nil || len(again.Known) != 1 || again.Known[0] != narrowed {
					t.Fatalf("%q with %v: %+v, error %v", s.Text, bit, again, err)
				}
			}
		}
	})
}

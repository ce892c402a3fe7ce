package access

import (
	"fmt"
	"testing"

	"kiln/fhir"
)

func TestWhatMayBeExported(t *testing.T) {
	f := func(roles, scopes, want string) {
		t.Helper()
		g := client(t, roles, scopes, "x").Export(fhir.TypeByName([]byte("Observation")))
		got := fmt.Sprint(g.Limits)
		if g.Whole {
			got = "all"
		} else if g.None() {
			got = "-"
		}
		if got != want {
			t.Errorf("roles %q, scopes %q: %s, want %s", roles, scopes, got, want)
		}
	}
	f("Exporter", "", "all")
	f("Reader", "", "-")
	f("", "system/*.rs", "all")
	f("", "system/Observation.r system/*.s", "all")
	f("", "system/Observation.rs?code=a", "[[code=a]]")
	f("", "system/Observation.rs?code=b system/*.rs?code=a system/Patient.rs", "[[code=a code=b]]")
	f("", "system/Observation.r?code=b system/Observation.s?code=a", "[[code=b] [code=a]]")
	f("", "system/Observation.r?code=b system/Observation.s", "[[code=b]]")
	f("", "system/Observation.r?code=b", "-")
	f("", "system/Observation.rs?code=a system/Observation.rs", "all")
	f("Reader", "user/Observation.rs?code=a", "-")
	f("Exporter", "user/Observation.rs?code=a", "[[code=a]]")
	f("Exporter", "patient/Observation.rs", "-")
	f("Exporter", "openid", "-")
}

func TestWhatCoversAnExport(t *testing.T) {
	f := func(has, had [][]string, want bool) {
		t.Helper()
		if got := (ExportGrant{Limits: has}).Covers(had); got != want {
			t.Errorf("%v covers %v: %v", has, had, got)
		}
	}
	a, b, ab := []string{"a"}, []string{"b"}, []string{"a", "b"}
	f([][]string{a}, [][]string{a}, true)
	f([][]string{ab}, [][]string{a}, true)
	f([][]string{a}, [][]string{ab}, false)
	f([][]string{a}, [][]string{ab, a}, true)
	f([][]string{a, b}, [][]string{a}, false)
	f([][]string{a, b}, [][]string{b, a}, true)
	f([][]string{a}, nil, false)
	f(nil, [][]string{a}, false)
	if !(ExportGrant{Whole: true}).Covers(nil) {
		t.Error("everything covers not everything")
	}
}

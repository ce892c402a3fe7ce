package access

import (
	"strings"
	"testing"

	"kiln/fhir"
)

// client makes a principal: role names, then scopes if there are any.
func client(t *testing.T, roles, scopes, patient string) *Principal {
	t.Helper()
	p := &Principal{Patient: patient}
	for _, name := range strings.Fields(roles) {
		role, err := ParseRole(name)
		if err != nil {
			t.Fatal(err)
		}
		p.Roles |= role
	}
	if scopes != "" {
		all, err := ParseScopes(scopes)
		if err != nil || len(all.Malformed) > 0 {
			t.Fatalf("%q: %v, error %v", scopes, all.Malformed, err)
		}
		p.Scopes, p.HasScopes = all.Known, true
	}
	return p
}

// grants writes down what of a type each of r(ead), s(earch), c, u and d reaches: "-"
// nothing, "all", or the rules.
func grants(p *Principal, typ string) string {
	var words []string
	for _, n := range []Needs{Read, Search, Create, Update, Delete} {
		g := p.May(n, fhir.TypeByName([]byte(typ)))
		word := "-"
		if g.Whole {
			word = "all"
		}
		for i, r := range g.Rules {
			if i == 0 {
				word = ""
			}
			word += "[" + r.Patient + "?" + r.Query + "]"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestWhatOfATypeIsReached(t *testing.T) {
	f := func(roles, scopes, patient, typ, want string) {
		t.Helper()
		if got := grants(client(t, roles, scopes, patient), typ); got != want {
			t.Errorf("roles %q, scopes %q, %s: %s, want %s", roles, scopes, typ, got, want)
		}
	}
	f("", "", "", "Patient", "- - - - -")
	f("Reader", "", "", "Patient", "all all - - -")
	f("Writer", "", "", "Patient", "- - all all all")
	f("Contributor", "", "", "Patient", "all all all all all")
	f("Importer Exporter", "", "", "Patient", "- - - - -")
	f("Admin", "", "", "SearchParameter", "all all all all all")
	f("Contributor", "", "", "SearchParameter", "all all - - -")
	f("", "system/*.cruds", "", "SearchParameter", "all all - - -")
	f("Admin", "system/*.cruds", "", "SearchParameter", "all all all all all")
	f("Admin", "system/Patient.cruds", "", "SearchParameter", "- - - - -")

	f("", "system/*.read", "", "Patient", "all all - - -")
	f("", "system/*.write", "", "Patient", "- - all all all")
	f("", "system/Patient.*", "", "Patient", "all all all all all")
	f("", "system/Patient.*", "", "Observation", "- - - - -")
	f("", "system/Patient.r user/Patient.s", "", "Patient", "all all - - -")
	f("Reader", "user/*.cruds", "", "Patient", "all all - - -")
	f("Writer", "user/Patient.rs", "", "Patient", "- - - - -")
	f("Reader", "system/*.c", "", "Patient", "- - all - -")
	f("Admin", "openid", "x", "Patient", "- - - - -")

	f("", "patient/*.rs", "x", "Patient", "[x?] [x?] - - -")
	f("", "patient/*.rs", "", "Patient", "- - - - -")
	f("", "patient/*.rs", "a/b", "Patient", "- - - - -")
	f("", "patient/Observation.rs?category=a patient/Observation.r?code=b", "x", "Observation", "[x?category=a][x?code=b] [x?category=a] - - -")
	f("", "patient/Observation.rs system/Observation.s?code=b", "x", "Observation", "[x?] [x?][?code=b] - - -")
	f("", "patient/Observation.rs system/Observation.rs", "x", "Observation", "all all - - -")
	f("", "system/Observation.rs patient/Observation.rs", "x", "Observation", "all all - - -")
}

func TestWhoHasWhatAnInteractionNeeds(t *testing.T) {
	names := []struct {
		name  string
		needs Needs
	}{{"public", Public}, {"known", Known}, {"role", AnyRole}, {"read", Read}, {"search", Search}, {"write", Update}, {"import", Import}, {"export", Export}, {"admin", Administer}}
	f := func(roles, scopes, want string) {
		t.Helper()
		var has []string
		for _, n := range names {
			if client(t, roles, scopes, "x").Has(n.needs, 0) {
				has = append(has, n.name)
			}
		}
		if got := strings.Join(has, " "); got != want {
			t.Errorf("roles %q, scopes %q: %s, want %s", roles, scopes, got, want)
		}
	}
	f("", "", "public known")
	f("Reader", "", "public known role read search")
	f("Writer", "", "public known role write")
	f("Importer", "", "public known role import")
	f("Exporter", "", "public known role export")
	f("Admin", "", "public known role read search write import export admin")
	f("", "system/*.rs", "public known read search export")
	f("", "system/*.r", "public known read")
	f("", "system/*.r system/*.s", "public known read search export")
	f("", "system/*.rs?code=a", "public known read search export")
	f("", "system/*.r?code=a", "public known read")
	f("", "user/*.rs?code=a", "public known read search")
	f("", "user/*.rs", "public known read search")
	f("Exporter", "user/*.rs", "public known role export")
	f("Exporter Reader", "user/*.rs", "public known role read search export")
	f("", "patient/*.cruds", "public known read search write")
	f("Importer", "system/*.rs", "public known role read search export")
	f("Importer", "system/*.cu", "public known write import")
	f("Importer", "system/Patient.cu", "public known write")
	f("", "system/*.cruds", "public known read search write export")
	f("Admin", "system/*.rs", "public known role read search export")
	f("Admin", "user/*.cruds", "public known role read search write import export admin")
	f("Admin", "patient/*.cruds", "public known read search write")
}

// Nobody gains by a scope that says less, and an open server's client may everything.
func TestTheClientOfAnOpenServer(t *testing.T) {
	var open *Principal
	if !open.Has(Administer|Import|Export|Read, 1) || !open.May(Delete, 1).Whole || !open.MayAll(Search) || !open.MaySome(Search) || !open.MayExport(1) {
		t.Error("the client of an open server is denied something")
	}
}

func FuzzDecide(f *testing.F) {
	f.Add("system/*.rs patient/Observation.rs?code=a", uint8(RoleReader), "x")
	f.Add("user/*.cruds", uint8(RoleExporter), "")
	f.Fuzz(func(t *testing.T, scopes string, roles uint8, patient string) {
		all, err := ParseScopes(scopes)
		if err != nil {
			return
		}
		p := &Principal{Roles: Roles(roles), Scopes: all.Known, HasScopes: true, Patient: patient}
		for _, n := range []Needs{Read, Search, Create, Update, Delete} {
			whole, some := true, false
			for typ := fhir.TypeCode(1); typ <= fhir.TypeMax; typ++ {
				g := p.May(n, typ)
				whole = whole && (g.Whole || typ == typeSearchParameter() && n != Read && n != Search)
				some = some || !g.None()
				for _, r := range g.Rules {
					if r.Patient != "" && r.Patient != patient || r == (Rule{}) {
						t.Fatalf("%q: %+v", scopes, g)
					}
				}
			}
			if p.MayAll(n) != whole || p.MaySome(n) != some {
				t.Fatalf("%q: of all types %v and %v, one by one %v and %v", scopes, p.MayAll(n), p.MaySome(n), whole, some)
			}
		}
	})
}

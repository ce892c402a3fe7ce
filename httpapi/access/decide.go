package access

import "kiln/fhir"

// Needs is a set of what an interaction needs of a client, all of it. The zero value
// is no answer: every interaction says what it needs, and Public if that is nothing.
type Needs uint16

// Read is of single resources and their histories, Search of types and the system,
// histories included (the r and s of SMART's second version).
const (
	Public  Needs = 1 << iota // nobody has to be known
	Known                     // somebody; what is reached is decided where it is
	AnyRole                   // a role, whichever
	Read
	Search
	Create
	Update
	Delete
	Import
	Export
	Administer // what reaches beyond resources and their versions, or cannot be undone
)

// needsAll is every bit.
const needsAll = Administer<<1 - 1

// roleNeeds is what each role is given. Admin is given everything.
var roleNeeds = [...]struct {
	role  Roles
	needs Needs
}{
	{RoleReader, Read | Search},
	{RoleWriter, Create | Update | Delete},
	{RoleImporter, Import},
	{RoleExporter, Export},
	{RoleAdmin, needsAll},
}

// permissionNeeds is what the letters of scopes are about.
var permissionNeeds = [...]struct {
	permission Permission
	needs      Needs
}{
	{PermissionCreate, Create}, {PermissionRead, Read}, {PermissionUpdate, Update},
	{PermissionDelete, Delete}, {PermissionSearch, Search},
}

// allows is what a set of roles is given.
func (r Roles) allows() (n Needs) {
	for _, row := range roleNeeds {
		if r&row.role != 0 {
			n |= row.needs
		}
	}
	return n
}

func (p Permission) allows() (n Needs) {
	for _, row := range permissionNeeds {
		if p&row.permission != 0 {
			n |= row.needs
		}
	}
	return n
}

// Grant is what of a type's resources somebody reaches: Whole, or what one of Rules
// chooses; without rules nothing.
type Grant struct {
	Whole bool
	Rules []Rule
}

// Rule chooses resources of a type.
type Rule struct {
	// Patient limits it to the compartment of the patient with this id; "": it does not.
	Patient string
	// Query limits it to the matches of a search; "": it does not.
	Query string
}

// None: nothing is reached.
func (g Grant) None() bool { return !g.Whole && len(g.Rules) == 0 }

// add joins a rule.
func (g *Grant) add(r Rule) {
	if r == (Rule{}) {
		g.Whole, g.Rules = true, nil
	}
	if !g.Whole {
		g.Rules = append(g.Rules, r)
	}
}

// May decides about resources of a type: what p reaches of them with one of Read to
// Delete. nil is the client of an open server, who reaches all.
//
// Without scopes the roles decide. With scopes, each that names the type (or all)
// and has the letters adds what it is about: system/ everything; user/ the same,
// within the roles if there are any; patient/ the compartment of Patient, and nothing
// without one. A filter narrows its own scope. Search parameters change what others
// find, so writing them takes the role Admin as well. So does writing AuditEvents that
// are the server's own; to read those takes the role, or scopes that name the type.
func (p *Principal) May(needs Needs, t fhir.TypeCode) (g Grant) {
	switch {
	case p == nil:
		return Grant{Whole: true}
	case p.Roles&RoleAdmin == 0 && needs&^(Read|Search) != 0 && (t == typeSearchParameter() || p.isApart(t)):
		return Grant{}
	case !p.HasScopes:
		return Grant{Whole: p.Roles.allows()&needs == needs && p.covers(0, t)}
	}
	for i := range p.Scopes {
		s := &p.Scopes[i]
		if !p.covers(s.Type, t) || s.Permissions.allows()&needs != needs {
			continue
		}
		switch s.Context {
		case ContextSystem:
			g.add(Rule{Query: s.Filter})
		case ContextUser:
			if p.Roles == 0 || p.Roles.allows()&needs == needs {
				g.add(Rule{Query: s.Filter})
			}
		case ContextPatient:
			if fhir.ValidID([]byte(p.Patient)) {
				g.add(Rule{Patient: p.Patient, Query: s.Filter})
			}
		}
	}
	return g
}

// isApart: a type is not meant by who speaks of all types.
func (p *Principal) isApart(t fhir.TypeCode) bool { return p.AuditsApart && t == typeAuditEvent() }

// covers: what is said of a type, 0 of all, is said of t.
func (p *Principal) covers(of, t fhir.TypeCode) bool {
	return of == t || of == 0 && (!p.isApart(t) || p.Roles&RoleAdmin != 0)
}

func typeAuditEvent() fhir.TypeCode { return fhir.TypeByName([]byte("AuditEvent")) }

func typeSearchParameter() fhir.TypeCode { return fhir.TypeByName([]byte("SearchParameter")) }

// MaySome tells whether there is a type of whose resources p reaches some.
func (p *Principal) MaySome(needs Needs) bool {
	for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
		if !p.May(needs, t).None() {
			return true
		}
		if p == nil || !p.HasScopes {
			break // roles know no types, but for SearchParameter
		}
	}
	return false
}

// MayAll tells whether p reaches everything of every type.
func (p *Principal) MayAll(needs Needs) bool {
	for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
		if needs&^(Read|Search) != 0 && (t == typeSearchParameter() || p != nil && p.isApart(t)) {
			continue // the Admin's
		}
		if !p.May(needs, t).Whole {
			return false
		}
		if p == nil || !p.HasScopes {
			break
		}
	}
	return needs&^(Read|Search) != 0 || p.May(needs, typeAuditEvent()).Whole
}

// reachesAll: scopes, if there are any, leave nothing out.
func (p *Principal) reachesAll(needs Needs) bool {
	given := Needs(0)
	for i := range p.Scopes {
		if s := &p.Scopes[i]; s.Context != ContextPatient && s.Type == 0 && s.Filter == "" {
			given |= s.Permissions.allows()
		}
	}
	return !p.HasScopes || given&needs == needs
}

// Has decides about an interaction as a whole; t is the type that its address names,
// 0: none. What of the type is reached, May says.
//
// Imports, the Admin's interactions and those of any role are asked for by role; a token
// with scopes needs those that reach as far, too: system/*.cu or user/*.cu to import,
// everything (system/*.cruds) to administer, and system/*.rs for any role.
func (p *Principal) Has(needs Needs, t fhir.TypeCode) bool {
	if needs&Public != 0 || p == nil {
		return true
	}
	roles := p.Roles.allows()
	switch {
	case needs&AnyRole != 0 && (p.Roles == 0 || !p.reachesAll(Read|Search)),
		needs&Administer != 0 && (roles&Administer == 0 || !p.reachesAll(Read|Search|Create|Update|Delete)),
		needs&Import != 0 && (roles&Import == 0 || !p.reachesAll(Create|Update)),
		needs&Export != 0 && !p.exportsSome():
		return false
	}
	for one := Read; one <= Delete; one <<= 1 {
		if needs&one != 0 && (t == 0 && !p.MaySome(one) || t != 0 && p.May(one, t).None()) {
			return false
		}
	}
	return true
}

// IsAdmin: p may see and end other clients' jobs.
func (p *Principal) IsAdmin() bool { return p.Has(Administer, 0) }

package access

import "kiln/fhir"

// Context is the part of a SMART scope before the slash.
type Context uint8

// Patient scopes reach one compartment, user scopes what the user's roles allow,
// system scopes the whole store.
const (
	ContextPatient Context = iota + 1
	ContextUser
	ContextSystem
)

// Permission is a set of the letters of a SMART v2 scope.
type Permission uint8

// In the order in which a scope must write them: cruds.
const (
	PermissionCreate Permission = 1 << iota
	PermissionRead
	PermissionUpdate
	PermissionDelete
	PermissionSearch
)

// Scope is one SMART scope, such as system/Observation.rs?category=laboratory.
type Scope struct {
	Context     Context
	Type        fhir.TypeCode // 0: all ("*")
	Permissions Permission
	// Filter is the query behind the "?", as it was written; "": none.
	Filter string
	// Text is the scope as it was written.
	Text string
}

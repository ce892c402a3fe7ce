// Package access says who a client is and what it may do: roles, SMART scopes
// and the decision. It knows nothing of HTTP and of tokens' forms.
package access

import "time"

// Principal is who a request is made by, once that is proven. An open server
// has none: nil stands for anybody, who may do everything.
type Principal struct {
	// Issuer is the token issuer's URL; "kiln" for tokens of this server, "mtls" for
	// client certificates.
	Issuer string
	// Subject names the client within its issuer: the token's sub, or the
	// certificate's subject.
	Subject string
	// Client is the OAuth client that acts (client_id, azp or appid); "": the subject.
	Client string
	// Name is for people, in audit events; it may be empty.
	Name  string
	Roles Roles
	// Scopes are the SMART scopes that were granted; HasScopes tells a token whose
	// SMART scopes grant nothing from one that has no scopes about resources at all.
	Scopes    []Scope
	HasScopes bool
	// Patient is the id of the launch context's patient, for patient/ scopes.
	Patient string
	// FHIRUser is the reference of the user's own resource; it may be empty.
	FHIRUser string
	// AuditsApart: AuditEvents are the server's own, for Admins and those whose scopes
	// name the type.
	AuditsApart bool
	// Expires is when the proof does; zero: it does not (certificates of a live
	// connection).
	Expires time.Time
}

// Key tells principals apart: for the owners of jobs, for limits, in the audit.
// It is stable across tokens of one client.
func (p *Principal) Key() string { return p.Issuer + "|" + p.Subject }

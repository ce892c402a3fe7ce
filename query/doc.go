// Package query reads searches as FHIR R4 writes them (search.html): the
// parameters of a URL become filters, and filters become expressions of the
// engine. It runs what has more than one step: chains, reverse chains and
// includes. It knows nothing of HTTP.
package query

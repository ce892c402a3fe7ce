// Package query reads searches as FHIR R4 writes them (search.html): the
// parameters of a URL become filters, and filters become expressions of the
// engine. It runs what has more than one step: chains, reverse chains and
// includes. A Registry knows the parameters that a store's SearchParameter
// resources add to R4's. It knows nothing of HTTP.
package query

// Package httpapi answers FHIR over HTTP: it turns requests into calls of the
// engine and of the bulk jobs, and their results and errors into FHIR.
//
// Rules that hold everywhere:
//   - One table (interactions.go) says what is served. Routing, the list of
//     allowed methods, the CapabilityStatement and the metrics all read it, so
//     the server never claims what it does not do.
//   - What is not understood is refused: an unknown query parameter, a
//     conditional header on a write, another format. A part of a request is
//     never left out silently, unless the client asked for handling=lenient.
//   - Handlers return errors; errors.go alone turns them into a status and an
//     OperationOutcome. Every error answer under the FHIR base is one.
//   - Nothing of a request (path, header, body bytes) is kept after its handler
//     returns, because the HTTP library uses the memory again.
//   - Request bodies are read whole, before the handler, under a size limit: a
//     refused request can then never leave bytes behind that would be taken for
//     the next one.
//   - Files are sent with their length, so that a failed read ends the
//     connection and a cut answer never looks complete.
//
// Files: server.go (configuration, life), limits.go, body_budget.go, route.go (addresses),
// interactions.go (the table), exchange.go (one request and its answer),
// headers.go, query.go, errors.go, outcome.go, read.go, view.go, write.go, patch.go, condition.go,
// bundle.go, entry_exchange.go, batch.go, transaction.go, bundle_links.go, bundle_response.go, history.go,
// paging_token.go, paging_key.go, import.go, export.go, download.go, capability.go, parameter_status.go, cors.go, health.go,
// metrics.go, compress.go, decompress.go,
// listener.go (how many connections), certificates.go, handshake.go, client_proof.go (TLS), forwarded.go (proxies), access_log.go, audit_keeper.go (audit), client_limits.go, log_limit.go.
package httpapi

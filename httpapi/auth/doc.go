// Package auth proves who asks: bearer tokens of configured issuers, client
// certificates, and the tokens that the server itself hands out to the clients
// of its configuration (SMART Backend Services). What a client may do is
// decided elsewhere, from the access.Principal that Authenticate gives.
//
// What a client sends before it is proven is bounded, taken apart by a kept
// JOSE library only, and never logged: tokens and assertions are secrets.
//
//	config.go         the YAML file: issuers, clients, certificates
//	authenticator.go  one request: which proof counts; the file's changes
//	bearer.go         the Authorization header
//	token.go          a JWT: its header, its signature, its claims
//	proven.go         tokens that were good a moment ago
//	claims.go         claims as the principal they prove
//	issuer.go         who tokens are taken from
//	certificate.go    client certificates as the principals that rules name
//	client.go         the clients that this server gives tokens to
//	token_endpoint.go their requests: the form, the assertion, the token
//	grant.go          what is granted of the scopes that they ask for
//	replays.go        assertions that were used
//	signing_keys.go   the keys that sign access tokens, and their rotation
//	smart.go          how clients find all this
//	refusal.go        what a refused client is told
//	key_set.go        JSON Web Key Sets, and the one key that fits a token
//	remote_keys.go    a key set behind a URL: how long it is kept, when it is asked for again
//	fetch.go          bounded HTTP GETs
//	json.go           bounds of JSON that nobody vouches for
//	limits.go         every bound, with its reason
package auth

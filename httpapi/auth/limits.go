package auth

import "time"

const (
	// tokenBytesMax bounds a token or assertion. Tokens with hundreds of groups
	// have some 10 KB; the request's headers are bounded to 32 KiB by themselves.
	tokenBytesMax = 16 << 10

	// jsonDepthMax bounds the nesting of a token's header and claims, and of key sets:
	// the JSON reader calls itself for each level, and a token has room for 12,000.
	jsonDepthMax = 16

	// nameBytesMax bounds a subject, a client and what else names a principal:
	// they are keys of jobs and limits, and in every line of an audit.
	nameBytesMax = 512

	// Clocks of issuers and this server may differ by the skew, in either direction.
	skewDefault = 60 * time.Second
	skewMax     = 5 * time.Minute

	// fileBytesMax bounds the configuration; a client with keys has about 1 KB.
	fileBytesMax = 4 << 20

	// fileLookInterval is how soon a change of the file counts.
	fileLookInterval = time.Second

	// fetchBytesMax bounds discovery documents and key sets; those of large
	// issuers have some 20 KB.
	fetchBytesMax = 1 << 20

	// fetchTime bounds one answer of an issuer. Requests wait for it.
	fetchTime = 5 * time.Second

	// redirectsMax are followed, on the same host only.
	redirectsMax = 3

	// keysMax bounds the keys that are looked at in a set.
	keysMax = 100

	// rsaBitsMin is what RFC 7518 asks for.
	rsaBitsMin = 2048

	// A key set is kept as long as its Cache-Control says, within these: a key that
	// was withdrawn stops counting within the hour, and an issuer that forbids
	// caching is not asked for each request.
	keysAgeMin     = 10 * time.Second
	keysAgeMax     = time.Hour
	keysAgeDefault = 10 * time.Minute

	// keysStaleMax is how long the last keys count while their issuer does not
	// answer: a night, but not a forgotten server.
	keysStaleMax = 12 * time.Hour

	// fetchIntervalMin is between two questions to one issuer, whatever unknown keys
	// tokens name and however often it fails.
	fetchIntervalMin = 10 * time.Second
)

const (
	// provenLifeMax is how long a token that was good needs no signature checked. Keys,
	// file, clock and certificate are looked at for each request all the same; this is
	// for what nobody thought of, and a check a minute costs nothing.
	provenLifeMax = time.Minute

	// provenSets and provenWays bound the tokens that are known, 4,096: those of as many
	// clients in a minute, with some 600 bytes each.
	provenSets = 1 << 10
	provenWays = 4

	// knownCertificatesMax bounds the client certificates that no name is written out
	// for again, with some 5 KB each.
	knownCertificatesMax = 256

	// provenBytesMax bounds what is kept of one; with more it is checked each time. A
	// hundred scopes have room; all together 32 MiB at most.
	provenBytesMax = 8 << 10
)

const (
	// formBytesMax bounds the form that asks for a token: an assertion and some words.
	formBytesMax = 64 << 10

	// tokenLife is that of access tokens, as SMART recommends.
	tokenLife = 5 * time.Minute

	// grantBytesMax bounds the scopes of an access token: in the token they are a third
	// longer, and it has to fit into a header. Scopes with filters multiply with those of
	// the registration.
	grantBytesMax = 8 << 10

	// assertionLifeMax is how far ahead an assertion may expire (SMART Backend Services).
	assertionLifeMax = 5 * time.Minute

	// replaysMax bounds the assertions of one client that are remembered until they
	// expire: 30 a second. One more is refused, as forgetting one would let it be used again.
	replaysMax = 10_000

	// replaysSweepInterval is between two looks through all of them, 10,000 for each
	// client; replaysDeletedMax is how many of the expired a request deletes from the
	// catalog, each of which is a write: more than come in by it.
	replaysSweepInterval = time.Second
	replaysDeletedMax    = 16

	// signingKeyAge is how long a key signs. The one before is kept until its last
	// tokens have expired, on any clock that is believed.
	signingKeyAge  = 30 * 24 * time.Hour
	signingKeyKept = tokenLife + 2*skewMax
)

package query

const (
	// valuesMax bounds the values of all lists, "a,b,c"; an id of an unknown type
	// counts once for each type. A URL of 32 KiB holds fewer; a POST may have
	// more. Each is a walk of some hundred bytes.
	valuesMax = 50_000

	// filtersMax bounds the conditions of a search, of chains too.
	filtersMax = 500

	// clauseBytesMax bounds a _filter, and clauseDepthMax what is nested in it: far
	// more than anybody writes by hand. Its tests count as conditions.
	clauseBytesMax = 64 << 10
	clauseDepthMax = 64

	// sortKeysMax and includeParametersMax bound what each cost a walk or a search.
	sortKeysMax          = 10
	includeParametersMax = 100

	// chainDepthMax bounds the links of a chain; each is a search of its own.
	chainDepthMax = 8

	// chainMatchesMax bounds what an inner search of a chain finds: its ids are in
	// memory, and each is a range of the outer one.
	chainMatchesMax = 100_000

	// reverseMatchesMax bounds the resources that a reverse chain reads to see what
	// they refer to.
	reverseMatchesMax = 100_000

	// includesMax bounds the resources that a page brings along.
	includesMax = 10_000

	// includedBytesMax bounds their bodies, which are in memory.
	includedBytesMax = 32 << 20

	// includeRoundsMax bounds how often :iterate goes on.
	includeRoundsMax = 16

	// keysMax bounds a list of _id: each is a look into the key table.
	keysMax = 20_000

	// sameURLMax bounds the ValueSets or CodeSystems of one url, versions of one
	// another, that are read to find the one that is meant.
	sameURLMax = 100
)

package terminology

const (
	// codesMax bounds the codes of a set. Each takes about 100 bytes while a search
	// runs, and is a seek of its walk.
	codesMax = 200_000

	// conceptsMax bounds the concepts of the code systems that one Expander reads,
	// of about 100 bytes each. SNOMED CT has a third of it.
	conceptsMax = 1_000_000

	// bytesMax bounds the resources that one Expander reads, which are in memory
	// meanwhile.
	bytesMax = 64 << 20

	// importsMax bounds how deep value sets are made of others.
	importsMax = 32

	// conceptDepthMax bounds how deep concepts are nested. The scanner's bound on
	// JSON is lower for now; this one keeps the recursion in hand by itself.
	conceptDepthMax = 256

	// checkEvery is how many codes or concepts pass between looks at the deadline.
	checkEvery = 1 << 12
)

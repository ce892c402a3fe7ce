package main

// publishedFigure is one that others tell of their server, with ours that is most like it.
// Their machines and data are other ones: no ratio of one sitting.
type publishedFigure struct {
	what  string
	value float64
	unit  string
	by    string // whose it is, and on what
	ours  seriesKey
}

const (
	blazeLarge  = "Blaze, EPYC 9555 with 128 cores, 768 GiB, 1,044 million resources"
	blazeSmall  = "Blaze, Ryzen 9900X with 24 threads, 96 GiB, 1,044 million resources"
	aidboxOwn   = "Aidbox on PostgreSQL, 8 vCPU, 24 GiB, 2 million resources"
	frequentRow = "most frequent code: count"
)

// publishedFigures are the best that we found, of the documentation of Blaze (its pages on
// import, searches and load testing) and of Health Samurai's benchmark of FHIR servers.
var publishedFigures = []publishedFigure{
	{"import", 67_737, perSecond("resources"), "Blaze, 128 cores, tuned; transaction Bundles", seriesKey{"import", kilnRun, "resources per second"}},
	{"import", 2_678, perSecond("resources"), aidboxOwn + "; transaction Bundles, 20 clients", seriesKey{"import", kilnRun, "resources per second"}},
	{"transaction Bundles", 2_678, perSecond("resources"), aidboxOwn + "; 20 clients", seriesKey{"bundle", transactionsOf(100), "resources per second"}},
	{"reads at random", 48_868, perSecond("requests"), blazeSmall + "; patients only, 64 clients on another machine", seriesKey{"read", readAtRandom, "requests per second"}},
	{"reads of one resource", 48_868, perSecond("requests"), "the same", seriesKey{"read", readOne, "requests per second"}},
	{"count of a token's hits", 7_100_000, perSecond("hits"), blazeLarge, seriesKey{"search", frequentRow, hitsCounted}},
	{"search and download", 138_500, perSecond("resources"), blazeSmall, seriesKey{"search", downloadRun, "resources per second"}},
	{"creates, reads, updates and deletes, mixed", 5_212, perSecond("requests"), aidboxOwn, seriesKey{"crud", crudRun, "requests per second"}},
	{"disk, fully indexed", 1_075, "bytes a resource", "Blaze, 1,044 million resources, after a full compaction", seriesKey{"grow", largestStore, "all on disk"}},
}

// besidePublished is a published figure and ours.
type besidePublished struct {
	publishedFigure
	measured *series // nil: nothing was
}

func (s *summary) besidePublished() (rows []besidePublished) {
	for _, p := range publishedFigures {
		rows = append(rows, besidePublished{p, s.find[p.ours]})
	}
	return rows
}

func (p *besidePublished) published() string { return amount(p.value, p.unit) }

func (p *besidePublished) seen() string {
	if p.measured == nil {
		return "not measured"
	}
	return p.measured.text()
}

// ratio is ours to theirs.
func (p *besidePublished) ratio() string {
	if p.measured == nil {
		return ""
	}
	return digits(p.measured.median() / p.value)
}

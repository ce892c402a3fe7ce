//go:build !race

package bulk

// What fits a test run; SEEDS=10000 is the real thing.
const (
	randomSeedsDefault = 60
	organizeSeeds      = 4
	replaySeedsDefault = 30
)

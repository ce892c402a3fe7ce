//go:build race

package bulk

// The race detector makes a seed five times as dear.
const (
	randomSeedsDefault = 12
	organizeSeeds      = 2
	replaySeedsDefault = 6
)

//go:build !race

package query

// seedsDefault is what fits a test run; SEEDS=10000 is the real thing.
const seedsDefault = 8

//go:build !race

package engine

// seedsDefault is what fits a test run; SEEDS=10000 is the real thing.
const seedsDefault = 200

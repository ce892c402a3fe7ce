//go:build !race

package query

// seedsDefault is what fits a test run; SEEDS=10000 is the real thing.
const seedsDefault = 8

// realTexts is how many values are taken of each real contained resource.
const realTexts = 8

//go:build race

package query

// seedsDefault: the race detector makes a seed several times as dear.
const seedsDefault = 3

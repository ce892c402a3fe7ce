//go:build race

package engine

// seedsDefault: the race detector makes a seed four times as dear, and the
// simulation has one caller at a time.
const seedsDefault = 40

//go:build race

package query

// seedsDefault: the race detector makes a seed several times as dear.
const seedsDefault = 3

// realTexts is how many values are taken of each real contained resource.
const realTexts = 1

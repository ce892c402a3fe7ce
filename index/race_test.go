//go:build race

package index

// raceDetector makes everything ten times as slow.
const raceDetector = true

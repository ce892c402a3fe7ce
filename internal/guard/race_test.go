//go:build race

package guard

// raceEnabled: the race detector allocates, and sync.Pool forgets under it.
const raceEnabled = true

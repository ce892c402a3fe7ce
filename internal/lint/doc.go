// Package lint holds the house rules as tests: imports point down only, files
// and clocks are reached through their one door, functions stay short, and a
// banned import names what to use instead. There is no code here to import.
package lint

// Package guard holds the hot paths to budgets that do not depend on how busy or
// how fast the machine is: allocations and bytes an operation, and instructions as
// valgrind counts them. The budgets are testdata/budgets.txt; `make guard` checks
// all of them, `make guard UPDATE=1` writes them anew, and CI checks allocations
// and bytes. There is no code here to import.
package guard

package httpapi

import (
	"fmt"
	"testing"

	"kiln/engine"
	"kiln/query"
)

// TestRefusedSearchesAreWorded: what a search can fail of, beside its text.
func TestRefusedSearchesAreWorded(t *testing.T) {
	f := func(err error, status int, code, text string) {
		t.Helper()
		p, known := asProblem(searchError(fmt.Errorf("cannot search: %w", err)))
		if !known || p.status != status || p.code != code || p.text != text {
			t.Errorf("%v: %+v, known %t", err, p, known)
		}
	}
	f(engine.ErrReindex, 503, "transient", "The index that this search needs is being built; try again later. GET SearchParameter/$status tells how far it is.")
	f(engine.ErrCursorGone, 410, "not-found", "The page is gone, because a resource was purged; search again.")
	f(&query.Error{Kind: query.TooCostly, Text: "The search needs too much memory; narrow it."}, 400, "too-costly", "The search needs too much memory; narrow it.")
	f(&query.Error{Kind: query.NotSupported, Text: "x"}, 400, "not-supported", "x")
	f(&query.Error{Kind: query.Invalid, Text: "x"}, 400, "invalid", "x")
}

package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

// Query asks for the current, not deleted versions that an expression chooses.
type Query struct {
	Types []fhir.TypeCode // empty: all
	Where *Expr           // nil: all of the types
	// Sort orders the result; what is equal in all keys, or no key is given, is
	// in the order of the store: by LSN, and inside one record by place.
	Sort  []SortKey
	After Cursor // zero: from the first
	Limit int    // at most so many; 0 or less: all
	// AsOf is the LSN that the result is of, at most the snapshot's; 0: the
	// snapshot's. With Page.AsOf of the first page the pages of later snapshots
	// make one list, whatever was written, flushed, merged or restarted since;
	// only what was purged is gone.
	AsOf uint64
	// Explain, when not nil, gets what each step found and how long it took.
	Explain *Explanation
}

// SortKey is one key of an order. Of several values in a resource the lowest
// counts, with Desc the highest; those without a value come last either way.
// Dates are ordered by their beginning, tokens by system and code (UUIDs before
// other codes), quantities by number whatever their unit, strings without case
// and accents. Composites and special parameters have no order.
type SortKey struct {
	Param *search.Param
	Desc  bool
}

// Op is what an Expr does.
type Op uint8

// The operations.
const (
	All   Op = iota // every version of the query's types
	And             // all of Args; none: All
	Or              // any of Args; none: nothing
	Not             // those without Args[0]
	Terms           // those that have a term of one of Walks
	Keys            // those of the resources in Keys, or Sorted
)

// Expr chooses versions. Read only while a search runs.
type Expr struct {
	Op    Op
	Args  []*Expr
	Walks []index.Walk
	// Inside is for Terms: those, too, that refer to what they contain.
	Inside []Inside
	Keys   []Key
	Sorted [][]byte // of Keys, instead of them: what index.AppendKey makes of each, ascending
	Stored bool     // of Keys: no contained resource is meant
	Name   string   // for Explain
}

// Inside is having, in one of Walks (index.FragmentWalks), a reference to a contained
// resource of a type that Where chooses.
type Inside struct {
	Type  fhir.TypeCode
	Walks []index.Walk
	Where *Expr
}

// Key names a resource.
type Key struct {
	Type fhir.TypeCode
	ID   []byte
}

// Cursor is a place in a result: behind one version of it, or behind one of the
// resources that it contains. The zero Cursor is the place before the first.
type Cursor struct {
	typ     fhir.TypeCode
	version int64
	id      string
	// part is 0 behind the version as a whole; inside it, behind itself 1, and behind
	// the resource that it contains in place n, from 1 on, n + 1.
	part uint32
}

// Page tells how to go on.
type Page struct {
	Next Cursor // After of the following page
	More bool   // there is a following page
	AsOf uint64 // of all pages
}

var (
	// ErrReindex refuses a search that needs terms which a run does not have yet:
	// those of a field that was added, or all, made by the rules of another
	// version. The run is being indexed again; see Store.Reindexing.
	ErrReindex = errors.New("the store is being indexed again for this search")
	// ErrQueryTooLarge refuses a search that needs too much memory.
	ErrQueryTooLarge = errors.New("the search needs too much memory; narrow it")
	// ErrInsideTooMany refuses a search that would read too many versions for what
	// they contain.
	ErrInsideTooMany = errors.New("too many resources refer to what they contain; narrow the search")
	// ErrCursorGone refuses a cursor whose version is not in the store any more.
	ErrCursorGone = errors.New("the place in the result is gone, because a resource was purged; search again")
	// ErrCursor refuses bytes that are no cursor.
	ErrCursor = errors.New("not a place in a search result")
	// ErrUnsortable refuses a sort by a parameter that has no order.
	ErrUnsortable = index.ErrUnsortable
)

// AppendBinary appends the cursor, which delimits itself.
//
//	+------------------+-----------------+
//	| index.AppendKey  | version uvarint |     type 0, no id and version 0: the zero one
//	+------------------+---+-------------+---+--------------+
//	| index.AppendKey  | 0 | version uvarint | part uvarint |     inside a version
//	+------------------+---+-----------------+--------------+
func (c Cursor) AppendBinary(dst []byte) ([]byte, error) {
	dst = index.AppendKey(dst, c.typ, []byte(c.id))
	if c.part == 0 {
		return binary.AppendUvarint(dst, uint64(c.version)), nil
	}
	dst = binary.AppendUvarint(append(dst, 0), uint64(c.version))
	return binary.AppendUvarint(dst, uint64(c.part)), nil
}

// ParseCursor undoes AppendBinary, and gives what follows. ErrCursor.
func ParseCursor(b []byte) (c Cursor, rest []byte, err error) {
	t, id, rest, ok := index.ParseKey(nil, b)
	inside := ok && t != 0 && len(rest) > 0 && rest[0] == 0
	if inside {
		rest = rest[1:]
	}
	version, n := binary.Uvarint(rest)
	if !ok || n <= 0 || version > math.MaxInt64 {
		return Cursor{}, b, ErrCursor
	}
	c, rest = Cursor{typ: t, version: int64(version), id: string(id)}, rest[n:]
	if !inside {
		return c, rest, nil
	}
	part, n := binary.Uvarint(rest)
	if n <= 0 || part == 0 || part > math.MaxUint32 {
		return Cursor{}, b, ErrCursor
	}
	c.part = uint32(part)
	return c, rest[n:], nil
}

// Search calls fn for each version of the query's page, in order; what fn gets
// holds for ever. Errors: ErrReindex, ErrQueryTooLarge, ErrInsideTooMany, ErrCursorGone,
// ErrUnsortable, index.ErrWalk, those of reading, of ctx and of fn.
func (n *Snapshot) Search(ctx context.Context, q *Query, fn func(*Version) error) (Page, error) {
	s, err := n.newSearch(ctx, q)
	if err != nil {
		return Page{}, fmt.Errorf("cannot search: %w", err)
	}
	defer s.end()
	if len(q.Sort) > 0 {
		return s.sorted(fn)
	}
	return s.inStoreOrder(fn)
}

// Count is how many versions the query has on all pages; Sort, After and Limit
// do not matter. Errors as for Search.
func (n *Snapshot) Count(ctx context.Context, q *Query) (uint64, error) {
	s, err := n.newSearch(ctx, q)
	if err != nil {
		return 0, fmt.Errorf("cannot count: %w", err)
	}
	defer s.end()
	return s.count()
}

// SearchKeys calls fn for each resource that matches, in no order and whatever
// Limit is. id holds until fn returns. Chains read what the inner query finds.
func (n *Snapshot) SearchKeys(ctx context.Context, q *Query, fn func(t fhir.TypeCode, id []byte) error) error {
	s, err := n.newSearch(ctx, q)
	if err != nil {
		return fmt.Errorf("cannot search: %w", err)
	}
	defer s.end()
	return s.keys(fn)
}

// SearchValues calls fn for each value in walks that a matching version has,
// possibly several times; value holds until fn returns, and fn does not search.
// Reverse chains and revincludes read what the matching resources refer to.
func (n *Snapshot) SearchValues(ctx context.Context, q *Query, walks []index.Walk, fn func(p index.Param, value []byte) error) error {
	s, err := n.newSearch(ctx, q)
	if err != nil {
		return fmt.Errorf("cannot search: %w", err)
	}
	defer s.end()
	return s.values(walks, fn)
}

// VersionTerms calls fn for each search term of a version, in no order; value
// holds until fn returns. Includes read what a page's resources refer to.
func (s *Store) VersionTerms(v *Version, fn func(p index.Param, value []byte)) error {
	x := s.extractor(termFunc(fn))
	defer s.keepExtractor(x)
	if _, err := x.Scan(v.Body); err != nil && !wasRead(err) {
		return fmt.Errorf("cannot read the search terms of %v/%s: %w", v.Type, v.ID, err)
	}
	return nil
}

type termFunc func(p index.Param, value []byte)

func (f termFunc) AddTerm(p index.Param, value []byte) { f(p, value) }

package engine

import (
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// ScanQuery selects versions to be streamed in file order: exports read so. Versions
// that are lost are never delivered.
type ScanQuery struct {
	// Of is what is taken: a version that any of them takes is delivered once.
	// None: everything.
	Of         []ScanOf
	SinceMilli int64 // lastUpdated >= ; 0: no bound
	UntilMilli int64 // lastUpdated <  ; 0: no bound
	Versions   ScanVersions
	// AsOf is the LSN that the result is of, at most the snapshot's; 0: the
	// snapshot's. A later snapshot gives what one of that LSN gave, in whatever
	// runs it lies by then; only what was purged since is gone.
	AsOf uint64
}

// ScanOf takes versions of some types.
type ScanOf struct {
	Types []fhir.TypeCode // empty: all
	// Where is evaluated as Query.Where is; nil: all of the types. Each version
	// is judged by its own content. A deletion has no content, and so no terms
	// but those of its type and date: Keys takes it, Terms does not.
	Where *Expr
}

// ScanVersions says which versions of a resource are taken.
type ScanVersions uint8

const (
	ScanCurrent          ScanVersions = iota // the current one, unless it is a deletion
	ScanCurrentOrDeleted                     // the current one
	ScanAll                                  // every one that is no deletion
	ScanAllOrDeleted                         // every one
	ScanDeletions                            // the current one, if it is a deletion
)

// ofCurrent tells whether only current versions are taken.
func (v ScanVersions) ofCurrent() bool { return v != ScanAll && v != ScanAllOrDeleted }

// Scan is the versions of a query, chosen and not yet read. Safe for concurrent
// use, until the snapshot is released.
type Scan struct {
	search *searching
	q      ScanQuery
	chosen []scanRows
}

// scanRows is what is taken of one source.
type scanRows struct {
	src *source
	// rows are those that are taken; of doubtful it is asked, when they are read,
	// whether they were current. Both are not modified.
	rows, doubtful *roaring.Bitmap
}

// Scan chooses a query's versions: run by run as bitmaps, which is what it
// keeps. Errors: ErrReindex, ErrQueryTooLarge, index.ErrWalk, those of reading
// and of ctx.
func (n *Snapshot) Scan(ctx context.Context, q ScanQuery) (*Scan, error) {
	return n.scan(ctx, q, true)
}

// scan is Scan; patient as in searching.
func (n *Snapshot) scan(ctx context.Context, q ScanQuery, patient bool) (*Scan, error) {
	search, err := n.newSearch(ctx, &Query{AsOf: q.AsOf})
	if err != nil {
		return nil, fmt.Errorf("cannot scan: %w", err)
	}
	search.patient = patient
	c := &Scan{search: search, q: q}
	for _, src := range search.sources {
		chosen, err := c.choose(src)
		if err == nil {
			err = search.keep(chosen.rows)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot choose what to scan: %w", err)
		}
		if !chosen.rows.IsEmpty() {
			c.chosen = append(c.chosen, chosen)
		}
	}
	return c, nil
}

// ScanParts is all parts of a scan.
func (n *Snapshot) ScanParts(ctx context.Context, q ScanQuery) ([]ScanPart, error) {
	c, err := n.Scan(ctx, q)
	if err != nil {
		return nil, err
	}
	return c.Parts(ScanRange{})
}

// Rows is at least how many versions the scan delivers; exactly that many as of
// the snapshot's own LSN.
func (c *Scan) Rows() (rows uint64) {
	for i := range c.chosen {
		rows += c.chosen[i].rows.GetCardinality()
	}
	return rows
}

// ScanPart is a piece of a scan that one worker streams in file order. It is
// good until the snapshot is released.
type ScanPart struct {
	c        *Scan
	of       *scanRows
	from, to uint32 // ordinals, to is not in
}

// scanPartOrdinals is how many ordinals of a run make a part: about an import's
// run, so that the workers share a merged run. A block that two parts share is decoded twice.
const scanPartOrdinals = 128 << 10

// Parts cuts what a range has into independent parts, those of one source
// behind each other; parts without rows are left out.
func (c *Scan) Parts(within ScanRange) ([]ScanPart, error) {
	var parts []ScanPart
	for i := range c.chosen {
		of := &c.chosen[i]
		from, end, err := of.src.ordinalsOf(within)
		if err != nil {
			return nil, fmt.Errorf("cannot cut a scan: %w", err)
		}
		rest := of.rows.Iterator()
		for rest.AdvanceIfNeeded(from); rest.HasNext() && rest.PeekNext() < end; rest.AdvanceIfNeeded(from) {
			first := rest.PeekNext()
			from = min(end, first+scanPartOrdinals) // index.RowsMax is far below 2^32
			parts = append(parts, ScanPart{c: c, of: of, from: first, to: from})
		}
	}
	return parts, nil
}

// Rows is at least how many versions the part delivers.
func (p *ScanPart) Rows() uint64 {
	rows := p.of.rows.Rank(p.to - 1)
	if p.from > 0 {
		rows -= p.of.rows.Rank(p.from - 1)
	}
	return rows
}

// Run streams them; each block is read and decoded once, past the cache. A Version
// holds until fn returns.
func (p *ScanPart) Run(ctx context.Context, fn func(*Version) error) error {
	return p.RunWith(ctx, new(index.ScanSpace), fn)
}

// RunWith is Run with the memory of an earlier one, of any part.
func (p *ScanPart) RunWith(ctx context.Context, space *index.ScanSpace, fn func(*Version) error) error {
	rows := roaring.New()
	rows.AddRange(uint64(p.from), uint64(p.to))
	rows.And(p.of.rows)
	if p.of.src.run == nil {
		return p.runHead(ctx, rows, fn)
	}
	var v Version
	run, asks := p.of.src.run, !p.of.doubtful.IsEmpty()
	return run.run.ScanWith(ctx, space, rows, func(o index.Ordinal, row index.Row, stored index.Stored) error {
		row = run.dated(row)
		if asks && p.of.doubtful.Contains(uint32(o)) {
			if current, err := p.c.search.wasCurrent(row, stored.ID); !current || err != nil {
				return err
			}
		}
		if v = makeVersion(row, stored); v.Lost {
			return nil // neither content nor a deletion
		}
		return fn(&v)
	})
}

func (p *ScanPart) runHead(ctx context.Context, rows *roaring.Bitmap, fn func(*Version) error) error {
	var space []byte
	for it := rows.Iterator(); it.HasNext(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, err := p.c.search.n.s.readEntry(p.of.src.gen.entry(int(it.Next())), space)
		if err != nil {
			return err
		}
		space = v.Body
		if err := fn(&v); err != nil {
			return err
		}
	}
	return nil
}

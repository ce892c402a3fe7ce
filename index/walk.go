package index

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// ErrWalk: a value cannot be searched for in this way.
var ErrWalk = errors.New("the value cannot be searched for")

// Cursor walks the terms of one field in value order: those of a run, or those
// in memory. A move that returns false leaves it on no term; Err tells whether
// that was the end.
type Cursor interface {
	SeekGE(value []byte) bool // to the lowest value that is not less
	SeekLT(value []byte) bool // to the highest value that is less
	Last() bool
	Next() bool
	Prev() bool
	Value() []byte // holds until the next move
	Count() uint64 // of the ordinals that have the value; of terms in memory, at most so many
	AddTo(rows *RowSet) error
	Err() error
}

var (
	_ Cursor = (*TermCursor)(nil)
	_ Cursor = (*MemoryCursor)(nil)
)

// TermSource is what walks run on: the terms of a run, or terms in memory.
type TermSource interface {
	Cursor(p Param) Cursor
	// AddPostings adds the ordinals that have one term.
	AddPostings(rows *RowSet, p Param, value []byte) error
	// PostingCount is how many ordinals have one term; of terms in memory, at
	// most so many.
	PostingCount(p Param, value []byte) (uint64, error)
}

// The cost of reading is counted in blocks: of terms, which are decoded in about
// 15 microseconds, and of bodies.
const (
	// BodyBlockCost is what a body block that is not in the cache takes.
	BodyBlockCost = 8
	// rowsPerBlockCost is how many resources are read through meanwhile.
	rowsPerBlockCost = 2
)

// WalkCost is about what a walk costs on a run.
func (r *Run) WalkCost(w *Walk) uint64 {
	if w.Exact || r.terms.count() == 0 {
		return 1
	}
	to := w.To
	if to == nil {
		to = []byte{0xFF, 0xFF, 0xFF, 0xFF}
	}
	from, end := r.terms.seek(appendTermKey(nil, w.Param, w.From)), r.terms.seek(appendTermKey(nil, w.Param, to))
	return uint64(max(end-from, 0)) + 1
}

// ReadCost is about what reading the terms of rows from their bodies costs.
func (r *Run) ReadCost(rows *roaring.Bitmap) uint64 {
	return uint64(len(r.wantedBlocks(rows)))*BodyBlockCost + rows.GetCardinality()/rowsPerBlockCost
}

// Walk is a set of terms of one field: those from From on and below To, of
// which Look, when there is one, chooses.
type Walk struct {
	Param Param
	From  []byte // nil: from the lowest value
	To    []byte // nil: to the highest value
	Exact bool   // From alone; To and Look are nil
	Look  Look
	// rest is what anySystemWalk looks for; nil: it is no such walk.
	rest []byte
}

// Look judges the value that a walk stands on. The walk goes on at seek, which
// is above value, or, when it is nil, at the value that follows. room is empty,
// for making seek in. A Look is safe for concurrent use.
type Look func(value, room []byte) (verdict Verdict, seek []byte)

// Verdict is what a Look says of a value.
type Verdict uint8

// The verdicts.
const (
	Pass    Verdict = iota // not wanted
	Take                   // wanted
	TakeAll                // wanted, and so are all behind it up to seek
	End                    // not wanted, nor is any behind it
)

// Run calls fn at each term of the walk, with c standing on it. sure is false for
// a value that was cut (TermBytesMax) where a Look would have to see it whole: it
// may belong to the walk. Errors are those of fn, of c, and of check, which is
// called now and then.
func (w *Walk) Run(c Cursor, check func() error, fn func(sure bool) error) error {
	var room, to, exact, taken []byte
	if w.To != nil {
		to = termValue(w.To)
	}
	if w.Exact {
		exact = termValue(w.From)
	}
	for ok, n := c.SeekGE(w.From), 1; ok; n++ {
		if n%walkTermsPerCheck == 0 {
			if err := check(); err != nil {
				return err
			}
		}
		value := c.Value()
		if to != nil && bytes.Compare(value, to) >= 0 || w.Exact && !bytes.Equal(value, exact) {
			break
		}
		verdict, seek, sure := Take, []byte(nil), true
		if w.Look != nil {
			sure = len(value) != TermBytesMax
			if sure && bytes.Compare(value, taken) >= 0 {
				verdict, seek = w.Look(value, room[:0])
			}
		}
		if verdict == End {
			break
		}
		if seek != nil {
			room = seek
		}
		if len(seek) > TermPrefixBytes {
			seek = nil // it has no order among what was cut
		}
		if verdict == TakeAll {
			taken, seek = append(taken[:0], seek...), nil
		}
		if verdict != Pass {
			if err := fn(sure); err != nil {
				return err
			}
		}
		switch {
		case w.Exact:
			return c.Err()
		case seek != nil:
			ok = c.SeekGE(seek)
		default:
			ok = c.Next()
		}
	}
	return c.Err()
}

// Takes tells whether a whole value, as AddTerm is given it, belongs to the walk.
func (w *Walk) Takes(value []byte) bool {
	switch {
	case w.Exact:
		return bytes.Equal(value, w.From)
	case bytes.Compare(value, w.From) < 0, w.To != nil && bytes.Compare(value, w.To) >= 0:
		return false
	case w.Look == nil:
		return true
	}
	verdict, _ := w.Look(value, nil)
	return verdict == Take || verdict == TakeAll
}

// AddTo adds the ordinals of the walk's terms to rows, and those of terms that
// may belong to it to unsure: their resources must be looked into. It tells how
// many terms it added. Errors are those of check, which is called now and then,
// and of terms.
func (w *Walk) AddTo(rows, unsure *RowSet, terms TermSource, check func() error) (added uint64, err error) {
	if w.Exact {
		return 1, terms.AddPostings(rows, w.Param, w.From)
	}
	c := terms.Cursor(w.Param)
	err = w.Run(c, check, func(sure bool) error {
		added++
		if !sure {
			return c.AddTo(unsure)
		}
		return c.AddTo(rows)
	})
	return added, err
}

// walkTermsPerCheck is how many terms pass between looks at a deadline: less than
// a millisecond's.
const walkTermsPerCheck = 1 << 12

// ExactWalk is the walk of one term.
func ExactWalk(p Param, value []byte) Walk { return Walk{Param: p, From: value, Exact: true} }

// AnyOfWalk is the walk of the terms that have one of values, which ascend and are at
// least one: it seeks from one to the next, however many there are.
func AnyOfWalk(p Param, values [][]byte) Walk {
	// Of long values the order holds only as far as they are kept.
	from, to := values[0], append(bytes.Clone(values[len(values)-1]), 0)
	if len(from) > TermPrefixBytes {
		from = from[:TermPrefixBytes]
	}
	if len(to) > TermPrefixBytes {
		to = successor(to[:TermPrefixBytes])
	}
	return Walk{Param: p, From: from, To: to, Look: func(value, room []byte) (Verdict, []byte) {
		at, found := slices.BinarySearchFunc(values, value, bytes.Compare)
		verdict := Pass
		if found {
			verdict = Take
			at++
		}
		if at == len(values) {
			return verdict, nil
		}
		return verdict, append(room, values[at]...)
	}}
}

// PrefixWalk is the walk of all terms that begin with prefix. ErrWalk when the
// prefix is longer than what stored values keep in order.
func PrefixWalk(p Param, prefix []byte) (Walk, error) {
	if len(prefix) > TermPrefixBytes {
		return Walk{}, errLong
	}
	return Walk{Param: p, From: prefix, To: successor(prefix)}, nil
}

var (
	errLong   = fmt.Errorf("%w: it is too long", ErrWalk)
	errNumber = fmt.Errorf("%w: it is no number", ErrWalk)
)

// successor is the lowest text above all that begin with prefix; nil: none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xFF {
			next := append([]byte(nil), prefix[:i+1]...)
			next[i]++
			return next
		}
	}
	return nil
}

// RowSet collects ordinals in any order: few of them in a list, many in a field
// of bits, which is made a bitmap at the end. OR-ing bitmaps of one ordinal
// each would cost ten times as much.
type RowSet struct {
	few  []uint32
	bits []uint64
	rows uint32 // all ordinals are below
	all  *roaring.Bitmap
	room []uint32 // for decoding
}

// How many ordinals are kept in a list: as many as can be put in order while a
// field of bits is cleared and read.
const (
	rowSetFewMin = 64
	rowSetFewMax = 1 << 12
	// rowsPerFew rows of a field of bits cost what one ordinal in a list does.
	rowsPerFew = 512
)

// containerBits is how many ordinals a bitmap keeps together.
const containerBits = 1 << 16

// NewRowSet makes an empty set for ordinals below rows.
func NewRowSet(rows uint32) *RowSet { return &RowSet{rows: rows} }

func (s *RowSet) isEmpty() bool { return s.all == nil && s.bits == nil && len(s.few) == 0 }

// Add adds ordinals.
func (s *RowSet) Add(ordinals ...uint32) {
	if s.bits == nil {
		s.few = append(s.few, ordinals...)
		if len(s.few) > min(max(int(s.rows)/rowsPerFew, rowSetFewMin), rowSetFewMax) {
			s.bits = make([]uint64, (int(s.rows)/containerBits+1)*containerBits/64)
			s.set(s.few)
			s.few = nil
		}
		return
	}
	s.set(ordinals)
}

func (s *RowSet) set(ordinals []uint32) {
	for _, o := range ordinals {
		s.bits[o/64] |= 1 << (o % 64)
	}
}

// addInline adds the ordinals of a payload that holds them itself. ok is as of
// parsePosting.
func (s *RowSet) addInline(payload []byte, rows uint32) (ok bool) {
	r := byteReader{b: payload}
	n, next := r.uvarint(), uint64(0)
	if n > postingInlineMax {
		return false
	}
	for range n {
		next += r.uvarint()
		if next >= uint64(rows) || r.bad {
			return false
		}
		if s.bits != nil {
			s.bits[next/64] |= 1 << (next % 64)
		} else {
			s.Add(uint32(next))
		}
		next++
	}
	return len(r.b) == 0
}

// AddBitmap adds the ordinals of a bitmap, which becomes the set's.
func (s *RowSet) AddBitmap(b *roaring.Bitmap) {
	if s.all == nil {
		s.all = b
		return
	}
	s.all.Or(b)
}

// Bitmap gives the set, once.
func (s *RowSet) Bitmap() *roaring.Bitmap {
	all := s.all
	if all == nil {
		all = roaring.New()
	}
	if s.bits != nil {
		all.Or(roaring.FromDense(s.bits, false))
	} else {
		slices.Sort(s.few)
		all.AddMany(s.few)
	}
	*s = RowSet{rows: s.rows, room: s.room}
	return all
}

// Few gives the ordinals, ascending, and empties the set, when they are in a list; ok is
// false when they are not. The list holds until more are added.
func (s *RowSet) Few() (list []uint32, ok bool) {
	if s.bits != nil || s.all != nil {
		return nil, false
	}
	slices.Sort(s.few)
	list, s.few = slices.Compact(s.few), s.few[:0]
	return list, true
}

// Meets tells whether an ordinal is in rows too, and empties the set.
func (s *RowSet) Meets(rows *roaring.Bitmap) bool {
	if s.bits != nil {
		return s.Bitmap().Intersects(rows)
	}
	meets := slices.ContainsFunc(s.few, rows.Contains) || s.all != nil && s.all.Intersects(rows)
	s.few, s.all = s.few[:0], nil
	return meets
}

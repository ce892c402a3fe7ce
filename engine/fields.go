package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
	"kiln/wal"
)

// Fields of search parameters that were added to those of R4 have numbers that
// the log gives out: a FIELDS record names each once, for ever. The list only
// grows, so that how many of it a run has terms of says which. A field is kept
// when no parameter needs it any more: the next one that does finds its terms.

// ErrTooManyFields refuses more fields than a store may ever have.
var ErrTooManyFields = fmt.Errorf("the store has %d fields of added search parameters, or would have more; that is the limit", fieldsMax)

// fieldState is the list and what follows from it. Immutable, but for the pool.
type fieldState struct {
	custom       []*search.Field
	byDefinition map[string]*search.Field
	types        map[index.Param]fhir.TypeCode // of the fields that one type has
	extraction   *index.Extraction
	extractors   sync.Pool // of *index.Extractor
}

func (o *Options) newFieldState(custom []*search.Field) (*fieldState, error) {
	st := &fieldState{custom: custom, byDefinition: make(map[string]*search.Field, len(custom))}
	for _, f := range custom {
		definition, _ := f.AppendDefinition(nil)
		st.byDefinition[string(definition)] = f
	}
	table, err := search.Load()
	if err != nil {
		return nil, err
	}
	st.types = make(map[index.Param]fhir.TypeCode, len(table.Fields())+len(custom))
	for _, f := range slices.Concat(table.Fields(), custom) {
		st.types[index.Param(f.Number)] = f.Type
	}
	switch {
	case len(custom) == 0:
		st.extraction, err = index.LoadExtraction()
	case o.newExtraction != nil:
		st.extraction, err = o.newExtraction(custom)
	default:
		st.extraction, err = index.NewExtraction(custom)
	}
	return st, err
}

// typeOf is the only type that has a field; 0: every type may.
func (st *fieldState) typeOf(p index.Param) fhir.TypeCode { return st.types[p] }

// Extraction is what makes search terms of resources that join the store.
func (s *Store) Extraction() *index.Extraction { return s.fields.Load().extraction }

// Fields are the fields of added search parameters, by number. Do not modify.
func (s *Store) Fields() []*search.Field { return s.fields.Load().custom }

// Field is the field that reads what f reads, with its number; nil: it has none.
func (s *Store) Field(f *search.Field) *search.Field {
	definition, _ := f.AppendDefinition(nil)
	return s.fields.Load().byDefinition[string(definition)]
}

// CheckFields is nil when DefineFields could take the fields; ErrTooManyFields, or
// what cannot be read of them.
func (s *Store) CheckFields(fields []*search.Field) error {
	_, _, err := s.withFields(s.fields.Load(), fields)
	return err
}

// DefineFields gives numbers to fields that have none yet, durable on return:
// versions that join the store get their terms from now on, and runs that are
// there are indexed again in the background. Errors: as CheckFields, and those
// of writing.
func (s *Store) DefineFields(ctx context.Context, fields []*search.Field) error {
	s.defineMu.Lock()
	defer s.defineMu.Unlock()
	st, added, err := s.withFields(s.fields.Load(), fields)
	if err != nil || len(added) == 0 {
		return err
	}
	err = s.inSlot(ctx, func() error {
		if err := s.refuseWrites(); err != nil {
			return err
		}
		placed, err := s.append([]wal.Entry{{Type: wal.TypeFields, Payload: marshalFields(added)}})
		if err != nil {
			return err
		}
		s.fields.Store(st)
		s.publish(uint64(placed[0].LSN))
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot add fields: %w", err)
	}
	s.kickReindex()
	return nil
}

// withFields is a state with the fields behind those it has; added are the new ones.
func (s *Store) withFields(old *fieldState, fields []*search.Field) (st *fieldState, added []*search.Field, err error) {
	seen := map[string]bool{}
	for _, f := range fields {
		definition, ok := f.AppendDefinition(nil)
		if !ok {
			return nil, nil, errors.New("the expression is too large")
		}
		if old.byDefinition[string(definition)] != nil || seen[string(definition)] {
			continue
		}
		seen[string(definition)] = true
		numbered := *f
		numbered.Number = uint16(search.FieldCustomMin + len(old.custom) + len(added))
		added = append(added, &numbered)
	}
	if len(old.custom)+len(added) > fieldsMax {
		return nil, nil, ErrTooManyFields
	}
	if len(added) == 0 {
		return old, nil, nil
	}
	st, err = s.opts.newFieldState(slices.Concat(old.custom, added))
	return st, added, err
}

// extractor lends an Extractor; the caller gives it back to keepExtractor.
func (s *Store) extractor(sink index.TermSink) *index.Extractor {
	st := s.fields.Load()
	x, ok := st.extractors.Get().(*index.Extractor)
	if !ok {
		return st.extraction.NewExtractor(sink)
	}
	x.Reset(sink)
	return x
}

// keepExtractor takes an Extractor back, without what it wrote to; not one from
// before fields were added.
func (s *Store) keepExtractor(x *index.Extractor) {
	if st := s.fields.Load(); x.Extraction() == st.extraction {
		x.Reset(noTerms{})
		st.extractors.Put(x)
	}
}

// noTerms is a sink that keeps nothing.
type noTerms struct{}

func (noTerms) AddTerm(index.Param, []byte) {}

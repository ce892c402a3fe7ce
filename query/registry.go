package query

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
)

// A store's SearchParameter resources add parameters to those of R4: the current
// versions that are active, and whose url is none of R4's own. A write is refused
// when it would make one that cannot be used, so that what is stored works; its
// fields have their numbers before it is written. After the write the resources are
// read again, and the table is another one: who has the old one goes on with it.

// Registry is the search parameters of a store. Safe for concurrent use.
type Registry struct {
	store  *engine.Store
	logger *slog.Logger
	// turn is held while resources that define parameters are checked, written
	// and read again.
	turn    chan struct{}
	current atomic.Pointer[Parameters]
}

// Parameters are what can be searched by at one moment. Immutable.
type Parameters struct {
	Table *search.Table
	// Added are those of the store's resources, in the order of their ids.
	Added []Added
}

// Mark is the same for parameters that search for the same; "" without added ones.
func (p *Parameters) Mark() string {
	if len(p.Added) == 0 {
		return ""
	}
	hash := sha256.New()
	for _, a := range p.Added {
		for _, param := range a.Params {
			fmt.Fprintf(hash, "%s %s %s %v\n", param.Type, param.Code, param.Kind, param.Targets)
			for _, s := range param.Sources {
				fmt.Fprintf(hash, "%d %s %s\n", s.Field.Number, s.Only, s.System)
			}
			for _, pairing := range param.Pairings {
				fmt.Fprintf(hash, "%s\n", param.Components)
				if pairing.Group != nil {
					fmt.Fprintf(hash, "%d\n", pairing.Group.Number)
				}
				for i, whole := range pairing.Whole {
					for _, s := range whole {
						fmt.Fprintf(hash, "%d: %d %s %s\n", i, s.Field.Number, s.Only, s.System)
					}
				}
			}
		}
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// Added is one active SearchParameter of the store.
type Added struct {
	ID, URL, Code string
	Bases         []string
	Params        []*search.Param
	// Refused says why it has no effect; "": it has. Only what was stored by a
	// program that did not check can be here, or what depends on something that is gone.
	Refused string
}

// Usable tells whether searches by the parameter work, when indexing is as far as
// it says; they are refused until then.
func Usable(p *search.Param, done engine.Reindexing) bool {
	field := int(p.FieldMax())
	return field == 0 || field < search.FieldCustomMin && done.Fields >= 0 || field-search.FieldCustomMin < done.Fields
}

// DefinitionError refuses a write of a SearchParameter. Its text is for the client.
type DefinitionError struct{ Text string }

func (e *DefinitionError) Error() string { return e.Text }

// addedMax bounds the active parameters: all are compiled after each change.
const addedMax = 1000

// NewRegistry reads a store's parameters; logger gets what has no effect.
func NewRegistry(ctx context.Context, store *engine.Store, logger *slog.Logger) (*Registry, error) {
	r := &Registry{store: store, logger: logger, turn: make(chan struct{}, 1)}
	return r, r.refresh(ctx)
}

// RegistryOfR4 has the parameters of R4, whatever a store has.
func RegistryOfR4() (*Registry, error) {
	table, err := search.Load()
	r := &Registry{}
	r.current.Store(&Parameters{Table: table})
	return r, err
}

// Current is the parameters now.
func (r *Registry) Current() *Parameters { return r.current.Load() }

// Defines tells whether changes touch what defines parameters.
func Defines(changes []engine.Change) bool {
	return slices.ContainsFunc(changes, func(c engine.Change) bool { return c.Type == parameterType() })
}

// Begin takes the turn for changes of SearchParameters, and checks what they
// would make; end must be called when they are written, or not. Errors are *DefinitionError, and those
// of reading, writing and ctx.
func (r *Registry) Begin(ctx context.Context, changes []engine.Change) (end func(), err error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := r.check(ctx, changes); err != nil {
		<-r.turn
		return nil, err
	}
	return func() {
		if err := r.refresh(context.WithoutCancel(ctx)); err != nil {
			r.logger.Error("cannot read the search parameters again; those from before are in use", "error", err)
		}
		<-r.turn
	}, nil
}

// check compiles what the changes make of the store's parameters.
func (r *Registry) check(ctx context.Context, changes []engine.Change) error {
	kept, err := r.stored(ctx)
	if err != nil {
		return err
	}
	scanner, err := newDefinitionScanner()
	if err != nil {
		return err
	}
	var changed []definition
	for i := range changes {
		c := &changes[i]
		if c.Type != parameterType() {
			continue
		}
		kept = slices.DeleteFunc(kept, func(d definition) bool { return d.id == string(c.ID) })
		if c.Delete {
			continue
		}
		d, err := scanner.definition(c.ID, c.Body)
		if err != nil {
			return err
		}
		if d.status == "active" {
			changed = append(changed, d)
		}
	}
	return r.checkChanged(ctx, kept, changed)
}

func (r *Registry) checkChanged(ctx context.Context, kept, changed []definition) error {
	c, err := newCompilation(r.store)
	if err != nil {
		return err
	}
	c.add(slices.Concat(kept, changed))
	if len(c.added) > addedMax && len(changed) > 0 {
		return refusedDefinition(changed[0].id, fmt.Sprintf("there are %d active ones, and more are not supported", addedMax))
	}
	var missing []*search.Field
	for _, a := range c.added {
		if !slices.ContainsFunc(changed, func(d definition) bool { return d.id == a.ID }) {
			continue
		}
		if a.Refused != "" {
			return refusedDefinition(a.ID, a.Refused)
		}
		missing = append(missing, c.missing[a.ID]...)
	}
	if err := r.store.CheckFields(missing); err != nil && len(changed) > 0 {
		return refusedDefinition(changed[0].id, err.Error())
	}
	return r.store.DefineFields(ctx, missing)
}

func refusedDefinition(id, why string) error {
	return &DefinitionError{fmt.Sprintf("SearchParameter/%s cannot be used to search: %s. Change it, or give it the status 'draft' to store it without effect.", id, why)}
}

// refresh reads the store's parameters and puts them in use. The turn is held, or
// nobody else has the registry.
func (r *Registry) refresh(ctx context.Context) error {
	all, err := r.stored(ctx)
	if err != nil {
		return err
	}
	c, err := newCompilation(r.store)
	if err != nil {
		return err
	}
	c.add(all)
	if again, err := r.defineMissing(ctx, c); err != nil {
		return err
	} else if again {
		refused := c.refused
		if c, err = newCompilation(r.store); err != nil {
			return err
		}
		c.refused = refused
		c.add(all)
	}
	slices.SortFunc(c.added, func(a, b Added) int { return cmp.Compare(a.ID, b.ID) })
	for _, a := range c.added {
		if a.Refused == "" && len(c.missing[a.ID]) > 0 {
			panic("BUG: the fields of SearchParameter/" + a.ID + " have no numbers")
		}
		if a.Refused != "" {
			r.logger.Warn("a search parameter of the store has no effect", "id", a.ID, "url", a.URL, "reason", a.Refused)
		}
	}
	r.current.Store(&Parameters{Table: c.table, Added: c.added})
	return nil
}

// defineMissing gives numbers to the fields of parameters that were stored by a
// program that had none. What cannot have them is refused.
func (r *Registry) defineMissing(ctx context.Context, c *compilation) (again bool, err error) {
	for _, a := range c.added {
		missing := c.missing[a.ID]
		if len(missing) == 0 || a.Refused != "" {
			continue
		}
		again = true
		err := r.store.DefineFields(ctx, missing)
		if errors.Is(err, engine.ErrClosed) || errors.Is(err, context.Canceled) {
			return false, err
		}
		if err != nil {
			c.refused[a.ID] = err.Error()
		}
	}
	return again, nil
}

// stored are the active definitions of the store, by id.
func (r *Registry) stored(ctx context.Context) (all []definition, err error) {
	scanner, err := newDefinitionScanner()
	if err != nil {
		return nil, err
	}
	snap, err := r.store.Snapshot()
	if err != nil {
		return nil, err
	}
	defer snap.Release()
	q := &engine.Query{Types: []fhir.TypeCode{parameterType()}}
	_, err = snap.Search(ctx, q, func(v *engine.Version) error {
		d, err := scanner.definition(v.ID, v.Body)
		if err == nil && d.status == "active" {
			all = append(all, d)
		}
		return err
	})
	slices.SortFunc(all, func(a, b definition) int { return cmp.Compare(a.id, b.id) })
	return all, err
}

// compilation makes a table of R4's parameters and more.
type compilation struct {
	store   *engine.Store
	r4      *search.Table
	table   *search.Table
	added   []Added
	missing map[string][]*search.Field // by id: fields that have no number yet
	refused map[string]string          // by id: why it cannot be, from before
}

func newCompilation(store *engine.Store) (*compilation, error) {
	table, err := search.Load()
	return &compilation{store: store, r4: table, table: table, missing: map[string][]*search.Field{}, refused: map[string]string{}}, err
}

// add compiles definitions in their order, composites last: they refer to others.
func (c *compilation) add(all []definition) {
	for _, composite := range []bool{false, true} {
		for i := range all {
			if d := &all[i]; (d.Kind == search.Composite) == composite && !c.isOfR4(d.URL) {
				c.define(d)
			}
		}
	}
}

func (c *compilation) isOfR4(url string) bool {
	return slices.ContainsFunc(c.r4.Params(), func(p *search.Param) bool { return p.URL == url })
}

func (c *compilation) define(d *definition) {
	a := Added{ID: d.id, URL: d.URL, Code: d.Code, Bases: d.Bases, Refused: cmp.Or(d.wrong, c.refused[d.id])}
	var missing []*search.Field
	if a.Refused == "" {
		params, err := c.table.Compile(&d.Definition, func(f *search.Field) *search.Field {
			if known := c.store.Field(f); known != nil {
				return known
			}
			missing = append(missing, f)
			return f
		})
		var more *search.Table
		if err == nil {
			more, err = c.table.With(params)
		}
		if err != nil {
			a.Refused = err.Error()
		} else {
			a.Params, c.table, c.missing[d.id] = params, more, missing
		}
	}
	c.added = append(c.added, a)
}

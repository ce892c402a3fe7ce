package bulk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/fhir/ucum"
	"kiln/query"
)

// exportKeysMax bounds the resources that an export names one by one in memory:
// members, deletions, what a Provenance is about. A key takes about 60 bytes.
const exportKeysMax = 2_000_000

// exportPass is one walk through the store: the versions of a query, in files of
// one form. A request always gives the same passes in the same order.
type exportPass struct {
	query  engine.ScanQuery
	format exportFormat
	// owners tells whose the versions are, where files are organized by patients; nil:
	// they are organized by type.
	owners *exportOwners
}

// exportScope finds what a request asks of the store as of an LSN.
type exportScope struct {
	request *ExportRequest
	ctx     context.Context
	snap    *engine.Snapshot
	asOf    uint64
	at      fhir.Instant // of the export: what periods are compared with
	// patients are those whose compartments are exported; nil: any.
	patients []engine.Key
	table    *search.Table
	units    *ucum.Table
	// parameters are what filters search by.
	parameters *query.Parameters
	limits     map[fhir.TypeCode]*engine.Expr // made so far
}

// errParametersChanged fails an export whose filters may mean something else by now.
var errParametersChanged = errors.New("the search parameters of its _typeFilter, or of its client's scopes, were changed before it ended; start it again")

// passes is what a request asks of the store as of an LSN and its instant.
func (m *Manager) exportPasses(ctx context.Context, r *ExportRequest, snap *engine.Snapshot, asOf uint64, at fhir.Instant) ([]exportPass, error) {
	s := &exportScope{request: r, ctx: ctx, snap: snap, asOf: asOf, at: at, units: m.opts.Units, parameters: m.opts.Parameters.Current()}
	if len(r.Filters)+len(r.Limits.All) > 0 && s.parameters.Mark() != r.Parameters {
		return nil, errParametersChanged
	}
	var err error
	if s.table, err = search.Load(); err != nil {
		return nil, err
	}
	if s.patients, err = s.members(); err != nil {
		return nil, err
	}
	if r.ofPatients() && s.patients != nil && len(s.patients) == 0 {
		return nil, nil
	}
	of, err := s.of()
	if err != nil {
		return nil, err
	}
	q := engine.ScanQuery{Of: of, SinceMilli: r.Since.Milli, UntilMilli: r.Until.Milli, Versions: r.Versions, AsOf: asOf}
	passes := m.formatted(r, q)
	if r.ByPatient {
		if passes[0].owners, err = s.owners(); err != nil {
			return nil, err
		}
	}
	if r.Since.Milli == 0 || r.Versions != engine.ScanCurrent {
		return passes, nil
	}
	deletions, err := s.deletions()
	if err == nil && deletions != nil {
		passes = append(passes, exportPass{query: *deletions, format: deletedFormat{}})
	}
	return passes, err
}

// checkExport checks what a request names against the store as it is. The export
// looks again, as of its own LSN.
func (m *Manager) checkExport(ctx context.Context, r *ExportRequest) error {
	if !r.ofPatients() {
		return nil
	}
	snap, err := m.opts.Store.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Release()
	s := &exportScope{request: r, ctx: ctx, snap: snap, asOf: snap.LSN(), at: fhir.Instant{Milli: m.opts.Now().UnixMilli()}}
	if _, err := s.members(); err != nil {
		return err
	}
	for _, id := range r.Patients {
		v, err := snap.Get(patientType(), []byte(id))
		if errors.Is(err, engine.ErrNotFound) || err == nil && v.Deleted {
			return badRequest("Patient/%s was not found.", id)
		}
		if err != nil {
			return fmt.Errorf("cannot read Patient/%s: %w", id, err)
		}
	}
	return nil
}

// fileMax is where the request's files end.
func (r *ExportRequest) fileMax() exportFileMax {
	return exportFileMax{lines: cmp.Or(r.FileLines, exportLinesMax), bytes: cmp.Or(r.FileBytes, exportFileBytesMax)}
}

// types are those of the export; none: all.
func (s *exportScope) types() []fhir.TypeCode {
	if len(s.request.Types) == 0 && (s.request.ofPatients() || s.request.ByPatient) {
		return patientTypes()
	}
	return s.request.Types
}

// of is what is exported: by type, where a type has conditions.
func (s *exportScope) of() ([]engine.ScanOf, error) {
	types, r := s.types(), s.request
	if len(types) == 0 && len(r.Filters) == 0 && r.Provenance != ProvenanceLatest {
		return nil, nil // everything
	}
	if len(types) == 0 {
		types = allTypes()
	}
	var of []engine.ScanOf
	var whole []fhir.TypeCode
	for _, t := range types {
		if t == provenanceType() && (r.ofPatients() || r.Provenance != ProvenanceDefault) {
			continue // when it is known what they are about
		}
		where, err := s.where(t)
		if err != nil {
			return nil, err
		}
		if where.Op == engine.All {
			whole = append(whole, t)
		} else {
			of = append(of, engine.ScanOf{Types: []fhir.TypeCode{t}, Where: where})
		}
	}
	if len(whole) > 0 {
		of = append(of, engine.ScanOf{Types: whole})
	}
	if !slices.Contains(types, provenanceType()) || slices.Contains(whole, provenanceType()) {
		return of, nil
	}
	return s.withProvenance(of)
}

// where is the condition on resources of a type: compartments and filters.
func (s *exportScope) where(t fhir.TypeCode) (*engine.Expr, error) {
	level := &engine.Expr{Op: engine.All}
	if s.request.ofPatients() {
		var err error
		if level, err = query.InCompartments(t, patientType(), s.patients, s.request.Base); err != nil {
			return nil, err
		}
	}
	filter, err := s.filter(t)
	if err != nil || filter == nil {
		return level, err
	}
	return both(level, filter), nil
}

// both is a and b.
func both(a, b *engine.Expr) *engine.Expr {
	if a.Op == engine.All {
		return b
	}
	return &engine.Expr{Op: engine.And, Args: []*engine.Expr{a, b}}
}

// filter is any of a type's filters, in its limits; nil: it has neither.
func (s *exportScope) filter(t fhir.TypeCode) (*engine.Expr, error) {
	asked, err := s.asked(t)
	if err != nil {
		return nil, err
	}
	limit, err := s.limit(t)
	switch {
	case err != nil || limit == nil:
		return asked, err
	case asked == nil:
		return limit, nil
	}
	return both(limit, asked), nil
}

// asked is any of a type's filters; nil: it has none.
func (s *exportScope) asked(t fhir.TypeCode) (*engine.Expr, error) {
	any := &engine.Expr{Op: engine.Or}
	for _, f := range s.request.Filters {
		if f.Type != t {
			continue
		}
		// Whoever is strict was refused at the kick-off.
		read, err := f.search(query.Options{Base: s.request.Base, Now: timeOf(s.at), Units: s.units, Lenient: true, Table: s.parameters.Table})
		if err != nil {
			return nil, err
		}
		e, err := read.Select(s.ctx, s.snap, s.asOf)
		if err != nil {
			return nil, fmt.Errorf("cannot evaluate the _typeFilter %s?%s: %w", f.Type, f.Query, err)
		}
		any.Args = append(any.Args, e)
	}
	if len(any.Args) == 0 {
		return nil, nil
	}
	return any, nil
}

// keysOf are the resources that conditions choose.
func (s *exportScope) keysOf(of []engine.ScanOf) (keys []engine.Key, err error) {
	for _, o := range of {
		q := &engine.Query{Types: o.Types, Where: o.Where, AsOf: s.asOf}
		err := s.snap.SearchKeys(s.ctx, q, func(t fhir.TypeCode, id []byte) error {
			keys = append(keys, engine.Key{Type: t, ID: slices.Clone(id)})
			return tooManyKeys(len(keys))
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func tooManyKeys(n int) error {
	if n <= exportKeysMax {
		return nil
	}
	return &RequestError{Status: 422, Code: "too-costly", Text: fmt.Sprintf("the export is of more than %d resources that have to be named one by one; name fewer types, or fewer patients", exportKeysMax)}
}

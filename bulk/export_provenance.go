package bulk

import (
	"slices"

	"kiln/engine"
	"kiln/fhir"
	"kiln/query"
)

// withProvenance adds what tells where the exported resources came from
// (HL7 Bulk Data Access, includeAssociatedData).
func (s *exportScope) withProvenance(of []engine.ScanOf) ([]engine.ScanOf, error) {
	about, exported, err := s.about(of)
	if err != nil {
		return nil, err
	}
	if filter, err := s.filter(provenanceType()); err != nil {
		return nil, err
	} else if filter != nil {
		about = &engine.Expr{Op: engine.And, Args: []*engine.Expr{about, filter}}
	}
	if s.request.Provenance == ProvenanceLatest {
		keys, err := s.latest(about, exported)
		if err != nil {
			return nil, err
		}
		about = anyKey(keys)
	}
	return append(of, engine.ScanOf{Types: []fhir.TypeCode{provenanceType()}, Where: about}), nil
}

// anyKey is being one of keys.
func anyKey(keys []engine.Key) *engine.Expr {
	if len(keys) == 0 {
		return &engine.Expr{Op: engine.Or} // nothing
	}
	return &engine.Expr{Op: engine.Keys, Keys: keys}
}

// about is the condition on a Provenance to be about what is exported. Where that
// is limited to some patients, it must be about one of the exported resources or
// of the patients themselves: nothing of anybody else may come along. Otherwise being
// about a resource of an exported type is enough, and exported is nil.
func (s *exportScope) about(of []engine.ScanOf) (about *engine.Expr, exported map[string]bool, err error) {
	target := s.table.Param(provenanceType(), "target")
	if s.patients == nil {
		var types []fhir.TypeCode
		for _, o := range of {
			types = append(types, o.Types...)
		}
		return query.RefersToTypes(target, types, s.request.Base), nil, nil
	}
	keys, err := s.keysOf(of)
	if err != nil {
		return nil, nil, err
	}
	keys = append(keys, s.patients...)
	exported = make(map[string]bool, len(keys))
	for _, k := range keys {
		exported[keyText(k.Type, k.ID)] = true
	}
	return query.RefersTo(target, keys, s.request.Base), exported, nil
}

func keyText(t fhir.TypeCode, id []byte) string { return t.String() + "/" + string(id) }

// latest finds the latest Provenance about each target: by recorded, and of
// equal ones the one that was written last.
func (s *exportScope) latest(about *engine.Expr, exported map[string]bool) ([]engine.Key, error) {
	type record struct {
		milli int64
		id    string
	}
	newest := map[string]record{}
	q := &engine.Query{Types: []fhir.TypeCode{provenanceType()}, Where: about, AsOf: s.asOf}
	_, err := s.snap.Search(s.ctx, q, func(v *engine.Version) error {
		p := readProvenance(v.Body)
		for _, text := range p.targets {
			t, id, ok := s.local(text)
			key := keyText(t, id)
			if !ok || exported != nil && !exported[key] {
				continue
			}
			if last, ok := newest[key]; !ok || p.recorded >= last.milli {
				newest[key] = record{p.recorded, string(v.ID)}
			}
		}
		return tooManyKeys(len(newest))
	})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, r := range newest {
		ids = append(ids, r.id)
	}
	slices.Sort(ids)
	var keys []engine.Key
	for _, id := range slices.Compact(ids) {
		keys = append(keys, engine.Key{Type: provenanceType(), ID: []byte(id)})
	}
	return keys, nil
}

// provenance is what is read of one.
type provenance struct {
	targets  [][]byte // reference texts
	recorded int64    // the first millisecond it may be; the least when it is no date
}

func readProvenance(body []byte) provenance {
	p := provenance{recorded: -1 << 63}
	fhir.Members(body, 0, func(key []byte, at, end int) bool {
		switch {
		case string(key) == "recorded" && body[at] == '"':
			if first, _, ok := fhir.ParseDate(fhir.AppendText(nil, body[at:end])); ok {
				p.recorded = first
			}
		case string(key) == "target" && body[at] == '[':
			fhir.Elements(body, at, func(at, _ int) bool {
				if text, ok := fhir.MemberText(body, at, "reference"); ok {
					p.targets = append(p.targets, text)
				}
				return true
			})
		}
		return true
	})
	return p
}

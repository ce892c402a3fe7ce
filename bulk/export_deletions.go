package bulk

import (
	"io"
	"slices"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
	"kiln/query"
)

// deletions is the query for what was deleted since; nil: nothing was. A deletion has
// no content that would tell whose it was: of exports of patients those are told that
// had a version in their compartments.
func (s *exportScope) deletions() (*engine.ScanQuery, error) {
	r := s.request
	q := engine.ScanQuery{SinceMilli: r.Since.Milli, UntilMilli: r.Until.Milli, Versions: engine.ScanDeletions, AsOf: s.asOf}
	if types := s.types(); len(types) > 0 {
		q.Of = []engine.ScanOf{{Types: types}}
	}
	if !r.ofPatients() {
		return &q, s.limitedDeletions(&q)
	}
	deleted, err := s.scanKeys(q, s.mayTell)
	if err != nil || len(deleted) == 0 {
		return nil, err
	}
	before := engine.ScanQuery{Versions: engine.ScanAll, AsOf: s.asOf}
	for t, keys := range keysByType(deleted) {
		in, err := query.InCompartments(t, patientType(), s.patients, r.Base)
		if err != nil {
			return nil, err
		}
		where := &engine.Expr{Op: engine.And, Args: []*engine.Expr{anyKey(keys), in}}
		before.Of = append(before.Of, engine.ScanOf{Types: []fhir.TypeCode{t}, Where: where})
	}
	theirs, err := s.scanKeys(before, nil)
	if err != nil || len(theirs) == 0 {
		return nil, err
	}
	q.Of = []engine.ScanOf{{Where: anyKey(theirs)}}
	return &q, nil
}

func keysByType(keys []engine.Key) map[fhir.TypeCode][]engine.Key {
	byType := map[fhir.TypeCode][]engine.Key{}
	for _, k := range keys {
		byType[k.Type] = append(byType[k.Type], k)
	}
	return byType
}

// scanKeys are the resources that a scan's versions are of, each once; keep, unless it
// is nil, tells which versions count.
func (s *exportScope) scanKeys(q engine.ScanQuery, keep func(*engine.Version) (bool, error)) (keys []engine.Key, err error) {
	parts, err := s.snap.ScanParts(s.ctx, q)
	if err != nil {
		return nil, err
	}
	seen, space := map[string]bool{}, new(index.ScanSpace)
	for i := range parts {
		err := parts[i].RunWith(s.ctx, space, func(v *engine.Version) error {
			if keep != nil {
				if ok, err := keep(v); !ok || err != nil {
					return err
				}
			}
			if text := keyText(v.Type, v.ID); !seen[text] {
				seen[text] = true
				keys = append(keys, engine.Key{Type: v.Type, ID: slices.Clone(v.ID)})
			}
			return tooManyKeys(len(keys))
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// deletedExtension tells files of deletions from those of resources.
const deletedExtension = ".deleted.ndjson"

// IsDeleted tells a file whose lines are Bundles that delete resources.
func (f *ExportFile) IsDeleted() bool { return strings.HasSuffix(f.Name, deletedExtension) }

// deletedFormat writes a deletion as a transaction Bundle that deletes the
// resource (HL7 Bulk Data Access 3.0, deleted).
type deletedFormat struct{}

func (deletedFormat) stem(t fhir.TypeCode) string { return t.String() }
func (deletedFormat) extension() string           { return deletedExtension }

func (deletedFormat) begin(_ fhir.TypeCode, w io.Writer, space *exportSpace) exportEncoder {
	return &lineEncoder{w: w, line: appendDeletion, space: space, buf: space.buffer()}
}

func appendDeletion(dst []byte, v *engine.Version) ([]byte, error) {
	dst = append(dst, `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"`...)
	dst = append(append(append(dst, v.Type.String()...), '/'), v.ID...) // ids need no escapes
	return append(dst, `"}}]}`...), nil
}

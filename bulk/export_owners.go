package bulk

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

// exportOwners tells whose resources are, by the Patient compartment definition:
// the patients that a resource refers to by the parameters of its type. Safe for
// concurrent use.
type exportOwners struct {
	base []byte // of this server's own absolute references
	// members are the patients of the export, sorted by id; nil: any.
	members    []engine.Key
	extraction *index.Extraction               // of the fields below
	fields     map[fhir.TypeCode][]index.Param // that tell, by type
	// strict: what belongs to nobody was not to be chosen.
	strict bool
	// versions are those of another resource that tell whose something is which has
	// no content itself, or is about that resource.
	versions engine.ScanVersions
}

// owners is for the resources that the scope chooses.
func (s *exportScope) owners() (*exportOwners, error) {
	compartment, err := search.Compartment(patientType())
	if err != nil {
		return nil, err
	}
	o := &exportOwners{
		base: []byte(s.request.Base), members: slices.Clone(s.patients), strict: s.request.ofPatients(),
		fields: map[fhir.TypeCode][]index.Param{}, versions: s.request.Versions,
	}
	slices.SortFunc(o.members, func(a, b engine.Key) int { return bytes.Compare(a.ID, b.ID) })
	if o.versions == engine.ScanCurrentOrDeleted {
		o.versions = engine.ScanAllOrDeleted // of what is deleted, a version before it tells
	}
	fields := map[uint16]*search.Field{}
	for _, m := range compartment {
		for _, p := range m.Params {
			for _, source := range p.Sources {
				fields[source.Field.Number] = source.Field
				o.fields[m.Type] = append(o.fields[m.Type], index.Param(source.Field.Number))
			}
		}
	}
	var all []*search.Field
	for _, f := range fields {
		all = append(all, f)
	}
	o.extraction, err = index.NewExtractionOf(all)
	return o, err
}

func (o *exportOwners) isMember(id []byte) bool {
	if o.members == nil {
		return true
	}
	_, ok := slices.BinarySearchFunc(o.members, id, func(k engine.Key, id []byte) int { return bytes.Compare(k.ID, id) })
	return ok
}

// ownerReader reads whose one resource after the other is. Not safe for concurrent use.
type ownerReader struct {
	*exportOwners
	extractor *index.Extractor
	fields    []index.Param // of the resource that is read
	about     bool          // it is a Provenance, which belongs to whom its targets do
	room      []byte
	// owners are the ids of its patients, each once; others the resources whose
	// owners are its own, too. Both hold until the next is read.
	owners [][]byte
	others []engine.Key
}

func (o *exportOwners) reader() *ownerReader {
	r := &ownerReader{exportOwners: o}
	r.extractor = o.extraction.NewExtractor(r)
	return r
}

// AddTerm takes a reference; for the extractor only.
func (r *ownerReader) AddTerm(p index.Param, value []byte) {
	if !slices.Contains(r.fields, p) {
		return
	}
	at := len(r.room)
	t, room, _, ok := index.ParseReferenceKey(r.room, value, r.base)
	if !ok {
		return
	}
	r.room = room
	switch id := room[at:len(room):len(room)]; {
	case t == patientType():
		r.addOwner(id)
	case r.about && r.exportOwners.fields[t] != nil:
		r.others = append(r.others, engine.Key{Type: t, ID: id})
	}
}

func (r *ownerReader) addOwner(id []byte) {
	if r.isMember(id) && !slices.ContainsFunc(r.owners, func(known []byte) bool { return bytes.Equal(known, id) }) {
		r.owners = append(r.owners, id)
	}
}

// read fills owners and others. A deletion, which mostly has no content, belongs to
// whom other versions of it did.
func (r *ownerReader) read(v *engine.Version) error {
	r.room, r.owners, r.others = r.room[:0], r.owners[:0], r.others[:0]
	if v.Type == patientType() {
		r.room = append(r.room, v.ID...)
		r.addOwner(r.room)
		return nil
	}
	if v.Deleted {
		r.room = append(r.room, v.ID...)
		r.others = append(r.others, engine.Key{Type: v.Type, ID: r.room[:len(r.room):len(r.room)]})
	}
	r.fields, r.about = r.exportOwners.fields[v.Type], v.Type == provenanceType()
	if len(v.Body) == 0 {
		return nil
	}
	if _, err := r.extractor.Scan(v.Body); err != nil && !errors.Is(err, index.ErrTerms) {
		return fmt.Errorf("cannot read whose %v/%s is: %w", v.Type, v.ID, err)
	}
	return nil
}

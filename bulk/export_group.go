package bulk

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
)

func groupType() fhir.TypeCode { return fhir.TypeByName([]byte("Group")) }

func timeOf(at fhir.Instant) time.Time { return time.UnixMilli(at.Milli).UTC() }

// members are the patients of the level, sorted; nil: any. Of a Group they are
// its active members, and those of Groups that are members of it.
func (s *exportScope) members() ([]engine.Key, error) {
	r := s.request
	switch {
	case r.Group != "":
		all, err := s.groupMembers()
		if err != nil {
			return nil, err
		}
		if len(r.Patients) == 0 {
			return all, nil
		}
		return s.among(all)
	case r.PatientLevel && len(r.Patients) > 0:
		keys := []engine.Key{}
		for _, id := range r.Patients {
			keys = append(keys, engine.Key{Type: patientType(), ID: []byte(id)})
		}
		return keys, nil
	}
	return nil, nil
}

// among is the patients that the request names; all of them are to be in all.
func (s *exportScope) among(all []engine.Key) ([]engine.Key, error) {
	known := make(map[string]engine.Key, len(all))
	for _, k := range all {
		known[string(k.ID)] = k
	}
	keys := []engine.Key{}
	for _, id := range s.request.Patients {
		k, ok := known[id]
		if !ok {
			return nil, badRequest("Patient/%s is no active member of Group/%s.", id, s.request.Group)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// groupMembers walks the groups, each once, however they are nested.
func (s *exportScope) groupMembers() ([]engine.Key, error) {
	patients, groups := map[string]bool{}, map[string]bool{s.request.Group: true}
	for waiting := []string{s.request.Group}; len(waiting) > 0; waiting = waiting[1:] {
		found, err := s.readGroup(waiting[0], func(t fhir.TypeCode, id string) error {
			if t == patientType() {
				patients[id] = true
			}
			if t == groupType() && !groups[id] {
				groups[id] = true
				waiting = append(waiting, id)
			}
			return tooManyKeys(len(patients) + len(groups))
		})
		if err != nil {
			return nil, err
		}
		if !found && waiting[0] == s.request.Group {
			return nil, &RequestError{Status: 404, Code: "not-found", Text: fmt.Sprintf("Group %s was not found.", s.request.Group)}
		}
	}
	ids := make([]string, 0, len(patients))
	for id := range patients {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	keys := make([]engine.Key, len(ids))
	for i, id := range ids {
		keys[i] = engine.Key{Type: patientType(), ID: []byte(id)}
	}
	return keys, nil
}

// readGroup calls fn for each active member of a Group that is a resource of this server.
func (s *exportScope) readGroup(id string, fn func(t fhir.TypeCode, id string) error) (found bool, err error) {
	q := &engine.Query{
		Types: []fhir.TypeCode{groupType()}, AsOf: s.asOf,
		Where: &engine.Expr{Op: engine.Keys, Keys: []engine.Key{{Type: groupType(), ID: []byte(id)}}},
	}
	_, err = s.snap.Search(s.ctx, q, func(v *engine.Version) error {
		found = true
		var failed error
		eachMember(v.Body, func(at int) bool {
			reference, active := s.readMember(v.Body, at)
			if t, id, ok := s.local(reference); ok && active {
				failed = fn(t, string(id))
			}
			return failed == nil
		})
		return failed
	})
	if err != nil {
		return false, fmt.Errorf("cannot read Group/%s: %w", id, err)
	}
	return found, nil
}

// eachMember calls fn for each element of a Group's member.
func eachMember(body []byte, fn func(at int) bool) {
	fhir.Members(body, 0, func(key []byte, at, _ int) bool {
		if string(key) != "member" || body[at] != '[' {
			return true
		}
		fhir.Elements(body, at, func(at, _ int) bool { return body[at] != '{' || fn(at) })
		return false
	})
}

// readMember reads a member, and whether it is one at the export's instant: not
// inactive, and its period, if it has one, holds the instant. A period that cannot be
// read tells nothing, and so the member is none.
func (s *exportScope) readMember(body []byte, at int) (reference []byte, active bool) {
	active = true
	fhir.Members(body, at, func(key []byte, at, end int) bool {
		switch string(key) {
		case "entity":
			reference, _ = fhir.MemberText(body, at, "reference")
		case "inactive":
			active = active && string(body[at:end]) == "false"
		case "period":
			active = active && s.isIn(body, at)
		}
		return true
	})
	return reference, active
}

func (s *exportScope) isIn(body []byte, at int) bool {
	if start, ok := fhir.MemberText(body, at, "start"); ok {
		if first, _, ok := fhir.ParseDate(start); !ok || first > s.at.Milli {
			return false
		}
	}
	if end, ok := fhir.MemberText(body, at, "end"); ok {
		if _, last, ok := fhir.ParseDate(end); !ok || last < s.at.Milli {
			return false
		}
	}
	return true
}

// local gives the resource of this server that a reference's text names.
func (s *exportScope) local(text []byte) (t fhir.TypeCode, id []byte, ok bool) {
	if len(text) == 0 {
		return 0, nil, false
	}
	t, id, _, ok = index.ParseReferenceKey(nil, index.AppendReference(nil, text), []byte(s.request.Base))
	return t, id, ok
}

// keyOf undoes keyText.
func keyOf(text string) engine.Key {
	name, id, _ := strings.Cut(text, "/")
	return engine.Key{Type: fhir.TypeByName([]byte(name)), ID: []byte(id)}
}

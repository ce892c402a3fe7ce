package fhir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// refValue is a JSON value as the strict reference parser reads it.
type refValue struct {
	kind    jsontext.Kind
	raw     string // source text of a scalar
	text    string // unescaped text of a string
	members []refMember
	items   []*refValue
}

type refMember struct {
	rawKey, key string
	value       *refValue
}

var errRefused = errors.New("refused")

// refParse reads exactly one value by jsontext, to which only the depth bound
// is added.
func refParse(src []byte) (*refValue, error) {
	d := jsontext.NewDecoder(bytes.NewReader(src), jsontext.AllowDuplicateNames(true))
	v, err := refRead(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return nil, errRefused
	}
	return v, nil
}

func refRead(d *jsontext.Decoder, depth int) (*refValue, error) {
	v := &refValue{kind: d.PeekKind()}
	if v.kind != '{' && v.kind != '[' {
		raw, err := d.ReadValue()
		v.raw = string(raw)
		if err == nil && v.kind == '"' {
			v.text, err = refUnquote(raw)
		}
		return v, err
	}
	if depth == DepthMax {
		return nil, errRefused
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	for d.PeekKind() != '}' && d.PeekKind() != ']' {
		var m refMember
		if v.kind == '{' {
			raw, err := d.ReadValue()
			if err != nil {
				return nil, err
			}
			m.rawKey = string(raw)
			if m.key, err = refUnquote(raw); err != nil {
				return nil, err
			}
		}
		var err error
		if m.value, err = refRead(d, depth+1); err != nil {
			return nil, err
		}
		if v.kind == '{' {
			v.members = append(v.members, m)
		} else {
			v.items = append(v.items, m.value)
		}
	}
	_, err := d.ReadToken()
	return v, err
}

func refUnquote(raw jsontext.Value) (string, error) {
	text, err := jsontext.AppendUnquote(nil, raw)
	return string(text), err
}

func (v *refValue) member(key string) *refValue {
	for _, m := range v.members {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

func (v *refValue) repeatedKey() bool {
	seen := map[string]bool{}
	for _, m := range v.members {
		if seen[m.key] {
			return true
		}
		seen[m.key] = true
	}
	return false
}

func (v *refValue) without(drop func(refMember) bool) {
	v.members = slices.DeleteFunc(v.members, drop)
}

// write appends the value's minified text.
func (v *refValue) write(b *strings.Builder) {
	switch v.kind {
	case '{':
		b.WriteByte('{')
		for i, m := range v.members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(m.rawKey + ":")
			m.value.write(b)
		}
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, item := range v.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.write(b)
		}
		b.WriteByte(']')
	default:
		b.WriteString(v.raw)
	}
}

func (v *refValue) String() string {
	var b strings.Builder
	v.write(&b)
	return b.String()
}

// refResource is what a scan must give.
type refResource struct {
	typeName, id, versionID, lastUpdated string
	hasID                                bool
	deleted, conditional                 bool
	body                                 string
	kind                                 SpliceKind
	visits                               []string
}

// refScan says by plain means what Scan must say.
func refScan(src []byte) (*refResource, error) {
	top, err := refParse(src)
	if err != nil {
		return nil, err
	}
	if top.kind != '{' || top.repeatedKey() {
		return nil, errRefused
	}
	r := &refResource{conditional: refConditional(top, "")}
	for _, m := range top.members {
		isText := m.key == "resourceType" || m.key == "id"
		if isText && m.value.kind != '"' || m.key == "meta" && m.value.kind != '{' {
			return nil, errRefused
		}
	}
	typeName := top.member("resourceType")
	if typeName == nil {
		return nil, errRefused
	}
	r.typeName = typeName.text
	refVisit(differentialRules, r.typeName, nil, top, func(visit string) { r.visits = append(r.visits, visit) })
	if id := top.member("id"); id != nil {
		r.id, r.hasID = id.text, true
		if ValidID([]byte(id.text)) {
			id.raw = `"` + id.text + `"`
		}
	}
	if meta := top.member("meta"); meta != nil {
		if err := r.cutMeta(meta); err != nil {
			return nil, err
		}
	}
	r.body = top.String()
	return r, nil
}

func (r *refResource) cutMeta(meta *refValue) error {
	if meta.repeatedKey() {
		return errRefused
	}
	for _, m := range meta.members {
		if (m.key == "versionId" || m.key == "lastUpdated") && m.value.kind != '"' {
			return errRefused
		}
	}
	if v := meta.member("versionId"); v != nil {
		r.versionID = v.text
	}
	if v := meta.member("lastUpdated"); v != nil {
		r.lastUpdated = v.text
	}
	meta.without(func(m refMember) bool { return m.key == "versionId" || m.key == "lastUpdated" })
	if e := meta.member("extension"); e != nil && e.kind == '[' {
		r.deleted = slices.ContainsFunc(e.items, func(v *refValue) bool {
			return refLast(v, "url") == DeletedStateURL && refLast(v, "valueString") == "soft-deleted"
		})
		if r.deleted {
			e.items = slices.DeleteFunc(e.items, func(v *refValue) bool { return refLast(v, "url") == DeletedStateURL })
		}
		if r.deleted && len(e.items) == 0 {
			meta.without(func(m refMember) bool { return m.key == "extension" })
		}
	}
	r.kind = SpliceIntoMeta
	if len(meta.members) == 0 {
		r.kind = SpliceEmptyMeta
	}
	return nil
}

// refLast is the text of the last string member named key.
func refLast(v *refValue, key string) (text string) {
	for _, m := range v.members {
		if m.key == key && m.value.kind == '"' {
			text = m.value.text
		}
	}
	return text
}

func refConditional(v *refValue, key string) bool {
	if v.kind == '"' {
		return key == "reference" && strings.Contains(v.text, "?")
	}
	for _, m := range v.members {
		if refConditional(m.value, m.key) {
			return true
		}
	}
	return slices.ContainsFunc(v.items, func(item *refValue) bool { return refConditional(item, key) })
}

// refVisit lists what a Visitor must get for rules, from the value at path.
func refVisit(rules []PathRule, typeName string, path []string, v *refValue, visit func(string)) {
	if refInResource(path) {
		return
	}
	var ids []PathID
	for _, rule := range rules {
		if refMatches(rule.Path, typeName, path) && !slices.Contains(ids, rule.ID) {
			ids = append(ids, rule.ID)
		}
	}
	slices.Sort(ids)
	each := func(format string, args ...any) {
		for _, id := range ids {
			visit(fmt.Sprintf("%d ", id) + fmt.Sprintf(format, args...))
		}
	}
	switch v.kind {
	case '{':
		each("begin")
		for _, m := range v.members {
			refVisit(rules, typeName, append(path, m.key), m.value, visit)
		}
		each("end")
	case '[':
		for _, item := range v.items {
			refVisit(rules, typeName, path, item, visit)
		}
	case '"':
		each("%d %s", KindString, v.text)
	default:
		each("%d %s", kindOf(v.raw[0]), v.raw)
	}
}

// refInResource tells whether the scan gives the element in its Resource instead.
func refInResource(path []string) bool {
	return slices.Equal(path, []string{"resourceType"}) || slices.Equal(path, []string{"id"}) ||
		slices.Equal(path, []string{"meta", "versionId"}) || slices.Equal(path, []string{"meta", "lastUpdated"})
}

func refMatches(rule, typeName string, path []string) bool {
	head, tail, _ := strings.Cut(rule, ".")
	if len(path) == 0 {
		return false
	}
	if head == "**" {
		return path[len(path)-1] == tail
	}
	return (head == "*" || head == typeName) && slices.Equal(strings.Split(tail, "."), path)
}

// recordVisitor writes down what it gets.
type recordVisitor struct{ got []string }

func (v *recordVisitor) Value(id PathID, kind Kind, text []byte) {
	v.got = append(v.got, fmt.Sprintf("%d %d %s", id, kind, text))
}
func (v *recordVisitor) Begin(id PathID) { v.got = append(v.got, fmt.Sprintf("%d begin", id)) }
func (v *recordVisitor) End(id PathID)   { v.got = append(v.got, fmt.Sprintf("%d end", id)) }

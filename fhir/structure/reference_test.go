package structure

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// tree is a JSON value; repeated keys and the text of numbers are kept.
type tree struct {
	kind  byte   // '{', '[', '"', '0', 't' or 'n'
	text  string // of a string, unescaped, or number
	keys  []string
	items []*tree // of an array, or values of the keys
}

func parseTree(t testing.TB, src []byte) *tree {
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	return readTree(t, d)
}

func readTree(t testing.TB, d *json.Decoder) *tree {
	token, err := d.Token()
	if err != nil {
		t.Fatalf("cannot parse what the scanner took: %v", err)
	}
	switch v := token.(type) {
	case json.Delim:
		n := &tree{kind: byte(v)}
		for d.More() {
			if v == '{' {
				key, _ := d.Token()
				n.keys = append(n.keys, key.(string))
			}
			n.items = append(n.items, readTree(t, d))
		}
		_, _ = d.Token()
		return n
	case string:
		return &tree{kind: '"', text: v}
	case json.Number:
		return &tree{kind: '0', text: v.String()}
	case bool:
		return &tree{kind: 't', text: strconv.FormatBool(v)}
	}
	return &tree{kind: 'n'}
}

// naive is a slow checker that reads elements.tsv as it stands, and knows nothing
// of the generated table.
type naive struct {
	children  map[string][]naiveElement // by path of the parent
	resources map[string]bool
}

type naiveElement struct {
	name, path, reference string
	min, max              string
	types                 []string
}

func newNaive(t testing.TB) *naive {
	t.Helper()
	text, err := os.ReadFile("elements.tsv")
	if err != nil {
		t.Fatal(err)
	}
	n := &naive{children: map[string][]naiveElement{}, resources: map[string]bool{}}
	for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")[1:] {
		c := strings.Split(line, "\t")
		at := strings.LastIndexByte(c[2], '.')
		if at < 0 {
			if c[0] == "resource" {
				n.resources[c[2]] = true
			}
			continue
		}
		n.children[c[2][:at]] = append(n.children[c[2][:at]], naiveElement{c[2][at+1:], c[2], strings.TrimPrefix(c[7], "#"), c[3], c[4], strings.Split(c[5], "|")})
	}
	return n
}

func (n *naive) resource(t *tree, isContained bool) bool {
	if t.kind != '{' {
		return false
	}
	at := slices.Index(t.keys, "resourceType")
	if at < 0 || t.items[at].kind != '"' || !n.resources[t.items[at].text] {
		return false
	}
	path := t.items[at].text
	rest := &tree{kind: '{', keys: slices.Delete(slices.Clone(t.keys), at, at+1), items: slices.Delete(slices.Clone(t.items), at, at+1)}
	if isContained && slices.Contains(rest.keys, "contained") {
		return false
	}
	return n.members(rest, path)
}

func (n *naive) object(t *tree, path string) bool {
	return t.kind == '{' && len(t.keys) > 0 && n.members(t, path)
}

// members: every key is an element's, every element is right.
func (n *naive) members(t *tree, path string) bool {
	known := 0
	for _, e := range n.children[path] {
		base, isChoice := strings.CutSuffix(e.name, "[x]")
		used := 0
		for _, typ := range e.types {
			key := base
			if isChoice {
				key += strings.ToUpper(typ[:1]) + typ[1:]
			}
			own, other := t.values(key), t.values("_"+key)
			if len(own) > 1 || len(other) > 1 || len(other) == 1 && !n.extensible(path, &e, typ) {
				return false
			}
			known += len(own) + len(other)
			if len(own)+len(other) > 0 {
				if used++; !n.element(own, other, &e, typ, path) {
					return false
				}
			}
		}
		if used > 1 || used == 0 && e.min == "1" && !naiveWarning[e.path] {
			return false
		}
	}
	return known == len(t.keys) && (path != "Extension" || n.hasOneOf(t))
}

var naiveWarning = map[string]bool{"Questionnaire.item.linkId": true, "SearchParameter.base": true, "ImplementationGuide.name": true, "ImplementationGuide.status": true}

func (n *naive) hasOneOf(t *tree) bool {
	values := slices.ContainsFunc(t.keys, func(k string) bool { return strings.HasPrefix(strings.TrimPrefix(k, "_"), "value") })
	return values != slices.Contains(t.keys, "extension")
}

func (t *tree) values(key string) (found []*tree) {
	for i, k := range t.keys {
		if k == key {
			found = append(found, t.items[i])
		}
	}
	return found
}

func isPrimitiveName(typ string) bool { return typ != "" && typ[0] >= 'a' }

// extensible: may the element have a key with an underscore?
func (n *naive) extensible(path string, e *naiveElement, typ string) bool {
	isAttribute := e.name == "id" && !n.resources[path] || e.path == "Extension.url"
	return isPrimitiveName(typ) && typ != "xhtml" && !isAttribute
}

func (n *naive) element(own, other []*tree, e *naiveElement, typ, path string) bool {
	if n.resources[path] && e.name == "id" {
		typ = "id"
	}
	if e.max == "1" {
		return (len(own) == 0 || n.value(own[0], e, typ)) && (len(other) == 0 || n.object(other[0], "Element"))
	}
	var values, extensions []*tree
	for i, list := range [][]*tree{own, other} {
		if len(list) == 0 {
			continue
		}
		if list[0].kind != '[' || len(list[0].items) == 0 {
			return false
		}
		if i == 0 {
			values = list[0].items
		} else {
			extensions = list[0].items
		}
	}
	for i := range max(len(values), len(extensions)) {
		hasValue := i < len(values) && (values[i].kind != 'n' || !isPrimitiveName(typ))
		hasExtension := i < len(extensions) && extensions[i].kind != 'n'
		if !hasValue && !hasExtension || hasValue && !n.value(values[i], e, typ) || hasExtension && !n.object(extensions[i], "Element") {
			return false
		}
	}
	return true
}

func (n *naive) value(t *tree, e *naiveElement, typ string) bool {
	switch {
	case isPrimitiveName(typ):
		return naivePrimitive(t, typ)
	case e.reference != "":
		return n.object(t, e.reference)
	case typ == "Resource":
		return n.resource(t, e.name == "contained")
	case len(n.children[e.path]) > 0:
		return n.object(t, e.path)
	}
	return n.object(t, typ)
}

const (
	naiveDay  = `[0-9]{4}-[0-9]{2}-[0-9]{2}`
	naiveTime = `([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?`
	naiveZone = `(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00))`
)

var naivePatterns = map[string]*regexp.Regexp{
	"boolean": regexp.MustCompile(`^(true|false)$`), "integer": regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`),
	"unsignedInt": regexp.MustCompile(`^(0|[1-9][0-9]*)$`), "positiveInt": regexp.MustCompile(`^[1-9][0-9]*$`),
	"decimal": regexp.MustCompile(`.`), "string": regexp.MustCompile(`(?s)^.+$`), "markdown": regexp.MustCompile(`(?s)^.+$`),
	"code": regexp.MustCompile(`^[^ \t\r\n]+( [^ \t\r\n]+)*$`), "id": regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`),
	"uri": regexp.MustCompile(`^[^ \t\r\n]+$`), "url": regexp.MustCompile(`^[^ \t\r\n]+$`), "canonical": regexp.MustCompile(`^[^ \t\r\n]+$`),
	"oid": regexp.MustCompile(`^urn:oid:[0-2](\.(0|[1-9][0-9]*))+$`), "uuid": regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	"date":     regexp.MustCompile(`^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$`),
	"dateTime": regexp.MustCompile(`^([0-9]{4}(-[0-9]{2})?|` + naiveDay + `(T` + naiveTime + naiveZone + `)?)$`),
	"instant":  regexp.MustCompile(`^` + naiveDay + `T` + naiveTime + naiveZone + `$`), "time": regexp.MustCompile(`^` + naiveTime + `$`),
	"base64Binary": regexp.MustCompile(`^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)$`),
	"xhtml":        regexp.MustCompile(`^[ \t\r\n]*<div[ \t\r\n/>]`),
}

func naivePrimitive(t *tree, typ string) bool {
	kind, text := byte('"'), t.text
	switch typ {
	case "boolean":
		kind = 't'
	case "integer", "unsignedInt", "positiveInt", "decimal":
		kind = '0'
	case "base64Binary":
		text = strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(text)
	}
	if t.kind != kind || !naivePatterns[typ].MatchString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' }) {
		return false
	}
	switch typ {
	case "integer", "unsignedInt", "positiveInt":
		_, err := strconv.ParseInt(text, 10, 32)
		return err == nil
	case "string":
		return utf8.RuneCountInString(text) <= 1<<20
	case "date", "dateTime", "instant":
		day, _, _ := strings.Cut(text, "T")
		_, err := time.Parse("2006-01-02"[:len(day)], day)
		return err == nil && day[:4] != "0000"
	}
	return true
}

package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"kiln/internal/shareddata"

	"github.com/go-json-experiment/json/jsontext"
)

// lines reads a file, gzip or plain, as lines without their ends.
func lines(t *testing.T, path string) [][]byte {
	t.Helper()
	text := shareddata.Read(t, path)
	text = bytes.TrimSuffix(text, []byte("\n"))
	if len(text) == 0 {
		return nil
	}
	return bytes.Split(text, []byte("\n"))
}

// parts is a resource taken apart by a parser that shares no code with the
// product: its type and id, and its text without white space and without what
// the server sets.
type parts struct {
	kind, id    string
	hasID       bool
	conditional bool
	text        string
}

func (p parts) key() string { return p.kind + "/" + p.id }

// takeApart reads one line. Number text, key order and string escapes stay.
func takeApart(t *testing.T, line []byte) parts {
	t.Helper()
	var p parts
	var members []string
	eachMember(t, line, func(name string, rawName, value jsontext.Value) {
		switch name {
		case "resourceType":
			p.kind = unquote(t, value)
		case "id":
			p.id, p.hasID = unquote(t, value), true
		case "meta":
			if value = withoutServerMeta(t, value); string(value) == "{}" {
				return
			}
		}
		members = append(members, string(rawName)+":"+string(value))
	})
	p.text = "{" + strings.Join(members, ",") + "}"
	p.conditional = hasConditionalReference(t, line)
	return p
}

// withoutServerMeta cuts versionId and lastUpdated.
func withoutServerMeta(t *testing.T, meta jsontext.Value) jsontext.Value {
	t.Helper()
	var kept []string
	eachMember(t, meta, func(name string, rawName, value jsontext.Value) {
		if name != "versionId" && name != "lastUpdated" {
			kept = append(kept, string(rawName)+":"+string(value))
		}
	})
	return jsontext.Value("{" + strings.Join(kept, ",") + "}")
}

// eachMember calls fn for the members of an object, white space removed.
func eachMember(t *testing.T, object []byte, fn func(name string, rawName, value jsontext.Value)) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatalf("cannot parse %.200s: %v", object, err)
		}
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(object), jsontext.AllowDuplicateNames(true))
	_, err := decoder.ReadToken()
	check(err)
	for decoder.PeekKind() != '}' {
		name, err := decoder.ReadValue()
		check(err)
		name = name.Clone()
		value, err := decoder.ReadValue()
		check(err)
		value = value.Clone()
		check(value.Compact(jsontext.AllowDuplicateNames(true)))
		fn(unquote(t, name), name, value)
	}
}

func unquote(t *testing.T, value jsontext.Value) string {
	t.Helper()
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		t.Fatalf("cannot unquote %s: %v", value, err)
	}
	return string(text)
}

// hasConditionalReference looks for a "reference" with a '?' at any depth.
func hasConditionalReference(t *testing.T, line []byte) bool {
	t.Helper()
	if !bytes.Contains(line, []byte(`"reference"`)) || !bytes.ContainsRune(line, '?') {
		return false
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(line), jsontext.AllowDuplicateNames(true))
	isReference := false
	for {
		token, err := decoder.ReadToken()
		if err == io.EOF {
			return false
		}
		if err != nil {
			t.Fatalf("cannot parse %.200s: %v", line, err)
		}
		kind, count := decoder.StackIndex(decoder.StackDepth())
		isName := kind == '{' && count%2 == 1
		if token.Kind() == '"' && !isName && isReference && strings.Contains(token.String(), "?") {
			return true
		}
		isReference = token.Kind() == '"' && isName && token.String() == "reference"
	}
}

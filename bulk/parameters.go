package bulk

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
)

// parameter is one parameter (or part) of a Parameters resource.
type parameter struct {
	name  string
	value string // the text of any primitive value[x]; "" when there is none
	// object is a value[x] that is no primitive.
	object json.RawMessage
	parts  []parameter
}

// parseParameters reads a Parameters resource. Values of any primitive type
// are taken as text, as Microsoft's server does: valueUri, valueString and
// valueCode are the same.
func parseParameters(body []byte) ([]parameter, bool) {
	var top map[string]json.RawMessage
	if json.Unmarshal(body, &top) != nil || jsonText(top["resourceType"]) != "Parameters" {
		return nil, false
	}
	return parseParameterList(top["parameter"], 1)
}

// parseParameterList reads `parameter` (depth 1) or `part` (depth 2; deeper
// parts have no meaning here and are not looked at).
func parseParameterList(raw json.RawMessage, depth int) ([]parameter, bool) {
	if raw == nil || depth > 2 {
		return nil, true
	}
	var list []map[string]json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, false
	}
	out := make([]parameter, 0, len(list))
	for _, members := range list {
		p := parameter{name: jsonText(members["name"])}
		values := 0
		for key, value := range members {
			if strings.HasPrefix(key, "value") {
				if p.value = jsonText(value); len(value) > 0 && value[0] == '{' {
					p.object = value
				}
				values++
			}
		}
		if values > 1 {
			return nil, false // which one is meant, nobody knows
		}
		var ok bool
		if p.parts, ok = parseParameterList(members["part"], depth+1); !ok {
			return nil, false
		}
		out = append(out, p)
	}
	return out, true
}

// checkMembers refuses JSON in which an object has a member twice: readers
// differ in which one they take, so what was checked elsewhere may not be what
// is read here. The body is valid JSON.
func checkMembers(body []byte) error {
	type object struct {
		names map[string]bool // nil: an array
		value bool            // a value comes next, not a name
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	open := []object{{}}
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return badRequest("Import request is not JSON: %v.", err)
		}
		at := &open[len(open)-1]
		if name, ok := token.(string); ok && at.names != nil && !at.value {
			if at.names[name] {
				return badRequest("Import request has the member %.64q twice in one object; say it once.", name)
			}
			at.names[name], at.value = true, true
			continue
		}
		at.value = false
		switch token {
		case json.Delim('{'):
			open = append(open, object{names: make(map[string]bool)})
		case json.Delim('['):
			open = append(open, object{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
	}
}

// jsonText is the text of a JSON string, or the literal of a number or boolean.
func jsonText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	if len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || raw[0] == 'n' {
		return ""
	}
	return string(raw)
}

// first finds the first parameter of a name; names are case-sensitive.
func first(list []parameter, name string) (parameter, bool) {
	for _, p := range list {
		if p.name == name {
			return p, true
		}
	}
	return parameter{}, false
}

// firstValue is the value of the first parameter of a name.
func firstValue(list []parameter, name string) string {
	p, _ := first(list, name)
	return p.value
}

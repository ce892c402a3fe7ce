package main

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// lookUp finds what a path names in a JSON value and gives it as text: strings
// without quotes, numbers as they stand, objects as JSON. ok is false when
// nothing is there. Steps are joined by dots: name, name[2], name[*] (all, the texts
// joined by ", "), name[key=value] (the elements with that member),
// and count() at the end.
func lookUp(value any, path string) (text string, ok bool) {
	found := []any{value}
	for _, step := range splitPath(path) {
		if step == "count()" {
			return strconv.Itoa(len(found)), true
		}
		name, filter, _ := strings.Cut(step, "[")
		if name != "" {
			found = members(found, name)
		}
		if filter != "" {
			found = elements(found, strings.TrimSuffix(filter, "]"))
		}
	}
	if strings.HasSuffix(path, "[*]") || len(found) > 1 {
		found = elements(found, "*")
	}
	texts := make([]string, len(found))
	for i := range found {
		texts[i] = asText(found[i])
	}
	return strings.Join(texts, ", "), len(found) > 0
}

// splitPath cuts at the dots outside brackets.
func splitPath(path string) (steps []string) {
	depth, from := 0, 0
	for i := 0; i <= len(path); i++ {
		switch {
		case i == len(path) || path[i] == '.' && depth == 0:
			steps = append(steps, path[from:i])
			from = i + 1
		case path[i] == '[':
			depth++
		case path[i] == ']':
			depth--
		}
	}
	// count() counts the elements of the step before it.
	if n := len(steps); n > 1 && steps[n-1] == "count()" && !strings.Contains(steps[n-2], "[") {
		steps[n-2] += "[*]"
	}
	return steps
}

func members(values []any, name string) (found []any) {
	for _, value := range values {
		if object, is := value.(map[string]any); is {
			if member, has := object[name]; has {
				found = append(found, member)
			}
		}
	}
	return found
}

func elements(values []any, filter string) (found []any) {
	key, want, isFilter := strings.Cut(filter, "=")
	for _, value := range values {
		list, is := value.([]any)
		if !is {
			if filter == "*" {
				found = append(found, value)
			}
			continue
		}
		for i, element := range list {
			text, has := "", false
			if isFilter {
				text, has = lookUp(element, key)
			}
			if filter == "*" || filter == strconv.Itoa(i) || has && text == want {
				found = append(found, element)
			}
		}
	}
	return found
}

func asText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	case nil:
		return "null"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// parseJSON keeps the text of numbers.
func parseJSON(text []byte) (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&value)
	return value, err
}

func TestPathsFindWhatTheyName(t *testing.T) {
	value, err := parseJSON([]byte(`{"a":"x","n":1.50,"l":[{"k":"p","v":"1"},{"k":"q.r","v":"2"}],"o":{"b":true},"e":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	f := func(path, want string, wantOK bool) {
		t.Helper()
		got, ok := lookUp(value, path)
		if got != want || ok != wantOK {
			t.Errorf("%s: %q %v instead of %q %v", path, got, ok, want, wantOK)
		}
	}
	f("a", "x", true)
	f("n", "1.50", true)
	f("l[1].v", "2", true)
	f("l[2].v", "", false)
	f("l[*].v", "1, 2", true)
	f("l[k=q.r].v", "2", true)
	f("l[k=s]", "", false)
	f("l.count()", "2", true)
	f("l[k=p].count()", "1", true)
	f("e.count()", "0", true)
	f("none.count()", "0", true)
	f("o", `{"b":true}`, true)
	f("o.b", "true", true)
	f("o.c", "", false)
}

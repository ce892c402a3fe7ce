package bulk

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The members of the SMART draft's plain JSON manifest, and what they are.
const textManifestShape = `Import manifest must be a JSON object with the strings "inputFormat" and "inputSource", the array "input" of {"type", "url"}, and the object "storageDetail" with the string "type"`

// storageHTTPS is the draft's name for inputs that are fetched as they are.
const storageHTTPS = "https"

// ParseManifest reads the plain JSON form of a request, as the SMART draft has
// it, and checks it as ParseImport does, with the same texts. An equal request
// in the other form is the same registration. The manifest has no members for
// mode and the like: they stay at their defaults. Errors are *RequestError.
func (m *Manager) ParseManifest(body []byte, requestURL string) (*ImportRequest, error) {
	list, err := parseManifest(body)
	if err != nil {
		return nil, err
	}
	return m.parseRequest(list, requestURL)
}

// parseManifest gives a manifest the form of a Parameters resource. Members
// that the draft does not have are not looked at.
func parseManifest(body []byte) ([]parameter, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(body, &top); err != nil || top == nil {
		return nil, badManifest("the body is not a JSON object")
	}
	if top["resourceType"] != nil {
		return nil, badManifest("the body is a resource, whose Content-Type is application/fhir+json")
	}
	if err := checkMembers(body); err != nil {
		return nil, err
	}
	list, err := manifestStrings(top, "", "inputFormat", "inputSource")
	if err != nil {
		return nil, err
	}
	storage, err := manifestStorage(top["storageDetail"])
	if err != nil {
		return nil, err
	}
	inputs, err := manifestInputs(top["input"])
	if err != nil {
		return nil, err
	}
	return append(append(list, storage...), inputs...), nil
}

func badManifest(format string, args ...any) *RequestError {
	return badRequest("%s: %s.", textManifestShape, fmt.Sprintf(format, args...))
}

// manifestStrings reads the members of those names that are there; null is
// not there. where leads the names in errors.
func manifestStrings(members map[string]json.RawMessage, where string, names ...string) ([]parameter, error) {
	var list []parameter
	for _, name := range names {
		raw := members[name]
		if isAbsent(raw) {
			continue
		}
		p := parameter{name: name}
		if json.Unmarshal(raw, &p.value) != nil {
			return nil, badManifest("%s%s is not a string", where, name)
		}
		list = append(list, p)
	}
	return list, nil
}

func isAbsent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func manifestStorage(raw json.RawMessage) ([]parameter, error) {
	if isAbsent(raw) {
		return nil, nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return nil, badManifest("storageDetail is not an object")
	}
	parts, err := manifestStrings(members, "storageDetail.", "type")
	if err != nil {
		return nil, err
	}
	if len(parts) == 1 && strings.EqualFold(parts[0].value, storageHTTPS) {
		return nil, nil // an input's address tells how it is fetched
	}
	return []parameter{{name: "storageDetail", parts: parts}}, nil
}

func manifestInputs(raw json.RawMessage) ([]parameter, error) {
	if isAbsent(raw) {
		return nil, nil
	}
	var inputs []json.RawMessage
	if json.Unmarshal(raw, &inputs) != nil {
		return nil, badManifest("input is not an array")
	}
	list := make([]parameter, 0, len(inputs))
	for i, input := range inputs {
		var members map[string]json.RawMessage
		if json.Unmarshal(input, &members) != nil || members == nil {
			return nil, badManifest("input[%d] is not an object", i)
		}
		// An ETag is Azure's; one that is named must not be overlooked.
		parts, err := manifestStrings(members, fmt.Sprintf("input[%d].", i), "type", "url", "etag")
		if err != nil {
			return nil, err
		}
		list = append(list, parameter{name: "input", parts: parts})
	}
	return list, nil
}

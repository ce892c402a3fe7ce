package bulk

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
)

// The times of the contract's tests.
var (
	contractNow    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	contractBefore = contractNow.Add(-time.Hour) // "t"
)

const contractTime = "2006-01-02T15:04:05.000-07:00"

// shortLine is the table's shorthand for a resource.
type shortLine struct {
	Type    string          `json:"rt"`
	ID      string          `json:"id"`
	Date    json.RawMessage `json:"lu"`
	Version string          `json:"v"`
	Birth   string          `json:"bd"`
	Deleted int             `json:"del"`
}

// parseShort reads shorthand; ok is false for a line that is given whole.
func parseShort(t *testing.T, text string) (l shortLine, ok bool) {
	t.Helper()
	if !strings.HasPrefix(text, `{"id"`) && !strings.HasPrefix(text, `{"rt"`) {
		return l, false
	}
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		t.Fatalf("line %s: %v", text, err)
	}
	if l.Type == "" {
		l.Type = "Patient"
	}
	return l, true
}

// date is the text of lastUpdated; "" when there is none.
func (l *shortLine) date(t *testing.T) string {
	t.Helper()
	if l.Date == nil {
		return ""
	}
	return contractDate(t, strings.Trim(string(l.Date), `"`))
}

// json is the line as it is imported.
func (l *shortLine) json(t *testing.T) string {
	t.Helper()
	var meta []string
	if date := l.date(t); date != "" {
		meta = append(meta, fmt.Sprintf(`"lastUpdated":%q`, date))
	}
	if l.Version != "" {
		meta = append(meta, fmt.Sprintf(`"versionId":%q`, l.Version))
	}
	if l.Deleted != 0 {
		meta = append(meta, `"extension":[{"url":"http://azurehealthcareapis.com/data-extensions/deleted-state","valueString":"soft-deleted"}]`)
	}
	out := fmt.Sprintf(`{"resourceType":%q,"id":%q`, l.Type, l.ID)
	if meta != nil {
		out += `,"meta":{` + strings.Join(meta, ",") + "}"
	}
	if l.Birth != "" {
		out += fmt.Sprintf(`,"birthDate":%q`, l.Birth)
	}
	return out + "}"
}

func expandLine(t *testing.T, text string) string {
	t.Helper()
	if l, ok := parseShort(t, text); ok {
		return l.json(t)
	}
	return text
}

// contractDate expands a year, "now" or "t" with a distance; a date with "Z"
// is one that the server gave. Other texts stay as they are.
func contractDate(t *testing.T, text string) string {
	t.Helper()
	at, zone := contractNow, contractTime
	rest, relative := strings.CutPrefix(text, "now")
	if !relative {
		if rest, relative = strings.CutPrefix(text, "t"); relative {
			at = contractBefore
		}
	}
	if !relative {
		if _, err := strconv.Atoi(text); err == nil {
			return text + "-01-01T00:00:00.000+00:00"
		}
		return text
	}
	if before, ok := strings.CutSuffix(rest, "Z"); ok {
		rest, zone = before, strings.Replace(contractTime, "-07:00", "Z07:00", 1)
	}
	if rest != "" {
		distance, err := time.ParseDuration(rest)
		if err != nil {
			t.Fatalf("bad date %q: %v", text, err)
		}
		at = at.Add(distance)
	}
	return at.Format(zone)
}

// contractHistory is every version of a store by key, newest first, each as
// "v2@2021-01-01T00:00:00.000+00:00* del bd=1990".
type contractHistory map[string][]string

// parseHistory reads the table's notation.
func parseHistory(t *testing.T, text string) contractHistory {
	t.Helper()
	h := contractHistory{}
	if text == "" {
		return h
	}
	for part := range strings.SplitSeq(text, "; ") {
		key, versions, named := strings.Cut(part, ": ")
		if !named {
			key, versions = "a", part
		}
		if !strings.Contains(key, "/") {
			key = "Patient/" + key
		}
		for v := range strings.SplitSeq(versions, ", ") {
			number, rest, _ := strings.Cut(v, "@")
			end := strings.IndexAny(rest+" ", "* ")
			h[key] = append(h[key], number+"@"+contractDate(t, rest[:end])+rest[end:])
		}
	}
	return h
}

// describeVersion is the notation of a version as it is served.
func describeVersion(t *testing.T, served []byte, current, deleted bool) string {
	t.Helper()
	var r struct {
		Meta struct {
			VersionID   string `json:"versionId"`
			LastUpdated string `json:"lastUpdated"`
		} `json:"meta"`
		BirthDate string `json:"birthDate"`
	}
	if err := json.Unmarshal(served, &r); err != nil {
		t.Fatalf("served %s: %v", served, err)
	}
	out := "v" + r.Meta.VersionID + "@" + r.Meta.LastUpdated
	if current {
		out += "*"
	}
	if deleted {
		out += " del"
	}
	if r.BirthDate != "" {
		out += " bd=" + r.BirthDate
	}
	return out
}

// refusalTexts are what D, V and I'x' stand for, with their codes.
func expandRefusal(text, id string, line int) (code, full string) {
	switch {
	case text == "D":
		return "duplicate", fmt.Sprintf("Failed to import duplicate resource, resource id: %s, line: %d", id, line)
	case text == "V":
		return "conflict", fmt.Sprintf("Failed to import resource with version conflict, resource id: %s, line: %d", id, line)
	case strings.HasPrefix(text, "I'"):
		return "invalid", "Invalid resource id: '" + text[2:len(text)-1] + "'. Id must be any combination of upper or lower case ASCII letters ('A'..'Z', and 'a'..'z'), numerals ('0'..'9'), '-' and '.', with a length limit of 64 characters. (This might be an integer, an un-prefixed OID, UUID, or any other identifier pattern that meets these constraints.)"
	case strings.HasPrefix(text, "Conditional") || strings.HasPrefix(text, "SearchParameter"):
		return "not-supported", text
	}
	return "invalid", text
}

// contractType is the type and id of a key "Patient/a".
func contractType(t *testing.T, key string) (fhir.TypeCode, []byte) {
	t.Helper()
	name, id, _ := strings.Cut(key, "/")
	code := fhir.TypeByName([]byte(name))
	if code == 0 {
		t.Fatalf("no type %q", name)
	}
	return code, []byte(id)
}

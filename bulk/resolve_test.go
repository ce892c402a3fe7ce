package bulk

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
)

// The notation of these tests: versions are written "v2@2002" ("*" marks
// nothing here, current is the highest positive), "del" for a deleted one and
// "=X" for the content (a letter; the default is "=a"). Lines are
// "2001,3" (date, version), "2001" (date only), "-" (neither), with the same
// suffixes; "|" starts a new batch. A date is a year, or N+ms.

const testNow = 2026

func testMilli(t *testing.T, text string) int64 {
	t.Helper()
	year, plus, _ := strings.Cut(text, "+")
	y, err := strconv.Atoi(year)
	if err != nil {
		t.Fatalf("bad date %q", text)
	}
	ms := 0
	if plus != "" {
		if ms, err = strconv.Atoi(plus); err != nil {
			t.Fatalf("bad date %q", text)
		}
	}
	return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() + int64(ms)
}

// testDate is the way back.
func testDate(milli int64) string {
	at := time.UnixMilli(milli).UTC()
	begin := time.Date(at.Year(), 1, 1, 0, 0, 0, 0, time.UTC)
	if ms := at.Sub(begin).Milliseconds(); ms != 0 {
		return fmt.Sprintf("%d+%d", at.Year(), ms)
	}
	return strconv.Itoa(at.Year())
}

// testSuffixes takes " del" and "=X" off.
func testSuffixes(text string) (rest string, deleted bool, content string) {
	text, content, _ = strings.Cut(text, "=")
	if content == "" {
		content = "a"
	}
	rest, _, deleted = strings.Cut(text, "del")
	return rest, deleted, content
}

// testKey resolves lines of one key against versions and describes all of it.
type testKey struct {
	mode          Mode
	allowNegative bool
}

func (k testKey) resolve(t *testing.T, versions, lines string) (history, verdicts string) {
	t.Helper()
	r := &resolver{mode: k.mode, allowNegative: k.allowNegative, instant: fhir.Instant{Milli: testMilli(t, strconv.Itoa(testNow)), OffsetMinutes: fhir.OffsetZ}}
	var stored, content []string
	for i, v := range strings.Fields(versions) {
		text, deleted, body := testSuffixes(v)
		number, date, _ := strings.Cut(strings.TrimPrefix(text, "v"), "@")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			t.Fatalf("bad version %q", v)
		}
		r.history = append(r.history, known{version: n, at: fhir.Instant{Milli: testMilli(t, date)}, deleted: deleted, ref: ^int32(i)})
		stored = append(stored, body)
	}
	batch := int32(0)
	for _, l := range strings.Fields(lines) {
		if l == "|" {
			batch++
			continue
		}
		text, deleted, body := testSuffixes(l)
		in := incoming{batch: batch, deleted: deleted}
		date, version, versioned := strings.Cut(text, ",")
		if date != "-" {
			in.class, in.at.Milli = classDated, testMilli(t, date)
		}
		if versioned {
			in.class = classVersioned
			in.version, _ = strconv.ParseInt(version, 10, 64)
		}
		r.lines = append(r.lines, in)
		content = append(content, body)
	}
	r.same = func(line int, k known) (bool, error) {
		if k.ref < 0 {
			return content[line] == stored[^k.ref], nil
		}
		return content[line] == content[k.ref], nil
	}
	if err := r.resolve(); err != nil {
		t.Fatal(err)
	}
	for _, h := range r.history {
		body := ""
		if h.ref >= 0 {
			body = content[h.ref]
		} else {
			body = stored[^h.ref]
		}
		if body != "a" {
			body = "=" + body
		} else {
			body = ""
		}
		if h.deleted {
			body = "del" + body
		}
		history += fmt.Sprintf(" v%d@%s%s", h.version, testDate(h.at.Milli), body)
	}
	for _, o := range r.outcomes {
		verdicts += []string{"?", "k", "s", "D", "V"}[o.verdict]
	}
	return strings.TrimSpace(history), verdicts
}

// What the contract's table (TestImportContract) does not say.
func TestResolveSpecialCases(t *testing.T) {
	f := func(k testKey, versions, lines, history, verdicts string) {
		t.Helper()
		gotHistory, gotVerdicts := k.resolve(t, versions, lines)
		if gotHistory != history || gotVerdicts != verdicts {
			t.Errorf("%q + %q\n gives %q %s\n want  %q %s", versions, lines, gotHistory, gotVerdicts, history, verdicts)
		}
	}
	incremental, negative := testKey{}, testKey{allowNegative: true}
	// Of equal dates and versions the first line stays.
	f(incremental, "", "2001,2=a 2001,2=b", "v2@2001", "kD")
	// A line that only differs in being deleted is not the same version.
	f(incremental, "v1@2001", "2001del", "v1@2001", "V")
	// A server that is behind the current version's date still moves forward.
	f(incremental, "v1@2030", "-=b", "v1@2030 v2@2030+1=b", "k")
	// Only negative versions: nothing is current, numbering starts at 1.
	f(negative, "v-5@2001", "-", "v-5@2001 v1@2026", "k")
	f(negative, "v-5@2001", "2000", "v-5@2001 v1@2000", "k")
	// Late arrivals count down from the lowest negative version.
	f(negative, "v1@2005 v-7@2004", "2003 2002", "v1@2005 v-7@2004 v-8@2003 v-9@2002", "kk")
	// The count of late arrivals runs on across gaps.
	f(incremental, "v9@2009 v5@2005 v1@2001", "2007 2003", "v9@2009 v5@2005 v1@2001 v8@2007 v3@2003", "kk")
	// Both neighbours: later and lower, earlier and higher.
	f(incremental, "v1@2001 v5@2005 v9@2009", "2006,8 2004,3", "v1@2001 v5@2005 v9@2009 v8@2006 v3@2004", "kk")
	f(incremental, "v1@2001 v5@2005 v9@2009", "2006,4", "v1@2001 v5@2005 v9@2009", "V")
	// Batches see each other as stored versions.
	f(incremental, "", "- | - | -=b | -=b | -", "v1@2026 v2@2026+1=b v3@2026+2", "ksksk")
	f(incremental, "", "2001,1 | 2001,1 | 2001,1=b", "v1@2001", "ksV")
	// Negative versions alone do not keep an initial load from making version 1.
	f(testKey{mode: InitialLoad}, "v-5@2001", "- -", "v-5@2001 v1@2026", "kD")
	// Many units, initial: one line of all.
	f(testKey{mode: InitialLoad}, "", "- | -=b | -del", "v1@2026", "kDD")
}

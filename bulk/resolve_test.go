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

// The rows of the contract's table in section 3.5, by number.
func TestResolveTable(t *testing.T) {
	incremental, negative, initial := testKey{}, testKey{allowNegative: true}, testKey{mode: InitialLoad}
	f := func(row string, k testKey, versions, lines, history, verdicts string) {
		t.Helper()
		gotHistory, gotVerdicts := k.resolve(t, versions, lines)
		if gotHistory != history || gotVerdicts != verdicts {
			t.Errorf("row %s: %q + %q\n gives %q %s\n want  %q %s", row, versions, lines, gotHistory, gotVerdicts, history, verdicts)
		}
	}
	f("1", initial, "", "2021,2", "v1@2026", "k")
	f("2", initial, "", "2021,2 2021,2", "v1@2026", "kD")
	f("3", initial, "v1@2020=x", "- -", "v1@2020=x", "DD")
	f("4", initial, "v1@2020del", "-", "v1@2020del", "D")
	f("5", initial, "", "-del", "v1@2026del", "k")
	f("8", incremental, "", "-", "v1@2026", "k")
	f("9", incremental, "", "2021,2", "v2@2021", "k")
	f("10", incremental, "", "2021,2 2021,2", "v2@2021", "kD")
	f("11", incremental, "", "2021", "v1@2021", "k")
	f("12", incremental, "v1@2021", "2021", "v1@2021", "s")
	f("13", incremental, "v2@2021", "2021,2", "v2@2021", "s")
	f("14", incremental, "v2@2021", "2021,2=b", "v2@2021", "V")
	f("15", incremental, "v1@2021", "2021=b", "v1@2021", "V")
	f("16", incremental, "v2@2021", "2021,3", "v2@2021", "V")
	f("23", incremental, "", "2001,1 2002,2 2003,3", "v3@2003 v2@2002 v1@2001", "kkk")
	f("24", incremental, "v2@2002", "2001,1 2002,2 2003,3", "v2@2002 v3@2003 v1@2001", "ksk")
	f("25", incremental, "v10000@2000", "2001,10100 1999,9000 2003,10300", "v10000@2000 v10300@2003 v10100@2001 v9000@1999", "kkk")
	f("26", incremental, "v2@2002", "2001,1", "v2@2002 v1@2001", "k")
	f("27", incremental, "v3@2001", "2002,2", "v3@2001", "V")
	f("28", incremental, "v3@2001", "2000,4", "v3@2001", "V")
	f("29", incremental, "", "2001,3 2004,2", "v2@2004", "Vk")
	f("30", incremental, "v2@2002", "2003,1 2003,3", "v2@2002 v3@2003", "Dk")
	f("31", incremental, "v2@2002", "2003,1", "v2@2002", "V")
	f("31", incremental, "v2@2002", "2003,3", "v2@2002 v3@2003", "k")
	f("32", incremental, "v2@2002", "2001,3 2003,3", "v2@2002 v3@2003", "Dk")
	f("33", incremental, "v1@2020", "2020+8000,1", "v1@2020", "V")
	f("34", incremental, "", "2026,1 2026+8000,1", "v1@2026+8000", "Dk")
	f("35", incremental, "v1@2020", "2020+8000", "v1@2020 v2@2020+8000", "k")
	f("36", incremental, "", "2001,1 2002 2003,3", "v3@2003 v1@2001 v2@2002", "kkk")
	f("37", incremental, "", "2001,1 2002 2003,2", "v2@2003 v1@2001", "kVk")
	f("38", negative, "", "2001,1 2002 2003,2", "v2@2003 v1@2001 v-1@2002", "kkk")
	f("39", negative, "", "2001,1 2002 2003 2004,2", "v2@2004 v1@2001 v-1@2003 v-2@2002", "kkkk")
	f("40", negative, "v10@2004 v1@2001", "2002 2003", "v10@2004 v1@2001 v9@2003 v8@2002", "kk")
	f("41", incremental, "v2@2002", "2001", "v2@2002 v1@2001", "k")
	f("42", incremental, "v2@2002 v1@2001", "2001", "v2@2002 v1@2001", "s")
	f("43", incremental, "v1@2005", "2001", "v1@2005", "V")
	f("44", negative, "v1@2005", "2001", "v1@2005 v-1@2001", "k")
	f("45", negative, "v4@2025", "2026,-100", "v4@2025 v-100@2026", "k")
	f("46", incremental, "", "2026,-200", "", "V")
	f("47", negative, "", "2022,-200 | 2020,-100 | 2023,-5", "v-200@2022 v-100@2020 v-5@2023", "kkk")
	f("48", incremental, "", "2001,0", "", "D")
	f("49", incremental, "", "- 2025", "v1@2025", "sk")
	f("50", incremental, "", "- 2026+8000=b", "v1@2026+8000=b v2@2026+8001", "kk")
	f("51", incremental, "v1@2020", "-", "v1@2020", "s")
	f("52", incremental, "v1@2020", "-=b", "v1@2020 v2@2026=b", "k")
	f("53", incremental, "", "-=a -=b", "v1@2026", "kD")
	f("54", incremental, "", "-=a | -=b", "v1@2026 v2@2026+1=b", "kk")
	f("55", incremental, "", "2000 2000+3600000del", "v1@2000 v2@2000+3600000del", "kk")
	f("56", incremental, "", "2002,2del 2001,1", "v2@2002del v1@2001", "kk")
	f("57", incremental, "", "2001,1del 2002,2", "v2@2002 v1@2001del", "kk")
	f("58", incremental, "", "- -del", "v1@2026", "kD")
	f("59", incremental, "", "-del -", "v1@2026del", "kD")
	f("60", incremental, "v1@2020", "-del", "v1@2020 v2@2026del", "k")
	f("61", incremental, "v1@2020del", "-del", "v1@2020del v2@2026del", "k")
	f("62", incremental, "v2@2021del v1@2020", "-=b", "v2@2021del v1@2020 v3@2026=b", "k")
	f("62b", incremental, "v1@2020del", "-", "v1@2020del", "s")
	f("75", incremental, "v1@2001 v5@2005", "2000,2", "v1@2001 v5@2005", "V")
	f("76", incremental, "", "2001,9 2001,10", "v10@2001", "Dk")
}

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
	// Many units, initial: one line of all.
	f(testKey{mode: InitialLoad}, "", "- | -=b | -del", "v1@2026", "kDD")
}

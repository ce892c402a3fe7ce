package bulk

import (
	"fmt"
	"strings"
)

// contractRow is a row of the version rules' table: what the store had, the
// lines, and what comes of them in each way that they can arrive.
//
// Lines are shorthand, {"id":"a","lu":2001,"v":"1","bd":"1990","del":1} for id,
// lastUpdated, versionId, birthDate and the deleted-state extension ("rt" is
// another resource type than Patient), or a whole resource. A date is a year, a
// text, or "now" or "t" and a distance: "now" is the server's time when the
// lines arrive, "t" an hour before, when the store got what it had.
type contractRow struct {
	row      string
	mode     Mode
	negative bool   // allowNegativeVersions
	unit     int64  // processingUnitBytesToRead
	typ      string // input.type
	etag     string // of the last input
	// before are lines that were imported, each by a job of its own, or
	// "api {line}" and "api delete id", which the API did.
	before []string
	lines  []string
	raw    []string // instead of lines: the inputs' bytes
	holds  string   // the current resource has this in it

	one   *contractOutcome // all lines in one file, which is one unit unless the row says so
	files *contractOutcome // a file for each line, one job; nil: as one
	jobs  *contractOutcome // a job for each line; nil: as files
	why   string           // the ways differ, or the row is not as in Microsoft's server
}

// contractOutcome is what a row comes to.
type contractOutcome struct {
	counts  string // ok/err
	history string // newest first: "v3@2003* bd=1990, v2@2002 del; Observation/b: v1@nowZ*"; Z: the server dated it
	refused []string
	failed  string // the job ends as failed, for this reason
}

// is describes an outcome. A refusal is "line:text"; D and V stand for the
// contract's texts, I'x' for that of the invalid id x, "text..." for how it begins.
func is(counts, history string, refused ...string) *contractOutcome {
	return &contractOutcome{counts: counts, history: history, refused: refused}
}

// noWay: the row cannot arrive like this.
var noWay = new(contractOutcome)

// Reasons why a row depends on how it arrives. A unit resolves as one batch;
// units, files and jobs come one after the other, in request order.
const (
	whyRepeat = "in one unit the second line is a duplicate; in the next unit it is a version that the store has"
	whyLatest = "in one unit the latest date wins; of two units the first one's line is in the store when the second comes"
	whyOrder  = "in one unit the order is versioned, dated, undated; units come in request order"
)

func contractLines(lines ...string) []string { return lines }

// The rows of section 3.5, numbered as there.
var contractRows = []contractRow{
	{row: "1", mode: InitialLoad, lines: contractLines(`{"id":"a","lu":2021,"v":"2"}`), one: is("1/0", "v1@nowZ*")},
	{row: "2", mode: InitialLoad, lines: contractLines(`{"id":"a","lu":2021,"v":"2"}`, `{"id":"a","lu":2021,"v":"2"}`), one: is("1/1", "v1@nowZ*", "2:D")},
	{row: "3", mode: InitialLoad, before: contractLines(`api {"id":"a","bd":"1980"}`), lines: contractLines(`{"id":"a"}`, `{"id":"a"}`), one: is("0/2", "v1@tZ* bd=1980", "1:D", "2:D")},
	{row: "4", mode: InitialLoad, before: contractLines(`{"id":"a","del":1}`), lines: contractLines(`{"id":"a"}`), one: is("0/1", "v1@tZ* del", "1:D")},
	{row: "5", mode: InitialLoad, lines: contractLines(`{"id":"a","del":1}`), one: is("1/0", "v1@nowZ* del")},
	{
		row: "6", mode: InitialLoad, lines: contractLines(`{"resourceType":"Observation","id":"a","subject":{"reference":"Patient?identifier=x"}}`),
		one: is("0/1", "", "1:Conditional reference is not supported for $import in InitialLoad."),
	},
	{
		row: "7", lines: contractLines(`{"resourceType":"Observation","id":"a","subject":{"reference":"Patient?identifier=x"}}`),
		one: is("1/0", "Observation/a: v1@nowZ*"), holds: `"subject":{"reference":"Patient?identifier=x"}`,
	},
	{row: "8", lines: contractLines(`{"id":"a"}`), one: is("1/0", "v1@nowZ*")},
	{row: "9", lines: contractLines(`{"id":"a","lu":2021,"v":"2"}`), one: is("1/0", "v2@2021*")},
	{row: "10", lines: contractLines(`{"id":"a","lu":2021,"v":"2"}`, `{"id":"a","lu":2021,"v":"2"}`), one: is("1/1", "v2@2021*", "2:D"), files: is("2/0", "v2@2021*"), why: whyRepeat},
	{row: "11", lines: contractLines(`{"id":"a","lu":2021}`), one: is("1/0", "v1@2021*")},
	{row: "12", before: contractLines(`{"id":"a","lu":2021}`), lines: contractLines(`{"id":"a","lu":2021}`), one: is("1/0", "v1@2021*")},
	{row: "13", before: contractLines(`{"id":"a","lu":2021,"v":"2"}`), lines: contractLines(`{"id":"a","lu":2021,"v":"2"}`), one: is("1/0", "v2@2021*")},
	{row: "14", before: contractLines(`{"id":"a","lu":2021,"v":"2"}`), lines: contractLines(`{"id":"a","lu":2021,"v":"2","bd":"2000"}`), one: is("0/1", "v2@2021*", "1:V")},
	{row: "15", before: contractLines(`{"id":"a","lu":2021}`), lines: contractLines(`{"id":"a","lu":2021,"bd":"2000"}`), one: is("0/1", "v1@2021*", "1:V")},
	{row: "16", before: contractLines(`{"id":"a","lu":2021,"v":"2"}`), lines: contractLines(`{"id":"a","lu":2021,"v":"3"}`), one: is("0/1", "v2@2021*", "1:V")},
	{
		row: "17", before: contractLines(`{"id":"a","lu":"2021-06-01T10:00:00.1234567+10:00"}`), lines: contractLines(`{"id":"a","lu":"2021-06-01T00:00:00.123Z"}`),
		one: is("1/0", "v1@2021-06-01T10:00:00.123+10:00*"),
	},
	{row: "18", lines: contractLines(`{"id":"a","lu":"2023-01-01T00:00:00.1239+10:00"}`), one: is("1/0", "v1@2023-01-01T00:00:00.123+10:00*")},
	{row: "19", lines: contractLines(`{"id":"a","lu":"now+60s"}`), one: is("0/1", "", "1:LastUpdated in the resource cannot be in the future.")},
	{row: "20", lines: contractLines(`{"id":"a","lu":"now+8s"}`), one: is("1/0", "v1@now+8s*")},
	{row: "21", lines: contractLines(`{"id":"a","v":"5"}`), one: is("1/0", "v1@nowZ*")},
	{row: "22", lines: contractLines(`{"id":"a","lu":2001,"v":"abc"}`), one: is("1/0", "v1@2001*")},
	{row: "23", lines: contractLines(`{"id":"a","lu":2001,"v":"1"}`, `{"id":"a","lu":2002,"v":"2"}`, `{"id":"a","lu":2003,"v":"3"}`), one: is("3/0", "v3@2003*, v2@2002, v1@2001")},
	{
		row: "24", before: contractLines(`{"id":"a","lu":2002,"v":"2"}`),
		lines: contractLines(`{"id":"a","lu":2001,"v":"1"}`, `{"id":"a","lu":2002,"v":"2"}`, `{"id":"a","lu":2003,"v":"3"}`),
		one:   is("3/0", "v3@2003*, v2@2002, v1@2001"),
	},
	{
		row: "25", before: contractLines(`{"id":"a","lu":2000,"v":"10000"}`),
		lines: contractLines(`{"id":"a","lu":2001,"v":"10100"}`, `{"id":"a","lu":1999,"v":"9000"}`, `{"id":"a","lu":2003,"v":"10300"}`),
		one:   is("3/0", "v10300@2003*, v10100@2001, v10000@2000, v9000@1999"),
	},
	{row: "26", before: contractLines(`{"id":"a","lu":2002,"v":"2"}`), lines: contractLines(`{"id":"a","lu":2001,"v":"1"}`), one: is("1/0", "v2@2002*, v1@2001")},
	{row: "27", before: contractLines(`{"id":"a","lu":2001,"v":"3"}`), lines: contractLines(`{"id":"a","lu":2002,"v":"2"}`), one: is("0/1", "v3@2001*", "1:V")},
	{row: "28", before: contractLines(`{"id":"a","lu":2001,"v":"3"}`), lines: contractLines(`{"id":"a","lu":2000,"v":"4"}`), one: is("0/1", "v3@2001*", "1:V")},
	{
		row: "29", lines: contractLines(`{"id":"a","lu":2001,"v":"3"}`, `{"id":"a","lu":2004,"v":"2"}`),
		one: is("1/1", "v2@2004*", "1:V"), files: is("1/1", "v3@2001*", "2:V"), why: whyLatest,
	},
	{
		row: "30", before: contractLines(`{"id":"a","lu":2002,"v":"2"}`), lines: contractLines(`{"id":"a","lu":2003,"v":"1"}`, `{"id":"a","lu":2003,"v":"3"}`),
		one: is("1/1", "v3@2003*, v2@2002", "1:D"), files: is("1/1", "v3@2003*, v2@2002", "1:V"), why: "apart, the first line meets only the store: row 31",
	},
	{
		row: "31", before: contractLines(`{"id":"a","lu":2002,"v":"2"}`), lines: contractLines(`{"id":"a","lu":2003,"v":"1"}`, `{"id":"a","lu":2003,"v":"3"}`),
		one: is("1/1", "v3@2003*, v2@2002", "1:D"), files: is("1/1", "v3@2003*, v2@2002", "1:V"), why: "two imports by nature; in one unit it is row 30",
	},
	{
		row: "32", before: contractLines(`{"id":"a","lu":2002,"v":"2"}`), lines: contractLines(`{"id":"a","lu":2001,"v":"3"}`, `{"id":"a","lu":2003,"v":"3"}`),
		one: is("1/1", "v3@2003*, v2@2002", "1:D"), files: is("1/1", "v3@2003*, v2@2002", "1:V"), why: "apart, the first line meets only the store, where a lower version is later",
	},
	{row: "33", before: contractLines(`api {"id":"a"}`), lines: contractLines(`{"id":"a","lu":"t+8s","v":"1"}`), one: is("0/1", "v1@tZ*", "1:V")},
	{
		row: "34", lines: contractLines(`{"id":"a","lu":"now","v":"1"}`, `{"id":"a","lu":"now+8s","v":"1"}`),
		one: is("1/1", "v1@now+8s*", "1:D"), files: is("1/1", "v1@now*", "2:V"), why: whyLatest,
	},
	{row: "35", before: contractLines(`api {"id":"a"}`), lines: contractLines(`{"id":"a","lu":"t+8s"}`), one: is("1/0", "v2@t+8s*, v1@tZ")},
	{row: "36", lines: contractLines(`{"id":"a","lu":2001,"v":"1"}`, `{"id":"a","lu":2002}`, `{"id":"a","lu":2003,"v":"3"}`), one: is("3/0", "v3@2003*, v2@2002, v1@2001")},
	{
		row: "37", lines: contractLines(`{"id":"a","lu":2001,"v":"1"}`, `{"id":"a","lu":2002}`, `{"id":"a","lu":2003,"v":"2"}`),
		one: is("2/1", "v2@2003*, v1@2001", "2:V"), files: is("2/1", "v2@2002*, v1@2001", "3:V"), why: whyOrder + ": the dated line takes version 2 first",
	},
	{
		row: "38", negative: true, lines: contractLines(`{"id":"a","lu":2001,"v":"1"}`, `{"id":"a","lu":2002}`, `{"id":"a","lu":2003,"v":"2"}`),
		one: is("3/0", "v2@2003*, v-1@2002, v1@2001"), files: is("2/1", "v2@2002*, v1@2001", "3:V"), why: whyOrder + ": the dated line takes version 2 first",
	},
	{
		row: "39", negative: true, lines: contractLines(`{"id":"a","lu":2001,"v":"1"}`, `{"id":"a","lu":2002}`, `{"id":"a","lu":2003}`, `{"id":"a","lu":2004,"v":"2"}`),
		one: is("4/0", "v2@2004*, v-1@2003, v-2@2002, v1@2001"), files: is("3/1", "v3@2003*, v2@2002, v1@2001", "4:V"), why: whyOrder + ": the dated lines take versions 2 and 3 first",
	},
	{
		row: "40", negative: true, before: contractLines(`{"id":"a","lu":2004,"v":"10"}`, `{"id":"a","lu":2001,"v":"1"}`), lines: contractLines(`{"id":"a","lu":2002}`, `{"id":"a","lu":2003}`),
		one: is("2/0", "v10@2004*, v9@2003, v8@2002, v1@2001"), files: is("2/0", "v10@2004*, v-1@2003, v9@2002, v1@2001"),
		why: "in one unit late lines count down from the latest; apart, the first takes 9 and leaves no number above it",
	},
	{row: "41", before: contractLines(`{"id":"a","lu":2002,"v":"2"}`), lines: contractLines(`{"id":"a","lu":2001}`), one: is("1/0", "v2@2002*, v1@2001")},
	{row: "42", before: contractLines(`{"id":"a","lu":2002,"v":"2"}`, `{"id":"a","lu":2001}`), lines: contractLines(`{"id":"a","lu":2001}`), one: is("1/0", "v2@2002*, v1@2001")},
	{row: "43", before: contractLines(`{"id":"a","lu":2005,"v":"1"}`), lines: contractLines(`{"id":"a","lu":2001}`), one: is("0/1", "v1@2005*", "1:V")},
	{row: "44", negative: true, before: contractLines(`{"id":"a","lu":2005,"v":"1"}`), lines: contractLines(`{"id":"a","lu":2001}`), one: is("1/0", "v1@2005*, v-1@2001")},
	{row: "45", negative: true, before: contractLines(`{"id":"a","lu":"now-24h","v":"4"}`), lines: contractLines(`{"id":"a","lu":"now","v":"-100"}`), one: is("1/0", "v-100@now, v4@now-24h*")},
	{row: "46", lines: contractLines(`{"id":"a","lu":"now","v":"-200"}`), one: is("0/1", "", "1:V")},
	{
		row: "47", negative: true, lines: contractLines(`{"id":"a","lu":"now-48h","v":"-200"}`, `{"id":"a","lu":"now-96h","v":"-100"}`, `{"id":"a","lu":"now-24h","v":"-5"}`),
		one: is("3/0", "v-5@now-24h, v-200@now-48h, v-100@now-96h"),
	},
	{row: "48", lines: contractLines(`{"id":"a","lu":2001,"v":"0"}`), one: is("0/1", "", "1:D")},
	{
		row: "49", lines: contractLines(`{"id":"a"}`, `{"id":"a","lu":"now-24h"}`),
		one: is("2/0", "v1@now-24h*"), files: is("1/1", "v1@nowZ*", "2:V"), why: whyOrder + ": the dated line then comes late, and there is no number below 1",
	},
	{
		row: "50", lines: contractLines(`{"id":"a"}`, `{"id":"a","lu":"now+8s","bd":"1990"}`),
		one: is("2/0", "v2@now+8.001sZ*, v1@now+8s bd=1990"), files: is("2/0", "v2@now+8s* bd=1990, v1@nowZ"), why: whyOrder + "; nobody waits: a version is dated after the one before it",
	},
	{row: "51", before: contractLines(`api {"id":"a"}`), lines: contractLines(`{"id":"a"}`), one: is("1/0", "v1@tZ*")},
	{row: "52", before: contractLines(`api {"id":"a"}`), lines: contractLines(`{"id":"a","bd":"1990"}`), one: is("1/0", "v2@nowZ* bd=1990, v1@tZ")},
	{
		row: "53", lines: contractLines(`{"id":"a","bd":"1990"}`, `{"id":"a","bd":"1991"}`),
		one: is("1/1", "v1@nowZ* bd=1990", "2:D"), files: is("2/0", "v2@now+1msZ* bd=1991, v1@nowZ bd=1990"), why: "apart, it is row 54",
	},
	{
		row: "54", unit: 1, lines: contractLines(`{"id":"a","bd":"1990"}`, `{"id":"a","bd":"1991"}`),
		one: is("2/0", "v2@now+1msZ* bd=1991, v1@nowZ bd=1990"), why: "every line is a unit; the order is that of the request",
	},
	{row: "55", lines: contractLines(`{"id":"a","lu":2000}`, `{"id":"a","lu":"2000-01-01T01:00:00.000+00:00","del":1}`), one: is("2/0", "v2@2000-01-01T01:00:00.000+00:00* del, v1@2000")},
	{row: "56", lines: contractLines(`{"id":"a","lu":2001,"v":"1"}`, `{"id":"a","lu":2002,"v":"2","del":1}`), one: is("2/0", "v2@2002* del, v1@2001")},
	{row: "56", lines: contractLines(`{"id":"a","lu":2002,"v":"2","del":1}`, `{"id":"a","lu":2001,"v":"1"}`), one: is("2/0", "v2@2002* del, v1@2001")},
	{row: "57", lines: contractLines(`{"id":"a","lu":2001,"v":"1","del":1}`, `{"id":"a","lu":2002,"v":"2"}`), one: is("2/0", "v2@2002*, v1@2001 del")},
	{row: "57", lines: contractLines(`{"id":"a","lu":2002,"v":"2"}`, `{"id":"a","lu":2001,"v":"1","del":1}`), one: is("2/0", "v2@2002*, v1@2001 del")},
	{
		row: "58", lines: contractLines(`{"id":"a"}`, `{"id":"a","del":1}`),
		one: is("1/1", "v1@nowZ*", "2:D"), files: is("2/0", "v2@now+1msZ* del, v1@nowZ"), why: "apart, it is row 60",
	},
	{
		row: "59", lines: contractLines(`{"id":"a","del":1}`, `{"id":"a"}`),
		one: is("1/1", "v1@nowZ* del", "2:D"), files: is("2/0", "v1@nowZ* del"), why: "apart, it is row 62b",
	},
	{row: "60", before: contractLines(`api {"id":"a"}`), lines: contractLines(`{"id":"a","del":1}`), one: is("1/0", "v2@nowZ* del, v1@tZ")},
	{row: "61", before: contractLines(`{"id":"a","del":1}`), lines: contractLines(`{"id":"a","del":1}`), one: is("1/0", "v2@nowZ* del, v1@tZ del")},
	{
		row: "62", before: contractLines(`api {"id":"a"}`, `api delete a`), lines: contractLines(`{"id":"a","bd":"1990"}`),
		one: is("1/0", "v3@nowZ* bd=1990, v2@t+1msZ del, v1@tZ"),
	},
	{row: "62b", before: contractLines(`{"id":"a","bd":"1990","del":1}`), lines: contractLines(`{"id":"a","bd":"1990"}`), one: is("1/0", "v1@tZ* del bd=1990")},
	{
		row: "63", lines: contractLines(`{"resourceType":"Patient","id":"a","meta":{"extension":[{"url":"http://azurehealthcareapis.com/data-extensions/deleted-state","valueString":"deleted"}]}}`),
		one: is("1/0", "v1@nowZ*"), holds: `"extension":[{"url":"http://azurehealthcareapis.com/data-extensions/deleted-state","valueString":"deleted"}]`,
	},
	{
		row: "64", lines: contractLines(`{"id":"#bad"}`, `{"id":""}`, `{"id":"`+strings.Repeat("a", 65)+`"}`, `{"id":"a/b"}`),
		one: is("0/4", "", "1:I'#bad'", "2:I''", "3:I'"+strings.Repeat("a", 65)+"'", "4:I'a/b'"),
	},
	{row: "65", lines: contractLines(`{"resourceType":"Patient"}`), one: is("0/1", "", "1:I'null or empty'")},
	{row: "66", lines: contractLines(`{"resourceType":"Patient"`, `{"id":"b"}`), one: is("1/1", "b: v1@nowZ*", "1:not valid JSON at byte 25: ...")},
	{row: "67", typ: "Observation", lines: contractLines(`{"id":"a"}`, `{"id":"b"}`), one: is("0/2", "", "1:Resource type not match.", "2:Resource type not match.")},
	{row: "68", lines: contractLines(`{"id":"a"}`, `{"rt":"Observation","id":"b"}`), one: is("2/0", "v1@nowZ*; Observation/b: v1@nowZ*")},
	{
		row: "69", lines: contractLines(`{"resourceType":"SearchParameter","id":"a","url":"http://example.org/a","name":"a","status":"active","description":"a","code":"a","base":["Patient"],"type":"token"}`),
		one: is("0/1", "", "1:SearchParameter resources cannot be processed by import."),
	},
	{row: "70", before: contractLines(`api {"id":"a"}`), lines: contractLines(`{"rt":"Observation","id":"a"}`), one: is("1/0", "v1@tZ*; Observation/a: v1@nowZ*")},
	{
		row: "71", lines: contractLines(`{"id":"a"}`, `{"id":"b"}`, `{"id":"c"}`, `{"id":"d"}`, `{"id":"e"}`, `nonsense`, `{"id":"f"}`, `{"id":"g"}`, `{"id":"h"}`, `{"id":"i"}`, `{"id":"j"}`),
		one: is("10/1", contractFresh("abcdefghij"), "6:not a FHIR resource..."),
	},
	{row: "72", raw: contractLines("\n\n" + `{"resourceType":"Patient","id":"a"}` + "\n\n" + `{"resourceType":"Patient","id":"b"}` + "\n\n"), one: is("2/0", contractFresh("ab"))},
	{row: "72", raw: contractLines("\r\n" + `{"resourceType":"Patient","id":"a"}` + "\r\n\r\n" + `{"resourceType":"Patient","id":"b"}` + "\r\n"), one: is("2/0", contractFresh("ab"))},
	{row: "72", raw: contractLines(`{"resourceType":"Patient","id":"a"}` + "\n" + `{"resourceType":"Patient","id":"b"}`), one: is("2/0", contractFresh("ab"))},
	{row: "72", raw: contractLines("\xef\xbb\xbf" + `{"resourceType":"Patient","id":"a"}` + "\r\n" + `{"resourceType":"Patient","id":"b"}`), one: is("2/0", contractFresh("ab"))},
	{
		row: "72", raw: contractLines("\n" + `{"resourceType":"Patient","id":"a"}` + "\n \n" + `{"resourceType":"Patient",` + "\r" + `"id":"b"}` + "\n"),
		one: is("2/1", contractFresh("ab"), "2:not valid JSON at byte 1: ..."), why: "a line of blanks is not empty, and a lone CR is no end of a line",
	},
	{row: "73", raw: contractLines(""), one: is("0/0", "")},
	{
		row: "74", etag: `"0x8D0000000000000"`, raw: contractLines(`{"resourceType":"Patient","id":"a"}`, `{"resourceType":"Patient","id":"b"}`),
		one: &contractOutcome{counts: "0/0", failed: "Input file Etag not match. {url}"}, jobs: noWay, why: "nothing of any file of the job is loaded; a job apart knows nothing of the other's file",
	},
	{
		row: "75", before: contractLines(`{"id":"a","lu":2001,"v":"1"}`, `{"id":"a","lu":2005,"v":"5"}`), lines: contractLines(`{"id":"a","lu":2000,"v":"2"}`),
		one: is("0/1", "v5@2005*, v1@2001", "1:V"), why: "compared with both neighbours in history, not only with the current version",
	},
	{
		row: "76", lines: contractLines(`{"id":"a","lu":2001,"v":"9"}`, `{"id":"a","lu":2001,"v":"10"}`),
		one: is("1/1", "v10@2001*", "1:D"), files: is("1/1", "v9@2001*", "2:V"), why: "versions are compared as numbers; apart, the second is another version of a date that is taken (row 16)",
	},
	{
		row: "77", raw: contractOneDate(20, 500), one: is("10000/0", contractOneDateHistory(20, 500)),
		why: "there is no limit; 20 files of 500 instead of 81 of 1,000 keep the test quick",
	},
}

// contractFresh is the history of some new ids of one letter.
func contractFresh(ids string) string {
	var out []string
	for _, id := range ids {
		out = append(out, string(id)+": v1@nowZ*")
	}
	return strings.Join(out, "; ")
}

// contractOneDate is files of patients that all have one lastUpdated.
func contractOneDate(files, lines int) []string {
	out := make([]string, files)
	for f := range files {
		var text strings.Builder
		for l := range lines {
			fmt.Fprintf(&text, `{"resourceType":"Patient","id":"p%02d-%03d","meta":{"lastUpdated":"2001-01-01T00:00:00.000+00:00"}}`+"\n", f, l)
		}
		out[f] = text.String()
	}
	return out
}

func contractOneDateHistory(files, lines int) string {
	var out []string
	for f := range files {
		for l := range lines {
			out = append(out, fmt.Sprintf("p%02d-%03d: v1@2001*", f, l))
		}
	}
	return strings.Join(out, "; ")
}

package httpapi

import (
	"bytes"
	"net/http"
	"testing"
	"time"
)

func lines(headers ...string) [][]byte {
	var out [][]byte
	for _, h := range headers {
		out = append(out, []byte(h))
	}
	return out
}

func TestPreferIsAListOverAllItsHeaders(t *testing.T) {
	f := func(want preferences, headers ...string) {
		t.Helper()
		if got := parsePrefer(lines(headers...)); got != want {
			t.Errorf("%q: got %+v, want %+v", headers, got, want)
		}
	}
	f(preferences{})
	f(preferences{}, "", " , ,")
	f(preferences{respondAsync: true}, "respond-async")
	f(preferences{respondAsync: true}, "Respond-ASYNC ")
	f(preferences{respondAsync: true, handling: true, lenient: true}, "handling=lenient, respond-async")
	f(preferences{respondAsync: true, handling: true}, "handling=strict", "respond-async")
	f(preferences{handling: true}, "handling=strict, handling=lenient")
	f(preferences{unknown: "handling=other"}, "handling=other")
	f(preferences{unknown: "wait=10", respondAsync: true}, "wait=10, respond-async, odd")
	f(preferences{unknown: "respond-async=5"}, "respond-async=5")
	f(preferences{returns: returnMinimal}, `return="minimal"; foo=bar`)
	f(preferences{returns: returnRepresentation}, "return=representation, return=minimal")
	f(preferences{returns: returnOutcome}, "return=OperationOutcome")
	f(preferences{badReturn: "all"}, "return=all")
	f(preferences{unknown: `a="x, respond-async"`}, `a="x, respond-async"`)
}

func TestIfMatchNeedsAWeakTag(t *testing.T) {
	f := func(tag string, version int64, ok bool) {
		t.Helper()
		got, gotOK := parseWeakETag([]byte(tag))
		if gotOK != ok || ok && got != version {
			t.Errorf("%s: got %d, %v", tag, got, gotOK)
		}
	}
	f(`W/"1"`, 1, true)
	f(` W/"-7" `, -7, true)
	f(`W/"abc"`, noVersion, true)
	f(`W/"01"`, noVersion, true)
	f(`W/"99999999999999999999"`, noVersion, true)
	f(`"1"`, 0, false)
	f(`w/"1"`, 0, false)
	f(`W/1`, 0, false)
	f(`W/""`, 0, false)
	f(`W/"1", W/"2"`, 0, false)
	f(``, 0, false)
	f(`1`, 0, false)
}

func TestIfNoneMatchComparesWeakly(t *testing.T) {
	f := func(header string, version int64, want bool) {
		t.Helper()
		if got := anyTagMatches([]byte(header), version); got != want {
			t.Errorf("%s against %d: got %v", header, version, got)
		}
	}
	f(`W/"3"`, 3, true)
	f(`"3"`, 3, true)
	f(`*`, 3, true)
	f(`W/"1", W/"3"`, 3, true)
	f(`W/"1","2"`, 3, false)
	f(`W/"03"`, 3, false)
	f(`3`, 3, false)
	f(`"`, 3, false)
	f(`"""`, 3, false)
	f(``, 3, false)
}

func TestHTTPDatesHaveThreeForms(t *testing.T) {
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	for _, text := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"} {
		if got, ok := parseHTTPDate([]byte(text)); !ok || !got.Equal(want) {
			t.Errorf("%s: got %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "yesterday", "1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 CET"} {
		if got, ok := parseHTTPDate([]byte(text)); ok {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestAcceptTakesTheMostSpecificRange(t *testing.T) {
	f := func(want bool, headers ...string) {
		t.Helper()
		if got := acceptsJSON(lines(headers...)); got != want {
			t.Errorf("%q: got %v", headers, got)
		}
	}
	f(true)
	f(true, "")
	f(true, "*/*")
	f(true, "application/fhir+json")
	f(true, "application/fhir+json; fhirVersion=4.0")
	f(true, "Application/JSON;charset=utf-8")
	f(true, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	f(true, "application/fhir+xml, application/fhir+json;q=0.1")
	f(true, "application/fhir+xml", "application/*")
	f(false, "application/fhir+xml")
	f(false, "text/html")
	f(false, "application/fhir+json;q=0, */*")
	f(false, "application/json; q=0.000")
	f(false, "application/fhir+json; fhirVersion=5.0")
}

func TestFormatParameterForgivesAnUnescapedPlus(t *testing.T) {
	f := func(format string, want bool) {
		t.Helper()
		if got := formatIsJSON(format); got != want {
			t.Errorf("%q: got %v", format, got)
		}
	}
	f("json", true)
	f("application/fhir json", true)
	f("application/fhir+json", true)
	f("application/fhir+json; fhirVersion=4.0", true)
	f("application/json", true)
	f("xml", false)
	f("application/fhir+xml", false)
	f("html", false)
	f("application/fhir+json; fhirVersion=3.0", false)
}

func TestBodiesAreJSONInUTF8(t *testing.T) {
	f := func(contentType string, want bool) {
		t.Helper()
		if got := parseMediaType([]byte(contentType)).isJSON(); got != want {
			t.Errorf("%q: got %v", contentType, got)
		}
	}
	f("application/fhir+json", true)
	f("application/json; charset=UTF-8", true)
	f(`application/fhir+json; charset="utf-8"; fhirVersion=4.0`, true)
	f("application/fhir+json; charset=iso-8859-1", false)
	f("application/fhir+json; fhirVersion=5.0", false)
	f("application/fhir+xml", false)
	f("text/plain", false)
	f("", false)
}

func TestRangesOfAFile(t *testing.T) {
	f := func(header string, size int64, want byteRange, what rangeResult) {
		t.Helper()
		got, gotWhat := parseRange([]byte(header), size)
		if gotWhat != what || got != want {
			t.Errorf("%q of %d: got %v, %v", header, size, got, gotWhat)
		}
	}
	f("", 10, byteRange{}, rangeWhole)
	f("bytes=0-3", 10, byteRange{0, 4}, rangePart)
	f("bytes=4-", 10, byteRange{4, 6}, rangePart)
	f("bytes=4-99", 10, byteRange{4, 6}, rangePart)
	f("bytes=9-9", 10, byteRange{9, 1}, rangePart)
	f("bytes=-3", 10, byteRange{7, 3}, rangePart)
	f("bytes=-30", 10, byteRange{0, 10}, rangePart)
	f("bytes=0-99999999999999999999", 10, byteRange{0, 10}, rangePart)
	f("bytes=10-", 10, byteRange{}, rangeUnsatisfiable)
	f("bytes=-0", 10, byteRange{}, rangeUnsatisfiable)
	f("bytes=0-", 0, byteRange{}, rangeUnsatisfiable)
	f("bytes=5-4", 10, byteRange{}, rangeWhole)
	f("bytes=0-1,4-5", 10, byteRange{}, rangeWhole)
	f("bytes=-", 10, byteRange{}, rangeWhole)
	f("bytes=a-b", 10, byteRange{}, rangeWhole)
	f("bytes=+1-2", 10, byteRange{}, rangeWhole)
	f("lines=1-2", 10, byteRange{}, rangeWhole)
}

func TestTheCodingIsTheOneThatIsLikedMost(t *testing.T) {
	f := func(want coding, headers ...string) {
		t.Helper()
		if got := chooseCoding(lines(headers...)); got != want {
			t.Errorf("%q: got %q", headers, codingNames[got])
		}
	}
	f(codingNone)
	f(codingNone, "identity")
	f(codingNone, "br")
	f(codingGzip, "gzip")
	f(codingGzip, "x-gzip")
	f(codingDeflate, "deflate, GZIP;q=0.5")
	f(codingGzip, "gzip, deflate, br")
	f(codingZstd, "gzip, deflate, br, zstd")
	f(codingZstd, "gzip;q=0.5, zstd;q=1.0")
	f(codingGzip, "gzip", "zstd;q=0.999")
	f(codingGzip, "*")
	f(codingNone, "*;q=0")
	f(codingNone, "gzip;q=0, *")
	f(codingNone, "gzip;q=0.5, identity")
	f(codingGzip, "gzip;q=0.5, identity;q=0.5")
	f(codingNone, "gzip;q=0.0000", "zstd;q=x", "deflate;q=2")
}

func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{"", `W/"1"`, "bytes=1-2", `return=minimal, handling="lenient"`, "gzip;q=0,*", `a="b,c\"d",e`, "Sun, 06 Nov 1994 08:49:37 GMT"} {
		f.Add([]byte(seed), int64(100))
	}
	f.Fuzz(func(t *testing.T, header []byte, size int64) {
		size &= 1<<62 - 1
		if part, what := parseRange(header, size); what == rangePart && (part.from < 0 || part.bytes < 1 || part.from+part.bytes > size) {
			t.Errorf("range %q of %d is %v", header, size, part)
		}
		if version, ok := parseWeakETag(header); ok && version != noVersion && !anyTagMatches(header, version) {
			t.Errorf("%q names version %d and does not match it", header, version)
		}
		if p := parsePrefer([][]byte{header}); p.returns != returnDefault && p.badReturn != "" || p.lenient && !p.handling || p.respondAsync && !bytes.Contains(bytes.ToLower(header), []byte("respond-async")) {
			t.Errorf("%q prefers %+v", header, p)
		}
		if !acceptsJSON([][]byte{header, []byte(contentTypeFHIR)}) {
			t.Errorf("%q keeps %s from being taken", header, contentTypeFHIR)
		}
		if c := chooseCoding([][]byte{header}); c != codingNone && !bytes.Contains(header, []byte("*")) && !bytes.Contains(bytes.ToLower(header), []byte(codingNames[c])) {
			t.Errorf("%q asks for no %s", header, codingNames[c])
		}
		if c := chooseCoding([][]byte{header, []byte("gzip;q=0, zstd;q=0, deflate;q=0, *;q=0, x-gzip;q=0")}); c == codingCount {
			t.Errorf("%q chooses no coding", header)
		}
		if at, ok := parseHTTPDate(header); ok {
			if again, ok := parseHTTPDate([]byte(at.Format(http.TimeFormat))); at.Year() < 10000 && (!ok || !again.Equal(at)) {
				t.Errorf("%q is %v, and that is %v", header, at, again)
			}
		}
	})
}

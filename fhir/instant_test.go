package fhir

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

func TestParseInstantKeepsMillisecondsAndOffset(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		got, err := ParseInstant([]byte(text))
		if err != nil || got.String() != want {
			t.Errorf("ParseInstant(%q) = %s, %v; want %s", text, got, err, want)
		}
	}
	f("2023-01-01T00:00:00Z", "2023-01-01T00:00:00.000Z")
	f("2023-01-01T00:00:00.1239+10:00", "2023-01-01T00:00:00.123+10:00")
	f("2023-01-01T00:00:00.9999999999999999999999-00:30", "2023-01-01T00:00:00.999-00:30")
	f("2023-01-01T00:00:00.1+00:00", "2023-01-01T00:00:00.100+00:00")
	f("2023-01-01T00:00:00.12-14:00", "2023-01-01T00:00:00.120-14:00")
	f("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00.000+14:00")
	f("9999-12-31T23:59:59.999-14:00", "9999-12-31T23:59:59.999-14:00")
	f("2000-02-29T23:59:59Z", "2000-02-29T23:59:59.000Z")
	f("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z")
	f("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.500Z")
}

// The standard library's layout says the same, also outside of FHIR's years.
func TestInstantIsWrittenAsTheStandardLibraryDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const year = 365 * 24 * 3600 * 1000
	for range 20_000 {
		at := Instant{Milli: random.Int64N(14_000*year) - 3000*year, OffsetMinutes: OffsetZ}
		if want := time.UnixMilli(at.Milli).UTC().Format("2006-01-02T15:04:05.000Z"); at.String() != want {
			t.Fatalf("%d is %s instead of %s", at.Milli, at, want)
		}
	}
}

func BenchmarkInstantAppend(b *testing.B) {
	at, dst := Instant{Milli: 1_700_000_000_123, OffsetMinutes: -300}, []byte(nil)
	for b.Loop() {
		dst = at.Append(dst[:0])
	}
}

func TestParseInstantRefuses(t *testing.T) {
	f := func(text string) {
		t.Helper()
		if got, err := ParseInstant([]byte(text)); !errors.Is(err, ErrInstant) {
			t.Errorf("ParseInstant(%q) = %s, %v; want an error", text, got, err)
		}
	}
	f("")
	f("2023")
	f("2023-01-01")
	f("2023-01-01T00:00Z")
	f("2023-01-01T00:00:00")
	f("2023-01-01T00:00:00.Z")
	f("2023-01-01T00:00:00z")
	f("2023-01-01t00:00:00Z")
	f("2023-01-01 00:00:00Z")
	f("2023-01-01T00:00:00Z ")
	f(" 2023-01-01T00:00:00Z")
	f("2023-01-01T00:00:00+1000")
	f("2023-01-01T00:00:00+14:01")
	f("2023-01-01T00:00:00-15:00")
	f("2023-01-01T00:00:00+01:60")
	f("2023-01-01T00:00:00 10:00")
	f("2023-01-01T24:00:00Z")
	f("2023-01-01T00:60:00Z")
	f("2023-01-01T00:00:61Z")
	f("2023-00-01T00:00:00Z")
	f("2023-13-01T00:00:00Z")
	f("2023-04-31T00:00:00Z")
	f("2023-02-29T00:00:00Z")
	f("1900-02-29T00:00:00Z")
	f("0000-01-01T00:00:00Z")
	f("+2023-01-01T00:00:00Z")
	f("-023-01-01T00:00:00Z")
}

func TestParseSinceGivesTheEarliestInstant(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		got, err := ParseSince([]byte(text))
		if err != nil || got.String() != want {
			t.Errorf("ParseSince(%q) = %s, %v; want %s", text, got, err, want)
		}
	}
	f("2023", "2023-01-01T00:00:00.000Z")
	f("2023-02", "2023-02-01T00:00:00.000Z")
	f("2024-02-29", "2024-02-29T00:00:00.000Z")
	f("2023-02-28T10:11", "2023-02-28T10:11:00.000Z")
	f("2023-02-28T10:11Z", "2023-02-28T10:11:00.000Z")
	f("2023-02-28T10:11:12", "2023-02-28T10:11:12.000Z")
	f("2023-02-28T10:11:12.3456+02:00", "2023-02-28T10:11:12.345+02:00")
	f("2023-02-28T10:11:12 02:00", "2023-02-28T10:11:12.000+02:00")
	f("2023-02-28T10:11-02:00", "2023-02-28T10:11:00.000-02:00")
}

func TestParseSinceRefuses(t *testing.T) {
	for _, text := range []string{"", "20", "20230101", "2023-", "2023-1", "2023-02-30", "2023-02-01T", "2023-02-01T10", "2023-02-01Z", "2023-02-01T10:", "2023-02-01T10:00:", "2023-02-01T10:00:00.", "x", "2023 "} {
		if got, err := ParseSince([]byte(text)); !errors.Is(err, ErrInstant) {
			t.Errorf("ParseSince(%q) = %s, %v; want an error", text, got, err)
		}
	}
}

func TestInstantDoesNotAllocate(t *testing.T) {
	text, buf := []byte("2023-01-01T00:00:00.1239+10:00"), make([]byte, 0, 64)
	allocs := testing.AllocsPerRun(100, func() {
		at, err := ParseInstant(text)
		if err != nil {
			t.Fatal(err)
		}
		buf = at.Append(buf[:0])
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// FuzzParseInstant compares with package time, which is laxer in known ways.
func FuzzParseInstant(f *testing.F) {
	for _, text := range []string{"2023-01-01T00:00:00Z", "2023-01-01T00:00:00.1239+10:00", "2016-12-31T23:59:60Z", "2024-02-29T23:59:59.999-14:00"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ParseInstant(text)
		want, refErr := time.Parse(time.RFC3339Nano, string(text))
		if err == nil && refErr != nil && !bytes.Contains(text, []byte(":60")) {
			t.Fatalf("%q: got %s, time says %s", text, got, refErr)
		}
		if err != nil || refErr != nil {
			return
		}
		if got.Milli != want.UnixMilli() {
			t.Fatalf("%q: got %d, time says %d", text, got.Milli, want.UnixMilli())
		}
		if again, err := ParseInstant(got.Append(nil)); err != nil || again != got {
			t.Fatalf("%q: came back as %v, %v", got, again, err)
		}
		if since, err := ParseSince(text); err != nil || since != got {
			t.Fatalf("%q: ParseSince gives %v, %v", text, since, err)
		}
	})
}

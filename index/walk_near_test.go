package index

import (
	"fmt"
	"math"
	"testing"

	"kiln/fhir/search"
)

// Distances are told by tables of cities: great circles on a sphere.
func TestNearWalksMeasureOnTheGreatCircle(t *testing.T) {
	places := [][2]string{
		{"52.5200", "13.4050"}, // 0 Berlin
		{"48.8566", "2.3522"},  // 1 Paris: 878 km from Berlin
		{"53.5511", "9.9937"},  // 2 Hamburg: 255 km
		{"-33.8688", "151.2093"},
		{"0", "179.5"}, {"0", "-179.5"}, // 4, 5: 111.2 km from each other
		{"90", "0"}, {"89.9", "180"}, // 6, 7: 11.1 km
		{"91", "13"}, {"5.25200e1", "1.34050E+1"}, {"1e300", "1"}, // 8 is nowhere, 9 Berlin, 10 nowhere
	}
	var values [][]byte
	for _, p := range places {
		value, ok := AppendDecimal(nil, []byte(p[0]))
		value, ok2 := AppendDecimal(value, []byte(p[1]))
		if !ok || !ok2 {
			t.Fatal(p)
		}
		values = append(values, value)
	}
	m := tableOf(t, values)
	f := func(latitude, longitude, distance string, meters float64, want ...int) {
		t.Helper()
		walks, err := NearWalks(walkField(search.Special), []byte(latitude), []byte(longitude), []byte(distance), meters)
		if err != nil {
			t.Fatal(err)
		}
		found := map[int]bool{}
		for _, i := range want {
			found[i] = true
		}
		expectWalk(t, fmt.Sprint(latitude, "|", longitude, "|", distance), m.walked(t, walks), len(values), func(i int) bool { return found[i] })
	}
	f("52.52", "13.405", "0", 1000, 0, 9)
	f("52.52", "13.405", "254", 1000, 0, 9)
	f("52.52", "13.405", "256", 1000, 0, 2, 9)
	f("52.52", "13.405", "876000", 1, 0, 2, 9)
	f("52.52", "13.405", "879000", 1, 0, 1, 2, 9)
	f("0", "179.6", "111", 1000, 4, 5)
	f("0", "179.5", "111", 1000, 4)
	f("0", "179.5", "112", 1000, 4, 5)
	f("0", "180.5", "1", 1000, 5)
	f("89.95", "90", "6", 1000, 6)
	f("90", "0", "12", 1000, 6, 7)
	f("0", "0", "1e9", 1000, 0, 1, 2, 3, 4, 5, 6, 7, 9)
	for _, bad := range [][3]string{{"90.1", "0", "1"}, {"0", "361", "1"}, {"0", "0", "-1"}, {"x", "0", "1"}, {"0", "", "1"}, {"0", "0", ""}, {"1e200", "0", "1"}, {"0", "0", "1e200"}} {
		if _, err := NearWalks(walkField(search.Special), []byte(bad[0]), []byte(bad[1]), []byte(bad[2]), 1); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func TestDecimalsAsFloats(t *testing.T) {
	f := func(text string, want float64, ok bool) {
		t.Helper()
		b, fits := AppendDecimal(nil, []byte(text))
		if !fits {
			t.Fatalf("%s is no decimal", text)
		}
		got, is := decimalFloat(b)
		if is != ok || math.Abs(got-want) > math.Abs(want)*1e-15 {
			t.Errorf("%s is %v, %v; want %v", text, got, is, want)
		}
	}
	f("0", 0, true)
	f("1", 1, true)
	f("-1.5", -1.5, true)
	f("52.520008", 52.520008, true)
	f("-0.000123", -0.000123, true)
	f("123456789.123456789123456789", 123456789.12345679, true)
	f("1e100", 1e100, true)
	f("1e300", 0, false)
	for _, bad := range []string{"", "\xff", "\x00", "\xc0"} {
		if _, ok := decimalFloat([]byte(bad)); ok {
			t.Errorf("%x is a number", bad)
		}
	}
}

package index

import (
	"fmt"
	"math"
	"strconv"

	"kiln/fhir/search"
)

// earthMeters is the earth's mean radius (IUGG). On this sphere distances are up
// to half a percent off those on the ellipsoid of WGS84, in which positions are told.
const earthMeters = 6_371_008.8

// nearSlack, in degrees, is what rounding may do to the latitudes that a walk
// begins and ends at: a millimeter.
const nearSlack = 1e-8

var errPosition = fmt.Errorf("%w: it is no position on the earth with a distance", ErrWalk)

// place is a position, in degrees.
type place struct{ latitude, longitude float64 }

// NearWalks gives the walks of positions at most distance units of so many meters
// around one: over the latitudes that can be in reach, looking at the distance on the
// great circle, in floats. The texts are decimals; degrees. ErrWalk when they are
// not, or are no place or no distance.
func NearWalks(sources []search.Source, latitude, longitude, distance []byte, unitMeters float64) (walks []Walk, err error) {
	at, reach, ok := place{}, 0.0, true
	for _, n := range []struct {
		to   *float64
		text []byte
	}{{&at.latitude, latitude}, {&at.longitude, longitude}, {&reach, distance}} {
		b, _ := AppendDecimal(nil, n.text)
		number, small := decimalFloat(b)
		*n.to, ok = number, ok && small
	}
	if reach *= unitMeters; !ok || !at.isOnEarth() || !(reach >= 0) || math.IsInf(reach, 0) {
		return nil, errPosition
	}
	look := func(value, _ []byte) (Verdict, []byte) {
		if p, ok := parsePlace(value); ok && p.metersTo(at) <= reach {
			return Take, nil
		}
		return Pass, nil
	}
	degrees := reach/earthMeters*180/math.Pi + nearSlack
	from := appendDegrees(nil, max(at.latitude-degrees, -90))
	to := successor(appendDegrees(nil, min(at.latitude+degrees, 90)))
	for _, s := range sources {
		walks = append(walks, Walk{Param: Param(s.Field.Number), From: from, To: to, Look: look})
	}
	return walks, nil
}

func appendDegrees(dst []byte, degrees float64) []byte {
	dst, ok := AppendDecimal(dst, strconv.AppendFloat(nil, degrees, 'f', 9, 64))
	if !ok {
		panic("BUG: degrees are no decimal")
	}
	return dst
}

// parsePlace reads the value of a position: latitude and longitude as decimals.
func parsePlace(value []byte) (p place, ok bool) {
	n := decimalLength(value)
	if n < 0 {
		return p, false
	}
	p.latitude, ok = decimalFloat(value[:n])
	if !ok {
		return p, false
	}
	p.longitude, ok = decimalFloat(value[n:])
	return p, ok && p.isOnEarth()
}

// isOnEarth tells positions from other numbers. Longitudes may be counted from 0
// to 360 too.
func (p place) isOnEarth() bool {
	return math.Abs(p.latitude) <= 90 && math.Abs(p.longitude) <= 360
}

// metersTo is the distance on the great circle (haversine).
func (p place) metersTo(q place) float64 {
	const radians = math.Pi / 180
	north := math.Sin((q.latitude - p.latitude) * radians / 2)
	east := math.Sin((q.longitude - p.longitude) * radians / 2)
	a := north*north + math.Cos(p.latitude*radians)*math.Cos(q.latitude*radians)*east*east
	return 2 * earthMeters * math.Asin(math.Sqrt(min(a, 1)))
}

// floatPairs is how many pairs of a decimal's digits a float64 can tell.
const floatPairs = 9

// decimalFloat is about the number of a decimal in a term; ok is false for one
// that is none, or whose exponent is not a small one.
func decimalFloat(b []byte) (number float64, ok bool) {
	if n := decimalLength(b); n < 0 || n != len(b) || n == 1 && b[0] != decimalZero {
		return 0, false
	}
	if b[0] == decimalZero {
		return 0, true
	}
	turn, sign := byte(0), 1.0
	if b[0] == decimalNegative {
		turn, sign = 0xFF, -1
	}
	e := b[1] ^ turn
	if e == exponentBelow || e == exponentAbove {
		return 0, false
	}
	digits, pairs := uint64(0), 0
	for _, c := range b[2 : len(b)-1] {
		if pairs == floatPairs {
			break
		}
		digits = digits*100 + uint64((c^turn)-1)
		pairs++
	}
	return sign * float64(digits) * math.Pow10(int(e)-0x80-2*pairs), true
}

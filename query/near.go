package query

import (
	"errors"

	"kiln/fhir/search"
	"kiln/index"
)

// nearDistanceDefault is how far is near when nobody says, which R4 leaves to the
// server: about what somebody goes to a clinic for. In kilometers.
const nearDistanceDefault = "50"

// nearUnits are the units of a distance, by their UCUM codes and the names that
// people use for them, in meters.
var nearUnits = map[string]float64{
	"": 1000, "km": 1000, "m": 1, "kms": 1000,
	"[mi_i]": 1609.344, "mi": 1609.344, "[mi_us]": 6336000.0 / 3937,
	"[nmi_i]": 1852, "[ft_i]": 0.3048,
}

// near reads latitude|longitude|distance|unit of Location's near (R4
// location.html#search). A distance of no value is nearDistanceDefault.
func near(p *search.Param, sources []search.Source, modifier, text string) ([]index.Walk, error) {
	if modifier != "" {
		return nil, badModifier(p, modifier)
	}
	parts := split(text, '|')
	if len(parts) < 2 || len(parts) > 4 {
		return nil, invalid("The value '%s' of the parameter '%s' is not of the form latitude|longitude|distance|unit.", text, p.Code)
	}
	parts = append(parts, "", "")
	unit, distance := plain(parts[3]), parts[2]
	meters, ok := nearUnits[unit]
	if !ok {
		return nil, notSupported("The unit '%s' of the parameter '%s' is not supported; use km, m, mi, [mi_us], [nmi_i] or [ft_i].", unit, p.Code)
	}
	if distance == "" {
		distance, meters = nearDistanceDefault, nearUnits["km"]
	}
	walks, err := index.NearWalks(sources, []byte(parts[0]), []byte(parts[1]), []byte(distance), meters)
	if errors.Is(err, index.ErrWalk) {
		return nil, invalid("The value '%s' of the parameter '%s' is no place with a distance: a latitude from -90 to 90, a longitude from -180 to 180 and a distance of 0 or more are numbers, parted by '|'.", text, p.Code)
	}
	return walks, err
}

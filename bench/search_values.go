package main

import (
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
)

// searchValues are resources of the data set from which the values of questions
// are drawn.
type searchValues struct {
	observations []observationValues
	families     []string
	// frequent is the code that most of the observations have.
	frequent coding
}

type coding struct {
	System, Code string
}

// observationValues is what an Observation is asked by.
type observationValues struct {
	Code              struct{ Coding []coding }
	Subject           struct{ Reference string }
	EffectiveDateTime string
	ValueQuantity     struct {
		System, Code string
		Value        json.Number
	}
}

// observationsMax bounds the observations that are drawn from.
const observationsMax = 20_000

// familyPrefixBytes is how much of a family name is asked for.
const familyPrefixBytes = 2

// searchValues draws the observations that have all that is asked for, and the
// beginnings of families.
func (d *dataSet) searchValues(seed uint64) (*searchValues, error) {
	r := rand.New(rand.NewPCG(seed, 0))
	scanner := fhir.NewScanner(fhir.ScannerOptions{})
	v, seen, counts := &searchValues{}, 0, map[coding]int{}
	err := d.eachLine(func(line []byte) error {
		resource, err := scanner.Scan(line, nil)
		if err != nil {
			return err
		}
		switch string(resource.TypeName) {
		case "Patient":
			return v.addPatient(line)
		case "Observation":
			var o observationValues
			if err := json.Unmarshal(line, &o); err != nil || !o.isWhole() {
				return err
			}
			counts[o.Code.Coding[0]]++
			if seen++; len(v.observations) < observationsMax {
				v.observations = append(v.observations, o)
			} else if at := r.IntN(seen); at < observationsMax {
				v.observations[at] = o
			}
		}
		return nil
	})
	for code, n := range counts {
		if n > counts[v.frequent] || n == counts[v.frequent] && code.Code < v.frequent.Code {
			v.frequent = code
		}
	}
	return v, err
}

func (o *observationValues) isWhole() bool {
	_, err := time.Parse(time.RFC3339, o.EffectiveDateTime)
	return err == nil && len(o.Code.Coding) > 0 && o.Code.Coding[0].Code != "" && o.Code.Coding[0].System != "" &&
		strings.HasPrefix(o.Subject.Reference, "Patient/") &&
		o.ValueQuantity.Value != "" && o.ValueQuantity.Code != "" && o.ValueQuantity.System != ""
}

func (v *searchValues) addPatient(line []byte) error {
	var p struct{ Name []struct{ Family string } }
	if err := json.Unmarshal(line, &p); err != nil {
		return err
	}
	for _, name := range p.Name {
		if prefix := strings.ToLower(name.Family); len(prefix) >= familyPrefixBytes && isASCII(prefix[:familyPrefixBytes]) {
			v.families = append(v.families, prefix[:familyPrefixBytes])
		}
	}
	return nil
}

// isASCII: how accents are folded is not what is compared.
func isASCII(text string) bool {
	return strings.IndexFunc(text, func(c rune) bool { return c > 'z' || c < 'a' }) < 0
}

// asked are the values of one question by name, as texts.
type asked map[string]string

// rangeDays is the length of the date range that is asked for.
const rangeDays = 365

// draw takes the values of an observation and of a patient by chance.
func (v *searchValues) draw(r *rand.Rand) asked {
	o := v.observations[r.IntN(len(v.observations))]
	family := v.families[r.IntN(len(v.families))]
	at, err := time.Parse(time.RFC3339, o.EffectiveDateTime)
	if err != nil {
		panic("BUG: an observation without a date was kept")
	}
	from := at.UTC().Truncate(24*time.Hour).AddDate(0, 0, -r.IntN(rangeDays))
	above := family[:familyPrefixBytes-1] + string(rune(family[familyPrefixBytes-1]+1))
	code := o.Code.Coding[0]
	return asked{
		"code-doc":         codeDoc(code, ""),
		"patient-code-doc": codeDoc(code, o.Subject.Reference),
		"system":           code.System, "code": code.Code,
		"frequent-system": v.frequent.System, "frequent-code": v.frequent.Code,
		"from": from.Format(time.DateOnly), "to": from.AddDate(0, 0, rangeDays).Format(time.DateOnly),
		"patient":     strings.TrimPrefix(o.Subject.Reference, "Patient/"),
		"unit-system": o.ValueQuantity.System, "unit": o.ValueQuantity.Code, "value": o.ValueQuantity.Value.String(),
		"family": family, "family-end": above,
	}
}

// codeDoc is what an Observation with a code, and of a patient when one is named,
// contains.
func codeDoc(code coding, patient string) string {
	quoted := func(text string) string {
		b, err := json.Marshal(text)
		if err != nil {
			panic("BUG: a text cannot be written: " + err.Error())
		}
		return string(b)
	}
	doc := `{"code":{"coding":[{"system":` + quoted(code.System) + `,"code":` + quoted(code.Code) + `}]}`
	if patient != "" {
		doc += `,"subject":{"reference":` + quoted(patient) + `}`
	}
	return doc + "}"
}

// stringSeed makes a seed of a name.
func stringSeed(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

func containsFold(name, part string) bool {
	return strings.Contains(strings.ToLower(name), strings.ToLower(part))
}

// parseCount reads a number that stands behind a text.
func parseCount(body []byte, behind string) (int64, bool) {
	_, rest, found := strings.Cut(string(body), behind)
	if !found {
		return 0, false
	}
	end := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
	n, err := strconv.ParseInt(rest[:max(end, 0)], 10, 64)
	return n, err == nil
}

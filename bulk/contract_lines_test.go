package bulk

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// lineMaker makes random lines of a few resources. Each has a true history, of
// which most lines are a part.
type lineMaker struct {
	rng  *rand.Rand
	keys []string
	many int // lines in a job at most
	// below: most versions are negative, so that some resources have no current one.
	below bool
	truth map[string][]modelVersion
}

func newLineMaker(rng *rand.Rand) *lineMaker {
	m := &lineMaker{rng: rng, truth: map[string][]modelVersion{}}
	all := []string{"Patient/a", "Patient/b", "Observation/a", "Observation/b-1.x"}
	m.keys, m.many = all[:1+rng.IntN(len(all))], 30
	versions := 8
	if rng.IntN(10) == 0 { // enough for the resolver to use an index
		m.keys, m.many, versions = all[:1], 300, 200
	}
	m.below = rng.IntN(8) == 0
	for _, key := range m.keys {
		m.truth[key] = m.history(1 + rng.IntN(versions))
	}
	return m
}

// history is a true one: versions rise with their dates, with gaps.
func (m *lineMaker) history(count int) (versions []modelVersion) {
	version, milli := int64(0), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	for range count {
		version += pick[int64](m.rng, 1, 1, 1, 2, 5)
		milli += pick[int64](m.rng, 1, 1000, 86_400_000, 40*86_400_000)
		versions = append(versions, modelVersion{version: version, milli: milli, deleted: m.rng.IntN(5) == 0, content: m.content()})
	}
	return versions
}

func (m *lineMaker) key() string     { return pick(m.rng, m.keys...) }
func (m *lineMaker) content() string { return pick(m.rng, "", "1990", "1991") }

// line is a random one; future allows dates a few seconds ahead of now.
func (m *lineMaker) line(now int64, future bool) *modelLine {
	key := m.key()
	truth := pick(m.rng, m.truth[key]...)
	l := &modelLine{key: key, kept: true, numbers: true, milli: truth.milli, version: truth.version, deleted: truth.deleted, content: truth.content}
	switch m.rng.IntN(12) {
	case 0, 1: // only dated
		l.numbers = false
	case 2, 3: // neither
		l.kept, l.numbers = false, false
	case 4: // another version
		l.version = pick[int64](m.rng, -2, -1, 0, 1, l.version+1, l.version-1, 1+m.rng.Int64N(2*int64(len(m.truth[key]))))
	case 5: // another date
		l.milli = pick(m.rng, l.milli+1, l.milli-1, pick(m.rng, m.truth[key]...).milli)
	case 6: // another content
		l.content, l.deleted = m.content(), m.rng.IntN(3) == 0
	case 7: // from before all others
		l.milli, l.numbers = l.milli-m.rng.Int64N(20*365)*86_400_000, m.rng.IntN(2) == 0
	case 8:
		if future {
			l.milli = now + 2000 + 100*m.rng.Int64N(50)
			l.version, l.numbers = l.version+m.rng.Int64N(8), m.rng.IntN(3) == 0
		}
	}
	if m.below && m.rng.IntN(5) > 0 {
		l.version, l.numbers = -1-m.rng.Int64N(10), l.kept
	}
	m.spoil(l, now)
	l.text = m.text(l)
	return l
}

// contentConditional is a birth date that goes with a conditional reference.
const contentConditional = "1899"

// spoil makes a few lines such as section 3.1 refuses.
func (m *lineMaker) spoil(l *modelLine, now int64) {
	switch m.rng.IntN(40) {
	case 0:
		code, text := expandRefusal("I'#bad'", "", 0)
		l.key, l.broken = "Patient/#bad", code+": "+text
	case 1:
		l.kept, l.milli = true, now+60_000
		l.brokenIncremental = "invalid: LastUpdated in the resource cannot be in the future."
	case 2:
		l.content = contentConditional
		l.brokenInitial = "not-supported: Conditional reference is not supported for $import in InitialLoad."
	}
}

// text writes a line's date and version as it has them, and sets the id and how the
// date is served: with its offset, cut to milliseconds.
func (m *lineMaker) text(l *modelLine) string {
	_, l.id, _ = strings.Cut(l.key, "/")
	date, version := "", ""
	if l.kept {
		zone := pick(m.rng, time.UTC, time.FixedZone("", 0), time.FixedZone("", 10*3600), time.FixedZone("", -5*3600-1800))
		format := contractTime
		if zone == time.UTC {
			format = strings.Replace(contractTime, "-07:00", "Z07:00", 1)
		}
		l.date = time.UnixMilli(l.milli).In(zone).Format(format)
		date = l.date
		if m.rng.IntN(3) == 0 {
			date = strings.Replace(date, date[19:23], date[19:23]+"987", 1)
		}
	}
	switch {
	case l.numbers:
		version = strconv.FormatInt(l.version, 10)
	case l.kept: // not a number of 32 bits: as none
		version = pick(m.rng, "", "", "abc", "1.0", "3000000000")
	default: // without a date it does not count
		version = pick(m.rng, "", "", "7")
	}
	return m.json(l, date, version)
}

// json is the same content in many texts.
func (m *lineMaker) json(l *modelLine, date, version string) string {
	typ, id, _ := strings.Cut(l.key, "/")
	var meta []string
	if date != "" {
		meta = append(meta, `"lastUpdated":"`+date+`"`)
	}
	if version != "" {
		meta = append(meta, `"versionId":"`+version+`"`)
	}
	if l.deleted {
		meta = append(meta, `"extension":[{"url":"http://azurehealthcareapis.com/data-extensions/deleted-state","valueString":"soft-deleted"}]`)
	}
	members := []string{fmt.Sprintf(`"resourceType":%q`, typ), fmt.Sprintf(`"id":%q`, id)}
	if meta != nil {
		members = append(members, `"meta":{`+m.join(meta)+"}")
	}
	if l.content == contentConditional {
		members = append(members, `"generalPractitioner":[{"reference":"Practitioner?identifier=x"}]`)
	}
	if l.content != "" {
		members = append(members, `"birthDate":"`+l.content+`"`)
	}
	return "{" + m.join(members) + "}"
}

// join puts members in any order, with or without blanks.
func (m *lineMaker) join(members []string) string {
	m.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return strings.Join(members, pick(m.rng, ",", ",", ", ", "\t,"))
}

// trueHistory is every version of the true histories and some negative ones, as
// lines in any order, and what must come of them.
func (s *randomSite) trueHistory() (lines []*modelLine, want contractHistory) {
	truth := &model{versions: s.maker.truth}
	for key, versions := range s.maker.truth {
		for n := range s.rng.Int64N(3) {
			milli := versions[0].milli + s.rng.Int64N(1000)*86_400_000 + 500 + n
			versions = append(versions, modelVersion{version: -int64(len(versions)), milli: milli, content: s.maker.content()})
		}
		for i := range versions {
			v := &versions[i]
			l := &modelLine{key: key, kept: true, numbers: true, milli: v.milli, version: v.version, deleted: v.deleted, content: v.content}
			l.text = s.maker.text(l)
			v.date = l.date
			lines = append(lines, l)
		}
		truth.versions[key] = versions
	}
	s.rng.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return lines, truth.history(nil)
}

package synth

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// line is JSON being appended.
type line []byte

func (l *line) add(parts ...string) {
	for _, part := range parts {
		*l = append(*l, part...)
	}
}

func (l *line) integer(n int) { *l = strconv.AppendInt(*l, int64(n), 10) }

// shortest writes a float with as many digits as it takes to read the same
// float back: up to 17, as in the fractions that Synthea computes.
func (l *line) shortest(v float64) {
	at := len(*l)
	*l = strconv.AppendFloat(*l, v, 'f', -1, 64)
	for _, c := range (*l)[at:] {
		if c == '.' {
			return
		}
	}
	*l = append(*l, ".0"...)
}

// rounded writes v with so many decimals and without zeros at the end.
func (l *line) rounded(v float64, decimals int) {
	*l = strconv.AppendFloat(*l, v, 'f', decimals, 64)
	if decimals == 0 {
		return
	}
	end := len(*l)
	for (*l)[end-1] == '0' {
		end--
	}
	if (*l)[end-1] == '.' {
		end--
	}
	*l = (*l)[:end]
}

// significant writes v with so many digits in all.
func (l *line) significant(v float64, digits int) {
	decimals := digits - 1
	if v != 0 {
		decimals -= int(math.Floor(math.Log10(math.Abs(v))))
	}
	l.rounded(v, max(0, decimals))
}

// quote is s as a JSON string.
func quote(s string) string {
	out := make([]byte, 0, len(s)+2)
	out = append(out, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, '\\', 'n')
		case r < ' ':
			out = append(out, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		default:
			out = utf8.AppendRune(out, r)
		}
	}
	return string(append(out, '"'))
}

// reference is a reference to a resource; display may be empty.
func reference(typeName, id, display string) string {
	if display == "" {
		return `{"reference":"` + typeName + `/` + id + `"}`
	}
	return `{"reference":"` + typeName + `/` + id + `","display":` + quote(display) + `}`
}

// moment is seconds since 1970. It is written in the local time of the place
// where the public Synthea data was made: +01:00, in summer +02:00.
type moment int64

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
	year   = 31556952 // of the Gregorian calendar, on average
)

// dayText is YYYY-MM-DD.
func (m moment) dayText() string {
	text := m.text()
	return text[:len("2006-01-02")]
}

// text is YYYY-MM-DDThh:mm:ss+hh:mm.
func (m moment) text() string {
	offset, suffix := moment(1), byte('1')
	if _, month, _ := (m + hour).civil(); month >= 4 && month <= 10 {
		offset, suffix = 2, '2'
	}
	local := m + offset*hour
	y, mo, d := local.civil()
	clock := int(((local % day) + day) % day)
	text := []byte("0000-00-00T00:00:00+00:00")
	two := func(at, n int) { text[at], text[at+1] = byte('0'+n/10), byte('0'+n%10) }
	two(0, y/100)
	two(2, y%100)
	two(5, mo)
	two(8, d)
	two(11, clock/hour)
	two(14, clock/minute%60)
	two(17, clock%60)
	text[21] = suffix
	return string(text)
}

// civil is the proleptic Gregorian date of the day that m lies in (UTC), by
// counting in eras of 400 years of 146,097 days that begin on 1 March.
func (m moment) civil() (y, month, d int) {
	days := int(m / day)
	if m%day < 0 {
		days--
	}
	days += 719468
	era := days / 146097
	inEra := days - era*146097
	yearOfEra := (inEra - inEra/1460 + inEra/36524 - inEra/146096) / 365
	inYear := inEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	shifted := (5*inYear + 2) / 153
	d = inYear - (153*shifted+2)/5 + 1
	month = shifted + 3
	y = yearOfEra + era*400
	if month > 12 {
		month -= 12
		y++
	}
	return y, month, d
}

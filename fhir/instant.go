package fhir

import (
	"fmt"
	"time"
)

// OffsetZ is Instant.OffsetMinutes for a text that ends in "Z".
const OffsetZ = -1 << 15

// offsetMinutesMax is the largest offset of FHIR dates, 14:00 either way.
const offsetMinutesMax = 14 * 60

// Instant is a FHIR instant truncated to milliseconds, with the offset it was
// written with.
type Instant struct {
	Milli         int64 // UTC milliseconds since 1970
	OffsetMinutes int16 // OffsetZ, or minutes east of UTC
}

// ParseInstant reads YYYY-MM-DDThh:mm:ss, any fraction of a second and Z or an
// offset up to 14:00. The fraction is truncated to milliseconds. Second 60 is
// the first second of the next minute. Errors wrap ErrInstant.
func ParseInstant(text []byte) (Instant, error) {
	p := dateParser{text: text}
	p.date()
	p.expect('T')
	p.clock()
	p.expect(':')
	p.seconds()
	p.zone()
	return p.finish("instant")
}

// ParseSince reads an instant or a part of one (YYYY, YYYY-MM, YYYY-MM-DD, a
// time without seconds, a time without zone) and returns the earliest instant
// it stands for; without a zone that is in UTC. A blank stands for the '+' of
// an offset, since that is what an unescaped '+' becomes in a URL. Errors wrap
// ErrInstant.
func ParseSince(text []byte) (Instant, error) {
	p := dateParser{text: text, blankPlus: true}
	p.month, p.day = 1, 1
	p.year = p.number(4, 1, 9999)
	if p.more('-') {
		p.month = p.number(2, 1, 12)
		if p.more('-') {
			p.day = p.number(2, 1, DaysIn(p.year, p.month))
			if p.more('T') {
				p.sinceTime()
			}
		}
	}
	return p.finish("date")
}

// Append writes the instant with three digits of a second and its own offset.
func (t Instant) Append(dst []byte) []byte {
	offset := int64(t.OffsetMinutes)
	if t.OffsetMinutes == OffsetZ {
		offset = 0
	}
	dst = appendClock(dst, t.Milli+offset*60_000)
	if t.OffsetMinutes == OffsetZ {
		return append(dst, 'Z')
	}
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	hour, minute := byte(offset/60), byte(offset%60)
	return append(dst, sign, '0'+hour/10, '0'+hour%10, ':', '0'+minute/10, '0'+minute%10)
}

// appendClock appends YYYY-MM-DDThh:mm:ss.mmm. Every resource that is served has
// one: time.AppendFormat, which reads its layout each time, takes four times as long.
func appendClock(dst []byte, milli int64) []byte {
	at := time.UnixMilli(milli).UTC()
	year, month, day := at.Date()
	if year < 0 || year > 9999 {
		return at.AppendFormat(dst, "2006-01-02T15:04:05.000")
	}
	hour, minute, second := at.Clock()
	dst = appendTwo(appendTwo(dst, year/100), year%100)
	dst = appendTwo(append(dst, '-'), int(month))
	dst = appendTwo(append(dst, '-'), day)
	dst = appendTwo(append(dst, 'T'), hour)
	dst = appendTwo(append(dst, ':'), minute)
	dst = appendTwo(append(dst, ':'), second)
	part := at.Nanosecond() / 1e6
	return appendTwo(append(dst, '.', '0'+byte(part/100)), part%100)
}

// appendTwo appends a number below 100 with two digits.
func appendTwo(dst []byte, n int) []byte { return append(dst, '0'+byte(n/10), '0'+byte(n%10)) }

// String is the text of Append.
func (t Instant) String() string { return string(t.Append(nil)) }

// dateParser reads a date text from left to right; after the first fault every
// step does nothing.
type dateParser struct {
	text      []byte
	at        int
	bad       bool
	blankPlus bool

	year, month, day     int
	hour, minute, second int
	milli                int
	fraction             int // digits of a second's fraction
	offset               int16
	zoned                bool
}

func (p *dateParser) date() {
	p.year = p.number(4, 1, 9999)
	p.expect('-')
	p.month = p.number(2, 1, 12)
	p.expect('-')
	if !p.bad {
		p.day = p.number(2, 1, DaysIn(p.year, p.month))
	}
}

func (p *dateParser) clock() {
	p.hour = p.number(2, 0, 23)
	p.expect(':')
	p.minute = p.number(2, 0, 59)
}

func (p *dateParser) seconds() {
	p.second = p.number(2, 0, 60)
	if !p.more('.') {
		return
	}
	start, scale := p.at, 100
	for p.at < len(p.text) && '0' <= p.text[p.at] && p.text[p.at] <= '9' {
		p.milli += int(p.text[p.at]-'0') * scale
		scale /= 10
		p.at++
	}
	p.fraction = p.at - start
	p.bad = p.bad || p.fraction == 0
}

func (p *dateParser) zone() {
	p.zoned = true
	if p.more('Z') {
		p.offset = OffsetZ
		return
	}
	sign := 1
	switch {
	case p.more('-'):
		sign = -1
	case p.blankPlus && p.more(' '):
	default:
		p.expect('+')
	}
	hour := p.number(2, 0, 14)
	p.expect(':')
	minutes := hour*60 + p.number(2, 0, 59)
	p.bad = p.bad || minutes > offsetMinutesMax
	p.offset = int16(sign * minutes)
}

func (p *dateParser) sinceTime() {
	p.clock()
	if p.more(':') {
		p.seconds()
	}
	if p.at < len(p.text) {
		p.zone()
	}
}

// finish checks that the text is used up and computes the instant.
func (p *dateParser) finish(what string) (Instant, error) {
	if p.bad || p.at != len(p.text) {
		return Instant{}, fmt.Errorf("cannot parse %s %.64q: %w", what, p.text, ErrInstant)
	}
	offset := p.offset
	if !p.zoned {
		offset = OffsetZ
	}
	return Instant{Milli: p.utc(), OffsetMinutes: offset}, nil
}

// number reads exactly digits digits with a value in [low, high].
func (p *dateParser) number(digits, low, high int) int {
	if p.bad || len(p.text)-p.at < digits {
		p.bad = true
		return low
	}
	n := 0
	for _, c := range p.text[p.at : p.at+digits] {
		if c < '0' || c > '9' {
			p.bad = true
			return low
		}
		n = n*10 + int(c-'0')
	}
	p.at += digits
	p.bad = n < low || n > high
	return n
}

func (p *dateParser) expect(c byte) { p.bad = !p.more(c) || p.bad }

// more steps over c when it comes next.
func (p *dateParser) more(c byte) bool {
	if p.bad || p.at >= len(p.text) || p.text[p.at] != c {
		return false
	}
	p.at++
	return true
}

// DaysIn is the number of days of a month, 1 to 12, in the Gregorian calendar.
func DaysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

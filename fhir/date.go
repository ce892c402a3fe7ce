package fhir

import "time"

// ParseDate reads a date, dateTime or instant, or a part of one (YYYY, YYYY-MM,
// YYYY-MM-DD, a time without seconds, a time without zone), and gives the first
// and the last millisecond of what it stands for, in UTC milliseconds since
// 1970. Without a zone that is in UTC. Two digits of a second's fraction stand
// for ten milliseconds, more than three are cut. It does not allocate.
func ParseDate(text []byte) (first, last int64, ok bool) {
	p := dateParser{text: text, month: 1, day: 1}
	unit := unitYear
	p.year = p.number(4, 1, 9999)
	if p.more('-') {
		p.month, unit = p.number(2, 1, 12), unitMonth
		if p.more('-') {
			p.day, unit = p.number(2, 1, DaysIn(p.year, p.month)), unitDay
			if p.more('T') {
				unit = p.timeOfDay()
			}
		}
	}
	if p.bad || p.at != len(p.text) {
		return 0, 0, false
	}
	first = p.utc()
	return first, p.next(unit, first) - 1, true
}

// dateUnit is the last part that a date has.
type dateUnit uint8

const (
	unitYear dateUnit = iota
	unitMonth
	unitDay
	unitMinute
	unitSecond // or a part of one
)

// timeOfDay reads what stands behind the T.
func (p *dateParser) timeOfDay() dateUnit {
	unit := unitMinute
	p.clock()
	if p.more(':') {
		unit = unitSecond
		p.seconds()
	}
	if p.at < len(p.text) {
		p.zone()
	}
	return unit
}

// utc is the instant that was read.
func (p *dateParser) utc() int64 {
	at := time.Date(p.year, time.Month(p.month), p.day, p.hour, p.minute, p.second, 0, time.UTC)
	milli := at.Unix()*1000 + int64(p.milli)
	if p.zoned && p.offset != OffsetZ {
		milli -= int64(p.offset) * 60_000
	}
	return milli
}

// next is the first millisecond behind the unit that begins at first.
func (p *dateParser) next(unit dateUnit, first int64) int64 {
	switch unit {
	case unitYear:
		return time.Date(p.year+1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	case unitMonth:
		return time.Date(p.year, time.Month(p.month+1), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	case unitDay:
		return first + 24*3600_000
	case unitMinute:
		return first + 60_000
	}
	width := int64(1000)
	for range min(p.fraction, 3) {
		width /= 10
	}
	return first + width
}

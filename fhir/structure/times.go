package structure

import "kiln/fhir"

// validTime judges dates and times: date is YYYY, YYYY-MM or YYYY-MM-DD; dateTime
// these or a day with a time and a zone; instant only the latter; time a time of
// day without a zone. Days must exist. 60 seconds are a leap second.
func validTime(k kind, text []byte) bool {
	if k == kindTime {
		text, ok := clock(text)
		return ok && len(text) == 0
	}
	parts, text, ok := date(text)
	switch {
	case !ok:
		return false
	case len(text) == 0:
		return k != kindInstant
	case k == kindDate || parts < 3 || text[0] != 'T':
		return false
	}
	text, ok = clock(text[1:])
	return ok && validZone(text)
}

// date reads a date and returns how many parts it has, and what follows.
func date(text []byte) (parts int, rest []byte, ok bool) {
	if len(text) < 4 || !isDigit(text[0]) || !isDigit(text[1]) || !isDigit(text[2]) || !isDigit(text[3]) {
		return 0, nil, false
	}
	year := int(text[0]-'0')*1000 + int(text[1]-'0')*100 + int(text[2]-'0')*10 + int(text[3]-'0')
	if text = text[4:]; year == 0 {
		return 0, nil, false
	}
	if len(text) == 0 || text[0] != '-' {
		return 1, text, true
	}
	month, ok := twoDigits(text[1:], 12)
	if !ok || month == 0 {
		return 0, nil, false
	}
	if text = text[3:]; len(text) == 0 || text[0] != '-' {
		return 2, text, true
	}
	day, ok := twoDigits(text[1:], fhir.DaysIn(year, month))
	return 3, text[min(3, len(text)):], ok && day > 0
}

// clock reads hh:mm:ss with any fraction and returns what follows.
func clock(text []byte) (rest []byte, ok bool) {
	if len(text) < len("hh:mm:ss") || text[2] != ':' || text[5] != ':' {
		return nil, false
	}
	_, okHour := twoDigits(text, 23)
	_, okMinute := twoDigits(text[3:], 59)
	_, okSecond := twoDigits(text[6:], 60)
	text = text[len("hh:mm:ss"):]
	if len(text) > 0 && text[0] == '.' {
		i := 1
		for i < len(text) && isDigit(text[i]) {
			i++
		}
		okSecond = okSecond && i > 1
		text = text[i:]
	}
	return text, okHour && okMinute && okSecond
}

// validZone: Z, or an offset of at most 14 hours.
func validZone(text []byte) bool {
	if len(text) == 1 {
		return text[0] == 'Z'
	}
	if len(text) != len("+hh:mm") || text[0] != '+' && text[0] != '-' || text[3] != ':' {
		return false
	}
	hour, okHour := twoDigits(text[1:], 14)
	minute, okMinute := twoDigits(text[4:], 59)
	return okHour && okMinute && (hour < 14 || minute == 0)
}

// twoDigits reads a number of two digits that is at most high.
func twoDigits(text []byte, high int) (n int, ok bool) {
	if len(text) < 2 || !isDigit(text[0]) || !isDigit(text[1]) {
		return 0, false
	}
	n = int(text[0]-'0')*10 + int(text[1]-'0')
	return n, n <= high
}

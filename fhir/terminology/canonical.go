package terminology

import (
	"cmp"
	"strings"
)

// Which resource a canonical reference names (R4 references.html#canonical):
//
//   - with a version, the resource with exactly that version;
//   - without, the latest: active ones go before drafts and those of unknown status,
//     retired ones come last; among these the highest version counts, then the date;
//   - of two that are still equal neither is chosen: that is an error.
//
// Versions are compared by their parts, numbers as numbers: 4.0.10 is above 4.0.9,
// 2021-01 above 2020-12, and 1.0.0 above 1.0.0-beta. A resource without a version is
// below all with one.

// identity is what of a resource tells whether a canonical reference means it.
type identity struct{ url, version, status, date string }

func (i *identity) read(s *shape, key []byte, value node) {
	switch string(key) {
	case "url":
		i.url = s.text("url", value)
	case "version":
		i.version = s.text("version", value)
	case "status":
		i.status = s.text("status", value)
	case "date":
		i.date = s.text("date", value)
	}
}

// statusRank is higher for what goes first.
func statusRank(status string) int {
	switch status {
	case "active":
		return 2
	case "retired":
		return 0
	}
	return 1
}

// compare orders resources of one url; the highest is the latest.
func (i *identity) compare(j *identity) int {
	return cmp.Or(
		cmp.Compare(statusRank(i.status), statusRank(j.status)),
		compareVersions(i.version, j.version),
		cmp.Compare(i.date, j.date),
	)
}

// The parts of versions, lowest first: what marks an early version, its end, what
// goes on.
const (
	partEarly = iota
	partEnd
	partText
	partNumber
)

// compareVersions orders versions by their parts.
func compareVersions(a, b string) int {
	if (a == "") != (b == "") {
		return cmp.Compare(len(a), len(b))
	}
	for {
		kindA, textA, restA := cutPart(a)
		kindB, textB, restB := cutPart(b)
		order := cmp.Compare(kindA, kindB)
		if order == 0 && kindA == partNumber {
			order = cmp.Compare(len(textA), len(textB))
		}
		if order = cmp.Or(order, cmp.Compare(textA, textB)); order != 0 || kindA == partEnd {
			return order
		}
		a, b = restA, restB
	}
}

// cutPart takes the first part of a version: digits, without leading zeros, or one
// other character.
func cutPart(version string) (kind int, text, rest string) {
	if version == "" {
		return partEnd, "", ""
	}
	digits := len(version) - len(strings.TrimLeft(version, "0123456789"))
	if digits > 0 {
		return partNumber, strings.TrimLeft(version[:digits], "0"), version[digits:]
	}
	if version[0] == '-' && len(version) > 1 && (version[1] < '0' || version[1] > '9') {
		return partEarly, version[:1], version[1:]
	}
	return partText, version[:1], version[1:]
}

// cutCanonical parts url|version.
func cutCanonical(reference string) (url, version string) {
	url, version, _ = strings.Cut(reference, "|")
	return url, version
}

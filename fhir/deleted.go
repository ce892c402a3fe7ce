package fhir

import "errors"

// deletedMark is the element of meta.extension that says of a line that the
// version is a deletion.
const deletedMark = `{"url":"` + DeletedStateURL + `","valueString":"` + deletedStateValue + `"}`

// ErrNoPlace is a body whose meta.extension is not an array: it has no place for
// the mark of a deletion.
var ErrNoPlace = errors.New("meta.extension is not an array")

// AppendDeletedResource is AppendResource with the deleted-state extension
// spliced back in too: a scan of the result is Deleted, and serves the same.
// ErrNoPlace; a body that a scan gave for a deleted version has a place.
func AppendDeletedResource(dst, body []byte, at Splice, versionID int64, lastUpdated Instant) ([]byte, error) {
	list, err := firstMetaExtension(body, at)
	switch {
	case err != nil:
		return dst, err
	case list == 0:
		return appendSpliced(dst, body, at, versionID, lastUpdated, `,"extension":[`+deletedMark+`]`), nil
	}
	dst = AppendResource(dst, body[:list], at, versionID, lastUpdated)
	dst = append(dst, deletedMark...)
	if body[list] != ']' {
		dst = append(dst, ',')
	}
	return append(dst, body[list:]...), nil
}

// firstMetaExtension is the offset of the first element in a body's meta.extension;
// 0: there is none.
func firstMetaExtension(body []byte, at Splice) (first int, err error) {
	if at.Kind != SpliceIntoMeta {
		return 0, nil
	}
	Members(body, int(at.At)-1, func(key []byte, value, _ int) bool {
		if string(key) != "extension" {
			return true
		}
		if first = value + 1; body[value] != '[' {
			err = ErrNoPlace
		}
		return false
	})
	return first, err
}

package fhir

// IDBytesMax is the length limit of the FHIR R4 id datatype.
const IDBytesMax = 64

// ValidID tells whether id follows the R4 rule: 1 to 64 of A-Z a-z 0-9 - and '.'.
func ValidID(id []byte) bool {
	if len(id) == 0 || len(id) > IDBytesMax {
		return false
	}
	for _, c := range id {
		if !validIDByte(c) {
			return false
		}
	}
	return true
}

func validIDByte(c byte) bool { return idBytes[c/64]>>(c%64)&1 != 0 }

// idBytes has a bit set for each byte of an id; a look-up costs a third of the
// comparisons that say the same.
var idBytes = func() (set [4]uint64) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.") {
		set[c/64] |= 1 << (c % 64)
	}
	return set
}()

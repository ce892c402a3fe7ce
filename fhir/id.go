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

func validIDByte(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.'
}

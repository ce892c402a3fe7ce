package index

// AppendPrefixEnd appends the lowest value that is greater than every value
// that begins with prefix: the end of a Range over them. ok is false, and the
// range has no end, when prefix has nothing but 0xff.
func AppendPrefixEnd(dst, prefix []byte) (_ []byte, ok bool) {
	for end := len(prefix); end > 0; end-- {
		if prefix[end-1] != 0xff {
			dst = append(dst, prefix[:end]...)
			dst[len(dst)-1]++
			return dst, true
		}
	}
	return dst, false
}

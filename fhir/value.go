package fhir

// Minify checks that src holds exactly one JSON value, by the rules of Scan, and
// returns it without white space; src itself when it has none. Repeated keys are
// not looked for. Every error is a *ScanError.
func Minify(src []byte) ([]byte, error) {
	s := Scanner{chosen: noPaths, topKeys: newKeySet(), meta: metaScan{keys: newKeySet()}}
	s.reset(src, nil)
	if len(src) > SourceBytesMax {
		s.fail(SourceBytesMax, ErrSyntax, "longer than 2 GiB")
		return nil, s.err
	}
	end := s.skip(s.blanks(0))
	if end < 0 {
		return nil, s.err
	}
	text := s.body(end)
	if rest := s.blanks(end); rest < len(src) {
		s.failByte(rest, "after the value")
		return nil, s.err
	}
	return text, nil
}

// AppendText appends the characters that a JSON string stands for. quoted is a
// string of a text that was checked, with its quotes.
func AppendText(dst, quoted []byte) []byte {
	return AppendUnescaped(dst, quoted[1:len(quoted)-1])
}

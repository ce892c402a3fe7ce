package fhir

// metaScan is what a scan keeps of a resource's meta.
type metaScan struct {
	keys     keySet
	at       uint32 // offset in the output just past meta's '{'; 0: no meta
	kept     int    // members that stay in the body
	elements []metaExtension
	element  metaExtension // the one being read
}

// metaExtension is one element of meta.extension.
type metaExtension struct {
	start, end uint32 // in the output
	marks      bool   // its url is DeletedStateURL
	deleted    bool   // its valueString is "soft-deleted"
}

func (m *metaScan) reset() {
	m.keys.reset()
	m.at, m.kept = 0, 0
	if cap(m.elements) > keySetKept {
		m.elements = nil
	}
	m.elements = m.elements[:0]
}

func (s *Scanner) metaObject(i int, state uint32) int {
	s.meta.at = s.out(i + 1)
	end := s.object(i, roleMeta, state)
	if end < 0 {
		return -1
	}
	kind := SpliceIntoMeta
	if s.meta.kept == 0 {
		kind = SpliceEmptyMeta
	}
	s.res.Splice = Splice{At: s.meta.at, Kind: kind}
	return end
}

func (s *Scanner) metaMember(key []byte, i int, state uint32, before mark) int {
	if key = s.lasting(key); !s.meta.keys.add(key) {
		return s.failRepeated(key)
	}
	var end int
	switch string(key) {
	case "versionId":
		s.res.VersionID, end = s.stringOf("meta.versionId", i)
	case "lastUpdated":
		s.res.LastUpdated, end = s.stringOf("meta.lastUpdated", i)
	case "extension":
		return s.metaExtensions(i, s.paths.step(state, key), before)
	default:
		s.meta.kept++
		return s.value(i, s.paths.step(state, key))
	}
	if end >= 0 {
		s.dropSince(before, end)
	}
	return end
}

// metaExtensions checks meta.extension at i and takes the marks of a deleted
// version out of it.
func (s *Scanner) metaExtensions(i int, state uint32, before mark) int {
	s.meta.kept++
	if s.src[i] != '[' {
		return s.value(i, state)
	}
	end := s.array(i, state, roleExtension)
	if end < 0 {
		return -1
	}
	for _, e := range s.meta.elements {
		s.res.Deleted = s.res.Deleted || e.marks && e.deleted
	}
	if s.res.Deleted && !s.dropMarks(end) {
		s.meta.kept--
		s.dropSince(before, end)
	}
	return end
}

// dropMarks takes the elements with DeletedStateURL out of the output, which
// ends with the array; false when no other element is left.
func (s *Scanner) dropMarks(end int) bool {
	s.cut(end, end)
	to := s.meta.elements[0].start
	kept := 0
	for _, e := range s.meta.elements {
		if e.marks {
			continue
		}
		if kept++; kept > 1 {
			s.buf[to] = ','
			to++
		}
		to += uint32(copy(s.buf[to:], s.buf[e.start:e.end]))
	}
	s.buf = append(s.buf[:to], ']')
	return kept > 0
}

func (s *Scanner) extensionMember(key []byte, i int, state uint32) int {
	next := s.paths.step(state, key)
	isURL, isValue := string(key) == "url", string(key) == "valueString"
	if s.src[i] == '"' && (isURL || isValue) {
		text, end := s.string(i)
		if end < 0 {
			return -1
		}
		if isURL {
			s.meta.element.marks = string(text) == DeletedStateURL
		} else {
			s.meta.element.deleted = string(text) == deletedStateValue
		}
	}
	return s.value(i, next)
}

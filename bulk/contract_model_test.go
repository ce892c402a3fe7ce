package bulk

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// model is a store as the contract describes it, line by line: sections 3.3 and
// 3.4 with the changes of decisions.md, written from those pages, slow and plain.
// It shares no code with the resolver.
type model struct {
	now      int64 // the server's clock
	versions map[string][]modelVersion
}

// modelVersion is a version of a key.
type modelVersion struct {
	version int64
	milli   int64
	date    string // as it was written; "": the server dated it
	deleted bool
	content string
}

// modelLine is a line after section 3.1.
type modelLine struct {
	text    string
	key, id string
	kept    bool // KeepLastUpdated
	numbers bool // KeepVersion
	milli   int64
	date    string
	version int64
	deleted bool
	content string
	// Why section 3.1 refuses it, "code: text": always, and in one mode only.
	broken, brokenInitial, brokenIncremental string

	unit, number, offset int
	verdict              string // "", "loaded", "D" or "V", or that of section 3.1
}

const loaded = "loaded"

// outcome is the text in the error file; "" for a loaded line.
func (l *modelLine) outcome() string {
	text := l.verdict
	switch l.verdict {
	case loaded:
		return ""
	case "D", "V":
		code, full := expandRefusal(l.verdict, l.id, l.number)
		text = code + ": " + full
	}
	return text + fmt.Sprintf(" | Failed to process resource at line: %d with stream start offset: %d", l.number, l.offset)
}

// importJob loads the lines of a job's inputs, in request order.
func (m *model) importJob(mode Mode, negative bool, inputs [][]*modelLine) {
	for _, lines := range inputs {
		for len(lines) > 0 {
			n := 1
			for n < len(lines) && lines[n].unit == lines[0].unit {
				n++
			}
			m.importUnit(mode, negative, lines[:n])
			lines = lines[n:]
		}
	}
}

func (m *model) importUnit(mode Mode, negative bool, lines []*modelLine) {
	byKey := map[string][]*modelLine{}
	for _, l := range lines {
		l.verdict = cmp.Or(l.broken, map[Mode]string{InitialLoad: l.brokenInitial, IncrementalLoad: l.brokenIncremental}[mode])
		if l.verdict == "" {
			byKey[l.key] = append(byKey[l.key], l)
		}
	}
	for key, lines := range byKey {
		if mode == InitialLoad {
			m.initial(key, lines)
		} else {
			m.incremental(key, lines, negative)
		}
	}
}

// current is the version that a read gives; nil: none.
func (m *model) current(key string) *modelVersion {
	var best *modelVersion
	for i, v := range m.versions[key] {
		if v.version > 0 && (best == nil || v.version > best.version) {
			best = &m.versions[key][i]
		}
	}
	return best
}

func (m *model) insert(key string, version, milli int64, date string, deleted bool, content string) {
	m.versions[key] = append(m.versions[key], modelVersion{version, milli, date, deleted, content})
}

// insertNow is a version that the server dates: now, but after its predecessor.
func (m *model) insertNow(key string, deleted bool, content string) {
	version, milli := int64(1), m.now
	if c := m.current(key); c != nil {
		version, milli = c.version+1, max(m.now, c.milli+1)
	}
	m.insert(key, version, milli, "", deleted, content)
}

// initial is section 3.3.
func (m *model) initial(key string, lines []*modelLine) {
	for _, l := range lines {
		if m.current(key) != nil {
			l.verdict = "D"
			continue
		}
		m.insert(key, 1, m.now, "", l.deleted, l.content)
		l.verdict = loaded
	}
}

// incremental is section 3.4.
func (m *model) incremental(key string, lines []*modelLine, negative bool) {
	modelDedupe(lines)
	m.repeats(key, lines)
	m.classA(key, lines, negative)
	m.classB(key, lines, negative)
	m.classC(key, lines)
}

// modelDedupe is step 0.
func modelDedupe(lines []*modelLine) {
	number := func(l *modelLine) int64 {
		if l.numbers {
			return l.version
		}
		return 1
	}
	for i, l := range lines {
		for j, o := range lines {
			rival := i != j && l.kept == o.kept && (!l.kept || l.milli == o.milli)
			if rival && (number(o) > number(l) || number(o) == number(l) && j < i) {
				l.verdict = "D"
			}
		}
	}
}

// repeats is step 1. A line that says otherwise than the stored version whether
// the resource is deleted is no repetition of it: it would be lost as one.
func (m *model) repeats(key string, lines []*modelLine) {
	for _, l := range lines {
		if l.verdict != "" || !l.kept {
			continue
		}
		for _, v := range m.versions[key] {
			if v.milli != l.milli || l.verdict == loaded {
				continue
			}
			l.verdict = "V"
			if v.content == l.content && v.deleted == l.deleted && (!l.numbers || v.version == l.version) {
				l.verdict = loaded
			}
		}
	}
}

// modelOpen lists the undecided lines of a class, the latest first.
func modelOpen(lines []*modelLine, kept, numbers bool) (open []*modelLine) {
	for _, l := range lines {
		if l.verdict == "" && l.kept == kept && l.numbers == numbers {
			open = append(open, l)
		}
	}
	slices.SortStableFunc(open, func(a, b *modelLine) int { return cmp.Compare(b.milli, a.milli) })
	return open
}

// classA is step 2.
func (m *model) classA(key string, lines []*modelLine, negative bool) {
	open := modelOpen(lines, true, true)
	for i, l := range open {
		for _, later := range open[:i] {
			if later.version == l.version {
				l.verdict = "D"
			}
		}
	}
	above := int64(0)
	for _, l := range modelOpen(lines, true, true) {
		switch {
		case l.version == 0:
			l.verdict = "D"
		case l.version < 0 && !negative:
			l.verdict = "V"
		case l.version > 0 && above != 0 && l.version >= above:
			l.verdict = "V"
		case l.version > 0:
			above = l.version
		}
	}
	before := slices.Clone(m.versions[key])
	for _, l := range modelOpen(lines, true, true) {
		if !modelFits(before, l) {
			l.verdict = "V"
			continue
		}
		m.insert(key, l.version, l.milli, l.date, l.deleted, l.content)
		l.verdict = loaded
	}
}

// modelFits compares with both neighbours in history.
func modelFits(history []modelVersion, l *modelLine) bool {
	for _, v := range history {
		if v.version == l.version {
			return false
		}
	}
	if l.version < 0 {
		return true
	}
	above, below := modelNeighbours(history, l.milli)
	return (above == nil || above.version > l.version) && (below == nil || below.version < l.version)
}

// modelNeighbours are the positive versions next after and before a date.
func modelNeighbours(history []modelVersion, milli int64) (above, below *modelVersion) {
	for i, v := range history {
		if v.version <= 0 {
			continue
		}
		if v.milli > milli && (above == nil || v.milli < above.milli) {
			above = &history[i]
		}
		if v.milli < milli && (below == nil || v.milli > below.milli) {
			below = &history[i]
		}
	}
	return above, below
}

// classB is step 3.
func (m *model) classB(key string, lines []*modelLine, negative bool) {
	before := slices.Clone(m.versions[key])
	current, lowest := m.current(key), int64(0)
	next, currentMilli := int64(1), int64(-1<<62)
	if current != nil {
		next, currentMilli = current.version+1, current.milli
	}
	for _, v := range before {
		lowest = min(lowest, v.version)
	}
	late := int64(0)
	var newer []*modelLine
	for _, l := range modelOpen(lines, true, false) {
		if l.milli >= currentMilli {
			newer = append(newer, l)
			continue
		}
		late++
		above, below := modelNeighbours(before, l.milli)
		under := int64(0)
		if below != nil {
			under = below.version
		}
		l.verdict = loaded
		switch {
		case above.version-under > late:
			m.insert(key, above.version-late, l.milli, l.date, l.deleted, l.content)
		case negative:
			m.insert(key, lowest-late, l.milli, l.date, l.deleted, l.content)
		default:
			l.verdict = "V"
		}
	}
	slices.Reverse(newer)
	for _, l := range newer {
		m.insert(key, next, l.milli, l.date, l.deleted, l.content)
		l.verdict = loaded
		next++
	}
}

// classC is step 4.
func (m *model) classC(key string, lines []*modelLine) {
	for _, l := range modelOpen(lines, false, false) {
		l.verdict = loaded
		if c := m.current(key); c == nil || l.deleted || c.content != l.content {
			m.insertNow(key, l.deleted, l.content)
		}
	}
}

// put and del are what the API does.
func (m *model) put(key, content string) {
	if c := m.current(key); c == nil || c.deleted || c.content != content {
		m.insertNow(key, false, content)
	}
}

func (m *model) del(key string) {
	if c := m.current(key); c != nil && !c.deleted {
		m.insertNow(key, true, "")
	}
}

// modelSlack is how much later than the model's clock the server may date: a
// store that starts anew does not date before the latest date it gave.
const modelSlack = time.Second

// history describes all versions. Where the server gave the dates, those of
// the real history (of the same place) are taken over when they can be right.
func (m *model) history(real contractHistory) contractHistory {
	h := contractHistory{}
	for key, versions := range m.versions {
		slices.SortStableFunc(versions, func(a, b modelVersion) int { return cmp.Compare(b.milli, a.milli) })
		current := m.current(key)
		for i := range versions {
			v := &versions[i]
			if v.date == "" && i < len(real[key]) {
				v.takeOver(real[key][i])
			}
			h[key] = append(h[key], v.describe(current != nil && v.version == current.version))
		}
	}
	return h
}

var describedDate = regexp.MustCompile(`^v(-?[0-9]+)@([^* ]+)`)

func (v *modelVersion) takeOver(text string) {
	parts := describedDate.FindStringSubmatch(text)
	if parts == nil || parts[1] != fmt.Sprint(v.version) {
		return
	}
	at, err := time.Parse(time.RFC3339, parts[2])
	if late := at.UnixMilli() - v.milli; err == nil && late >= 0 && late < modelSlack.Milliseconds() {
		v.milli = at.UnixMilli()
	}
}

func (v *modelVersion) describe(current bool) string {
	date := v.date
	if date == "" {
		date = time.UnixMilli(v.milli).UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	out := fmt.Sprintf("v%d@%s", v.version, date)
	if current {
		out += "*"
	}
	if v.deleted {
		out += " del"
	}
	if v.content != "" {
		out += " bd=" + v.content
	}
	return out
}

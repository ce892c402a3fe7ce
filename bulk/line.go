package bulk

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"kiln/fhir"
	"kiln/fhir/structure"
	"kiln/index"
)

// lineRules are what a job says about every line.
type lineRules struct {
	mode  Mode
	types []fhir.TypeCode // by input; 0: any
	// structure: a resource must be built as R4 says.
	structure bool
	now       func() int64 // UTC milliseconds
}

// row is what the resolver needs of a line besides its key, and afterwards the
// version that the line became. It has no pointers, so that millions of them
// cost the garbage collector nothing.
type row struct {
	milli   int64 // UTC
	version int64
	chunk   uint32 // number in the round
	line    uint32 // within the chunk, from 1
	offset  uint32 // within the chunk
	zone    int16  // minutes
	typ     fhir.TypeCode
	class   lineClass
	deleted bool
	kept    bool // it became a version; milli, zone and version are that version's
}

const rowBytes = 40

// chunkInfo is what is kept of a chunk until its round is published.
type chunkInfo struct {
	input    int
	batch    int32 // the unit, counted within the round
	start    int64
	lines    int64 // that are not empty
	linesUp  int64 // lines of the input before this chunk; set when the round is merged
	refusals []refusal
}

// lineScanner is one worker of a round: it reads chunks, line by line, into
// its own run.
type lineScanner struct {
	rules   *lineRules
	scanner *index.Extractor
	builder *index.Builder
	rows    []row
	checker *structure.Checker // nil: structure is not checked
	texts   map[string]string  // refusal texts seen before
	refused int64              // bytes of refusals

	info   *chunkInfo
	number uint32 // of the chunk
	latest int64  // lastUpdated that is not yet in the future, of the chunk
}

// textsMax bounds the memory of a scanner's repeated texts.
const textsMax = 4096

// newLineScanner scans into builder, which it does not own.
func newLineScanner(rules *lineRules, builder *index.Builder) *lineScanner {
	w := &lineScanner{
		rules: rules, builder: builder, texts: make(map[string]string), scanner: builder.Extraction().NewExtractor(builder),
	}
	if rules.structure {
		w.checker = structure.NewChecker()
	}
	return w
}

// memoryBytes is what the worker holds until the round is published.
func (w *lineScanner) memoryBytes() int64 {
	return w.builder.MemoryBytes() + int64(len(w.rows))*rowBytes
}

// chunk scans all lines of c. Errors are the builder's: the round cannot go on.
func (w *lineScanner) chunk(c *chunk, info *chunkInfo, number uint32) error {
	w.info, w.number = info, number
	w.latest = w.rules.now() + futureMilliMax
	if c.tooLong {
		info.lines = 1
		w.refuse(0, refusedTooLong, "")
		return nil
	}
	data, at := c.data, 0
	if c.start == 0 {
		at = len(data) - len(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	}
	for at < len(data) {
		end := bytes.IndexByte(data[at:], '\n')
		next := at + end + 1
		if end < 0 {
			next, end = len(data), len(data)-at
		}
		line := data[at : at+end]
		if end > 0 && line[end-1] == '\r' {
			line = line[:end-1]
		}
		if len(line) > 0 {
			info.lines++
			if err := w.line(line, at); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

// line scans one line that begins at an offset of the chunk. A byte order mark
// before the first line does not move it.
func (w *lineScanner) line(text []byte, offset int) error {
	if w.info.start == 0 && w.info.lines == 1 && offset == 3 {
		offset = 0
	}
	resource, err := w.scanner.Scan(text)
	if err != nil {
		w.builder.DiscardTerms()
		w.refuse(offset, refusedText, err.Error())
		return nil
	}
	r := row{typ: resource.Type, chunk: w.number, line: uint32(w.info.lines), offset: uint32(offset), deleted: resource.Deleted}
	if kind, arg := w.check(resource, &r); kind < refusalKinds {
		w.builder.DiscardTerms()
		w.refuse(offset, kind, arg)
		return nil
	}
	if kind, arg := w.checkStructure(text, &r); kind < refusalKinds {
		w.builder.DiscardTerms()
		w.refuse(offset, kind, arg)
		return nil
	}
	if r.deleted { // found by _id and _lastUpdated only
		w.builder.DiscardTerms()
	}
	if _, err = w.builder.Append(resource.Type, resource.ID, resource.IDAt, resource.Body, resource.Splice); err != nil {
		return w.appendError(err, offset)
	}
	w.rows = append(w.rows, r)
	return nil
}

func (w *lineScanner) appendError(err error, offset int) error {
	if errors.Is(err, index.ErrBodyTooLarge) {
		w.refuse(offset, refusedTooLong, "")
		return nil
	}
	return fmt.Errorf("cannot append a resource: %w", err)
}

// check is the contract's section 3.1, in its order. refusalKinds: no refusal.
func (w *lineScanner) check(resource *fhir.Resource, r *row) (refusalKind, string) {
	if len(resource.TypeName) == 0 {
		return refusedText, "not a FHIR resource: there is no resourceType"
	}
	if resource.Type == 0 {
		return refusedText, "not a FHIR resource: '" + quoted(resource.TypeName) + "' is not an R4 resource type"
	}
	if resource.ID == nil && isBlockHeader(resource) {
		return refusedText, textBlockHeader
	}
	if resource.ID == nil {
		return refusedNoID, ""
	}
	if !fhir.ValidID(resource.ID) {
		return refusedID, quoted(resource.ID)
	}
	if w.rules.mode == InitialLoad {
		if resource.ConditionalReference {
			return refusedConditional, ""
		}
	} else if kind, arg := w.checkDate(resource, r); kind < refusalKinds {
		return kind, arg
	}
	if want := w.rules.types[w.info.input]; want != 0 && want != resource.Type {
		return refusedType, ""
	}
	if resource.TypeName[0] == 'S' && string(resource.TypeName) == "SearchParameter" {
		return refusedSearchParam, ""
	}
	return refusalKinds, ""
}

// checkStructure refuses a resource that is not built as R4 says. The mark of a
// deleted version often stands in a resource that is nothing but its id.
func (w *lineScanner) checkStructure(text []byte, r *row) (refusalKind, string) {
	if w.checker == nil || r.deleted {
		return refusalKinds, ""
	}
	issues := w.checker.Check(text)
	if !structure.Refused(issues) {
		return refusalKinds, ""
	}
	return structureRefusal(issues)
}

// checkDate takes over lastUpdated and versionId, which an incremental load keeps.
func (w *lineScanner) checkDate(resource *fhir.Resource, r *row) (refusalKind, string) {
	if resource.LastUpdated == nil {
		return refusalKinds, ""
	}
	at, err := fhir.ParseInstant(resource.LastUpdated)
	if err != nil {
		return refusedInstant, quoted(resource.LastUpdated)
	}
	if at.Milli > w.latest {
		return refusedFuture, ""
	}
	r.class, r.milli, r.zone = classDated, at.Milli, at.OffsetMinutes
	if version, ok := parseVersion(resource.VersionID); ok {
		r.class, r.version = classVersioned, version
	}
	return refusalKinds, ""
}

// parseVersion reads what fits 32 bits; any other versionId is as none.
func parseVersion(text []byte) (int64, bool) {
	if len(text) == 0 || len(text) > len("-2147483648") {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return n, err == nil && n >= math.MinInt32 && n <= math.MaxInt32
}

// refuse notes that the line at an offset of the chunk is not loaded.
func (w *lineScanner) refuse(offset int, kind refusalKind, arg string) {
	if kept, ok := w.texts[arg]; ok {
		arg = kept
	} else if len(w.texts) < textsMax {
		w.texts[arg] = arg
		w.refused += int64(len(arg))
	} else {
		w.refused += int64(len(arg))
	}
	w.refused += refusalBytes
	w.info.refusals = append(w.info.refusals, refusal{arg: arg, line: w.info.lines, offset: int64(offset), kind: kind})
}

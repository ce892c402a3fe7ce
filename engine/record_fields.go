package engine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"kiln/fhir/search"
)

// A FIELDS payload adds fields of search parameters (little endian):
//
//	0       4      8
//	+-------+------+------------------------------------------------------+
//	| count | zero | fields: number u16, zero u16, length u32, definition |
//	|       |      | (search.Field.AppendDefinition), each                |
//	+-------+------+------------------------------------------------------+
//
// Numbers follow each other from search.FieldCustomMin on, over all records, and
// are never given again: runs have them.
const (
	// fieldsMax bounds the fields that are ever added to a store. Each costs about a
	// kilobyte in memory and in every checkpoint, and a look at the resources that have it; R4
	// itself has 1,674.
	fieldsMax = 1000
)

var errFieldsRecord = errors.New("it adds fields that cannot be the next ones")

func appendFields(dst []byte, fields []*search.Field) []byte {
	le := binary.LittleEndian
	for _, f := range fields {
		dst = le.AppendUint16(dst, f.Number)
		dst = le.AppendUint16(dst, 0)
		at := len(dst)
		dst = le.AppendUint32(dst, 0)
		dst, _ = f.AppendDefinition(dst)
		le.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst
}

func marshalFields(fields []*search.Field) []byte {
	dst := binary.LittleEndian.AppendUint32(nil, uint32(len(fields)))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	return appendFields(dst, fields)
}

func unmarshalFields(src []byte) ([]*search.Field, error) {
	p := &payloadReader{src: src}
	count := p.u32()
	p.u32()
	fields := p.fields(count)
	switch {
	case p.err != nil:
		return nil, p.err
	case p.at != len(src):
		return nil, errLongPayload
	case len(fields) == 0:
		return nil, errFieldsRecord
	}
	return fields, nil
}

// fields reads what appendFields wrote of so many.
func (p *payloadReader) fields(count uint32) (fields []*search.Field) {
	if count > fieldsMax {
		p.err = errors.Join(p.err, errFieldsRecord)
	}
	for i := uint32(0); i < count && p.err == nil; i++ {
		head := p.take(4)
		definition := p.take(uint64(p.u32()))
		if p.err != nil {
			return nil
		}
		f, err := search.ParseDefinition(binary.LittleEndian.Uint16(head), definition)
		if err != nil {
			p.err = err
			return nil
		}
		fields = append(fields, f)
	}
	return fields
}

// followOn tells whether fields can be the next ones behind so many.
func followOn(have int, fields []*search.Field) error {
	if have+len(fields) > fieldsMax {
		return errFieldsRecord
	}
	for i, f := range fields {
		if int(f.Number) != search.FieldCustomMin+have+i {
			return fmt.Errorf("%w: field %d follows %d others", errFieldsRecord, f.Number, have+i)
		}
	}
	return nil
}

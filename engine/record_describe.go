package engine

import (
	"fmt"
	"strings"

	"kiln/wal"
)

// DescribeRecord says in one line what a record of the log does, without ids or
// content of resources. A payload that cannot be read is told as that.
func DescribeRecord(rec wal.Record) string {
	text, err := describeRecord(rec)
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	return text
}

func describeRecord(rec wal.Record) (string, error) {
	switch rec.Type {
	case wal.TypeCommit:
		count := 0
		err := decodeCommit(rec.Payload, func(uint32, *versionRecord, int) error { count++; return nil })
		return fmt.Sprintf("%d versions", count), err
	case wal.TypeIngest:
		in, _, err := decodeIngest(rec.Payload)
		if err != nil {
			return "", err
		}
		return in.describe(), nil
	case wal.TypeReplace:
		var in replaceRecord
		err := in.unmarshal(rec.Payload)
		return in.describe(), err
	case wal.TypePurge:
		var in purgeRecord
		err := in.unmarshal(rec.Payload)
		return "takes out" + describePlaces(in.runs, in.heads), err
	case wal.TypeCheckpoint:
		var in checkpointRecord
		err := in.unmarshal(rec.Payload)
		return fmt.Sprintf("of LSN %d, runs have all up to LSN %d", in.lsn, in.flushed), err
	case wal.TypeFields:
		fields, err := unmarshalFields(rec.Payload)
		names := ""
		for _, f := range fields {
			names += fmt.Sprintf(", %d %s", f.Number, f.Name)
		}
		return strings.TrimPrefix(names, ", "), err
	}
	return "", fmt.Errorf("%w: record type %d", ErrNewerFormat, rec.Type)
}

func (r *ingestRecord) describe() string {
	text := fmt.Sprintf("of job %d", r.job)
	if r.kind == ingestFlush {
		text = fmt.Sprintf("flushes up to LSN %d", r.flushedUpTo)
	}
	for _, run := range r.runs {
		text += fmt.Sprintf(", run %016x of %d rows (%d superseded, %d void)", uint64(run.meta.ID), run.meta.Rows, run.superseded.GetCardinality(), run.void.GetCardinality())
	}
	if len(r.versions) > 0 {
		text += fmt.Sprintf(", %d versions", len(r.versions))
	}
	if len(r.marks)+len(r.heads) > 0 {
		text += ", supersedes" + describePlaces(r.marks, r.heads)
	}
	return text
}

func (r *replaceRecord) describe() string {
	var inputs []string
	for _, id := range r.inputs {
		inputs = append(inputs, fmt.Sprintf("%016x", uint64(id)))
	}
	return fmt.Sprintf("run %016x of %d rows, %d live, %d bytes, for %s", uint64(r.meta.ID), r.meta.Rows, r.meta.Live, r.meta.Bytes, strings.Join(inputs, " "))
}

func describePlaces(runs []ingestMarks, heads []headPlace) (text string) {
	for _, m := range runs {
		text += fmt.Sprintf(" %d rows of run %016x,", m.ordinals.GetCardinality(), uint64(m.run))
	}
	if len(heads) > 0 {
		text += fmt.Sprintf(" %d of the head", len(heads))
	}
	return strings.TrimSuffix(text, ",")
}

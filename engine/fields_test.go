package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// define adds a field that reads an extension of patients, and gives it.
func define(t *testing.T, s *Store, kind search.Kind, url string) *search.Field {
	t.Helper()
	fields, err := newFields(&search.Definition{Code: "x", Kind: kind, Bases: []string{"Patient"}, Expression: "Patient.extension('" + url + "').value"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DefineFields(context.Background(), fields); err != nil {
		t.Fatal(err)
	}
	return s.Field(fields[0])
}

func extended(t *testing.T, id, extension string) Change {
	t.Helper()
	c := write(t, patient, id, "en")
	c.Body = []byte(strings.Replace(string(c.Body), `"language"`, `"extension":[`+extension+`],"language"`, 1))
	c.Splice.At += uint32(len(`"extension":[` + extension + `],`))
	return c
}

// having is the ids of the resources that have a value of the field.
func having(t *testing.T, s *Store, f *search.Field) string {
	t.Helper()
	n := mustSnapshot(t, s)
	defer n.Release()
	var ids []string
	q := &Query{Where: &Expr{Op: Terms, Walks: []index.Walk{{Param: index.Param(f.Number)}}}}
	_, err := n.Search(context.Background(), q, func(v *Version) error {
		ids = append(ids, string(v.ID))
		return nil
	})
	if err != nil {
		return err.Error()
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func mustReindex(t *testing.T, s *Store) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.reindexOnce(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// A search by a field that was added finds all or says that it cannot, in the
// head, in runs from before and after, and when the store is opened again.
func TestAddedFieldsFindEverythingOrNothing(t *testing.T) {
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	f := func(field *search.Field, want string) {
		t.Helper()
		if got := having(t, s, field); !strings.HasSuffix(got, want) || got != want && !strings.HasPrefix(got, "cannot search") {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	reopen := func() {
		t.Helper()
		mustClose(t, s)
		s = mustOpen(t, testOptions(fsys, 2))
	}
	const race = `{"url":"race","valueCode":"a"}`
	mustCommit(t, s, extended(t, "a", race), write(t, patient, "b", "en"))
	field := define(t, s, search.Token, "race")
	f(field, "a")
	mustFlush(t, s)
	f(field, "a") // the flush came after
	mustCommit(t, s, extended(t, "c", race))
	f(field, "a c")
	other := define(t, s, search.Token, "other")
	f(other, ErrReindex.Error())
	f(field, "a c")
	reopen()
	f(other, ErrReindex.Error())
	if due := s.Reindexing(); due.Runs != 1 || due.Versions != 2 || due.Fields != 1 {
		t.Errorf("due is %+v", due)
	}
	mustReindex(t, s)
	f(other, "")
	f(field, "a c")
	mustCommit(t, s, extended(t, "a", `{"url":"other","valueCode":"b"}`))
	f(other, "a")
	f(field, "c")
	reopen()
	f(other, "a")
	f(field, "c")
	mustFlush(t, s)
	reopen()
	f(other, "a")
	f(field, "c")
	if again := define(t, s, search.Token, "race"); again.Number != field.Number || len(s.Fields()) != 2 {
		t.Errorf("the same field is number %d, and was %d", again.Number, field.Number)
	}
	mustClose(t, s)
}

func mustFlush(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// A value that cannot be a term refuses a write; one that was there before the
// field hides nothing else.
func TestAddedFieldsOverValuesThatCannotBeTerms(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	const big, small = `{"url":"n","valueDecimal":1e99999999999999999999}`, `{"url":"n","valueDecimal":1}`
	mustCommit(t, s, extended(t, "a", big+","+small), extended(t, "b", small))
	mustFlush(t, s)
	mustCommit(t, s, extended(t, "c", big+","+small), extended(t, "d", big))
	field := define(t, s, search.Number, "n")
	mustReindex(t, s)
	if got := having(t, s, field); got != "a b c" {
		t.Errorf("found %q", got)
	}
	mustFlush(t, s)
	if got := having(t, s, field); got != "a b c" {
		t.Errorf("after a flush found %q", got)
	}
	if _, err := s.Commit(context.Background(), []Change{extended(t, "e", big)}); !errors.Is(err, ErrUnindexable) {
		t.Errorf("a write is not refused: %v", err)
	}
	mustClose(t, s)
}

func TestFieldsAreBounded(t *testing.T) {
	opts := testOptions(vfs.NewMem(1), 1)
	opts.SegmentBytes = 1 << 20
	s := mustOpen(t, opts)
	var fields []*search.Field
	for i := range fieldsMax + 1 {
		more, err := newFields(&search.Definition{Code: "x", Kind: search.Token, Bases: []string{"Patient"}, Expression: fmt.Sprintf("Patient.extension('%d').value as code", i)})
		if err != nil {
			t.Fatal(err)
		}
		fields = append(fields, more...)
	}
	if err := s.CheckFields(fields); !errors.Is(err, ErrTooManyFields) {
		t.Errorf("too many fields: %v", err)
	}
	if err := s.DefineFields(context.Background(), fields[:fieldsMax]); err != nil {
		t.Fatal(err)
	}
	if err := s.DefineFields(context.Background(), fields); !errors.Is(err, ErrTooManyFields) || len(s.Fields()) != fieldsMax {
		t.Errorf("%d fields, error %v", len(s.Fields()), err)
	}
	mustClose(t, s)
}

// doneLogger tells when the worker has done its work.
type doneLogger struct {
	slog.Handler
	done chan string
}

func (l doneLogger) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "indexed runs again") || strings.HasPrefix(r.Message, "cannot") {
		l.done <- r.Message
	}
	return nil
}

func (l doneLogger) Enabled(context.Context, slog.Level) bool { return true }

// The worker begins by itself, beside merges and writes, and again after a restart.
func TestRunsAreIndexedAgainInTheBackground(t *testing.T) {
	fsys, done := vfs.NewMem(1), make(chan string, 100)
	opts := testOptions(fsys, 1)
	opts.PrepareInline, opts.MergeFanIn, opts.Logger = false, 2, slog.New(doneLogger{slog.DiscardHandler, done})
	s := mustOpen(t, opts)
	await := func() {
		t.Helper()
		for s.Reindexing().Runs > 0 {
			if message := <-done; strings.HasPrefix(message, "cannot") {
				t.Fatal(message)
			}
		}
	}
	want := ""
	for i := range 20 {
		id := fmt.Sprintf("p%02d", i)
		mustCommit(t, s, extended(t, id, `{"url":"u","valueCode":"v"}`))
		if i%3 == 0 {
			mustFlush(t, s)
		}
		want = strings.TrimSpace(want + " " + id)
	}
	field := define(t, s, search.Token, "u")
	await()
	if got := having(t, s, field); got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	if st := s.Stats(); st.Reindexes == 0 || st.ReindexedVersions == 0 {
		t.Errorf("counted %d runs, %d versions", st.Reindexes, st.ReindexedVersions)
	}
	mustFlush(t, s)
	other := define(t, s, search.Token, "w")
	mustClose(t, s)
	s = mustOpen(t, opts)
	await()
	if got := having(t, s, other); got != "" {
		t.Errorf("found %q", got)
	}
	mustClose(t, s)
}

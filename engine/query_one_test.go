package engine

import (
	"context"
	"errors"
	"testing"

	"kiln/internal/vfs"
)

// What a deleted resource was is its last version that is no deletion, wherever the
// versions lie.
func TestLastLive(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	defer mustClose(t, s)
	gone := Change{Type: patient, ID: []byte("a"), Delete: true}
	f := func(when string, want int64) {
		t.Helper()
		n := mustSnapshot(t, s)
		defer n.Release()
		v, err := n.LastLive(patient, []byte("a"), 0)
		if want == 0 && errors.Is(err, ErrNotFound) {
			return
		}
		if err != nil || v.VersionID != want || v.Deleted {
			t.Errorf("%s: version %d, error %v, want %d", when, v.VersionID, err, want)
		}
	}
	f("before the first version", 0)
	mustCommit(t, s, write(t, patient, "a", "en"))
	f("with one", 1)
	mustCommit(t, s, gone)
	f("deleted", 1)
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	f("deleted, in a run", 1)
	mustCommit(t, s, write(t, patient, "a", "de"))
	mustCommit(t, s, gone)
	f("deleted again", 3)
}

// A version is judged by what is in it, whatever the store has.
func TestAVersionIsJudgedByItself(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	defer mustClose(t, s)
	n := mustSnapshot(t, s)
	defer n.Release()
	where := familyQuery(t, "eve").Where
	f := func(body string, where *Expr, want bool) {
		t.Helper()
		v := Version{Type: patient, ID: []byte("a"), VersionID: 1, Body: []byte(body)}
		if got, err := n.Matches(context.Background(), &v, where); err != nil || got != want {
			t.Errorf("%s: %v, error %v", body, got, err)
		}
	}
	eve, adam := `{"resourceType":"Patient","id":"a","name":[{"family":"Everdeen"}]}`, `{"resourceType":"Patient","id":"a","name":[{"family":"Adam"}]}`
	f(eve, where, true)
	f(adam, where, false)
	f(adam, &Expr{Op: Not, Args: []*Expr{where}}, true)
	f(adam, &Expr{Op: Or}, false)
	f(adam, &Expr{Op: And}, true)
	f(adam, nil, true)
	for _, stored := range []bool{false, true} {
		f(eve, &Expr{Op: Keys, Keys: []Key{{patient, []byte("a")}}, Stored: stored}, true)
		f(eve, &Expr{Op: Keys, Keys: []Key{{patient, []byte("b")}}, Stored: stored}, false)
	}
}

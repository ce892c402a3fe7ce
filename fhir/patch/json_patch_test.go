package patch

import (
	"errors"
	"strings"
	"testing"
)

const testLimit = 1 << 16

// checkPatched compares a patch's result, or its kind of refusal.
func checkPatched(t *testing.T, what string, got []byte, err error, want string, kind error) {
	t.Helper()
	switch {
	case kind != nil && !errors.Is(err, kind):
		t.Errorf("%s: got %s %v, want %v", what, got, err, kind)
	case kind == nil && (err != nil || string(got) != want):
		t.Errorf("%s:\n got %s %v\nwant %s", what, got, err, want)
	}
}

func TestJSONPatch(t *testing.T) {
	f := func(doc, patch, want string, kind error) {
		t.Helper()
		got, err := JSON([]byte(doc), []byte(patch), testLimit)
		checkPatched(t, doc+" "+patch, got, err, want, kind)
	}
	// RFC 6902, appendix A.
	f(`{"foo":"bar"}`, `[{"op":"add","path":"/baz","value":"qux"}]`, `{"foo":"bar","baz":"qux"}`, nil)
	f(`{"foo":["bar","baz"]}`, `[{"op":"add","path":"/foo/1","value":"qux"}]`, `{"foo":["bar","qux","baz"]}`, nil)
	f(`{"baz":"qux","foo":"bar"}`, `[{"op":"remove","path":"/baz"}]`, `{"foo":"bar"}`, nil)
	f(`{"foo":["bar","qux","baz"]}`, `[{"op":"remove","path":"/foo/1"}]`, `{"foo":["bar","baz"]}`, nil)
	f(`{"baz":"qux","foo":"bar"}`, `[{"op":"replace","path":"/baz","value":"boo"}]`, `{"baz":"boo","foo":"bar"}`, nil)
	f(`{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}`, `[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]`, `{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}`, nil)
	f(`{"foo":["all","grass","cows","eat"]}`, `[{"op":"move","from":"/foo/1","path":"/foo/3"}]`, `{"foo":["all","cows","eat","grass"]}`, nil)
	f(`{"baz":"qux","foo":["a",2,"c"]}`, `[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]`, `{"baz":"qux","foo":["a",2,"c"]}`, nil)
	f(`{"baz":"qux"}`, `[{"op":"test","path":"/baz","value":"bar"}]`, "", ErrNotApplicable)
	f(`{"foo":"bar"}`, `[{"op":"add","path":"/child","value":{"grandchild":{}}}]`, `{"foo":"bar","child":{"grandchild":{}}}`, nil)
	f(`{"foo":"bar"}`, `[{"op":"add","path":"/baz","value":"qux","xyz":123}]`, `{"foo":"bar","baz":"qux"}`, nil)
	f(`{"foo":"bar"}`, `[{"op":"add","path":"/baz/bat","value":"qux"}]`, "", ErrNotApplicable)
	f(`{"/":9,"~1":10}`, `[{"op":"test","path":"/~01","value":10}]`, `{"/":9,"~1":10}`, nil)
	f(`{"/":9,"~1":10}`, `[{"op":"test","path":"/~01","value":"10"}]`, "", ErrNotApplicable)
	f(`{"foo":["bar"]}`, `[{"op":"add","path":"/foo/-","value":["abc","def"]}]`, `{"foo":["bar",["abc","def"]]}`, nil)
	// What is not touched keeps its text.
	f(`{"z":1.00,"a":"\u00b5 <b>\/","é<":{"k\u0062":1e2,"x":1.10}}`, `[{"op":"add","path":"/é</n","value":2.00},{"op":"copy","from":"/a","path":"/c"}]`,
		`{"z":1.00,"a":"\u00b5 <b>\/","é<":{"k\u0062":1e2,"x":1.10,"n":2.00},"c":"\u00b5 <b>\/"}`, nil)
	// Numbers are equal by value, objects in any order.
	f(`{"a":{"b":[1.0,-0],"c":"\u00e9"}}`, `[{"op":"test","path":"/a","value":{"c":"é","b":[10e-1,0.00]}}]`, `{"a":{"b":[1.0,-0],"c":"\u00e9"}}`, nil)
	f(`{"a":1e400}`, `[{"op":"test","path":"/a","value":1e401}]`, "", ErrNotApplicable)
	// Removals leave nothing empty behind.
	f(`{"id":"a","name":[{"given":["x"]}]}`, `[{"op":"remove","path":"/name/0/given/0"}]`, `{"id":"a"}`, nil)
	f(`{"id":"a","name":[{"given":["x"]}]}`, `[{"op":"remove","path":"/name/0"},{"op":"add","path":"/name/-","value":{"text":"y"}}]`, `{"id":"a","name":[{"text":"y"}]}`, nil)
	f(`{"given":["x","y"],"_given":[{"id":"1"},{"id":"2"}]}`, `[{"op":"remove","path":"/_given/0/id"}]`, `{"given":["x","y"],"_given":[null,{"id":"2"}]}`, nil)
}

func TestJSONPatchRefusals(t *testing.T) {
	f := func(patch string, kind error) {
		t.Helper()
		doc := `{"a":{"b":1},"l":[1,2],"t":1,"t":2}`
		got, err := JSON([]byte(doc), []byte(patch), testLimit)
		checkPatched(t, patch, got, err, "", kind)
	}
	for _, bad := range []string{``, `{}`, `[1]`, `[{}]`, `[{"op":"add"}]`, `[{"op":"add","path":"/a"}]`, `[{"op":"sum","path":"/a"}]`,
		`[{"op":"copy","path":"/a"}]`, `[{"op":"add","path":"a","value":1}]`, `[{"op":"add","path":"/~2","value":1}]`, `[{"op":"add","path":1,"value":1}]`,
		`[{"op":"add","path":"/x","path":"/y","value":1}]`, `[{"op":"add","path":"/x","value":01}]`} {
		f(bad, ErrMalformed)
	}
	for _, unfit := range []string{`{"op":"remove","path":"/x"}`, `{"op":"remove","path":""}`, `{"op":"replace","path":"/x","value":1}`,
		`{"op":"add","path":"/l/3","value":1}`, `{"op":"add","path":"/l/01","value":1}`, `{"op":"add","path":"/l/x","value":1}`, `{"op":"remove","path":"/l/-"}`,
		`{"op":"remove","path":"/l/2"}`, `{"op":"add","path":"/t/x","value":1}`, `{"op":"move","from":"/a","path":"/a/b/c"}`, `{"op":"replace","path":"","value":[]}`,
		`{"op":"test","path":"/t","value":1}`, `{"op":"remove","path":"/l/99999999999999999999"}`} {
		f("["+unfit+"]", ErrNotApplicable)
	}
	f(`[`+strings.Repeat(`{"op":"test","path":"/l/0","value":1},`, operationsMax)+`{"op":"test","path":"/l/0","value":1}]`, ErrTooLarge)
	f(`[{"op":"add","path":"/x","value":"`+strings.Repeat("x", testLimit)+`"}]`, ErrTooLarge)
	f(`[`+strings.Repeat(`{"op":"copy","from":"","path":"/l/-"},`, 30)+`{"op":"test","path":"/l/0","value":1}]`, ErrTooLarge)
}

func TestMergePatch(t *testing.T) {
	f := func(doc, patch, want string, kind error) {
		t.Helper()
		got, err := Merge([]byte(doc), []byte(patch), testLimit)
		checkPatched(t, doc+" "+patch, got, err, want, kind)
	}
	// RFC 7396, appendix A, where the result is an object.
	f(`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`, nil)
	f(`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`, nil)
	f(`{"a":"b"}`, `{"a":null}`, `{}`, nil)
	f(`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`, nil)
	f(`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`, nil)
	f(`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`, nil)
	f(`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`, nil)
	f(`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`, nil)
	f(`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`, nil)
	f(`{"x":1}`, `{"a":{"bb":{"ccc":null,"d":1.0}}}`, `{"x":1,"a":{"bb":{"d":1.0}}}`, nil)
	f(`{"z":1.00,"a":"\u00b5 <b>","o":{"p":1e2,"q":2}}`, `{"o":{"q":null}}`, `{"z":1.00,"a":"\u00b5 <b>","o":{"p":1e2}}`, nil)
	f(`{"id":"a","o":{"p":1}}`, `{"o":{"p":null}}`, `{"id":"a"}`, nil)
	f(`{"a":1}`, `["c"]`, "", ErrMalformed)
	f(`{"a":1}`, `{"a":1,"a":2}`, "", ErrMalformed)
	f(`{"a":1,"a":2}`, `{"a":1}`, "", ErrNotApplicable)
	f(`{"a":1}`, `{"b":"`+strings.Repeat("x", testLimit)+`"}`, "", ErrTooLarge)
}

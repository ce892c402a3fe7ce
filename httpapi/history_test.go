package httpapi

import (
	"context"
	"fmt"
	"kiln/fhir/view"
	"strings"
	"testing"
)

// listOf is a List of references.
func listOf(references ...string) string {
	var entries []string
	for _, r := range references {
		entries = append(entries, fmt.Sprintf(`{"item":{"reference":%q}}`, r))
	}
	return `{"resourceType":"List","id":"l","status":"current","mode":"working","entry":[` + strings.Join(entries, ",") + `]}`
}

// TestHistoryOfAListIsOfOneMoment pages through the histories of a List's members
// while members are written, the List is changed and deleted, and the store is flushed.
func TestHistoryOfAListIsOfOneMoment(t *testing.T) {
	for _, sort := range []string{"_lastUpdated", "-_lastUpdated"} {
		s := newAPI(t, nil)
		for i := range 12 {
			s.put(t, fmt.Sprintf("p%d", i%4), fmt.Sprintf(`,"multipleBirthInteger":%d`, i))
		}
		s.do(t, "DELETE", "/fhir/Patient/p3", "").expect(t, "delete", 204, "-")
		own := "http://" + s.addr + "/fhir/"
		list := listOf("Patient/p0", own+"Patient/p1/_history/2", "Patient/p3", "Patient/p3/_history/1", "http://other/fhir/Patient/p2", "Patient/absent", "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a")
		s.do(t, "PUT", "/fhir/List/l", list, typeHeader).expect(t, "list", 201, "-")
		step := 0
		disturb := func() {
			step++
			switch step {
			case 1:
				s.put(t, "p0", `,"active":true`)
				s.do(t, "PUT", "/fhir/List/l", listOf("Patient/p2"), typeHeader).expect(t, "list", 200, "-")
			case 2:
				s.do(t, "DELETE", "/fhir/List/l", "").expect(t, "delete", 204, "-")
			case 3:
				if err := s.opts.Store.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
		all, count, total := s.pages(t, "/fhir/Patient/_history?_list=l&_count=2&_sort="+sort, disturb)
		want := "p0/1 p3/1 p0/2 p1/2 p3/2 p0/3 p3/3 p3/4"
		if sort == "-_lastUpdated" {
			want = "p3/4 p3/3 p0/3 p3/2 p1/2 p0/2 p3/1 p0/1"
		}
		if all != want || count != 4 || total != 8 {
			t.Errorf("%s: %d pages of %d: %s", sort, count, total, all)
		}
	}
}

func TestHistoryOfAListThatIsPurgedMeanwhileIsGone(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", "")
	s.put(t, "a", `,"active":true`)
	s.do(t, "PUT", "/fhir/List/l", listOf("Patient/a"), typeHeader).expect(t, "list", 201, "-")
	next := s.do(t, "GET", "/fhir/_history?_list=List/l&_count=1", "").bundle(t).link("next")
	if !strings.Contains(next, "&_list=List%2Fl") {
		t.Errorf("the next link is %q", next)
	}
	f := func(what, url string, status int, text string) {
		t.Helper()
		a := s.do(t, "GET", url, "")
		if _, got := a.outcome(t); a.status != status || !strings.Contains(got, text) {
			t.Errorf("%s: %d %q", what, a.status, got)
		}
	}
	f("another list", strings.Replace(next, "List%2Fl", "m", 1), 400, "not a paging token for this address")
	f("no list", strings.Replace(next, "&_list=List%2Fl", "", 1), 400, "not a paging token for this address")
	s.do(t, "DELETE", "/fhir/List/l?_hardDelete=true", "").expect(t, "purge", 204, "-")
	f("the next page", next, 410, "purged")
	f("the first page", "/fhir/_history?_list=l", 404, "'l'")
}

func TestHistoryShowsParts(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", `,"gender":"male","birthDate":"1990"`)
	s.put(t, "a", `,"gender":"female","birthDate":"1991"`)
	s.do(t, "DELETE", "/fhir/Patient/a", "").expect(t, "delete", 204, "-")
	for _, query := range []string{"Patient/a/_history?_elements=birthDate", "Patient/_history?_elements=birthDate", "_history?_elements=birthDate"} {
		a := s.do(t, "GET", "/fhir/"+query+"&_count=2", "")
		next := a.bundle(t).link("next")
		for i, a := range []*answer{a, s.do(t, "GET", next, "")} {
			born := fmt.Sprintf(`"birthDate":"%d"`, 1991-i)
			if strings.Contains(a.body, `"gender"`) || !strings.Contains(a.body, born) || strings.Count(a.body, view.Subsetted) != 1 {
				t.Errorf("%s, page %d: %s", query, i+1, a.body)
			}
		}
	}
}

package bulk

import (
	"context"
	"errors"
	"testing"
	"time"
)

// published is the number of the published export; 0: none.
func (s *testSite) published() int64 {
	s.t.Helper()
	status, err := s.jobs.PublishedExport()
	var refused *RequestError
	if errors.As(err, &refused) && refused.Status == 404 {
		return 0
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return status.ID
}

func TestTheNewestExportOfEverythingIsPublished(t *testing.T) {
	s := newExpirySite(t)
	f := func(what string, want int64) {
		t.Helper()
		if got := s.published(); got != want {
			t.Errorf("%s: export %d is published, not %d", what, got, want)
		}
	}
	f("at first", 0)
	for _, query := range []map[string][]string{
		{"_type": {"Patient"}}, {"_typeFilter": {"Patient?active=true"}}, {"_since": {"2001-01-01"}}, {"_until": {"2901-01-01"}},
		{"_elements": {"id"}}, {"includeAssociatedData": {"_history"}},
	} {
		s.exports(query)
		f("an export of a part", 0)
	}
	first, _ := s.exports(nil)
	f("the first", first.ID)
	s.pass(testExpiry / 2)
	second, _ := s.exports(map[string][]string{"_maxCount": {"7"}})
	third, _ := s.exports(nil)
	f("the third", third.ID)
	s.restartJobs()
	f("after a restart", third.ID)
	if err := s.jobs.DeleteExport(context.Background(), third.ID); err != nil {
		t.Fatal(err)
	}
	f("the third is deleted", second.ID)
	s.pass(testExpiry/2 + time.Millisecond)
	f("the first has expired", second.ID)
	if err := s.jobs.DeleteExport(context.Background(), second.ID); err != nil {
		t.Fatal(err)
	}
	f("nothing is left", 0)
	s.sweepExpired()
	f("nothing is left after a sweep", 0)
}

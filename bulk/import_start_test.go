package bulk

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Until the inputs are known a status says so, whoever takes how long.
func TestStatusTellsThatAJobIsStarting(t *testing.T) {
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-answer
		_, _ = w.Write([]byte(patient("a", "")))
	}))
	defer server.Close()
	s := newTestSite(t)
	s.close()
	s.origins = []string{server.URL}
	s.open()
	id := s.start(IncrementalLoad, 0, server.URL+"/f")
	<-asked
	f := func(when string, want bool) {
		t.Helper()
		status, err := s.jobs.ImportStatus(id)
		if err != nil || status.Starting != want || status.Waiting {
			t.Errorf("%s: starting %t, waiting %t, %v", when, status.Starting, status.Waiting, err)
		}
	}
	f("asking", true)
	s.jobs.beforePublish = func() { f("reading", false) }
	close(answer)
	s.wait(id)
	f("ended", false)
}

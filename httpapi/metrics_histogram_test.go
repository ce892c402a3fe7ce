package httpapi

import (
	"strings"
	"testing"
	"time"
)

func TestDurationsHavePrometheusBuckets(t *testing.T) {
	var h durationHistogram
	var out strings.Builder
	h.write(&out, "read")
	if out.Len() > 0 {
		t.Errorf("without requests: %s", out.String())
	}
	for _, d := range []time.Duration{50 * time.Microsecond, 51 * time.Microsecond, time.Second, time.Hour} {
		h.observe(d)
	}
	h.write(&out, "read")
	f := func(line string) {
		t.Helper()
		if !strings.Contains(out.String(), "kiln_http_request_duration_seconds_"+line+"\n") {
			t.Errorf("no %s in\n%s", line, out.String())
		}
	}
	f(`bucket{interaction="read",le="5e-05"} 1`)
	f(`bucket{interaction="read",le="0.0001"} 2`)
	f(`bucket{interaction="read",le="0.5"} 2`)
	f(`bucket{interaction="read",le="1"} 3`)
	f(`bucket{interaction="read",le="60"} 3`)
	f(`bucket{interaction="read",le="+Inf"} 4`)
	f(`sum{interaction="read"} 3601.000101`)
	f(`count{interaction="read"} 4`)
}

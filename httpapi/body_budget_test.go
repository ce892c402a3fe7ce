package httpapi

import (
	"testing"

	"github.com/valyala/fasthttp"
)

func TestBodyBudgetIsTakenAndGivenBack(t *testing.T) {
	b := newBodyBudget(1<<20, 512<<10)
	headers := make([]fasthttp.RequestHeader, 4)
	f := func(i, length int, wantRefused bool) {
		t.Helper()
		headers[i].SetContentLength(length)
		if refused := b.received(&headers[i]).MaxRequestBodySize != 0; refused != wantRefused {
			t.Errorf("request %d of %d bytes: refused is %v", i, length, refused)
		}
	}
	f(0, 500<<10, false)
	f(1, -1, false) // chunked counts as the largest
	f(2, 100<<10, true)
	f(3, 1<<10, false)   // not counted
	f(3, 600<<10, false) // refused by the library's own limit
	if !b.release(&headers[2]) || b.release(&headers[2]) || b.release(&headers[3]) {
		t.Error("only the refused request is refused, once")
	}
	b.release(&headers[0])
	f(2, 100<<10, false)
	f(2, 500<<10, false) // the connection's next request takes the place of its last
	b.release(&headers[1])
	b.release(&headers[2])
	if b.free != 1<<20 || b.count.Load() != 0 || len(b.held) != 0 {
		t.Errorf("left over: %d free, %d held", b.free, len(b.held))
	}
}

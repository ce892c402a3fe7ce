package httpapi

import (
	"sync"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

// bodyBudget bounds the memory of all request bodies that are being read or
// handled. The HTTP library makes room for a whole body as soon as its length
// is announced, so without a budget a few thousand idle connections could take
// all memory. Small bodies are not counted: connectionsMax bounds them.
type bodyBudget struct {
	bodyMax int64
	count   atomic.Int64 // of held, so that most requests need no lock
	mu      sync.Mutex
	free    int64 // guarded by mu
	// held has what each connection's request took, by the header that the
	// library keeps for the connection; bodyRefused when there was no room.
	// Guarded by mu.
	held map[*fasthttp.RequestHeader]int64
}

const bodyRefused = -1

func newBodyBudget(total, bodyMax int64) *bodyBudget {
	return &bodyBudget{bodyMax: bodyMax, free: total, held: map[*fasthttp.RequestHeader]int64{}}
}

// received is called when a request's head was read. Without room for the body
// it lowers the limit so that the library refuses the body at once.
func (b *bodyBudget) received(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
	b.release(header) // of a request before that was never answered
	need := int64(header.ContentLength())
	if need == -1 { // chunked: any length
		need = b.bodyMax
	}
	if need <= bodyBytesUncounted || need > b.bodyMax {
		return fasthttp.RequestConfig{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count.Add(1)
	if need > b.free {
		b.held[header] = bodyRefused
		return fasthttp.RequestConfig{MaxRequestBodySize: 1}
	}
	b.free -= need
	b.held[header] = need
	return fasthttp.RequestConfig{}
}

// release gives back what a request took, and says whether it was refused.
func (b *bodyBudget) release(header *fasthttp.RequestHeader) (refused bool) {
	if b.count.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	took, known := b.held[header]
	if !known {
		return false
	}
	delete(b.held, header)
	b.count.Add(-1)
	if took == bodyRefused {
		return true
	}
	b.free += took
	return false
}

// isRefused says whether there was no room for a request's body.
func (b *bodyBudget) isRefused(header *fasthttp.RequestHeader) bool {
	if b.count.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held[header] == bodyRefused
}

// grow takes room for a body that is being unpacked, up to a total; took is what
// the request has for it already. Without room it is false.
func (b *bodyBudget) grow(took *int64, total int64) bool {
	if total <= bodyBytesUncounted {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	need := total - *took
	if need > b.free {
		return false
	}
	b.free -= need
	*took = total
	return true
}

// shrink gives back what grow took.
func (b *bodyBudget) shrink(took *int64) {
	if *took == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += *took
	*took = 0
}

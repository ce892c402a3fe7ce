package httpapi

import "github.com/valyala/fasthttp"

// health answers GET /healthz: the process is alive.
func (x *exchange) health() error {
	x.body(fasthttp.StatusOK, contentTypeText, append(x.buffer(), "ok\n"...))
	return nil
}

// ready answers GET /readyz: FHIR requests are answered here. A store that
// takes no writes still answers reads; the metrics tell.
func (x *exchange) ready() error {
	if x.server.stopping.Load() {
		x.body(fasthttp.StatusServiceUnavailable, contentTypeText, append(x.buffer(), "stopping\n"...))
		return nil
	}
	x.body(fasthttp.StatusOK, contentTypeText, append(x.buffer(), "ok\n"...))
	return nil
}

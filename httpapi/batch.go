package httpapi

import (
	"fmt"

	"github.com/valyala/fasthttp"
)

// batch answers a batch: each entry by itself, in the order of the Bundle.
func (x *exchange) batch(entries []bundleEntry) error {
	ctx, cancel := x.workContext()
	defer cancel()
	out := x.newBundle("batch-response")
	t := x.entries(ctx)
	defer t.release()
	for i := range entries {
		e := &entries[i]
		err := t.begin(e, e.resource)
		switch {
		case err != nil:
		case ctx.Err() != nil:
			err = ctx.Err()
		case len(out.text) > bundleAnswerBytesMax && x.server.table.rows[t.inner.row].safe:
			err = answerTooLarge()
		default:
			err = t.inner.run()
		}
		if err != nil {
			t.inner.fail(inEntry(i, e, err))
		}
		x.auditEntry(i, &t.inner)
		out.next()
		out.text = t.appendAnswer(out.text)
	}
	x.body(fasthttp.StatusOK, contentTypeAnswer, out.end())
	return nil
}

func answerTooLarge() error {
	return &problem{fasthttp.StatusRequestEntityTooLarge, codeTooCostly, fmt.Sprintf("The answer to the Bundle is longer than %d bytes; read this in a request of its own.", bundleAnswerBytesMax)}
}

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/valyala/fasthttp"
)

// bareCommand is the least that a server of this HTTP library can do: one
// answer from memory, whatever is asked. It is a process of its own, as the
// server is that it is compared with.
type bareCommand struct {
	Body string `arg:"" help:"File with the answer's body." type:"existingfile"`
}

// Run serves until it is told to stop.
func (c *bareCommand) Run(ctx context.Context) error {
	body, err := os.ReadFile(c.Body)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	door := &fasthttp.Server{
		NoDefaultServerHeader: true,
		// The headers that a FHIR client needs of a read, as constants.
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.SetContentType("application/fhir+json; charset=utf-8")
			ctx.Response.Header.Set("ETag", `W/"1"`)
			ctx.Response.Header.Set("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT")
			ctx.SetBody(body)
		},
	}
	fmt.Fprintf(os.Stderr, "msg=listening addr=%s\n", listener.Addr())
	go func() {
		<-ctx.Done()
		door.Shutdown()
	}()
	return door.Serve(listener)
}

// startBare starts this program's bare server with the body.
func (b *bench) startBare(ctx context.Context, body []byte) (*server, error) {
	path := filepath.Join(b.dir, "bare-"+strconv.Itoa(len(body)))
	if err := os.WriteFile(path, body, 0o644); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return b.run(ctx, exec.CommandContext(ctx, self, "bare", path), path)
}

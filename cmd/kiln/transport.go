package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"kiln/httpapi"
	"kiln/internal/vfs"
)

// tlsLookInterval is how soon new certificates are used without a signal. A look
// reads some kilobytes.
const tlsLookInterval = 10 * time.Second

// transportFlags say how connections are secured.
type transportFlags struct {
	TLSCert        string `name:"tls-cert" type:"path" placeholder:"FILE" help:"PEM file with the server's certificate and those that lead to its root: connections are TLS 1.2 or 1.3. It and the other TLS files are read again when they change, and on SIGHUP."`
	TLSKey         string `name:"tls-key" type:"path" placeholder:"FILE" help:"PEM file with the private key of --tls-cert."`
	TLSClientCA    string `name:"tls-client-ca" type:"path" placeholder:"FILE" help:"PEM file with the authorities whose certificates clients must show (mutual TLS)."`
	TLSClientAuth  string `name:"tls-client-auth" enum:"required,optional" default:"required" placeholder:"required|optional" help:"Whether clients without a certificate are turned away when --tls-client-ca is set (${default})."`
	AllowPlainHTTP bool   `name:"allow-plain-http" help:"Allow HTTP without TLS at an address that other machines can reach, where something else secures the way to it."`

	TrustedProxy       []string `name:"trusted-proxy" placeholder:"CIDR" help:"Network or address of a proxy in front: what it says of the client's address and of the host and scheme that were asked for is believed, for links, limits and the audit; repeatable. It must set or remove all of these headers."`
	TrustedProxyHeader string   `name:"trusted-proxy-header" enum:"x-forwarded,forwarded" default:"x-forwarded" placeholder:"x-forwarded|forwarded" help:"Where proxies say so: X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239); the other is not looked at (${default})."`
}

func (f *transportFlags) check() error {
	switch {
	case (f.TLSCert == "") != (f.TLSKey == ""):
		return usageError("--tls-cert and --tls-key belong together: give both or none")
	case f.TLSClientCA != "" && f.TLSCert == "":
		return usageError("--tls-client-ca needs --tls-cert and --tls-key: only a server with TLS sees clients' certificates")
	}
	_, err := f.proxies()
	return err
}

func (f *transportFlags) proxies() (httpapi.TrustedProxies, error) {
	proxies, err := httpapi.ParseTrustedProxies(f.TrustedProxy, f.TrustedProxyHeader == "forwarded")
	if err != nil {
		return proxies, usageError("--trusted-proxy: %w", err)
	}
	return proxies, nil
}

// asksWho says whether every client must show a certificate.
func (f *transportFlags) asksWho() bool {
	return f.TLSClientCA != "" && f.TLSClientAuth == "required"
}

// certificates reads the TLS files and goes on looking at them until the context
// ends; nil: there are none.
func (f *transportFlags) certificates(ctx context.Context, logger *slog.Logger) (*httpapi.Certificates, error) {
	if f.TLSCert == "" {
		return nil, nil
	}
	certificates, err := httpapi.NewCertificates(httpapi.CertificateOptions{
		FS: vfs.OS(), CertFile: f.TLSCert, KeyFile: f.TLSKey, ClientCAFile: f.TLSClientCA,
		ClientsMay: f.TLSClientAuth == "optional", Now: time.Now, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	go lookAgain(ctx, certificates, asked)
	return certificates, nil
}

// lookAgain looks at the TLS files now and then, and when a SIGHUP asks for it.
func lookAgain(ctx context.Context, certificates *httpapi.Certificates, asked chan os.Signal) {
	defer signal.Stop(asked)
	ticker := time.NewTicker(tlsLookInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
		case <-ticker.C:
		}
		certificates.Look()
	}
}

// checkListen refuses addresses that other machines reach without TLS, or without
// asking who is calling, unless told.
func (c *serveCmd) checkListen() error {
	isLocal, err := isLoopbackListen(c.Listen)
	if err != nil || isLocal {
		return err
	}
	plain := c.TLSCert == "" && !c.AllowPlainHTTP
	open := !c.InsecureNoAuth && !c.asksWho() && c.Auth == ""
	const another = "--listen %s can be reached from other machines"
	switch {
	case plain && open:
		return usageError(another+", this server does not ask who is calling, and without TLS everybody on the way reads along: "+
			"use a loopback address such as 127.0.0.1:8080, or give --tls-cert and --tls-key (or say --allow-plain-http), and say --insecure-no-auth", c.Listen)
	case open:
		return usageError(another+", and this server does not ask who is calling: "+
			"use a loopback address such as 127.0.0.1:8080, or say --insecure-no-auth", c.Listen)
	case plain:
		return usageError(another+", and without TLS everybody on the way reads along: "+
			"give --tls-cert and --tls-key, use a loopback address such as 127.0.0.1:8080, or say --allow-plain-http", c.Listen)
	}
	return nil
}

// isLoopbackListen tells addresses that only this machine reaches.
func isLoopbackListen(addr string) (bool, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false, usageError("--listen %q is not HOST:PORT: %w", addr, err)
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback(), nil
}

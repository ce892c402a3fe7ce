package bulk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// networkOptions are what all connections to sources share.
type networkOptions struct {
	resolver   *net.Resolver // nil: the system's
	retryWait  time.Duration // before the second attempt; doubles
	silenceMax time.Duration // how long a server may send nothing
}

func (o Options) network() networkOptions {
	n := networkOptions{resolver: o.Resolver, retryWait: o.RetryWait, silenceMax: o.SilenceMax}
	if n.retryWait == 0 {
		n.retryWait = retryWait
	}
	if n.silenceMax == 0 {
		n.silenceMax = silenceMax
	}
	return n
}

// errForbiddenAddress is a connection that was not made.
var errForbiddenAddress = errors.New("the host's network address is one that imports never connect to")

// dialer looks at the address that a name has led to, before it connects. An
// operator allows an origin by its name, and whoever answers for the name in
// the DNS must not be able to send the server to itself or to the metadata
// service of its cloud. Private addresses are allowed: that is where a
// hospital's servers are, and the operator named the host.
type dialer struct {
	network networkOptions
	// proxies has the host:port of those that the environment names. What a
	// name means behind a proxy is the proxy's to decide.
	proxies sync.Map
}

// newTransport has a deadline for everything but bodies.
func newTransport(network networkOptions) *http.Transport {
	d := &dialer{network: network}
	return &http.Transport{
		Proxy:                 d.proxy,
		DialContext:           d.dial,
		TLSHandshakeTimeout:   network.silenceMax,
		ResponseHeaderTimeout: network.silenceMax,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   probesMax,
		DisableCompression:    true, // the bytes as stored, so that ranges mean what they say
		ForceAttemptHTTP2:     true,
	}
}

// proxy is the environment's, remembered for dial.
func (d *dialer) proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err != nil || u == nil {
		return u, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	d.proxies.Store(net.JoinHostPort(u.Hostname(), port), true)
	return u, nil
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	connect := net.Dialer{Timeout: d.network.silenceMax, Resolver: d.network.resolver}
	if _, ok := d.proxies.Load(address); !ok {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("cannot dial %q: %w", address, err)
		}
		loopback := namesLoopback(host)
		connect.Control = func(_, resolved string, _ syscall.RawConn) error { return checkDialed(resolved, loopback) }
	}
	return connect.DialContext(ctx, network, address)
}

// checkDialed judges an address of the form IP:port.
func checkDialed(resolved string, loopback bool) error {
	at, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("%w: %s", errForbiddenAddress, resolved)
	}
	if forbiddenIP(at.Addr(), loopback) {
		return fmt.Errorf("%w: %s", errForbiddenAddress, at.Addr())
	}
	return nil
}

// namesLoopback tells whether a host is written as a loopback address: then
// the operator means this machine.
func namesLoopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// forbiddenIP refuses link-local, unspecified, multicast and broadcast
// addresses and the cloud metadata services that live elsewhere; loopback is
// up to the caller. IPv6 addresses that stand for IPv4 ones are judged as those.
func forbiddenIP(ip netip.Addr, loopback bool) bool {
	ip = ip.WithZone("").Unmap()
	switch {
	case ip.IsLoopback():
		return !loopback
	case ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast():
		return true
	case ip.Is4():
		b := ip.As4()
		return b[0] == 0 || b[0] >= 240 || isMetadataService(ip)
	}
	if inner, ok := embeddedIPv4(ip); ok {
		return forbiddenIP(inner, false)
	}
	return isMetadataService(ip)
}

// isMetadataService knows those that are not link-local.
func isMetadataService(ip netip.Addr) bool {
	switch ip.String() {
	case "100.100.100.200", // Alibaba
		"168.63.129.16", // Azure's host
		"192.0.0.192",   // Oracle
		"fd00:ec2::254", // AWS
		"fd20:ce::254":  // Google
		return true
	}
	return false
}

// embeddedIPv4 finds the IPv4 address in IPv4-compatible (RFC 4291), 6to4
// (RFC 3056) and NAT64 (RFC 6052) addresses.
func embeddedIPv4(ip netip.Addr) (netip.Addr, bool) {
	b := ip.As16()
	at := -1
	switch {
	case netip.PrefixFrom(ip, 96).Masked().Addr() == netip.IPv6Unspecified():
		at = 12
	case b[0] == 0x20 && b[1] == 0x02:
		at = 2
	case netip.PrefixFrom(ip, 96).Masked().Addr() == netip.MustParseAddr("64:ff9b::"):
		at = 12
	default:
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(b[at : at+4])), true
}

package httpapi

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"
)

// forwardedHopsMax is how many proxies in a row are looked through.
const forwardedHopsMax = 32

// hostBytesMax is that of a name and a port.
const hostBytesMax = 255 + 6

// TrustedProxies are those whose word is taken for where a request came from. What
// anybody else says of it is not looked at. The zero value trusts none.
type TrustedProxies struct {
	prefixes []netip.Prefix
	// forwarded: they write Forwarded (RFC 7239), and not X-Forwarded-For, -Proto and
	// -Host. Only one of the two is believed: a proxy that writes the one passes on
	// what clients wrote into the other.
	forwarded bool
}

// ParseTrustedProxies takes networks (CIDR) and addresses.
func ParseTrustedProxies(networks []string, forwarded bool) (TrustedProxies, error) {
	p := TrustedProxies{forwarded: forwarded}
	for _, text := range networks {
		prefix, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return p, fmt.Errorf("cannot trust the proxy %q: it is no network (10.0.0.0/8) and no address", text)
		}
		p.prefixes = append(p.prefixes, prefix.Masked())
	}
	return p, nil
}

func (p *TrustedProxies) trusts(addr netip.Addr) bool {
	for _, prefix := range p.prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// origin is where a request came from.
type origin struct {
	addr netip.Addr // of the client; not valid: nobody knows
	// scheme and host are what the client asked for, as proxies tell; "": they do not.
	scheme, host string
}

// origin finds out where the request came from, once.
func (x *exchange) origin() origin {
	if !x.fromKnown {
		x.from = x.server.opts.TrustedProxies.origin(peerAddr(x.ctx.RemoteAddr()), &x.ctx.Request.Header)
		x.fromKnown = true
	}
	return x.from
}

// isSecure says whether nobody between the client and the first of our side reads
// along.
func (x *exchange) isSecure() bool { return x.ctx.IsTLS() || x.origin().scheme == "https" }

func peerAddr(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(tcp.IP)
	return ip.Unmap()
}

// hop is what one proxy says of who asked it.
type hop struct {
	addr         netip.Addr
	scheme, host string
}

// origin goes from the connection's other end back through the proxies, as far as
// each is trusted.
func (p *TrustedProxies) origin(peer netip.Addr, header *fasthttp.RequestHeader) origin {
	from := origin{addr: peer}
	if !p.trusts(peer) {
		return from
	}
	hops := p.hops(header)
	for i := len(hops) - 1; i >= 0 && p.trusts(from.addr); i-- {
		h := &hops[i]
		if h.scheme != "" {
			from.scheme = h.scheme
		}
		if h.host != "" {
			from.host = h.host
		}
		if !h.addr.IsValid() { // hidden, or nonsense: it ends with who says so
			break
		}
		from.addr = h.addr
	}
	return from
}

// hops reads the headers, the last proxy last.
func (p *TrustedProxies) hops(header *fasthttp.RequestHeader) []hop {
	if p.forwarded {
		var hops []hop
		for _, element := range listItems(header.PeekAll("Forwarded")) {
			hops = append(hops, parseForwarded(element))
		}
		return hops
	}
	addrs := listItems(header.PeekAll("X-Forwarded-For"))
	hops := make([]hop, max(1, len(addrs)))
	for i, text := range addrs {
		hops[i].addr = parseNode(string(text))
	}
	// The others may name the first proxy's view alone, or each one's: from the end on.
	fromEnd := func(name string, set func(h *hop, value string)) {
		values := listItems(header.PeekAll(name))
		for i := 1; i <= min(len(values), len(hops)); i++ {
			set(&hops[len(hops)-i], string(values[len(values)-i]))
		}
	}
	fromEnd("X-Forwarded-Proto", func(h *hop, value string) { h.scheme = validScheme(value) })
	fromEnd("X-Forwarded-Host", func(h *hop, value string) { h.host = validHost(value) })
	return hops
}

// listItems cuts the lists of all headers of a name; the last forwardedHopsMax.
func listItems(values [][]byte) [][]byte {
	var items [][]byte
	for _, value := range values {
		for len(value) > 0 {
			var item []byte
			item, value = cutListItem(value)
			items = append(items, item)
		}
	}
	return items[max(0, len(items)-forwardedHopsMax):]
}

// parseForwarded reads an element: for=, proto= and host=, in any order.
func parseForwarded(element []byte) hop {
	var h hop
	for len(element) > 0 {
		var pair []byte
		pair, element, _ = cutQuoted(element, ';')
		name, value, _ := bytes.Cut(pair, []byte("="))
		text := unquoted(bytes.TrimSpace(value))
		switch strings.ToLower(string(bytes.TrimSpace(name))) {
		case "for":
			h.addr = parseNode(text)
		case "proto":
			h.scheme = validScheme(text)
		case "host":
			h.host = validHost(text)
		}
	}
	return h
}

// cutQuoted cuts at the first separator outside of quotes.
func cutQuoted(text []byte, separator byte) (before, after []byte, found bool) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == separator && !quoted:
			return text[:i], text[i+1:], true
		}
	}
	return text, nil, false
}

// unquoted takes the quotes off. Nothing that is looked for has a backslash.
func unquoted(text []byte) string {
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	return string(text)
}

// parseNode reads an address with or without a port; others, "unknown" and "_hidden"
// among them, are not valid.
func parseNode(text string) netip.Addr {
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return addr.Unmap().WithZone("")
	}
	if both, err := netip.ParseAddrPort(text); err == nil {
		return both.Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

func validScheme(text string) string {
	switch scheme := strings.ToLower(text); scheme {
	case "http", "https":
		return scheme
	}
	return ""
}

// validHost takes what may stand in a link; "": it may not.
func validHost(text string) string {
	if len(text) > hostBytesMax {
		return ""
	}
	for i := range len(text) {
		c := text[i]
		alnum := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !alnum && !strings.ContainsRune(".-_:[]", rune(c)) {
			return ""
		}
	}
	return text
}
